"""The line that says what is going on and what went wrong, how the callbacks of widgets report to it, and what keeps them still."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from html import escape

import ipywidgets as widgets


class Status(widgets.HTML):
    """One line that says what is going on, or what went wrong."""

    @contextmanager
    def busy(self, text: str) -> Iterator[None]:
        """Say `text` for the time of a `with`; the line is empty afterwards, unless that failed."""
        self.value = f"<span class='decsc-busy'>{escape(text)} …</span>"
        yield
        self.clear()

    def clear(self) -> None:
        """Say nothing."""
        self.value = ""

    def fail(self, error: BaseException) -> None:
        """Say what went wrong, in one line."""
        told = (str(error).strip() or type(error).__name__).splitlines()[0]
        if isinstance(error, KeyboardInterrupt):
            told = "interrupted"
        elif not isinstance(error, (ValueError, RuntimeError, OSError)):
            told = f"{type(error).__name__}: {told}"
        self.value = f"<span class='decsc-error' style='color:#b00020'>{escape(told)}</span>"


class Holding:
    """Something that does not follow changes of its own widgets while it is held."""

    _held = False

    @contextmanager
    def _holding(self) -> Iterator[None]:
        """Be held for the time of a `with`, also if that fails, or within another."""
        before, self._held = self._held, True
        try:
            yield
        finally:
            self._held = before


def guarded(method: Callable) -> Callable:
    """A method whose errors go to the `status` of its object: a callback of a widget has nowhere else to show them."""

    @wraps(method)
    def run(self, *changes) -> None:
        try:
            method(self, *changes)
        except (Exception, KeyboardInterrupt) as error:
            self.status.fail(error)

    return run

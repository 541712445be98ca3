"""How the command line meets its user: one line a mistake."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

INTERRUPTED = 130
_UsageError = typer.BadParameter.__base__  # typer brings its own copy of click or uses the installed one


class Refused(Exception):
    """Something the user gave cannot be used; the message is one line that names it and says what would be right."""


class OneLineGroup(TyperGroup):
    """A command group whose failures are one line on stderr: exit code 2, or 130 after an interruption."""

    def invoke(self, ctx: typer.Context) -> Any:
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            say("interrupted")
            raise typer.Exit(INTERRUPTED) from None

    def main(self, *args: Any, standalone_mode: bool = True, **extra: Any) -> NoReturn:
        """Run, and exit the process."""
        try:
            code = super().main(*args, standalone_mode=False, **extra)
        except Refused as error:
            say(str(error))
            sys.exit(2)
        except _UsageError as error:
            say(_usage(error))
            sys.exit(2)
        except OSError as error:  # what commands read and write blames its file; this is what they print
            say(f"the output cannot be printed: {error.strerror or error}")
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python tries once more at the end, and says so
            sys.exit(2)
        sys.exit(code if isinstance(code, int) else 0)


def _usage(error: Any) -> str:
    """The line for a mistake in the arguments themselves."""
    parameter = getattr(error, "param", None)
    told = error.message.removeprefix("Value error, ") or "missing"
    if parameter is not None:
        subject = parameter.opts[0] if parameter.opts[0].startswith("-") else parameter.metavar
        told = f"{subject}: {told}"
    command = error.ctx.command_path if error.ctx else "decsc"
    return f"{told.rstrip('.')}; see {command} --help"


def say(text: str) -> None:
    """Print one line on stderr."""
    typer.echo(f"decsc: {' '.join(text.split())}", err=True)


@contextmanager
def blaming(*subjects: str) -> Iterator[None]:
    """Turn what the code below refuses into one line about the first of `subjects`.

    A message that already starts with one of them is kept as it is, and so is every message if there are none.
    """
    try:
        yield
    except (ValueError, ArithmeticError, LookupError, OSError, RuntimeError, MemoryError) as error:
        told = str(error) or type(error).__name__
        if isinstance(error, OSError) and error.filename and error.strerror:
            told = f"{error.filename}: {error.strerror}"
        named = not subjects or any(told.startswith(subject) for subject in subjects)
        raise Refused(told if named else f"{subjects[0]}: {told}") from error


@contextmanager
def telling() -> Iterator[None]:
    """Say on stderr what the code below warns of, also where it fails then."""
    with warnings.catch_warnings(record=True) as told:
        try:
            yield
        finally:
            for warning in told:
                say(str(warning.message))

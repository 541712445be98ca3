"""Run one notebook with parameters, as a job of the workflow or by hand.

    python -m decsc_core.study.notebook notebooks/01_scenes_and_noise.ipynb out.ipynb --parameters '{"seed": 1}'

The executed copy comes to its place only if every cell ran; otherwise it is kept beside it as `<name>.failed.ipynb`.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import nbformat
import papermill
from jupyter_client.kernelspec import NoSuchKernel
from nbclient.exceptions import DeadKernelError
from nbformat.reader import NotJSONError
from papermill.exceptions import PapermillExecutionError


class NotebookError(RuntimeError):
    """A notebook that cannot be run as asked, or that failed; the message says which, and in which cell."""


def run(notebook: Path | str, output: Path | str, parameters: dict) -> Path:
    """Execute a notebook in its own folder and return `output`, the path of the executed copy.

    Parameters
    ----------
    notebook, output : path
    parameters : dict
        Plain values for names that the notebook's cell tagged `parameters` declares.

    Raises
    ------
    NotebookError
        If there is no such notebook or it is damaged, it does not declare a parameter, its kernel does not start, or a cell failed.
    """
    notebook, output = Path(notebook).resolve(), Path(output).resolve()
    if not notebook.is_file():
        raise NotebookError(f"{notebook}: no such notebook")
    try:
        declared = papermill.inspect_notebook(str(notebook))
    except NotJSONError:
        raise NotebookError(f"{notebook}: is damaged, no JSON; take it from the repository again") from None
    unknown = [name for name in parameters if name not in declared]
    if unknown:
        there = ", ".join(declared) or "none"
        raise NotebookError(f"{notebook.name}: does not declare the parameter {unknown[0]!r}; it declares {there}")
    output.parent.mkdir(parents=True, exist_ok=True)
    running, failed = (output.with_suffix(f".{state}.ipynb") for state in ("running", "failed"))
    try:
        papermill.execute_notebook(
            str(notebook), str(running), parameters, cwd=str(notebook.parent), progress_bar=False, log_output=True
        )
    except (PapermillExecutionError, DeadKernelError) as error:
        os.replace(running, failed)
        if isinstance(error, PapermillExecutionError):
            reason = f"{error.ename}: {str(error.evalue).strip().splitlines()[0] if error.evalue else ''}"
        else:
            reason = "its kernel died; memory may have run out"
        raise NotebookError(f"{notebook.name}: cell {_failed_cell(failed)!r} failed, {reason}; see {failed}") from None
    except (NoSuchKernel, RuntimeError) as error:
        raise NotebookError(f"{notebook.name}: its kernel does not start, {error}") from None
    else:
        os.replace(running, output)
        failed.unlink(missing_ok=True)
    finally:
        running.unlink(missing_ok=True)
    return output


def _failed_cell(executed: Path) -> str:
    """The id of the cell at which an executed copy ends, the first one if none began."""
    cells = nbformat.read(executed, as_version=4).cells
    return [cells[0].id, *(cell.id for cell in cells if cell.metadata.get("papermill", {}).get("start_time"))][-1]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one notebook with parameters."""
    parser = argparse.ArgumentParser(prog="python -m decsc_core.study.notebook", description=main.__doc__)
    parser.add_argument("notebook")
    parser.add_argument("output", help="where the executed copy goes")
    parser.add_argument("--parameters", type=json.loads, default={}, help="a JSON object of names and values")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        run(options.notebook, options.output, options.parameters)
    except NotebookError as error:
        sys.exit(f"notebook: {error}")


if __name__ == "__main__":
    main()

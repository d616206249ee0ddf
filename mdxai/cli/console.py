"""What the commands print: results, errors, progress, exit codes."""

from __future__ import annotations

import json
import logging
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from enum import IntEnum
from functools import wraps
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console

if TYPE_CHECKING:
    from mdxai.monitoring.monitor import Monitor

errors = Console(stderr=True, highlight=False)


class ExitCode(IntEnum):
    """How a command ended."""

    DONE = 0
    BAD_INPUT = 2
    UNSTABLE = 3
    INCONCLUSIVE = 4
    STOPPED = 5
    HALTED = 6
    INCOMPLETE = 7


# Shown by `mdxai --help`; docs refer to it.
EXIT_CODES = {
    ExitCode.DONE: "done (a run: stable, suspect, reacted or melted)",
    ExitCode.BAD_INPUT: "bad input (a message says what to change)",
    ExitCode.UNSTABLE: "a run is unstable, its model broken, a check failed, a record damaged or a "
    "forecast survival too small",
    ExitCode.INCONCLUSIVE: "a run holds nothing to judge, or no forecast is possible",
    ExitCode.STOPPED: "stopped by Ctrl-C, SIGTERM or SIGUSR1 (--resume continues a run)",
    ExitCode.HALTED: "a run was unusable and ended for that (--halt, or no --rollback left)",
    ExitCode.INCOMPLETE: "some models or runs of a study failed, or frames wait for labels",
}


def exit_code_of(stability: str) -> ExitCode:
    """Return the exit code of a verdict."""
    from mdxai.stability.outcomes import Stability

    found = Stability(stability)
    if found is Stability.INCONCLUSIVE:
        return ExitCode.INCONCLUSIVE
    return ExitCode.UNSTABLE if found.is_failure else ExitCode.DONE


def clean_exit[**P, R](command: Callable[P, R]) -> Callable[P, R]:
    """Turn an error into one message and exit code 2; with `mdxai --debug`, after its traceback."""

    @wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        quieten_libraries()
        try:
            return command(*args, **kwargs)
        except _NO_ERRORS:
            raise
        except KeyboardInterrupt as stop:
            complain("; ".join(["stopped by SIGINT", *getattr(stop, "__notes__", [])]))
            raise typer.Exit(ExitCode.STOPPED) from stop
        except Exception as error:
            _tell(error)
            raise typer.Exit(ExitCode.BAD_INPUT) from error

    return wrapped


# Ways to end a command, and a reader that closed the pipe.
_NO_ERRORS = (typer.Exit, typer.Abort, typer.BadParameter, BrokenPipeError)
debugging = ContextVar("debugging", default=False)  # whether `mdxai --debug` was asked for


def _tell(error: Exception) -> None:
    from mdxai.cli.failures import whole_line

    if debugging.get():
        complain("".join(traceback.format_exception(error)))
    errors.print(f"[bold red]error:[/] {escape(whole_line(error))}", soft_wrap=True)


def quieten_libraries() -> None:
    """Silence the warnings of other packages about their own internals."""
    for module in ("torch", "schnetpack", "dirsync", "pytorch_lightning", "lightning_fabric"):
        warnings.filterwarnings("ignore", module=rf"{module}(\..*)?$")
    warnings.filterwarnings("ignore", category=SyntaxWarning)
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)


@contextmanager
def loading(silent: bool) -> Iterator[None]:
    """Say that the slow imports are under way; small networks run fastest on one thread."""
    with spinner(silent, "loading torch and schnetpack"):
        import torch

        import mdxai.calculators  # noqa: F401 (the slow part is importing schnetpack)

        torch.set_num_threads(1)
        yield


def spinner(silent: bool, label: str) -> AbstractContextManager[Any]:
    """Return what shows that something is under way; None inside where nothing is shown."""
    return nullcontext() if silent else errors.status(label)


@contextmanager
def run_progress(
    silent: bool, steps: int, label: str
) -> Iterator[Callable[[Monitor], None] | None]:
    """Show a bar with the time left and the verdict so far."""
    if silent:
        yield None
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
        TimeRemainingColumn(), TextColumn("{task.fields[state]}"),
    )  # fmt: skip
    with Progress(*columns, console=errors) as bar:
        task = bar.add_task(label, total=steps, state="")

        def show(monitor: Monitor) -> None:
            verdict = monitor.verdict
            cause = verdict.cause
            state = str(verdict.stability) + (f" ({cause.principle})" if cause else "")
            bar.update(task, completed=monitor.last_step, state=state)

        yield show


@contextmanager
def kept_if_stopped(out: Path | None, what: str) -> Iterator[None]:
    """Say what a directory keeps where a command is interrupted."""
    try:
        yield
    except KeyboardInterrupt as stop:
        if out is not None and out.is_dir():
            stop.add_note(f"{out} keeps {what}; the same command continues it")
        raise


def attempt_page(write: Callable[[Any, Path], Path], found: Any, out: Path, what: str) -> None:
    """Write the page of what a directory keeps already: its failure costs only a message."""
    from mdxai.errors import one_line

    try:
        write(found, out)
    except Exception as error:  # of matplotlib, say
        complain(f"{out} {what}, but not its page: {one_line(error)}")


def escape(text: str) -> str:
    """Return text that rich prints as it is."""
    return text.replace("[", r"\[")


def say(text: str) -> None:
    """Print one line to the standard output, of any length."""
    Console(highlight=False).print(escape(text), soft_wrap=True)


def complain(text: str) -> None:
    """Print one line to the standard error, of any length."""
    errors.print(escape(text), soft_wrap=True)


def print_json(content: Any) -> None:
    """Print plain data as JSON, in which NaN has no place."""
    print(json.dumps(content, allow_nan=False))


def print_table(table: Any, width: int = 120) -> None:
    """Print a rich table; `width` characters wide where no terminal says how wide it is."""
    Console(highlight=False, width=None if sys.stdout.isatty() else width).print(table)


def unused(path: Path) -> Path:
    """Return `path`, or the first of path-2, path-3, … that does not exist."""
    numbered = (path.with_name(f"{path.name}-{n}") for n in count(2))
    return path if not path.exists() else next(p for p in numbered if not p.exists())

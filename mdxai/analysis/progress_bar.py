"""How far an analysis has come, as a bar in a terminal or a notebook."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

Progress = Callable[[int, int | None], None]  # entries done, and of all where their number is known


@contextmanager
def progress_bar(console: Console | None = None) -> Iterator[Progress]:
    """Show a bar with the time left while inside; what is yielded moves it.

    Args:
        console: of rich; default: the standard error, or the notebook, where ipywidgets is
            installed.
    """
    from rich.console import Console
    from rich.progress import Progress as Bar

    with Bar(console=console or Console(stderr=True)) as bar:
        task = bar.add_task("explaining", total=None)
        yield lambda done, count: bar.update(task, completed=done, total=count)

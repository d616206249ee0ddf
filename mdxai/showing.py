"""Values that show themselves in a notebook, as `mdxai.report` knows, imported when asked."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NOTEBOOK = "mdxai.report.notebook"


class ShowsItself:
    """A value that a notebook shows as HTML, and that can be plotted."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        html: str = _notebook().html_of(self)
        return html

    def plot(self, ax: Axes | None = None) -> Axes:
        """Plot what is most telling and return the axes.

        A run: its worst principles as shares of their thresholds over time. A verdict: its findings
        over time. An attribution: its strongest pairs. A forecast: the survival over time. An
        analysis: the mean strengths of the strongest kinds of pairs.

        Args:
            ax: where to draw; a new figure of pyplot's by default, which notebooks show.
        """
        axes: Axes = _notebook().plot_of(self, ax)
        return axes


def _notebook() -> Any:
    return import_module(NOTEBOOK)

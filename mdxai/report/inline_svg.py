"""Figures as SVG inside the page: small, without names shared between figures."""

from __future__ import annotations

import re
from collections.abc import Callable
from html import escape
from io import StringIO
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from mdxai.report.figures import INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes


STYLE: Any = {
    "svg.fonttype": "none",  # text stays text: small, and screen readers read it
    "svg.hashsalt": "mdxai",
    "text.parse_math": False,
    "font.size": 8.5,
    "axes.formatter.useoffset": False,
    "axes.linewidth": 0.7,
    "axes.edgecolor": INK,
    "text.color": INK,
}
METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))  # none of it


def inline_svg(
    draw: Callable[[Axes], None], size: tuple[float, float], label: str, *, white: bool = False
) -> Markup:
    """Return a figure as markup.

    Args:
        draw: draws into the axes that it is given.
        size: width and height, inches.
        label: what the figure shows, for those who cannot see it.
        white: keep a white background where the page is dark.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context():  # whatever style the user's script has chosen
        mpl.rcdefaults()
        mpl.rcParams.update(STYLE)
        figure = Figure(figsize=size)
        draw(figure.add_axes(axes_within(size)))
        text = StringIO()
        figure.savefig(text, format="svg", transparent=True, metadata=METADATA)
    return _inline(text.getvalue(), label, white=white)


def axes_within(size: tuple[float, float]) -> tuple[float, float, float, float]:
    """Return left, bottom, width and height of the axes in a figure of a size (inches)."""
    width, height = size
    bottom, left = 0.42 / height, 0.62 / width
    return left, bottom, 1 - left - 0.08, 1 - bottom - 0.1 / height


def _inline(text: str, label: str, *, white: bool) -> Markup:
    """Return a file that matplotlib wrote as markup: without ids, which would clash on the page,
    and with coordinates to 0.01.
    """
    text = text[text.index("<svg") :]
    text = re.sub(r' id="[a-z0-9.]+_\d+"', "", text)
    text = re.sub(r' (?:xmlns(?::xlink)?|version)="[^"]*"|<metadata>.*?</metadata>', "", text,
                  flags=re.DOTALL)  # fmt: skip
    text = re.sub(r"font: (?:[a-z0-9]+ )?([\d.]+px)[^;\"]*", r"font-size: \1", text)
    text = re.sub(r'(?<= )(?:d|x|y|transform)="[^"]*"', _short, text)
    text = re.sub(r">\s+<", "><", text)
    if not white:  # page.css redefines some colours for dark pages
        text = re.sub(r"(?<=[ :])#([0-9a-f]{6})", r"var(--c\1,#\1)", text)
    start = f'<svg role="img" aria-label="{escape(label)}"' + (' class="white"' if white else "")
    return Markup(text.replace("<svg", start, 1))


def _short(match: re.Match[str]) -> str:
    return re.sub(r"(\.\d{2})\d+", r"\1", match[0]).replace("\n", "")

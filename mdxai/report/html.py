"""Pieces of a page in which all text is escaped, and figures as they stand in it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from html import escape
from io import StringIO
from typing import TYPE_CHECKING

from mdxai.report.figures import INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes

VOID = {"br", "meta"}  # have no end


class Html(str):
    """Markup; any other text is escaped where it becomes part of a page."""

    __slots__ = ()


def element(name: str, /, *children: str, **attributes: str) -> Html:
    """Return an element; an underscore behind an attribute's name (`class_`) is left out."""
    text = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"'
        for key, value in attributes.items()
        if value
    )
    end = "" if name in VOID else f"{joined(children)}</{name}>"
    return Html(f"<{name}{text}>{end}")


def joined(pieces: Iterable[str]) -> Html:
    """Return pieces one after the other."""
    return Html("".join(p if isinstance(p, Html) else escape(p) for p in pieces))


def table(headings: Mapping[str, str], rows: Iterable[Iterable[str]]) -> Html:
    """Return a table.

    Args:
        headings: of the columns, with their class: "number" or "text".
        rows: cells.
    """
    kinds = list(headings.values())
    head = element("tr", *(element("th", name, class_=kind) for name, kind in headings.items()))
    body = [
        element("tr", *(element("td", c, class_=k) for c, k in zip(cells, kinds, strict=True)))
        for cells in rows
    ]
    whole = element("table", element("thead", head), element("tbody", *body))
    return element("div", whole, class_="wide")


def definitions(entries: Iterable[tuple[str, str]], last: str = "") -> Html:
    """Return terms with what they are; `last` is the class of the last one."""
    pairs = [joined([element("dt", term), element("dd", what)]) for term, what in entries]
    kinds = [""] * (len(pairs) - 1) + [last]
    return element(
        "dl", *(element("div", pair, class_=kind) for pair, kind in zip(pairs, kinds, strict=False))
    )


def number(value: float, unit: str = "", digits: int = 3) -> Html:
    """Return a number with its unit, rounded to be read, and whole for whoever parses the page."""
    unit = "" if unit in ("1", "") else f"\N{NO-BREAK SPACE}{unit}"
    if not math.isfinite(value):
        return Html("not finite" if math.isnan(value) else "∞" if value > 0 else "−∞")
    return joined([element("data", rounded(value, digits), value=repr(float(value))), unit])


def rounded(value: float, digits: int = 3) -> str:
    """Return a number as text; whole numbers below a million with all their digits."""
    whole = value == int(value) and abs(value) < 1e6
    return (f"{int(value):,}" if whole else f"{value:.{digits}g}").replace("-", "−")


def svg(
    draw: Callable[[Axes], None], size: tuple[float, float], label: str, *, white: bool = False
) -> Html:
    """Return a figure as markup.

    Args:
        draw: draws into the axes that it is given.
        size: inches.
        label: what it shows, for those who cannot see it.
        white: keep it on white where the page is dark.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context():  # whatever style the user's script has chosen
        mpl.rcdefaults()
        mpl.rcParams.update(
            {
                "svg.fonttype": "none",  # text stays text: small, and it can be read out
                "svg.hashsalt": "mdxai",
                "text.parse_math": False,
                "font.size": 8.5,
                "axes.formatter.useoffset": False,
                "axes.linewidth": 0.7,
                "axes.edgecolor": INK,
                "text.color": INK,
            }
        )
        figure = Figure(figsize=size)
        width, height = size
        bottom, left = 0.42 / height, 0.62 / width
        draw(figure.add_axes((left, bottom, 1 - left - 0.08, 1 - bottom - 0.1 / height)))
        text = StringIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(text, format="svg", transparent=True, metadata=nothing)
    return _inline(text.getvalue(), label, white=white)


def _inline(text: str, label: str, *, white: bool) -> Html:
    """Return a file of matplotlib's as part of a page: short, without names that it would share
    with the other figures.
    """
    text = text[text.index("<svg") :]
    text = re.sub(r' id="[a-z0-9.]+_\d+"', "", text)
    text = re.sub(r' (?:xmlns(?::xlink)?|version)="[^"]*"|<metadata>.*?</metadata>', "", text,
                  flags=re.DOTALL)  # fmt: skip
    text = re.sub(r"font: (?:[a-z0-9]+ )?([\d.]+px)[^;\"]*", r"font-size: \1", text)
    text = re.sub(r'(?<= )(?:d|x|y|transform)="[^"]*"', _short, text)
    text = re.sub(r">\s+<", "><", text)
    if not white:  # a dark page changes some colours
        text = re.sub(r"(?<=[ :])#([0-9a-f]{6})", r"var(--c\1,#\1)", text)
    start = f'<svg role="img" aria-label="{escape(label)}"' + (' class="white"' if white else "")
    return Html(text.replace("<svg", start, 1))


def _short(match: re.Match[str]) -> str:
    return re.sub(r"(\.\d{2})\d+", r"\1", match[0]).replace("\n", "")

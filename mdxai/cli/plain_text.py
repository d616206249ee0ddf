"""Output on consoles that cannot show every character, such as those of ASCII."""

from __future__ import annotations

import codecs
import io
import sys
import unicodedata

ERRORS = "mdxai.nearest"  # the name of the error handler
_NEAREST = {
    "–": "-", "—": "-", "−": "-", "…": "...", "≤": "<=", "≥": ">=", "→": "->", "∫": "int ",
    "×": "x", "·": " ", "°": " deg", "∞": "inf", "Σ": "sum ", "√": "sqrt ", "∂": "d", "‖": "|",
    "⁻": "-", "±": "+-", "≈": "~", "═": "=", "━": "-", "─": "-", "│": "|", "┃": "|", "█": "#",
    "▁": "_", "▂": ".", "▃": ",", "▄": "-", "▅": "~", "▆": "=", "▇": "%",
}  # fmt: skip


def nearest(text: str) -> str:
    """Return text in ASCII: Å becomes A, σ sigma, ≤ <=, and ? what has no likeness."""
    return "".join(map(_nearest_character, text))


def _nearest_character(character: str) -> str:
    if character.isascii():
        return character
    known = _NEAREST.get(character)
    if known is not None:
        return known
    plain = "".join(c for c in unicodedata.normalize("NFKD", character) if c.isascii())
    if plain:
        return plain
    name = unicodedata.name(character, "")
    if name.startswith("GREEK"):
        return name.rpartition("LETTER ")[2].partition(" ")[0].lower()
    return "+" if name.startswith("BOX DRAWINGS") else "?"


def _replace(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return nearest(error.object[error.start : error.end]), error.end


def show_what_can_be_shown() -> None:
    """Have the standard streams replace characters that they cannot encode."""
    codecs.register_error(ERRORS, _replace)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=ERRORS)

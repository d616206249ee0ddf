"""The scripts of a run's page: the libraries of others with their licences, and ours."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from markupsafe import Markup

OURS = ("molecule.js", "charts.js", "explore.js")
OTHERS = {"3Dmol-min.js": "3Dmol-LICENSE.txt", "uPlot.iife.min.js": "uPlot-LICENSE.txt"}


@cache
def packed_scripts() -> Markup:
    """Return all scripts, compressed, as text that stands in a page as it is.

    Each library follows its licence. The page unpacks them (`loader.js`).
    """
    here = files("mdxai.report")
    pieces = []
    for name, licence in OTHERS.items():
        text = (here / "vendor" / licence).read_text(encoding="utf-8").replace("*/", "* /")
        pieces += [f"/*! {text} */", (here / "vendor" / name).read_text(encoding="utf-8")]
    pieces += [(here / "scripts" / name).read_text(encoding="utf-8") for name in OURS]
    return _packed(";\n".join(pieces))


@cache
def loader() -> Markup:
    """Return the script that unpacks and starts the others."""
    return Markup((files("mdxai.report") / "scripts" / "loader.js").read_text(encoding="utf-8"))


@cache
def library_styles() -> Markup:
    """Return the styles that uPlot needs."""
    return Markup((files("mdxai.report") / "vendor" / "uPlot.min.css").read_text(encoding="utf-8"))


def packed_data(content: Mapping[str, Any]) -> Markup:
    """Return plain content, compressed, as text that stands in a page as it is."""
    return _packed(json.dumps(content, separators=(",", ":"), allow_nan=False))


def _packed(text: str) -> Markup:
    return Markup(base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode())

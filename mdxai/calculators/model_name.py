"""What a calculator is called in tables, verdicts and pages: its model, not only its class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mdxai.calculators.card import card_of
from mdxai.calculators.twin import Potential

# Where ASE calculators of others keep which model they are, in the words of their authors.
_NAMING = (
    "method", "model_name", "checkpoint", "checkpoint_path", "model_path", "model_paths", "model",
    "models", "version", "modal", "task_name", "head", "potential", "functional", "xc",
    "basis",
)  # fmt: skip
_LONGEST = 80  # characters of one entry


def model_name(calculator: Any) -> str:
    """Return the name of a calculator's model, such as "TBLite (method=GFN2-xTB)".

    A card's name; else the name that the calculator was given; else its class with what tells its
    models apart: method, checkpoint, version. Sums name their parts.
    """
    card = card_of(calculator)
    if card is not None:
        return card.name
    parts = getattr(getattr(calculator, "mixer", None), "calcs", None)
    if isinstance(parts, Sequence) and parts:
        return " + ".join(map(model_name, parts))
    kind = type(calculator).__name__
    details = _details(calculator)
    name = _given_name(calculator, kind)
    return f"{name} ({', '.join(f'{k}={v}' for k, v in details.items())})" if details else name


def made_name(calculator: Any, twin: Potential) -> str:
    """Return the name of a calculator, or of what a function that makes one has made: its twin."""
    made = hasattr(calculator, "get_potential_energy")
    return model_name(calculator) if made else twin.name


def _given_name(calculator: Any, kind: str) -> str:
    """Return a name that was given; ASE makes one of the class where none was."""
    given = getattr(calculator, "name", None)
    if not (isinstance(given, str) and given):
        return kind
    plain = kind.lower()
    return kind if given.lower() in (plain, plain.removesuffix("calculator")) else given


def _details(calculator: Any) -> dict[str, str]:
    """Return method, checkpoint, version and the like, as far as they are plain."""
    stated = getattr(calculator, "parameters", None)
    model = getattr(calculator, "model", None)
    sources = (stated if isinstance(stated, Mapping) else {}, _own(calculator), _own(model))
    found: dict[str, str] = {}
    for source in sources:
        for key in _NAMING:
            text = _text(source.get(key))
            if text and key not in found:
                found[key] = text
    version = getattr(model, "version", None)  # a property of some networks
    if isinstance(version, str) and version:
        found.setdefault("version", version)
    return found


def _own(thing: Any) -> Mapping[str, Any]:
    return getattr(thing, "__dict__", {})


def _text(value: Any) -> str:
    """Return a plain value as text, of a path its last part; empty for anything else."""
    if isinstance(value, list | tuple) and len(value) == 1:
        value = value[0]
    if isinstance(value, Path) or (isinstance(value, str) and "/" in value):
        value = Path(value).name
    return value[:_LONGEST] if isinstance(value, str) else ""

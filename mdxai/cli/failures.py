"""Errors that nobody foresaw, in one line: what it was, and whose it is."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import mdxai
from mdxai.errors import MdxaiError, one_line

LONGEST_TEXT = 300  # characters of an error's own words
HOME = Path(mdxai.__file__).parent
HOW_TO_SEE = "`mdxai --debug` and the same command show where it happened"


def whole_line(error: BaseException) -> str:
    """Return an error as one line: its kind and words, where it came from, what was kept."""
    notes = getattr(error, "__notes__", [])
    if isinstance(error, MdxaiError):
        return "; ".join([str(error), *notes])
    words, kind = one_line(error), type(error).__name__
    if len(words) > LONGEST_TEXT:
        words = f"{words[:LONGEST_TEXT]}…"
    said = kind if words == kind else f"{kind}: {words}"
    return "; ".join([said, _origin(error), *notes, HOW_TO_SEE])


def _origin(error: BaseException) -> str:
    """Return who raised an error: a calculator, another package, or mdxai itself."""
    frames = [frame for frame in _frames(error) if not frame.f_code.co_filename.startswith("<")]
    for frame in reversed(frames):
        name = _calculator(frame)
        if name is not None:
            return f"raised by the calculator {name} ({_place(frames[-1])})"
    if isinstance(error, OSError):
        return "the operating system refused"
    if isinstance(error, ImportError | SyntaxError):
        return "a module cannot be imported"
    if not frames:
        return "of unknown origin"
    last = frames[-1]
    if HOME in Path(last.f_code.co_filename).parents:
        return f"a fault of mdxai itself ({_place(last)}): please report it"
    ours = [frame for frame in frames if HOME in Path(frame.f_code.co_filename).parents]
    caller = f", called by {_place(ours[-1])}" if ours else ""
    return f"raised in {_place(last)}{caller}"


def _frames(error: BaseException) -> Iterator[FrameType]:
    for frame, _ in traceback.walk_tb(error.__traceback__):
        yield frame


def _calculator(frame: FrameType) -> str | None:
    """Return the class of the calculator, not one of ours, whose method this is."""
    from ase.calculators.abc import GetPropertiesMixin
    from ase.calculators.calculator import BaseCalculator

    owner = frame.f_locals.get("self")
    if not isinstance(owner, BaseCalculator | GetPropertiesMixin):
        return None
    module = type(owner).__module__
    return None if module.startswith("mdxai.") else f"{module}.{type(owner).__qualname__}"


def _place(frame: FrameType) -> str:
    path = Path(frame.f_code.co_filename)
    for parent in path.parents:  # from the outermost package on
        if not (parent / "__init__.py").is_file():
            path = path.relative_to(parent)
            break
    return f"{path}, line {frame.f_lineno}"

"""The root of every error that is the user's to mend."""

from __future__ import annotations


class MdxaiError(Exception):
    """An error in what mdxai was given: a file, a setting, a structure, a calculator.

    Its message says what was seen, what was expected and what to do. The command line prints it
    and exits with code 2. Each room has its own: `RecordError` of a run directory,
    `CalculatorError` of a model, and so on; most are ValueErrors as well.

    What a monitor raises because it was asked to (`UnstableTrajectory`) is not among them.
    """


def one_line(error: BaseException) -> str:
    """Return what an error says, on one line; its type where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__

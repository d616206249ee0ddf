"""Write a network with its guard as a folder that every command and `load_calculator` take."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mdxai.calculators.card import CalculatorError, sha256
from mdxai.calculators.library import refuse_other_calculator
from mdxai.calculators.own_networks import network_calculator

if TYPE_CHECKING:
    from mdxai.calculators import NetworkCalculator


def network_to_write(calculator: Any, folder: Path) -> NetworkCalculator:
    """Return a calculator that can be written into a folder, before or after it gets its guard.

    Raises:
        CalculatorError: for one that is no network of mdxai, or a folder that holds another.
    """
    network = network_calculator(calculator)
    if network is None:
        raise CalculatorError(
            f"only networks of mdxai can be written, got {type(calculator).__name__}; add the "
            "guard where the calculator is made: mdxai.guard(calculator, atoms)"
        )
    refuse_other_calculator(folder)
    return network


def write_guarded(calculator: Any, folder: str | os.PathLike[str]) -> None:
    """Write card.toml, which states the guard, and weights.pt.

    Args:
        calculator: a network of mdxai, such as `guard` returns.
        folder: a new one.

    Raises:
        CalculatorError: for any other calculator, or a folder that holds a calculator already or
            cannot be written.
    """
    out = Path(folder)
    network = network_to_write(calculator, out)
    import torch

    try:
        out.mkdir(parents=True, exist_ok=True)
        torch.save(network.model.state_dict(), out / "weights.pt")
        card = replace(network.card, weights_sha256=sha256(out / "weights.pt"))
        card.dump(out / "card.toml")  # last: without a card the folder is not a calculator
    except OSError as error:
        raise CalculatorError(f"cannot write to {out}: {error}") from error

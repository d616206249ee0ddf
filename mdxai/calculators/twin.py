"""Twins of calculators: potentials that may be probed while the calculator itself drives MD."""

from __future__ import annotations

import copy
from typing import Any, Protocol

import numpy as np

from mdxai.calculators.card import CalculatorError
from mdxai.calculators.fragments import stated_charge
from mdxai.calculators.own_networks import network_calculator
from mdxai.frame import Floats, Frame


class Potential(Protocol):
    """A potential that may be probed without affecting a running calculator."""

    name: str
    cutoff: float  # Å
    n_layers: int
    elements: tuple[str, ...]

    def evaluate(self, frame: Frame) -> tuple[float, Floats]:
        """Return energy (eV) and forces (n_atoms, 3) (eV/Å)."""
        ...


class AseTwin:
    """A potential around an ASE calculator.

    Args:
        calculator: an ASE calculator that drives no simulation.
        cutoff: of its interactions, Å; NaN where it is not known.
        n_layers: number of times that information travels that far.
    """

    def __init__(self, calculator: Any, *, cutoff: float = np.nan, n_layers: int = 1) -> None:
        self.calculator = calculator
        self.name = type(calculator).__name__
        self.cutoff = cutoff
        self.n_layers = n_layers
        self.elements: tuple[str, ...] = ()

    def evaluate(self, frame: Frame) -> tuple[float, Floats]:
        """Return energy (eV) and forces (n_atoms, 3) (eV/Å).

        Raises:
            CalculatorError: with the calculator's message, when it fails on this structure.
        """
        atoms = frame.to_atoms(results=False)
        atoms.calc = self.calculator
        try:
            energy = float(atoms.get_potential_energy())
            forces = np.array(atoms.get_forces(), dtype=np.float64)
        except Exception as error:  # calculators raise any exception of their backends
            words = str(error).strip().splitlines() or [""]
            raise CalculatorError(
                f"{self.name} fails on {_described(frame)}: "
                f"{type(error).__name__}: {words[0][:200]}"
            ) from error
        if forces.shape != (frame.n_atoms, 3):
            raise CalculatorError(
                f"{self.name} gives forces of shape {forces.shape} for {frame.n_atoms} atoms; "
                f"expected ({frame.n_atoms}, 3)"
            )
        return energy, forces


def _described(frame: Frame) -> str:
    """Return a system in a few words: formula, of two atoms their distance, charge."""
    atoms = frame.to_atoms(results=False)
    words = [atoms.get_chemical_formula()]
    if frame.n_atoms == 2:
        words.append(f"{atoms.get_distance(0, 1, mic=bool(frame.pbc.any())):.3g} Å apart")
    charge = stated_charge(frame)
    if charge:
        words.append(f"with charge {charge:+g}")
    return " ".join(words)


def twin_of(source: Any, *, cutoff: float = np.nan, n_layers: int = 1) -> Potential:
    """Return an independent potential like an ASE calculator; the calculator is never evaluated.

    Args:
        source: a calculator, or a function (or class) without arguments that makes one, for
            calculators that cannot be copied.
        cutoff: of a calculator other than mdxai's, Å, if known.
        n_layers: of such a calculator: number of times that information travels that far.

    Raises:
        CalculatorError: for a calculator that cannot be copied, or another object.
    """
    ours = network_calculator(source)
    if ours is not None:
        return ours.potential
    made_by = isinstance(source, type) or not hasattr(source, "get_potential_energy")
    if made_by and callable(source):
        calculator = source()
        ours = network_calculator(calculator)
        if ours is not None:
            return ours.potential
    elif made_by:
        raise CalculatorError(f"expected an ASE calculator, or a function that makes one, got "
                              f"{source!r}")  # fmt: skip
    else:
        calculator = _copied(source)
    return AseTwin(calculator, cutoff=cutoff, n_layers=n_layers)


def _copied(calculator: Any) -> Any:
    try:
        twin = copy.deepcopy(calculator)
    except Exception as error:  # parts of a calculator may raise any exception when copied
        raise CalculatorError(
            f"{type(calculator).__name__} cannot be copied ({error}), and probing the running "
            "calculator would disturb it; give a function that makes such a calculator instead"
        ) from error
    if hasattr(twin, "reset"):
        twin.reset()
    return twin

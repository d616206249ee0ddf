"""Calculators with a guard: mdxai's networks, whose card states it, and wrappers of all others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.stress import full_3x3_to_voigt_6_stress

from mdxai.calculators.card import Card, card_of
from mdxai.calculators.guard_term import Guard, GuardTerm
from mdxai.calculators.model_name import model_name
from mdxai.calculators.own_networks import network_calculator

if TYPE_CHECKING:
    from mdxai.calculators.network_calculator import NetworkCalculator

GUARDED = "-guarded"  # after the name of a calculator
_SUMS = ("energy", "free_energy")
_WITHOUT = ("stresses",)  # of atoms, which the guard does not share out


def guarded(calculator: Any, guard: Guard) -> Any:
    """Return a calculator with a guard; the one that is given stays as it is, without.

    A network of mdxai gives a network whose card states the guard; any other ASE calculator is
    wrapped, and goes on to be used by the wrapper. A guard that is already there is replaced.
    """
    network = network_calculator(calculator)
    if network is None:
        return GuardedCalculator(without_guard(calculator), guard)
    name = network.card.name.removesuffix(GUARDED) + GUARDED
    # Its barriers are others, and so is its forecast.
    return _with_card(network, replace(network.card, name=name, guard=guard, forecast={}))


def without_guard(calculator: Any) -> Any:
    """Return the calculator without its guard; the same one where it has none."""
    if isinstance(calculator, GuardedCalculator):
        return calculator.unguarded
    network = network_calculator(calculator)
    if network is None or network.card.guard is None:
        return calculator
    name = network.card.name.removesuffix(GUARDED)
    return _with_card(network, replace(network.card, name=name, guard=None, forecast={}))


def _with_card(network: NetworkCalculator, card: Card) -> NetworkCalculator:
    """Return a calculator of the same network, run alike, with another card."""
    from mdxai.calculators.network_calculator import NetworkCalculator
    from mdxai.calculators.potential import NetworkPotential

    running = network.running_potential
    potential = NetworkPotential(
        network.potential.network, card,
        dtype=running.dtype, device=running.device, compile=running.compile,
    )  # fmt: skip
    return NetworkCalculator(potential)


def guard_of(calculator: Any) -> Guard | None:
    """Return the guard of a calculator; None for one without."""
    if isinstance(calculator, GuardedCalculator):
        return calculator.guard
    card = card_of(calculator)
    return card.guard if isinstance(card, Card) else None


class GuardedCalculator(Calculator):  # type: ignore[misc]
    """Any ASE calculator with a guard added to its energy, forces and stress.

    Where the guard does nothing, the results are those of the calculator, to the last bit.

    Attributes:
        unguarded: the calculator inside.
        guard: what is added.
    """

    def __init__(self, calculator: Any, guard: Guard) -> None:
        super().__init__()
        self.unguarded, self.guard = calculator, guard
        self._term: tuple[bytes, GuardTerm] | None = None

    @property
    def implemented_properties(self) -> Sequence[str]:
        own = getattr(self.unguarded, "implemented_properties", ("energy", "forces"))
        return [name for name in own if name not in _WITHOUT]

    @property
    def name(self) -> str:
        return model_name(self.unguarded) + GUARDED

    @property
    def card(self) -> Card | None:
        """The card of the calculator inside, where it has one."""
        return card_of(self.unguarded)

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Evaluate the calculator inside, and add the guard to `results`."""
        super().calculate(atoms, properties, system_changes)
        wanted = dict.fromkeys((*properties, "energy", "forces"))
        if "free_energy" in self.implemented_properties:
            wanted["free_energy"] = None
        found = {name: self._inside(name) for name in wanted}
        positions = self.atoms.positions
        action = None
        if np.isfinite(positions).all():
            action = self._prepared().act(positions, self.atoms.cell.array, self.atoms.pbc)
        if action is not None:
            for name in set(_SUMS) & found.keys():
                found[name] = found[name] + action.energy
            forces = np.array(found["forces"], dtype=np.float64)
            energies = np.array(found.get("energies", np.zeros(len(forces))), dtype=np.float64)
            action.add_to(energies, forces)
            found |= {"forces": forces} | ({"energies": energies} if "energies" in found else {})
            if "stress" in found:
                push = full_3x3_to_voigt_6_stress(action.virial / self.atoms.get_volume())
                found["stress"] = found["stress"] + push
        self.results = found

    def _inside(self, name: str) -> Any:
        get = getattr(self.unguarded, "get_property", None)
        if get is not None:
            return get(name, self.atoms)
        return getattr(self.unguarded, _GETTERS.get(name, f"get_{name}"))(self.atoms)

    def _prepared(self) -> GuardTerm:
        numbers = self.atoms.numbers.astype(np.int64)
        key = numbers.tobytes()
        if self._term is None or self._term[0] != key:
            term = GuardTerm(self.guard, numbers)
            term.check(self.atoms.positions, self.atoms.cell.array, self.atoms.pbc)
            self._term = key, term
        return self._term[1]


_GETTERS = {"energy": "get_potential_energy"}

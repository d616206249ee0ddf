"""How far partial forces F_ij = −∂E_i/∂r_j of a network resemble forces between pairs of atoms.

Recorded but not judged: the atoms' energies in a many-body network need not obey Newton's third law
pair by pair; only the total forces do.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np

from mdxai.attribution import AttributionError
from mdxai.attribution.choice import opened
from mdxai.calculators import AseTwin, Potential
from mdxai.frame import Floats, Frame
from mdxai.principles.principle import Cost, Deviation, PrincipleUnavailable

LARGEST = 60  # atoms; one backward pass each


@runtime_checkable
class AtomResolved(Protocol):
    """A potential whose energy is a sum over atoms that can be differentiated atom by atom."""

    def partial_forces(self, frame: Frame, atom: int | None = None) -> Floats:
        """Return −∂E_i/∂r_j, eV/Å: (n_atoms, n_atoms, 3), or (n_atoms, 3) for i = `atom`."""
        ...


class PartialForces:
    """Share of the partial forces that central pair forces cannot give, 0 to 1.

    "reciprocity": Σ_{i<j} |F_ij + F_ji| / Σ_{i<j} (|F_ij| + |F_ji|).
    "centrality": Σ |F_ij − (F_ij·r̂)r̂| / Σ |F_ij| over i ≠ j.
    The atoms are the pair with the largest numerator.

    Args:
        twin: potential to probe.
        quantity: "reciprocity" or "centrality".
        first: a frame of the system.

    Raises:
        PrincipleUnavailable: for a calculator without differentiable per-atom energies, in a
            periodic cell, or for more than 60 atoms.
    """

    unit = "share"
    cost: Cost = "probe"

    def __init__(self, twin: Potential, quantity: str, first: Frame) -> None:
        resolved = _resolved(twin)
        if resolved is None:
            raise PrincipleUnavailable("the calculator gives no partial forces −∂E_i/∂r_j")
        if first.pbc.any():
            raise PrincipleUnavailable("in a periodic cell partial forces mix several images")
        if not 1 < first.n_atoms <= LARGEST:
            raise PrincipleUnavailable(f"needs 2 to {LARGEST} atoms, as each takes a backward pass")
        self._twin, self.name = resolved, quantity

    def deviate(self, frame: Frame, attribution: object = None) -> Deviation:
        partial = self._twin.partial_forces(frame)
        i, j = np.triu_indices(frame.n_atoms, k=1)
        there, back = partial[i, j], partial[j, i]
        whole = np.linalg.norm(there, axis=1) + np.linalg.norm(back, axis=1)
        if self.name == "reciprocity":
            broken = np.linalg.norm(there + back, axis=1)
        else:
            axis = frame.positions[j] - frame.positions[i]
            axis = axis / np.linalg.norm(axis, axis=1, keepdims=True)
            broken = _across(there, axis) + _across(back, axis)
        worst = int(np.argmax(broken))
        total = whole.sum()
        value = 0.0 if total == 0 else float(np.sum(broken) / total)
        return Deviation(self.name, self.unit, value, (int(i[worst]), int(j[worst])))


def _resolved(twin: Potential) -> AtomResolved | None:
    """Return what gives partial forces: the twin, or the network in a calculator of others."""
    if isinstance(twin, AtomResolved):
        return twin
    try:
        network = opened(twin.calculator) if isinstance(twin, AseTwin) else None
    except AttributionError:  # a model of a kind that is not known
        return None
    return network if isinstance(network, AtomResolved) else None


def _across(forces: Floats, axis: Floats) -> Floats:
    """Return the lengths (n,) of the components of forces (n, 3) perpendicular to unit vectors."""
    along = np.sum(forces * axis, axis=1, keepdims=True)
    lengths: Floats = np.linalg.norm(forces - along * axis, axis=1)
    return lengths

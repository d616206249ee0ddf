"""What acts on atoms besides their calculator: restraints, which ASE adds to energy and forces.

A constraint with `adjust_potential_energy` is a restraint: ASE's dynamics add its forces to those
of the calculator. Constraints that hold atoms still change no energy and no force of the dynamics,
but positions and momenta.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ase import Atoms
from ase.constraints import ExternalForce, Hookean

from mdxai.held_results import Floats, changes_when_asked


@dataclass(frozen=True, slots=True)
class Outside:
    """What acts on the atoms of one instant besides their calculator.

    Attributes:
        energy: of the restraints, eV; part of the frame's energy.
        forces: (n_atoms, 3) of the restraints, eV/Å; part of the frame's forces.
        pushes: names of restraints that may push or turn the system as a whole.
        foreign: names of restraints that are not ASE's, whose energy may change with time.
    """

    energy: float
    forces: Floats
    pushes: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.forces.setflags(write=False)


def restraints_of(atoms: Atoms) -> list[Any]:
    """Return the constraints that add to energy and forces."""
    return [held for held in atoms.constraints if hasattr(held, "adjust_potential_energy")]


def with_restraints(
    atoms: Atoms, energy: float | None, forces: Floats | None
) -> tuple[float | None, Floats | None, Outside | None]:
    """Return energy and forces as ASE's dynamics have them, and what of them comes from outside.

    Args:
        atoms: with their constraints.
        energy: of the calculator, eV; None where it holds none.
        forces: of the calculator, (n_atoms, 3) eV/Å; None where it holds none. They are changed.

    Returns:
        Both are None where a restraint changes when it is asked, such as one that moves on with
        every call, because nothing then tells what it was at this step.
    """
    restraints = restraints_of(atoms)
    if not restraints:
        return energy, forces, None
    if any(_moves_on(restraint, atoms) for restraint in restraints):
        return None, None, None
    own, added = atoms.positions * 0.0, 0.0
    for restraint in restraints:  # in the order, and so with the rounding, of ASE
        gained = float(restraint.adjust_potential_energy(atoms))
        added += gained
        energy = None if energy is None else energy + gained
        restraint.adjust_forces(atoms, own)
        if forces is not None:
            restraint.adjust_forces(atoms, forces)
    pushes = tuple(type(r).__name__ for r in restraints if not _is_internal(r))
    foreign = tuple(type(r).__name__ for r in restraints if not _is_of_ase(r))
    return energy, forces, Outside(added, own, pushes, foreign)


def _is_of_ase(restraint: Any) -> bool:
    return type(restraint) in (Hookean, ExternalForce)


def _is_internal(restraint: Any) -> bool:
    """Whether a restraint acts between two atoms, along the line through both."""
    pair = _is_of_ase(restraint) and "indices" in vars(restraint)
    return pair and len(restraint.indices) == 2


def _moves_on(restraint: Any, atoms: Atoms) -> bool:
    def ask(twin: Any, same: Atoms) -> None:
        twin.adjust_potential_energy(same)
        twin.adjust_forces(same, same.positions * 0.0)

    return not _is_of_ase(restraint) and changes_when_asked(restraint, atoms, ask, "both")

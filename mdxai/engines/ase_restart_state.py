"""The state of ASE's molecular dynamics, from which a run continues as if never interrupted.

It contains everything in the dynamics object (thermostat, barostat, step count, random generator,
including NumPy's global one if that is used), everything in the atoms that may change, and what the
rounding of the calculator's sums depends on. Forces are recomputed.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from ase.constraints import (
    FixAtoms,
    FixBondLengths,
    FixCartesian,
    FixCom,
    FixedPlane,
    Hookean,
)
from ase.md.andersen import Andersen
from ase.md.bussi import Bussi
from ase.md.langevin import Langevin
from ase.md.langevinbaoab import LangevinBAOAB
from ase.md.md import MolecularDynamics
from ase.md.melchionna import MelchionnaNPT
from ase.md.nose_hoover_chain import MTKNPT, IsotropicMTKNPT, MaskedMTKNPT, NoseHooverChainNVT
from ase.md.npt import NPT
from ase.md.nptberendsen import Inhomogeneous_NPTBerendsen, NPTBerendsen
from ase.md.nvtberendsen import NVTBerendsen
from ase.md.verlet import VelocityVerlet
from ase.neighborlist import NeighborList, PrimitiveNeighborList

from mdxai.frame import inputs_of_atoms
from mdxai.serialization import StateError, restore, snapshot

# Each was tested: continued from a checkpoint and compared with an uninterrupted run.
EXACT = (
    VelocityVerlet, Langevin, Bussi, NoseHooverChainNVT, Andersen, LangevinBAOAB, NVTBerendsen,
    NPTBerendsen, Inhomogeneous_NPTBerendsen, IsotropicMTKNPT, MTKNPT, MaskedMTKNPT, MelchionnaNPT,
    NPT,
)  # fmt: skip
EXACT_CONSTRAINTS = (FixAtoms, FixBondLengths, FixCartesian, FixCom, FixedPlane, Hookean)
PACKAGES = ("mdxai", "ase.md")
# Attributes that belong to the current run or to other objects, not to the state of the dynamics.
_NOT_STATE = frozenset(
    ["atoms", "optimizable", "_actual_atoms", "observers", "trajectory", "logfile", "comm",
     "max_steps", "nsteps", "_orig_trajectory", "_master", "_exitstack", "_IOContext__exitstack"]
)  # fmt: skip


class RestartWarning(UserWarning):
    """A resumed run may differ slightly from an uninterrupted one."""


def restart_caveat_of(dynamics: MolecularDynamics) -> str | None:
    """Return why a resumed run may differ from an uninterrupted one; None if it cannot."""
    if type(dynamics) not in EXACT:
        return (
            f"{type(dynamics).__name__} is not one of ASE's own classes: whether a resumed run is "
            "bit-identical was not tested"
        )
    for constraint in dynamics.atoms.constraints:
        if type(constraint) not in EXACT_CONSTRAINTS:
            name = type(constraint).__name__
            return f"whether a resumed run with {name} is bit-identical was not tested"
    return None


def state_of(dynamics: MolecularDynamics) -> dict[str, Any]:
    """Return the state of dynamics, its atoms and calculator, between two steps.

    Raises:
        StateError: when one of ASE's own classes has an attribute that cannot be stored. Such
            attributes of other classes are left out, with a RestartWarning.
    """
    atoms = dynamics.atoms
    return {
        "class": type(dynamics).__name__,
        "step": int(dynamics.nsteps),
        "dynamics": _dynamics_state(dynamics),
        "arrays": {name: np.array(array) for name, array in atoms.arrays.items()},
        "cell": atoms.cell.array.copy(),
        "pbc": np.array(atoms.pbc),
        "info": dict(inputs_of_atoms(atoms).info),
        "bond_lengths": [_lengths(constraint) for constraint in atoms.constraints],
        "calculator": _calculator_state(atoms.calc),
    }


def _lengths(constraint: Any) -> Any:
    """Return the bond lengths that a constraint took from the initial structure."""
    if not isinstance(constraint, FixBondLengths) or constraint.bondlengths is None:
        return None
    return np.array(constraint.bondlengths, dtype=np.float64)


def _own(dynamics: MolecularDynamics) -> dict[str, Any]:
    return {name: value for name, value in vars(dynamics).items() if name not in _NOT_STATE}


def _dynamics_state(dynamics: MolecularDynamics) -> Any:
    try:
        return snapshot(_own(dynamics), PACKAGES)
    except StateError:
        if type(dynamics) in EXACT:
            raise
    some, lost = {}, []
    for name, value in _own(dynamics).items():
        try:
            snapshot(value, PACKAGES)
            some[name] = value
        except StateError:
            lost.append(name)
    warnings.warn(
        f"{type(dynamics).__name__} has {', '.join(lost)}, which a checkpoint cannot store: a "
        "resumed run starts with new ones",
        RestartWarning,
        stacklevel=2,
    )
    return snapshot(some, PACKAGES)


def put_state(dynamics: MolecularDynamics, state: Mapping[str, Any]) -> None:
    """Set dynamics, made like those of the state, to that state.

    Raises:
        StateError: when they are of another kind or move other atoms.
    """
    if type(dynamics).__name__ != state["class"]:
        raise StateError(
            f"the checkpoint is of {state['class']}, but these dynamics are "
            f"{type(dynamics).__name__}"
        )
    _refuse_other_atoms(dynamics, state)
    own = restore(_own(dynamics), state["dynamics"], PACKAGES)
    for name, value in own.items():
        setattr(dynamics, name, value)
    put_atoms(dynamics, state)


def _refuse_other_atoms(dynamics: MolecularDynamics, state: Mapping[str, Any]) -> None:
    if not np.array_equal(dynamics.atoms.numbers, state["arrays"]["numbers"]):
        raise StateError("the checkpoint has other atoms than these dynamics; use the same ones")


def put_atoms(dynamics: MolecularDynamics, state: Mapping[str, Any]) -> None:
    """Set atoms, calculator and step count of dynamics to those of a state.

    Raises:
        StateError: for other atoms.
    """
    _refuse_other_atoms(dynamics, state)
    atoms = dynamics.atoms
    dynamics.nsteps = state["step"]
    atoms.set_cell(state["cell"])
    atoms.pbc = state["pbc"]
    atoms.info.update(state["info"])
    for name, array in state["arrays"].items():
        atoms.arrays[name] = array.copy()
    for constraint, lengths in zip(atoms.constraints, state["bond_lengths"], strict=False):
        if lengths is not None:
            constraint.bondlengths = lengths.copy()
    _put_calculator(atoms, state["calculator"])


def _calculator_state(calculator: Any) -> dict[str, Any]:
    if callable(getattr(calculator, "state", None)) and hasattr(calculator, "restore"):
        return {"own": dict(calculator.state())}
    lists = {
        name: {
            "coordinates": np.array(found.nl.coordinates),
            "cell": np.array(found.nl.cell),
            "pbc": np.array(found.nl.pbc),
        }
        for name, found in _lists(calculator).items()
        if found.nl.nupdates
    }
    return {"lists": lists}


def _lists(calculator: Any) -> dict[str, Any]:
    """Return the neighbour lists of ASE's own potentials (EMT, LJ, Tersoff, …) by attribute."""
    held = getattr(calculator, "__dict__", {})
    return {
        name: value
        for name, value in held.items()
        if isinstance(value, NeighborList) and isinstance(value.nl, PrimitiveNeighborList)
    }


def _put_calculator(atoms: Any, state: Mapping[str, Any]) -> None:
    calculator = atoms.calc
    if "own" in state:
        calculator.restore(state["own"])
    elif state["lists"]:
        # Neighbours are ordered as in the last search; a calculator makes its list when first
        # evaluated.
        atoms.get_forces()
        there = _lists(calculator)
        for name, place in state["lists"].items():
            if name in there:
                there[name].nl.build(place["pbc"], place["cell"], place["coordinates"])
        if isinstance(getattr(calculator, "results", None), dict):
            calculator.results.clear()
    elif hasattr(calculator, "reset"):
        calculator.reset()

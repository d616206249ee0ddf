"""Images of files as frames in our units, before it is known when they were."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.data import atomic_masses

from mdxai.engines.stated import ISOTOPES, OF_ASE, SYMBOLS, Selection, TrajectoryError, Units
from mdxai.frame import ASE_TIME_PER_FS, CalculatorInputs, Floats, Frame, Ints

MASS_TOLERANCE = 0.1  # amu; hydrogen and deuterium differ by 1


@dataclass(frozen=True, slots=True)
class Image:
    """One image of a trajectory.

    frame: all but its instant. step, time (fs): as the file says; None where it does not.
    unsettled: what it says about time that cannot be used, such as a number without a unit.
    notes: what was left aside.
    """

    frame: Frame
    step: int | None = None
    time: float | None = None
    unsettled: str = ""
    notes: tuple[str, ...] = ()


def frame_of_atoms(
    atoms: Atoms, selection: Selection, units: Units = OF_ASE, velocities: Floats | None = None
) -> tuple[Frame, tuple[str, ...]]:
    """Return atoms as a frame in our units, without sites that have no mass, and notes on them.

    Atoms without momenta have unknown velocities.

    Args:
        atoms: numbers in `units`.
        selection: which atoms.
        units: of the numbers that `atoms` hold, velocities included.
        velocities: (n_atoms, 3), instead of those of the momenta.

    Raises:
        TrajectoryError: where no atom is left.
    """
    chosen = selection.pick(atoms.numbers)
    # ASE gives X, its dummy, the mass 1.
    masses = atoms.arrays.get("masses", np.where(atoms.numbers == 0, 0.0, 1.0))
    kept = chosen[masses[chosen] > 0]
    notes = sites_note(len(chosen) - len(kept), len(atoms))
    if not len(kept):
        raise TrajectoryError("none of its atoms has a mass")
    real = np.flatnonzero(masses > 0)
    if len(kept) < len(atoms):
        whole = set(real) <= set(kept)  # then energy and forces are those of all real atoms
        atoms, velocities = _subset(atoms, kept, whole), _rows(velocities, kept)
    frame = Frame.from_atoms(atoms)
    if velocities is not None:
        frame = replace(frame, velocities=np.array(velocities, dtype=np.float64))
    elif not atoms.has("momenta"):
        frame = frame.without("velocities")
    elif units.velocities is not None:  # a frame has taken them for ASE's
        units = replace(units, velocities=units.velocities / ASE_TIME_PER_FS)
    return in_our_units(frame, units), notes


def sites_note(n_sites: int, n_atoms: int) -> tuple[str, ...]:
    """Return what is said about sites that were left aside, as a note, if there were any."""
    if not n_sites:
        return ()
    return (
        f"{n_sites} of {n_atoms} atoms have no mass or no element and were left aside; name "
        "those to read, if others are meant (atoms=, --select)",
    )


def _rows(array: Floats | None, kept: Ints) -> Floats | None:
    return None if array is None else array[kept]


def _subset(atoms: Atoms, kept: Ints, keeps_results: bool) -> Atoms:
    """Return some of the atoms, with energy and forces where these are theirs alone."""
    results = dict(getattr(atoms.calc, "results", None) or {}) if keeps_results else {}
    part = atoms[kept]
    held = {name: results[name] for name in ("energy", "forces") if name in results}
    if "forces" in held:
        held["forces"] = np.asarray(held["forces"])[kept]
    if held:
        part.calc = SinglePointCalculator(part, **held)
    return part


def in_our_units(frame: Frame, units: Units) -> Frame:
    """Return a frame of numbers in `units` as one in ours."""
    changes: dict[str, Any] = {}
    if units.positions not in (None, 1.0):
        changes |= {"positions": frame.positions * units.positions}
        changes |= {"cell": frame.cell * units.positions}
    for name in ("velocities", "forces", "energy"):
        unit = getattr(units, name)
        if unit not in (None, 1.0) and name not in frame.absent:
            changes[name] = getattr(frame, name) * unit
    return replace(frame, **changes) if changes else frame


def take(frame: Frame, kept: Ints, *, keeps_results: bool) -> Frame:
    """Return some atoms of a frame.

    Args:
        frame: the whole.
        kept: (n_kept,) indices.
        keeps_results: whether energy and forces are those of the kept atoms alone.
    """
    inputs = frame.inputs
    if inputs.charges is not None or inputs.magnetic_moments is not None:
        inputs = CalculatorInputs(
            inputs.info, _rows(inputs.charges, kept), _rows(inputs.magnetic_moments, kept)
        )
    part = replace(
        frame, numbers=frame.numbers[kept], masses=frame.masses[kept],
        positions=frame.positions[kept], velocities=frame.velocities[kept],
        forces=frame.forces[kept], inputs=inputs,
    )  # fmt: skip
    return part if keeps_results else part.without("energy", "forces")


def chosen_of_frame(frame: Frame, selection: Selection) -> tuple[Frame, tuple[str, ...]]:
    """Return the stated atoms of a frame, without sites that have no mass, and notes on these.

    Raises:
        TrajectoryError: where no atom is left, and where it is not known which of the atoms are
            held by constraints.
    """
    chosen = selection.pick(frame.numbers)
    kept = chosen[(frame.masses[chosen] > 0) & (frame.numbers[chosen] > 0)]
    if len(kept) == frame.n_atoms:
        return frame, ()
    real = (frame.masses > 0) & (frame.numbers > 0)
    if not len(kept):
        raise TrajectoryError("none of its atoms has a mass")
    if frame.n_constrained and len(kept) < real.sum():
        raise TrajectoryError(
            "which atoms are held by constraints is not known, so a part of them cannot be judged; "
            "select from ASE atoms, or from a file that has them"
        )
    part = take(frame, kept, keeps_results=len(kept) == real.sum())
    return part, sites_note(len(chosen) - len(kept), frame.n_atoms)


def element_of(label: str) -> str | None:
    """Return the symbol of an element from a label that is one in any case, D and T included."""
    symbol = label.strip().capitalize()
    return symbol if symbol in SYMBOLS or symbol in ISOTOPES else None


def element_of_mass(mass: float) -> str | None:
    """Return the element of a mass (amu), "D" and "T" included; None for a mass of no element."""
    for name, heavy in ISOTOPES.items():
        if abs(mass - heavy) <= MASS_TOLERANCE:
            return name
    off = np.abs(atomic_masses[1:] - mass)
    nearest = int(np.argmin(off))
    return SYMBOLS[nearest + 1] if off[nearest] <= MASS_TOLERANCE else None


def elements_by_type(labels: list[str], stated: tuple[str, ...], what: str) -> list[str]:
    """Return an element per atom ("D" and "T" too), from labels that may be types 1, 2, ….

    Args:
        labels: one per atom.
        stated: by the user: of every atom in order, or of types 1, 2, ….
        what: the source, for messages.

    Raises:
        TrajectoryError: where an element is not known.
    """
    types = [int(label) if label.isdigit() else 0 for label in labels]
    by_type = bool(stated) and all(0 < t <= len(stated) for t in types)
    if stated and len(stated) == len(labels) and _go_together(types, stated):
        typed = [stated[t - 1] for t in types] if by_type else list(stated)
        if by_type and max(types) == len(stated) and typed != list(stated):
            raise TrajectoryError(
                f"{len(stated)} elements are stated for as many types and atoms of {what}; add one "
                "that no type has, so that they are those of types 1, 2, … (elements=, --elements)"
            )
        return list(stated)
    if by_type:
        return [stated[t - 1] for t in types]
    found = [element_of(label) for label in labels]
    unknown = [n for n, symbol in enumerate(found) if symbol is None]
    if unknown or stated:
        seen = ", ".join(dict.fromkeys(labels[n] or "no name" for n in unknown or range(3)))
        raise TrajectoryError(
            f"the elements of {what} are not known: its atoms are {seen[:80]}, "
            f"and {len(stated) or 'no'} elements are stated; state those of its types 1, 2, … or "
            f"of all {len(labels)} atoms in order (elements=, --elements C,H,O)"
        )
    return [symbol for symbol in found if symbol is not None]


def _go_together(types: list[int], elements: tuple[str, ...]) -> bool:
    """Whether atoms of one type are of one element, where they have types."""
    seen: dict[int, str] = {}
    return all(t == 0 or seen.setdefault(t, e) == e for t, e in zip(types, elements, strict=True))


def set_isotopes(atoms: Atoms, elements: list[str]) -> None:
    """Give deuterium and tritium their mass, unless the file gives masses itself."""
    heavy = {n: ISOTOPES[name] for n, name in enumerate(elements) if name in ISOTOPES}
    if heavy and not atoms.has("masses"):
        masses = atoms.get_masses()
        masses[list(heavy)] = list(heavy.values())
        atoms.set_masses(masses)


def plain_element(symbol: str) -> str:
    """Return "H" for its isotopes, and other symbols unchanged."""
    return "H" if symbol in ISOTOPES else symbol

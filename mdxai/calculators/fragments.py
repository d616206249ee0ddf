"""What a calculator reads besides geometry, of parts and of several copies of a system.

A total charge and a spin belong to the whole. A part of it is taken as neutral and in its lowest
spin, because nothing says where the charge sits; copies side by side have the sum of both. Initial
charges and magnetic moments belong to atoms and go with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from mdxai.frame import NO_INPUTS, CalculatorInputs, Floats, Frame, Ints

CHARGES = ("charge", "total_charge", "net_charge", "molecular_charge")
SPINS = (
    "spin", "total_spin", "multiplicity", "mult", "spin_multiplicity", "uhf", "n_unpaired",
    "unpaired_electrons",
)  # fmt: skip


def stated_charge(frame: Frame) -> float:
    """Return the charge, e, that the inputs of a frame state; 0 where they state none."""
    info = frame.inputs.info
    total = next((info[name] for name in CHARGES if _is_number(info.get(name))), None)
    if total is not None:
        return float(total)
    charges = frame.inputs.charges
    return 0.0 if charges is None else float(np.round(charges.sum(), 3))


def inputs_of_atoms_in(frame: Frame, members: Sequence[int]) -> CalculatorInputs:
    """Return the inputs of some atoms of a frame alone; those of the frame for all of its atoms."""
    if len(members) == frame.n_atoms or frame.inputs is NO_INPUTS:
        return frame.inputs
    rows = np.asarray(members, dtype=np.int64)
    arrays = (None if a is None else a[rows] for a in _arrays(frame.inputs))
    return _part(frame, frame.numbers[rows], *arrays)


def inputs_of_elements(frame: Frame, numbers: Ints) -> CalculatorInputs:
    """Return the inputs of atoms of these elements alone, such as the two of a dimer.

    Each has the mean initial charge and magnetic moment of its element in the frame; 0 where the
    frame has no such atom.
    """
    if frame.inputs is NO_INPUTS:
        return NO_INPUTS
    arrays = (None if a is None else _means(frame, a, numbers) for a in _arrays(frame.inputs))
    return _part(frame, numbers, *arrays)


def inputs_of_copies(frame: Frame, n_copies: int = 2) -> CalculatorInputs:
    """Return the inputs of copies of a frame side by side, which do not interact."""
    if frame.inputs is NO_INPUTS:
        return NO_INPUTS
    info = dict(frame.inputs.info)
    counts = _counts_multiplicity(frame)
    for name in info.keys() & {*CHARGES, *SPINS}:
        if _is_number(info[name]):
            shift = 1 if name in counts else 0  # a multiplicity is one more than what adds up
            info[name] = n_copies * (info[name] - shift) + shift
    charges, moments = (
        None if a is None else np.concatenate([a] * n_copies) for a in _arrays(frame.inputs)
    )
    return CalculatorInputs(info, charges, moments)


def inputs_with_atom(frame: Frame, number: int) -> CalculatorInputs:
    """Return the inputs of a frame and a distant neutral atom."""
    if frame.inputs is NO_INPUTS:
        return NO_INPUTS
    info = dict(frame.inputs.info)
    for name in info.keys() & set(SPINS):
        if _is_number(info[name]):
            info[name] += number % 2
    charges, moments = (
        None if a is None else np.concatenate([a, np.zeros((1, *a.shape[1:]))])
        for a in _arrays(frame.inputs)
    )
    return CalculatorInputs(info, charges, moments)


def reordered(inputs: CalculatorInputs, order: Ints) -> CalculatorInputs:
    """Return inputs of the same atoms in another order."""
    charges, moments = (None if a is None else a[order] for a in _arrays(inputs))
    return replace(inputs, charges=charges, magnetic_moments=moments)


def _arrays(inputs: CalculatorInputs) -> tuple[Floats | None, Floats | None]:
    return inputs.charges, inputs.magnetic_moments


def _means(frame: Frame, values: Floats, numbers: Ints) -> Floats:
    nothing = np.zeros((1, *values.shape[1:]))
    of = [values[frame.numbers == z] for z in numbers]
    return np.stack([(rows if len(rows) else nothing).mean(axis=0) for rows in of])


def _part(
    frame: Frame, numbers: Ints, charges: Floats | None, moments: Floats | None
) -> CalculatorInputs:
    info = dict(frame.inputs.info)
    counts, odd = _counts_multiplicity(frame), int(numbers.sum()) % 2
    for name, value in frame.inputs.info.items():
        if name in CHARGES and _is_number(value):
            info[name] = type(value)(0)
        elif name in SPINS and _is_number(value):
            info[name] = type(value)(odd + (name in counts))
    return CalculatorInputs(info, charges, moments)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == round(value)


def _counts_multiplicity(frame: Frame) -> set[str]:
    """Return the entries that are 2S + 1 rather than 2S, which has the parity of the electrons."""
    info = frame.inputs.info
    charge = sum(info[name] for name in CHARGES if name in info and _is_number(info[name]))
    electrons = int(frame.numbers.sum()) - round(charge)
    return {
        name for name in SPINS
        if name in info and _is_number(info[name]) and info[name] >= 1
        and (round(info[name]) - 1 - electrons) % 2 == 0
    }  # fmt: skip

"""Labels that are never lost: one file, written anew after each, and read back by what it holds."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from mdxai.calculators.training import Labelled
from mdxai.frame import Floats, Ints, formula_in_order
from mdxai.mending.active_learning import LabelError
from mdxai.record.durable_files import write_file

SAME = 1e-4  # Å, of any coordinate of what is the same frame
FAILED = "failed"  # entry of `info`: why the reference gave no label


class KeptLabels:
    """Frames of one molecule with energies (eV) and forces (eV/Å), in a file of extended XYZ.

    A frame that the reference refused is kept too, without energy, so that it is asked once.

    Args:
        file: of the labels; it is made with the first.
        numbers: (n_atoms,) of the molecule.

    Raises:
        LabelError: for a file that cannot be read, or that holds other atoms.
    """

    def __init__(self, file: Path, numbers: Ints) -> None:
        self._file, self._numbers = file, numbers
        self.frames: list[Atoms] = list(self._read(file)) if file.exists() else []

    def __len__(self) -> int:
        return len(self.frames)

    def find(self, atoms: Atoms) -> Atoms | None:
        """Return the same frame with its label, None where it has none."""
        if not self.frames:
            return None
        held = np.array([one.positions for one in self.frames])
        off = np.abs(held - atoms.positions).max(axis=(1, 2))
        k = int(off.argmin())
        return self.frames[k] if off[k] < SAME else None

    def add(self, atoms: Atoms, energy: float, forces: Floats) -> None:
        """Keep the label of a frame: energy in eV, forces (n_atoms, 3) in eV/Å."""
        held = atoms.copy()
        # As the file will give them back, so that what is trained on is the same after a kill.
        rounded = {"energy": round(float(energy), 8), "forces": np.round(forces, 8)}
        held.calc = SinglePointCalculator(held, **rounded)
        self._keep([held])

    def refuse(self, atoms: Atoms, why: str) -> None:
        """Keep that a frame got no label, and why."""
        held = atoms.copy()
        held.info[FAILED] = why
        self._keep([held])

    def labelled_in(self, file: Path) -> list[Atoms]:
        """Return the labelled frames of a file that ASE reads; `info` says which file.

        Raises:
            LabelError: for a file that cannot be read, or frames of other atoms or without labels.
        """
        found = list(self._read(file))
        for k, atoms in enumerate(found):
            if not is_labelled(atoms):
                raise LabelError(
                    f"frame {k} of {file} has no energy and forces; expected labelled frames, as "
                    "ASE writes them in extended XYZ"
                )
            atoms.info = {"file": file.name}
        return found

    def take_in(self, frames: Sequence[Atoms]) -> None:
        """Keep labelled frames, those that are new."""
        new = [atoms for atoms in frames if self.find(atoms) is None]
        if new:
            self._keep(new)

    def within(self, floor: float, height: float, force: float) -> list[Atoms]:
        """Return the labelled frames that are worth training on.

        Args:
            floor: energy of the minimum, eV.
            height: above it, eV, up to which frames are taken.
            force: eV/Å on an atom, up to which frames are taken.
        """
        return [
            atoms for atoms in self.frames
            if is_labelled(atoms) and atoms.get_potential_energy() - floor <= height
            and np.linalg.norm(atoms.get_forces(), axis=1).max() <= force
        ]  # fmt: skip

    @property
    def first_failure(self) -> str:
        """Why the first frame without label has none; "" where all have one."""
        return next((str(a.info[FAILED]) for a in self.frames if FAILED in a.info), "")

    def _keep(self, new: Sequence[Atoms]) -> None:
        self.frames += new
        write_durably(self.frames, self._file)

    def _read(self, file: Path) -> Iterator[Atoms]:
        try:
            frames = ase.io.read(file, index=":", do_not_split_by_at_sign=True)
        except Exception as error:  # ASE's readers raise whatever their formats make them raise
            raise LabelError(f"{file} cannot be read as labelled frames: {error}") from error
        for k, atoms in enumerate(frames):
            if not np.array_equal(atoms.numbers, self._numbers):
                raise LabelError(
                    f"frame {k} of {file} has other atoms than the structure, or in another order: "
                    f"{formula_in_order(atoms.numbers)} instead of "
                    f"{formula_in_order(self._numbers)}"
                )
            yield atoms


def is_labelled(atoms: Atoms) -> bool:
    """Return whether a frame holds a finite energy and finite forces."""
    held = getattr(atoms.calc, "results", {})
    return all(key in held and np.isfinite(held[key]).all() for key in ("energy", "forces"))


def write_durably(frames: Sequence[Atoms], file: Path) -> None:
    """Write frames as extended XYZ, completely or not at all."""
    text = io.StringIO()
    ase.io.write(text, list(frames), format="extxyz")
    write_file(file, text.getvalue().encode())


def read_asked(file: str | os.PathLike[str]) -> list[Atoms]:
    """Return frames to label that `write_durably` wrote."""
    found: list[Atoms] = ase.io.read(file, index=":", do_not_split_by_at_sign=True)
    return found


def labelled(frames: Sequence[Atoms]) -> Labelled:
    """Return labelled frames of one molecule for training."""
    return Labelled(
        frames[0].numbers.astype(np.int64),
        np.array([atoms.positions for atoms in frames]),
        np.array([atoms.get_potential_energy() for atoms in frames]),
        np.array([atoms.get_forces() for atoms in frames]),
    )

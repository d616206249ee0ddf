"""The labels of teaching: which frames are asked for in a round, and which labels are used."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from mdxai.calculators import CalculatorError, Potential, twin_of
from mdxai.calculators.model_name import model_name
from mdxai.calculators.training import Labelled
from mdxai.forecast import WeakSpots
from mdxai.frame import Floats, Frame, formula_in_order
from mdxai.mending.active_learning import frames_to_label
from mdxai.mending.kept_labels import KeptLabels, is_labelled, labelled, read_asked, write_durably
from mdxai.mending.teach_options import LabelSource, TeachError, TeachOptions
from mdxai.mending.weak_spot_frames import DIGITS, frames_of_weak_spots
from mdxai.record import open_run
from mdxai.record.durable_files import make_folder

LABELS, ASKED = "labels.extxyz", "asked.extxyz"
CHECKED = 2  # frames of the data that are labelled anew, to see that both are of one level
FEW = 5  # labels, below which there is nothing to teach
ELSEWHERE = "labels made elsewhere"
ROUND, CHECK = "round", "data_row"  # entries of `info` of a frame that was asked for


class LabelRounds:
    """Frames to label and labels, kept in a folder.

    Args:
        folder: of the teaching.
        source: of the labels.
        data: that the model was trained on.
        error: of the model's forces on its test split, meV/Å.
        options: of the teaching.

    Raises:
        LabelError: for files of labels that cannot be used.
        CalculatorError: for a reference that is no calculator.
    """

    def __init__(
        self, folder: Path, source: LabelSource, data: Labelled, error: float, options: TeachOptions
    ) -> None:
        self._source, self._data, self._error, self._options = source, data, error, options
        self._twin, self.name = _reference(source.reference)
        self._folder = folder
        self._kept = KeptLabels(folder / LABELS, data.numbers)

    def given(self) -> list[Atoms]:
        """Return the frames of the files that were given; LabelError for unusable ones."""
        return [a for file in self._source.labelled for a in self._kept.labelled_in(file)]

    def take_in(self, given: list[Atoms]) -> None:
        """Keep labelled frames."""
        self._kept.take_in(given)

    @property
    def asked(self) -> int:
        """Number of frames that the reference was asked for."""
        return sum(ROUND in atoms.info for atoms in self._kept.frames)

    def frames(self, number: int, spots: WeakSpots | None) -> list[Atoms]:
        """Return the frames to label in a round, the same when asked again.

        In the first round some frames of the data are among them.
        """
        file = self._folder / "rounds" / str(number) / ASKED
        if file.exists():
            return read_asked(file)
        n = min(self._options.per_round, self._options.frames - self.asked)
        chosen = self._of_data() + self._of_runs(n // 2) if not number else []
        if spots is not None:
            known = [*self._kept.frames, *chosen]
            chosen += frames_of_weak_spots(spots, max(n - len(chosen), 0), known)
        for atoms in chosen:
            atoms.info[ROUND] = number + 1
        if len(chosen) > (CHECKED if not number else 0):
            make_folder(file.parent)
            write_durably(chosen[:n], file)
            return chosen[:n]
        return []

    def _of_data(self) -> list[Atoms]:
        data = self._data
        rows = np.linspace(0, len(data.energies) - 1, CHECKED).round().astype(int)
        return [
            Atoms(data.numbers, data.positions[k].round(DIGITS), info={CHECK: int(k)}) for k in rows
        ]

    def _of_runs(self, n: int) -> list[Atoms]:
        found = []
        for path in self._source.runs:
            for atoms in frames_to_label(open_run(path), max(n // len(self._source.runs), 1)):
                if not np.array_equal(atoms.numbers, self._data.numbers):
                    raise TeachError(
                        f"{path} is a run of other atoms than the data, or in another order: "
                        f"{formula_in_order(atoms.numbers)}"
                    )
                step = int(atoms.info.get("step", 0))
                info = {"run": str(path), "step": step}
                found.append(Atoms(atoms.numbers, atoms.positions.round(DIGITS), info=info))
        return found

    def label(
        self, asked: list[Atoms], tell: Callable[[str], None], go: Callable[[], bool]
    ) -> bool:
        """Label what is not labelled yet; return whether there is something to train on.

        Args:
            asked: the frames.
            tell: called with what is being done.
            go: whether there is still time.
        """
        if self._twin is None:
            return self._wait_for(asked)
        for k, atoms in enumerate(asked):
            held = self._kept.find(atoms)
            if held is not None:
                held.info |= atoms.info
            elif go():
                tell(f"labelling frame {k + 1} of {len(asked)} with {self.name}")
                try:
                    self._kept.add(atoms, *self._twin.evaluate(Frame.from_atoms(atoms)))
                except CalculatorError as error:
                    self._kept.refuse(atoms, str(error))
        return True

    def _wait_for(self, asked: list[Atoms]) -> bool:
        """Return whether the labels of frames have come back; those that have not never will."""
        there = [self._kept.find(atoms) for atoms in asked]
        if all(held is None for held in there):
            return False
        for held, atoms in zip(there, asked, strict=True):
            if held is None:
                self._kept.refuse(atoms, "it came back without a label")
            else:
                held.info |= atoms.info
        return True

    def taught(self) -> Labelled:
        """Return the labels to train on, on the energy scale of the data.

        Raises:
            TeachError: for labels that disagree with the data by more than the model does, or
                too few.
        """
        shift = self._shift()
        floor = float(self._data.energies.min()) + shift
        used = self._kept.within(floor, self._options.height, self._options.force)
        if len(used) < FEW:
            raise TeachError(
                f"only {len(used)} of {len(self._kept)} labels lie within "
                f"{self._options.height:g} eV and {self._options.force:g} eV/Å; expected {FEW} at "
                f"least. First failure: {self._kept.first_failure or 'none'}"
            )
        found = labelled(used)
        return Labelled(found.numbers, found.positions, found.energies - shift, found.forces)

    def _shift(self) -> float:
        """Return by how much energies of the reference are higher than those of the data, eV."""
        checks = [
            atoms for atoms in self._kept.frames if CHECK in atoms.info and is_labelled(atoms)
        ]
        if not checks:
            raise TeachError(
                f"the reference labelled none of {CHECKED} frames of the data: "
                f"{self._kept.first_failure or 'nothing came back'}"
            )
        rows = [int(atoms.info[CHECK]) for atoms in checks]
        forces: Floats = np.array([atoms.get_forces() for atoms in checks])
        off = 1e3 * float(np.abs(forces - self._data.forces[rows]).mean())
        if not off <= self._error:
            raise TeachError(
                f"forces of the labels ({self.name}) differ from those of the data by {off:.1f} "
                f"meV/Å, and the model's by {self._error:.1f}: expected labels of the same level "
                "of theory, in eV/Å"
            )
        energies = np.array([atoms.get_potential_energy() for atoms in checks])
        return float(np.mean(energies - self._data.energies[rows]))


def _reference(source: Any) -> tuple[Potential | None, str]:
    """Return what labels, and its name; None for labels that are made elsewhere."""
    if source is None:
        return None, ELSEWHERE
    if isinstance(source, type) or not hasattr(source, "get_potential_energy"):
        made = source()
        return twin_of(lambda: made), model_name(made)
    return twin_of(source), model_name(source)

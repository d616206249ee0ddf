"""All that the page of a run says, read in memory that does not grow with the run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from mdxai.frame import Frame
from mdxai.record import RecordError, Run
from mdxai.record.layout import VERDICT, WRITER
from mdxai.record.rollbacks import Rollback, rollbacks_of
from mdxai.report.envelopes import Series, read_body_orders, read_series
from mdxai.report.interactions import Interactions, Window, read_interactions
from mdxai.stability.verdict import Verdict, judge

STATE = ("potential_energy_eV", "temperature_K")
LATE_FS = 100.0  # before the onset, compared with all before
DRAWN_ATOMS = 60  # of a molecule whose picture can be read


@dataclass(frozen=True, slots=True)
class TimeAxis:
    """The time axis of a run. start, end, onset: fs; onset may be None."""

    start: float
    end: float
    onset: float | None

    @property
    def unit(self) -> tuple[str, float]:
        """The unit in which a run of this length reads well, and its length in fs."""
        length = self.end - self.start
        units = (("fs", 1.0, 2e3), ("ps", 1e3, 2e6), ("ns", 1e6, np.inf))
        return next((name, size) for name, size, until in units if not length > until)


@dataclass(frozen=True)
class RunSummary:
    """What a run directory holds.

    Attributes:
        run: the run.
        verdict: from verdict.json or, without it, from the recorded frames; None without frames.
        ended: content of verdict.json; empty while the run is not finished.
        damage: what is wrong with verdict.json; empty where nothing is, or it is not there yet.
        series: every deviation, the energy and the temperature over time.
    """

    run: Run
    verdict: Verdict | None
    ended: Mapping[str, Any]
    damage: str
    series: Series

    @property
    def header(self) -> dict[str, Any]:
        return self.run.header

    @cached_property
    def symbols(self) -> list[str]:
        """Chemical symbols, one per atom."""
        return [chemical_symbols[z] for z in self.header["system"]["numbers"]]

    @property
    def formula(self) -> str:
        return str(Atoms(self.symbols).get_chemical_formula("hill"))

    def label(self, *atoms: int) -> str:
        """Return atoms as a chemist reads them: C1–O2."""
        known = range(len(self.symbols))
        return "–".join(f"{self.symbols[a] if a in known else '?'}{a}" for a in atoms)

    @property
    def periodic(self) -> bool:
        return any(self.header["system"]["pbc"])

    @property
    def time_axis(self) -> TimeAxis:
        """The time axis."""
        onset = None if self.verdict is None else self.verdict.onset_fs
        return TimeAxis(self.series.start_fs, self.series.end_fs, onset)

    @property
    def late_fs(self) -> float:
        """Length of the time before the onset that is compared with all before it, fs."""
        onset = self.time_axis.onset
        return 0.0 if onset is None else max(0.0, min(LATE_FS, (onset - self.time_axis.start) / 2))

    @cached_property
    def interactions(self) -> Interactions | None:
        """What the explained frames say; of an unstable run, those before its onset."""
        onset = self.time_axis.onset
        shown = self.scene.time if self.scene is not None else np.inf
        window = Window(np.inf if onset is None else onset, self.late_fs, shown)
        return read_interactions(self.run, window)

    @cached_property
    def body_orders(self) -> Series:
        """Shares of body orders and the residual over time; empty where no frame was explained."""
        return read_body_orders(self.run)

    @cached_property
    def scene(self) -> Frame | None:
        """The frame to draw: at the onset, else the last one; None where it cannot be drawn."""
        if len(self.symbols) > DRAWN_ATOMS or self.periodic:
            return None
        onset = self.time_axis.onset
        return self.run.last_frame(np.inf if onset is None else onset)

    @cached_property
    def first(self) -> Frame | None:
        """The first recorded frame of the trajectory."""
        return self.run.first_frame()

    @cached_property
    def events(self) -> list[dict[str, Any]]:
        """What happened: step, time_fs, kind, and content as a dictionary."""
        rows = self.run.events_table().to_pylist()
        return [row | {"content": _content(row["content"])} for row in rows]

    @cached_property
    def rollbacks(self) -> list[Rollback]:
        """The rollbacks, in order."""
        return rollbacks_of(self.run.path)

    @property
    def is_claimed(self) -> bool:
        """Whether a process writes to the directory, or was killed while it did."""
        return (self.run.path / WRITER).exists()

    def files(self, pattern: str) -> list[Path]:
        """Return the files and folders of the run that match a pattern, sorted by name."""
        return sorted(self.run.path.glob(pattern))


def read_run_summary(run: Run) -> RunSummary:
    """Read what the page of a run says.

    Raises:
        RecordError: when a part is damaged.
    """
    series = read_series(run, [*STATE, *run.deviations])
    ended, damage = _ended(run)
    verdict = Verdict.from_dict(ended) if ended else None
    if verdict is None and series.n_frames:
        verdict = judge(run)
    return RunSummary(run, verdict, ended, damage, series)


def _ended(run: Run) -> tuple[dict[str, Any], str]:
    """Return the content of verdict.json and what is wrong with it; {}, "" where there is none."""
    try:
        content = run.verdict
        Verdict.from_dict(content)
    except RecordError as error:
        return {}, str(error) if (run.path / VERDICT).exists() else ""
    return content, ""


def _content(text: str) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return {"text": text}
    return content if isinstance(content, dict) else {"text": text}

"""All that the page of a run says, read from its directory in memory that does not grow with it."""

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
from mdxai.record.rollbacks import Rollback, rollbacks_of
from mdxai.record.writer_lock import WRITER
from mdxai.report.envelopes import Series, read_series
from mdxai.report.interactions import Interactions, Window, read_interactions
from mdxai.report.page_figures import DRAWN, Clock
from mdxai.stability.verdict import Verdict, judge

STATE = ("potential_energy_eV", "temperature_K")
LATE_FS = 100.0  # before the onset, compared with all before


@dataclass(frozen=True)
class RunSummary:
    """What a run directory holds.

    Attributes:
        run: the run.
        verdict: of verdict.json or, without it, of the frames that are there; None without frames.
        ended: content of verdict.json; empty while the run is not finished.
        doubt: why verdict.json was not used, where it was not.
        series: every deviation, the energy and the temperature over time.
    """

    run: Run
    verdict: Verdict | None
    ended: Mapping[str, Any]
    doubt: str
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
    def clock(self) -> Clock:
        """The time axis."""
        onset = None if self.verdict is None else self.verdict.onset_fs
        return Clock(self.series.start_fs, self.series.end_fs, onset)

    @property
    def late_fs(self) -> float:
        """How long before the onset relevance is compared with what it was before."""
        onset = self.clock.onset
        return 0.0 if onset is None else max(0.0, min(LATE_FS, (onset - self.clock.start) / 2))

    @cached_property
    def interactions(self) -> Interactions | None:
        """What the explained frames say; those before the onset of an unstable run."""
        onset = self.clock.onset
        shown = self.scene.time if self.scene is not None else np.inf
        window = Window(np.inf if onset is None else onset, self.late_fs, shown)
        return read_interactions(self.run, window)

    @cached_property
    def scene(self) -> Frame | None:
        """The frame to be drawn: at the onset, else the last one; None where it cannot be."""
        if len(self.symbols) > DRAWN or self.periodic:
            return None
        onset = self.clock.onset
        return self.run.last_frame(np.inf if onset is None else onset)

    @cached_property
    def first(self) -> Frame | None:
        """The first recorded frame of the trajectory."""
        return self.run.first_frame()

    @cached_property
    def events(self) -> list[dict[str, Any]]:
        """What happened: step, time_fs, kind and content, which is no text any more."""
        rows = self.run.events_table().to_pylist()
        return [row | {"content": _content(row["content"])} for row in rows]

    @cached_property
    def rollbacks(self) -> list[Rollback]:
        """What was taken back."""
        return rollbacks_of(self.run.path)

    @property
    def is_claimed(self) -> bool:
        """Whether somebody writes to the directory, or did until the process was killed."""
        return (self.run.path / WRITER).exists()

    def files(self, pattern: str) -> list[Path]:
        """Return files and folders of the run, by name."""
        return sorted(self.run.path.glob(pattern))


def read_run_summary(run: Run) -> RunSummary:
    """Read what the page of a run says.

    Raises:
        RecordError: when a part is damaged.
    """
    series = read_series(run, [*STATE, *run.deviations])
    ended, doubt = _ended(run)
    verdict = Verdict.from_dict(ended) if ended else None
    if verdict is None and series.n_frames:
        verdict = judge(run)
    return RunSummary(run, verdict, ended, doubt, series)


def _ended(run: Run) -> tuple[dict[str, Any], str]:
    """Return the content of verdict.json, or nothing and why."""
    try:
        content = run.verdict
        Verdict.from_dict(content)
    except RecordError as error:
        return {}, str(error)
    return content, ""


def _content(text: str) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return {"text": text}
    return content if isinstance(content, dict) else {"text": text}

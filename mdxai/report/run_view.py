"""What the page says of the run itself: how it went, its events, files, settings and cost."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from markupsafe import Markup

from mdxai.report.film import BLACK_BOX, BLACK_BOX_PAIRS
from mdxai.report.page_figures import curve_plot
from mdxai.report.run_summary import RunSummary
from mdxai.stability.thresholds import PROBE_THRESHOLDS, THRESHOLDS
from mdxai.stability.verdict import recorded_thresholds

MOST_EVENTS = 40
LONG = 12  # entries; longer lists are only counted
UNITS = {"timestep": "timestep / fs", "temperature": "temperature / K"}
WHAT_RAN = ("calculator", "engine", "parameters", "context", "record", "versions")
STATE = {"potential_energy_eV": ("Potential energy", "eV"), "temperature_K": ("Temperature", "K")}
EVENT_KINDS = {"warning": "early warning"}
FILES = {
    BLACK_BOX: "the last steps before the violation; opens in ASE and OVITO",
    BLACK_BOX_PAIRS: "relevance of every pair in these steps",
    "figure.png": "figure of the run",
    "verdict.json": "the verdict",
    "weak_spots.json": "the weak spots that were followed",
    "run.toml": "what was run",
    "rollbacks.json": "the rollbacks",
    "rolled-back-*": "what was recorded before a rollback; a run of its own",
}
Entries = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class RollbackNote:
    """One rollback. reason: what broke. to_time_fs: fs. changes: what differs since, in words."""

    reason: str
    to_time_fs: float
    changes: str


@dataclass(frozen=True, slots=True)
class Notes:
    """What to know about the run before reading on. Texts are empty where there is none.

    damage: what is wrong with verdict.json. halted: whether its instability ended the run.
    halted_by: what else ended it. interrupted_by: a signal or an exception. resumed_at: steps.
    """

    finished: bool
    is_claimed: bool
    n_frames: int
    last_step: int
    damage: str
    halted: bool
    halted_by: str
    interrupted_by: str
    resumed_at: tuple[int, ...]
    n_more_resumed: int
    rollbacks: tuple[RollbackNote, ...]


@dataclass(frozen=True, slots=True)
class StateFigure:
    """A quantity over time as a figure. column: of the frames."""

    column: str
    name: str
    svg: Markup


@dataclass(frozen=True, slots=True)
class EventRow:
    """An event. time_fs: fs."""

    time_fs: float
    step: int
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class FileLink:
    """A file of the run. href: relative to the page's folder, quoted."""

    name: str
    href: str
    what: str


@dataclass(frozen=True, slots=True)
class RunBackground:
    """How the run went and was made. settings: by heading. cost: as verdict.json has it, or empty.
    n_more_events: those left out. has_black_box: whether one was written. forecast: by the
    calculator's card before the run, or empty.
    """

    notes: Notes
    state: tuple[StateFigure, ...]
    events: tuple[EventRow, ...]
    n_more_events: int
    files: tuple[FileLink, ...]
    has_black_box: bool
    settings: tuple[tuple[str, Entries], ...]
    cost: Mapping[str, Any]
    forecast: str


def run_view(summary: RunSummary, beside: Path) -> RunBackground:
    """Return what the page says of the run itself.

    Args:
        summary: of the run.
        beside: folder of the page; links start from it.
    """
    events = summary.events
    return RunBackground(
        _notes(summary),
        tuple(_state(summary)),
        tuple(
            EventRow(e["time_fs"], e["step"], EVENT_KINDS.get(e["kind"], e["kind"]),
                     _event_text(e["content"]))
            for e in events[:MOST_EVENTS]
        ),
        max(0, len(events) - MOST_EVENTS),
        tuple(
            FileLink(path.name, _link(path, beside), what)
            for pattern, what in FILES.items()
            for path in summary.files(pattern)
        ),
        bool(summary.files(BLACK_BOX)),
        tuple((heading, tuple(_flat(content))) for heading, content in _settings(summary).items()),
        summary.ended.get("cost", {}),
        str(summary.header.get("context", {}).get("forecast", "")),
    )  # fmt: skip


def _notes(summary: RunSummary) -> Notes:
    ended, verdict = summary.ended, summary.verdict
    halted_by = ended.get("halted_by") or ""
    halted = verdict is not None and bool(halted_by) and halted_by == verdict.reason
    resumed = tuple(ended.get("cost", {}).get("resumed_at", ()))
    return Notes(
        bool(ended), summary.is_claimed, summary.series.n_frames, summary.series.last_step,
        summary.damage, halted, "" if halted else halted_by, ended.get("interrupted_by") or "",
        resumed[:LONG], max(0, len(resumed) - LONG),
        tuple(
            RollbackNote(back.reason, back.to_time_fs,
                         ", ".join(f"{key} {value}" for key, value in back.changes.items()))
            for back in summary.rollbacks
        ),
    )  # fmt: skip


def _state(summary: RunSummary) -> Iterator[StateFigure]:
    for column, (name, unit) in STATE.items():
        curve = summary.series.curves.get(column)
        if curve is not None and (len(curve.times) or len(curve.not_finite)):
            label = f"{name.lower()} / {unit}"
            yield StateFigure(column, name, curve_plot(label, curve, summary.time_axis))


def _event_text(content: Mapping[str, Any]) -> str:
    if "text" in content:
        return str(content["text"])
    return "; ".join(f"{name}: {value}" for name, value in _flat(content))


def _link(path: Path, beside: Path) -> str:
    return quote(Path(os.path.relpath(path, beside)).as_posix())


def _settings(summary: RunSummary) -> dict[str, Any]:
    """Return calculator, engine, system, settings and versions, as run.toml has them."""
    header = summary.header
    system = {"formula": summary.formula, "atoms": f"{len(summary.symbols):,}",
              "periodic": _periodicity(summary)}  # fmt: skip
    shown = {"calculator": header.get("calculator", {}), "system": system}
    shown |= {name: header[name] for name in WHAT_RAN if header.get(name)}
    if "restart" in header:
        shown["restart"] = {"bit for bit": header["restart"]}
    if changed := _changed_thresholds(summary):
        shown["changed thresholds"] = changed
    return shown


def _periodicity(summary: RunSummary) -> str:
    pbc = summary.header["system"]["pbc"]
    if not any(pbc):
        return "no"
    lengths = np.linalg.norm(np.array(summary.header["system"]["cell_ang"], dtype=float), axis=1)
    axes = "".join(axis for axis, on in zip("abc", pbc, strict=True) if on)
    return f"{axes}; cell {' × '.join(f'{length:.4g}' for length in lengths)} Å at the start"


def _changed_thresholds(summary: RunSummary) -> dict[str, str]:
    shipped = {t.principle: t for t in (*THRESHOLDS, *PROBE_THRESHOLDS)}
    return {
        t.principle: f"suspect above {t.warn:g}, {t.outcome} above {t.unstable:g}, "
        f"patience {t.patience:g} fs"
        for t in recorded_thresholds(summary.run)
        if t != shipped.get(t.principle)
    }


def _flat(content: Any, above: str = "") -> Iterator[tuple[str, str]]:
    """Yield the entries of a section of run.toml as text; nested names are joined."""
    if not isinstance(content, Mapping):
        yield above.strip(), _plain(content)
        return
    for key, value in content.items():
        yield from _flat(value, f"{above} {UNITS.get(key, key.replace('_', ' '))}")


def _plain(value: Any) -> str:
    if isinstance(value, list | tuple):
        if len(value) > LONG:
            return f"{len(value):,} entries"
        return ", ".join(map(_plain, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.10g}" if isinstance(value, float) else str(value)

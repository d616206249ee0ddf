"""What a run measured over time: deviations, plain predictors, relevance per pair and distance.

Every series has a kind: the kind of its principle (motion, explanation, probe), plain predictor, or
relevance in bins of distance. Wherever series are compared, they are grouped by it.
"""

from __future__ import annotations

import re
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mdxai.frame import Floats, Ints
from mdxai.principles import Kind, kind_of
from mdxai.record import Run
from mdxai.record.columns import vectors_in
from mdxai.record.explanations import measure_of
from mdxai.statistics import RelevanceProfile

SPREAD = "committee.parquet"  # beside the run: step, committee_spread (eV/Å)
PLAIN = ("kinetic_temperature", "force_norm", "committee_spread")  # need no principle
PROFILES = ("profile_rms", "profile_peak")  # change of the relevance profile; see lead_time.alarms
BIN_NAME = re.compile(r"^([A-Z][a-z]?-[A-Z][a-z]?) (\d+(?:\.\d+)?) Å$")
PAIR_COLUMNS = ("step", "i", "j", "distance_ang")  # and the measure

SeriesKind = Kind | Literal["plain", "relevance", "other"]


def kind_of_series(name: str) -> SeriesKind:
    """Return the kind of a series by its name.

    "motion", "explanation", "probe": deviations from a principle of that kind. "plain": predictors
    that need no principle. "relevance": of an element pair in a bin of distances, or the change of
    the whole profile. "other": a series that this version of mdxai does not measure.
    """
    if name in PROFILES or bin_of(name):
        return "relevance"
    if name in PLAIN:
        return "plain"
    return kind_of(name) or "other"


def bin_name(pair: str, centre: float) -> str:
    """Return the name of the relevance of an element pair in a distance bin: "C-H 1.125 Å"."""
    return f"{pair} {centre:g} Å"


def bin_of(name: str) -> tuple[str, float] | None:
    """Return element pair and centre of the bin (Å), or None for another series."""
    found = BIN_NAME.match(name)
    return (found[1], float(found[2])) if found else None


def series_of(run: Run, width: float) -> tuple[Floats, dict[str, Floats]]:
    """Return the times of the recorded frames (fs) and everything that was measured at them.

    Every series is (n_frames,), NaN where it was not measured at that frame, or not finite:
    deviations by principle; "kinetic_temperature", K; "force_norm", the largest norm of a force on
    an atom, eV/Å; "committee_spread", eV/Å, where it was measured; and the mean of |two-body
    relevance| (|flow| where that was recorded) over the recorded pairs of two elements in a bin of
    distances, eV, named as by `bin_name`.

    Args:
        run: opened run.
        width: of distance bins, Å; they start at 0.

    Raises:
        RecordError: when no frame was recorded, or a part is damaged.
    """
    table = run.frames_table(["step", "time_fs", "temperature_K", *run.deviations])
    steps = table["step"].to_numpy()
    found = {name: _floats(table[name]) for name in run.deviations}
    found["kinetic_temperature"] = _floats(table["temperature_K"])
    found["force_norm"] = _at(steps, *_largest_forces(run))
    if (run.path / SPREAD).is_file():
        spread = pq.read_table(run.path / SPREAD)
        found["committee_spread"] = _at(
            steps, spread["step"].to_numpy(), _floats(spread["committee_spread"])
        )
    return table["time_fs"].to_numpy(), found | _relevance(run, steps, width)


def _floats(column: pa.ChunkedArray) -> Floats:
    values = np.array(column.to_numpy(zero_copy_only=False), dtype=np.float64)
    values[~np.isfinite(values)] = np.nan
    return values


def _at(steps: Ints, measured: Ints, values: Floats) -> Floats:
    """Return values measured at some steps on the steps of the frames; NaN elsewhere."""
    series = np.full(len(steps), np.nan)
    _, here, there = np.intersect1d(steps, measured, assume_unique=True, return_indices=True)
    series[here] = values[there]
    return series


def _largest_forces(run: Run) -> tuple[Ints, Floats]:
    steps, norms = [np.empty(0, dtype=np.int64)], [np.empty(0)]
    for table in run.tables("trajectory", ["step", "forces"]):
        forces = vectors_in(table, "forces")
        steps.append(table["step"].to_numpy())
        norms.append(np.sqrt((forces**2).sum(axis=-1)).max(axis=-1))
    largest = np.concatenate(norms)
    largest[~np.isfinite(largest)] = np.nan
    return np.concatenate(steps), largest


def _relevance(run: Run, steps: Ints, width: float) -> dict[str, Floats]:
    """Return the mean strength per frame in each bin, read a row group at a time."""
    numbers = np.asarray(run.header["system"]["numbers"], dtype=np.int64)
    sums: dict[str, Floats] = {}
    counts: dict[str, Floats] = {}
    names = run.column_names("pairs")
    columns = [*PAIR_COLUMNS, f"{measure_of(names)}_eV"] if names else PAIR_COLUMNS
    for table in run.tables("pairs", columns):
        step, i, j, distance, strength = (table[name].to_numpy() for name in columns)
        frame = np.searchsorted(steps, step).clip(max=len(steps) - 1)
        known = steps[frame] == step
        if not known.any():
            continue
        first, last = int(frame[known].min()), int(frame[known].max())
        profile = RelevanceProfile(numbers, i, j, distance, strength.astype(np.float64))
        rows = np.where(known, frame - first, -1)
        bins = profile.bins_by_frame(rows, last - first + 1, width)
        for c, b in zip(*np.nonzero(bins.count.any(axis=0)), strict=True):
            name = bin_name(bins.names[c], (b + 0.5) * width)
            for into, values in ((sums, bins.total), (counts, bins.count)):
                series = into.setdefault(name, np.zeros(len(steps)))
                series[first : last + 1] += values[:, c, b]
    return {name: _ratio(sums[name], counts[name]) for name in sorted(sums)}


def _ratio(total: Floats, count: Floats) -> Floats:
    mean: Floats = np.full(len(total), np.nan)
    return np.divide(total, count, out=mean, where=count > 0)

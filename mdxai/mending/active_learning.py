"""Choose diverse frames to label, with large deviations but before any instability."""

from __future__ import annotations

import os
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms

from mdxai.errors import MdxaiError
from mdxai.frame import Floats, Frame, find_pairs
from mdxai.record import RecordError, Run, open_run
from mdxai.stability.verdict import Verdict, judge, recorded_thresholds

POOL = 10  # frames compared for diversity, per frame wanted
BINS = 64  # of the distance distribution that describes a large system


class LabelError(MdxaiError, ValueError):
    """Frames to label cannot be chosen as requested."""


def frames_to_label(run: Run, n: int = 20) -> list[Atoms]:
    """Return the frames of a run whose reference energies and forces would improve a model most.

    Only frames before the onset and within every limit of instability qualify, so none has
    exploded. The 10 n frames with the largest deviations relative to their limits form a pool.
    From it frames are picked farthest first (Gonzalez 1985), starting with the one that deviates
    most; distance is the root mean square difference of pair distances.

    Args:
        run: a recorded run.
        n: number of frames wanted; fewer are returned if fewer qualify.

    Returns:
        Frames in order of time, without energies and forces. `info` holds step, time_fs, the
        largest deviation relative to its limit ("deviation") and its principle ("principle").

    Raises:
        RecordError: when no recorded frame qualifies.
        LabelError: for n < 1.
    """
    if n < 1:
        raise LabelError(f"n must be at least 1, got {n}")
    steps, scores, names = _rated(run, judge(run))
    if not len(steps):
        raise RecordError(f"{run.path} has no frame before the instability that is worth a label")
    best = np.argsort(-scores, kind="stable")[: POOL * n]
    rated = {int(steps[k]): (float(scores[k]), names[k]) for k in best}
    frames = [f for f in run.frames() if f.step in rated and np.isfinite(f.positions).all()]
    frames.sort(key=lambda frame: -rated[frame.step][0])
    chosen = farthest_first(np.stack([_descriptor(frame) for frame in frames]), n)
    picked = sorted((frames[k] for k in chosen), key=lambda frame: frame.step)
    return [_unlabelled(frame, *rated[frame.step]) for frame in picked]


def write_frames(frames: list[Atoms], path: str | os.PathLike[str]) -> None:
    """Write frames as extended XYZ.

    Raises:
        RecordError: when the file exists or cannot be written.
    """
    target = Path(path)
    if target.exists():
        raise RecordError(f"{target} exists already; choose another name")
    try:
        ase.io.write(target, frames, format="extxyz")
    except OSError as error:
        raise RecordError(f"{target} cannot be written: {error.strerror or error}") from error


def label(run: str | os.PathLike[str], out: str | os.PathLike[str], n: int = 20) -> int:
    """Write the frames of a run that are worth labelling as extended XYZ; return how many.

    Raises:
        RecordError: as `frames_to_label` and `write_frames`.
    """
    frames = frames_to_label(open_run(run), n)
    write_frames(frames, out)
    return len(frames)


def _rated(run: Run, verdict: Verdict) -> tuple[Floats, Floats, list[str]]:
    """Return steps of the frames before the onset, with the largest deviation of each frame
    relative to its limit, and its principle.
    """
    limits = {t.principle: t for t in recorded_thresholds(run) if t.principle in run.deviations}
    table = run.to_dataframe()
    onset = np.inf if verdict.onset_fs is None else verdict.onset_fs
    ratios = np.stack(
        [table[name].to_numpy(dtype=float) / _scale(t.warn) for name, t in limits.items()], axis=1
    )
    # A deviation that was not measured is null, read as NaN here, and is ignored.
    largest = np.where(np.isnan(ratios), 0.0, ratios)
    beyond = np.stack(
        [table[name].to_numpy(dtype=float) > t.unstable for name, t in limits.items()], axis=1
    ).any(axis=1)
    sound = (table["time_fs"].to_numpy() < onset) & ~beyond
    sound &= np.isfinite(table["kinetic_energy_eV"].to_numpy())
    kept = np.flatnonzero(sound)
    worst = largest[kept].argmax(axis=1) if len(kept) else np.empty(0, dtype=int)
    names = [list(limits)[k] for k in worst]
    return table["step"].to_numpy()[kept], largest[kept].max(axis=1, initial=0.0), names


def _scale(limit: float) -> float:
    return limit if 0 < limit < np.inf else np.inf


def _descriptor(frame: Frame) -> Floats:
    """Return what frames are compared by: pair distances or, in large systems, a histogram."""
    reach = np.inf if not frame.pbc.any() and frame.n_atoms <= BINS else 6.0
    distances = find_pairs(frame.positions, frame.cell, frame.pbc, reach).distances
    if np.isinf(reach):
        return distances
    counts, _ = np.histogram(distances, bins=BINS, range=(0.0, reach))
    return counts / frame.n_atoms


def farthest_first(points: Floats, n: int, known: Floats | None = None) -> list[int]:
    """Return n different rows of `points`, each farthest from those before it and those known.

    Args:
        points: (n_points, n_dimensions).
        n: number wanted; at most n_points.
        known: (n_known, n_dimensions), what need not be chosen any more; without, row 0 is first.
    """
    if known is None or not len(known):
        chosen = [0]
        gaps = np.linalg.norm(points - points[0], axis=1)
    else:
        chosen = []
        gaps = np.min([np.linalg.norm(points - point, axis=1) for point in known], axis=0)
    while len(chosen) < min(n, len(points)) and gaps.max() > 0:
        chosen.append(int(gaps.argmax()))
        gaps = np.minimum(gaps, np.linalg.norm(points - points[chosen[-1]], axis=1))
    return chosen


def _unlabelled(frame: Frame, score: float, name: str) -> Atoms:
    atoms = frame.to_atoms()
    atoms.calc = None  # the model's own energies and forces are not labels
    atoms.info |= {"deviation": score, "principle": name}
    return atoms

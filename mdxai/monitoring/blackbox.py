"""The last frames before a violation, each step, explained: what a crash investigator wants."""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from ase import Atoms, units
from ase.calculators.singlepoint import SinglePointCalculator

from mdxai.attribution import Attribution, Attributor
from mdxai.frame import Frame
from mdxai.principles import Deviation
from mdxai.record import durable_files as files

MAX_BYTES = 64_000_000  # of frames held; larger systems get fewer of them
_VARYING = ("positions", "velocities", "forces", "cell")


class BlackBox:
    """Holds the last `n_frames` frames in full, and the deviations of those that were judged.

    Written as `blackbox-<step>.extxyz` (positions, momenta, forces, energy, relevance of each atom,
    deviations) and `blackbox-<step>-pairs.parquet` (relevance of each pair).

    Args:
        n_frames: how many; fewer where these would take more than 64 MB. 0: none.

    Raises:
        ValueError: for a negative number.
    """

    def __init__(self, n_frames: int = 50) -> None:
        if n_frames < 0:
            raise ValueError(f"blackbox must be 0 or positive, got {n_frames}")
        self.n_frames = n_frames
        self._frames: deque[Frame] = deque(maxlen=n_frames)
        self._judged: dict[int, Mapping[str, Deviation | None]] = {}

    def __len__(self) -> int:
        return len(self._frames)

    def see(self, frame: Frame, deviations: Mapping[str, Deviation | None] | None = None) -> None:
        """Hold a frame; one of the same step only gets its deviations."""
        if not self.n_frames:
            return
        if not self._frames or frame.step > self._frames[-1].step:
            if not self._frames or frame.n_atoms != self._frames[-1].n_atoms:
                self._fit(frame)
            if len(self._frames) == self._frames.maxlen:
                self._judged.pop(self._frames[0].step, None)
            self._frames.append(frame)
        if deviations is not None:
            self._judged[frame.step] = deviations

    def _values(self, frame: Frame) -> dict[str, float]:
        """Return the deviations of a frame held, by principle; none of one that was not judged."""
        judged = self._judged.get(frame.step, {})
        return {name: d.value for name, d in judged.items() if d is not None}

    def _fit(self, frame: Frame) -> None:
        """Make room for frames of this size, as many as memory allows."""
        size = sum(getattr(frame, name).nbytes for name in _VARYING)
        fit = max(min(self.n_frames, MAX_BYTES // max(size, 1)), 1)
        if self._frames.maxlen != fit:
            self._frames = deque(self._frames, maxlen=fit)

    def write(self, folder: Path, explain: Attributor | None) -> Path:
        """Write what is held into a run directory; return the path of the frames.

        Args:
            folder: run directory.
            explain: explains every frame held; None leaves relevance out.

        Raises:
            RecordError: when the file system refuses.
        """
        frames = list(self._frames)
        attributions = _explained(frames, explain)
        images = [
            as_atoms(frame, self._values(frame), attribution)
            for frame, attribution in zip(frames, attributions, strict=True)
        ]
        stem = f"blackbox-{frames[-1].step:012d}"
        if any(attribution is not None for attribution in attributions):
            content = _pair_table(frames, attributions)
            files.write_file(folder / f"{stem}-pairs.parquet", content)
        text = io.StringIO()
        ase.io.write(text, images, format="extxyz")
        path = folder / f"{stem}.extxyz"
        files.write_file(path, text.getvalue().encode())
        return path

    def state(self) -> dict[str, Any]:
        """Return what is held, in few arrays."""
        frames = list(self._frames)
        if not frames:
            return {}
        known = [self._values(frame) for frame in frames]
        names = sorted(set().union(*known))
        return {
            "steps": np.array([frame.step for frame in frames]),
            "scalars": np.array([[f.time, f.energy, f.n_constrained] for f in frames]),
            "numbers": frames[-1].numbers.copy(),
            "masses": frames[-1].masses.copy(),
            "pbc": frames[-1].pbc.copy(),
            **{name: np.stack([getattr(f, name) for f in frames]) for name in _VARYING},
            "names": names,
            "judged": np.array([frame.step in self._judged for frame in frames]),
            "measured": np.array([[n in k for n in names] for k in known], dtype=bool),
            "values": np.array([[k.get(n, 0.0) for n in names] for k in known], dtype=float),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Hold what a box of this state held."""
        self._frames.clear()
        self._judged.clear()
        for k, step in enumerate(state.get("steps", ())):
            time, energy, n_constrained = state["scalars"][k].tolist()
            arrays = {name: state[name][k].copy() for name in _VARYING}
            arrays |= {name: state[name].copy() for name in ("numbers", "masses", "pbc")}
            rest = {"step": int(step), "time": time, "energy": energy}
            judged = None
            if state["judged"][k]:
                there = zip(state["names"], state["values"][k], state["measured"][k], strict=True)
                judged = {n: Deviation(n, "", float(v)) for n, v, measured in there if measured}
            self.see(Frame(n_constrained=int(n_constrained), **rest, **arrays), judged)


def _explained(frames: Sequence[Frame], explain: Attributor | None) -> list[Attribution | None]:
    """Explain frames, one by one: a frame that cannot be is no reason to leave the others out."""
    attributions: list[Attribution | None] = []
    for frame in frames:
        attribution = None
        if explain is not None and np.isfinite(frame.positions).all():
            try:
                attribution = explain.attribute(frame)
            except ValueError:  # atoms on top of each other, say: the frame itself is the finding
                attribution = None
        attributions.append(attribution)
    return attributions


def as_atoms(
    frame: Frame,
    deviations: Mapping[str, float] | None = None,
    attribution: Attribution | None = None,
) -> Atoms:
    """Return a frame as ASE atoms with its energy, forces and momenta.

    Args:
        frame: the frame.
        deviations: values by principle, stored in `info` as "deviation_<name>".
        attribution: its atoms' relevance (eV) is stored in the array "relevance".
    """
    atoms = Atoms(frame.numbers, frame.positions, cell=frame.cell, pbc=frame.pbc)
    atoms.set_masses(frame.masses)
    atoms.set_velocities(frame.velocities / units.fs)
    atoms.info |= {"step": frame.step, "time_fs": frame.time}
    for name, value in (deviations or {}).items():
        atoms.info[f"deviation_{name}"] = value
    if attribution is not None:
        atoms.set_array("relevance", np.array(attribution.atoms))
    results: dict[str, Any] = {"energy": frame.energy, "forces": frame.forces}
    known = {k: v for k, v in results.items() if np.isfinite(v).any()}
    atoms.calc = SinglePointCalculator(atoms, **known)
    return atoms


def _pair_table(frames: Sequence[Frame], attributions: Sequence[Attribution | None]) -> bytes:
    parts = []
    for frame, attribution in zip(frames, attributions, strict=True):
        if attribution is None:
            continue
        n = len(attribution.pairs)
        measure = "flow" if attribution.method == "flow" else "two_body"
        columns = {
            "step": np.full(n, frame.step, dtype=np.int64),
            "time_fs": np.full(n, frame.time),
            "i": attribution.pairs.i.astype(np.int32),
            "j": attribution.pairs.j.astype(np.int32),
            "distance_ang": attribution.pairs.distances,
            f"{measure}_eV": np.asarray(attribution.strengths, dtype=np.float64),
        }
        parts.append(pa.table(columns))
    sink = pa.BufferOutputStream()
    pq.write_table(pa.concat_tables(parts), sink, compression="zstd")
    content: bytes = sink.getvalue().to_pybytes()
    return content

"""Keeps the last frames before a violation, every step, and explains them."""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from ase import Atoms

from mdxai.attribution import Attribution, Attributor
from mdxai.frame import Frame
from mdxai.monitoring.options import OptionError
from mdxai.principles import Deviation
from mdxai.record import durable_files
from mdxai.record.arrow_arrays import arrow_array
from mdxai.serialization import restore, snapshot

MAX_BYTES = 64_000_000  # of frames in memory; for larger systems fewer frames are kept
_VARYING = ("positions", "velocities", "forces", "cell")


@dataclass(frozen=True, slots=True)
class _Held:
    """A frame with its deviations and explanation; both None between monitored frames."""

    frame: Frame
    deviations: Mapping[str, Deviation | None] | None = None
    attribution: Attribution | None = None

    @property
    def values(self) -> dict[str, float]:
        """The measured deviations, by principle."""
        known = self.deviations or {}
        return {name: d.value for name, d in known.items() if d is not None}


class BlackBox:
    """Keeps the last `n_frames` complete frames, with deviations and explanations if known.

    They are written to `blackbox-<step>.extxyz` (positions, momenta, forces, energy, relevance of
    each atom, deviations) and `blackbox-<step>-pairs.parquet` (relevance of each pair).

    Args:
        n_frames: how many; fewer if these would take more than 64 MB; 0 keeps none.

    Raises:
        OptionError: for a negative number.
    """

    def __init__(self, n_frames: int = 50) -> None:
        if n_frames < 0:
            raise OptionError(f"blackbox must be 0 or positive, got {n_frames}")
        self.n_frames = n_frames
        self._held: deque[_Held] = deque(maxlen=n_frames)

    def __len__(self) -> int:
        return len(self._held)

    def see(
        self,
        frame: Frame,
        deviations: Mapping[str, Deviation | None] | None = None,
        attribution: Attribution | None = None,
    ) -> None:
        """Add a frame; if it is already there, add only its deviations and explanation."""
        if not self.n_frames:
            return
        last = self._held[-1].frame if self._held else None
        if last is not None and frame.step <= last.step:
            if deviations is not None:
                self._complete(frame, deviations, attribution)
            return
        if last is None or frame.n_atoms != last.n_atoms:
            self._make_room(frame)
        self._held.append(_Held(frame, deviations, self._fitting(attribution)))

    def _complete(
        self,
        frame: Frame,
        deviations: Mapping[str, Deviation | None],
        attribution: Attribution | None,
    ) -> None:
        for k, held in enumerate(self._held):
            if held.frame.step == frame.step:
                self._held[k] = replace(
                    held, deviations=deviations, attribution=self._fitting(attribution)
                )

    def _make_room(self, frame: Frame) -> None:
        """Limit the number of frames to what the memory allows for this size."""
        size = sum(getattr(frame, name).nbytes for name in _VARYING)
        fit = max(min(self.n_frames, MAX_BYTES // max(size, 1)), 1)
        if self._held.maxlen != fit:
            self._held = deque(self._held, maxlen=fit)

    def _fitting(self, attribution: Attribution | None) -> Attribution | None:
        """Return an explanation if one per frame fits into memory; else it is recomputed later."""
        if attribution is None:
            return None
        size = attribution.pairs.vectors.nbytes * 2
        return attribution if size * (self._held.maxlen or 0) <= MAX_BYTES else None

    def write(self, folder: Path, explainer: Attributor | None) -> Path:
        """Write the frames to a run directory; return their path.

        Args:
            folder: run directory.
            explainer: explains the frames that have no explanation yet; None leaves these without
                relevance.

        Raises:
            RecordError: when the file system refuses.
        """
        held = [_with_explanation(entry, explainer) for entry in self._held]
        stem = f"blackbox-{held[-1].frame.step:012d}"
        if any(entry.attribution is not None for entry in held):
            durable_files.write_file(folder / f"{stem}-pairs.parquet", _pair_table(held))
        text = io.StringIO()
        ase.io.write(text, [_atoms_of(entry) for entry in held], format="extxyz")
        path = folder / f"{stem}.extxyz"
        durable_files.write_file(path, text.getvalue().encode())
        return path

    def state(self) -> dict[str, Any]:
        """Return the content as a few arrays."""
        if not self._held:
            return {}
        frames = [held.frame for held in self._held]
        known = [held.values for held in self._held]
        names = sorted(set().union(*known))
        return {
            "last": snapshot(frames[-1]),
            "steps": np.array([frame.step for frame in frames]),
            "scalars": np.array([[f.time, f.energy, f.n_constrained] for f in frames]),
            "absent": [sorted(frame.absent) for frame in frames],
            "besides": snapshot([[frame.inputs, frame.outside] for frame in frames]),
            **{name: np.stack([getattr(f, name) for f in frames]) for name in _VARYING},
            "names": names,
            "judged": np.array([held.deviations is not None for held in self._held]),
            "measured": np.array([[n in k for n in names] for k in known], dtype=bool),
            "values": np.array([[k.get(n, 0.0) for n in names] for k in known], dtype=float),
            "explained": snapshot([held.attribution for held in self._held]),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore the content from a state."""
        self._held.clear()
        if not state:
            return
        last: Frame = restore(None, state["last"])
        explained: list[Attribution | None] = restore(None, state["explained"])
        besides = restore(None, state["besides"])
        for k, step in enumerate(state["steps"]):
            time, energy, n_constrained = state["scalars"][k].tolist()
            frame = replace(
                last, step=int(step), time=time, energy=energy, n_constrained=int(n_constrained),
                absent=frozenset(state["absent"][k]), inputs=besides[k][0], outside=besides[k][1],
                **{name: state[name][k].copy() for name in _VARYING},
            )  # fmt: skip
            self.see(frame, _judged(state, k), explained[k])


def _judged(state: Mapping[str, Any], k: int) -> dict[str, Deviation | None] | None:
    if not state["judged"][k]:
        return None
    measured = zip(state["names"], state["values"][k], state["measured"][k], strict=True)
    return {name: Deviation(name, "", float(v)) for name, v, there in measured if there}


def _with_explanation(held: _Held, explainer: Attributor | None) -> _Held:
    """Explain a frame that is not explained yet, if possible."""
    if held.attribution is not None or explainer is None:
        return held
    if not np.isfinite(held.frame.positions).all():
        return held
    try:
        return replace(held, attribution=explainer.attribute(held.frame))
    except ValueError:  # e.g. coinciding atoms: the frame itself is the finding
        return held


def _atoms_of(held: _Held) -> Atoms:
    atoms = held.frame.to_atoms()
    atoms.info |= {f"deviation_{name}": value for name, value in held.values.items()}
    if held.attribution is not None:
        atoms.set_array("relevance", np.array(held.attribution.atoms))
    return atoms


def _pair_table(held: Sequence[_Held]) -> bytes:
    parts = []
    for frame, attribution in ((entry.frame, entry.attribution) for entry in held):
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
        parts.append(pa.table({name: arrow_array(c) for name, c in columns.items()}))
    sink = pa.BufferOutputStream()
    pq.write_table(pa.concat_tables(parts), sink, compression="zstd")
    content: bytes = sink.getvalue().to_pybytes()
    return content

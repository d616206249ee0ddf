"""What a record keeps, in which precision, and how often it is written."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from mdxai.record.durable_files import RecordError

DTYPES = ("float16", "float32", "float64")
SHAPING = (
    "frame_every", "trajectory_every", "top_pairs", "keep_vectors", "keep_atoms", "keep_triples",
    "trajectory_dtype", "relevance_dtype", "retain",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class RecordSettings:
    """What a record keeps, how much memory it takes, and how much a killed run loses.

    Output, residual, relevance by body order and pairs of each explained frame are always kept.

    Attributes:
        frame_every: record energies and deviations of frames whose MD step is a multiple of this.
        trajectory_every: likewise, positions, velocities and forces.
        top_pairs: keep only this many of the strongest pairs of an explained frame; None keeps all.
        keep_vectors: keep the vector of each pair, which identifies its periodic image.
        keep_atoms: keep the relevance and the one-body relevance of each atom.
        keep_triples: keep the relevance of triples, where it was computed (body_order=3).
        trajectory_dtype: "float16", "float32" or "float64", of positions, velocities and forces.
        relevance_dtype: likewise, of relevance, and of distances and vectors of pairs.
        rows_per_part: write a part after this many recorded frames.
        bytes_per_part: write a part once its rows take this much memory, bytes; up to twice as much
            may wait.
        seconds_per_part: write a part after this wall time, s.
        retain: keep only the last this many trajectory frames; None keeps all. A few more parts are
            kept during the run, so that it can be resumed from each of its checkpoints.
        checkpoint_steps: write a checkpoint at the latest after this many MD steps; None sets no
            limit.
        checkpoint_seconds: likewise, after this wall time, s.
        keep_checkpoints: number of checkpoints to keep.

    Raises:
        RecordError: for a value out of range.
    """

    frame_every: int = 1
    trajectory_every: int = 1
    top_pairs: int | None = None
    keep_vectors: bool = True
    keep_atoms: bool = True
    keep_triples: bool = True
    trajectory_dtype: str = "float32"
    relevance_dtype: str = "float32"
    rows_per_part: int = 1000
    bytes_per_part: int = 8_000_000
    seconds_per_part: float = 30.0
    retain: int | None = None
    checkpoint_steps: int | None = None
    checkpoint_seconds: float | None = None
    keep_checkpoints: int = 3

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name.endswith("dtype"):
                if value not in DTYPES:
                    raise RecordError(
                        f"{field.name} must be one of {', '.join(DTYPES)}, got {value!r}"
                    )
            elif str(field.type) == "bool":
                if not isinstance(value, bool):
                    raise RecordError(f"{field.name} must be True or False, got {value!r}")
            elif value is not None or "None" not in str(field.type):
                whole = "float" not in str(field.type)
                _check_positive(field.name, value, whole)

    def as_dict(self) -> dict[str, Any]:
        """Return the settings for run.toml, without those that are None."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def _check_positive(name: str, value: Any, whole: bool) -> None:
    kinds = int | np.integer if whole else int | float | np.number
    if isinstance(value, bool) or not (isinstance(value, kinds) and bool(value > 0)):
        number = "a whole number above 0" if whole else "a positive number"
        raise RecordError(f"{name} must be {number}, got {value!r}")

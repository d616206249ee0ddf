"""What a record keeps, in which precision, and how often it is written."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from mdxai.record.durable_files import RecordError

DTYPES = ("float16", "float32", "float64")
SHAPING = (
    "frame_every", "trajectory_every", "top_pairs", "trajectory_dtype", "pair_dtype", "retain",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class RecordSettings:
    """MonitorOptions that bound the size of a record and what a killed run loses.

    Attributes:
        frame_every: record energies and deviations of frames whose MD step is a multiple of this.
        trajectory_every: likewise for positions, velocities and forces.
        top_pairs: pairs of an explained frame that are kept, strongest first; None keeps all.
        trajectory_dtype: "float16", "float32" or "float64", of positions, velocities and forces.
        pair_dtype: likewise, of distances and relevance.
        rows_per_part: recorded frames after which a part is written.
        bytes_per_part: memory that may gather before a part is written; twice that is held.
        seconds_per_part: wall time after which a part is written.
        retain: keep only the last this many trajectory frames; None keeps all. While a run goes
            on, a few parts more are kept, so that it can be resumed at each of its checkpoints.
        checkpoint_steps: MD steps after which a checkpoint is due; None leaves it to the others.
        checkpoint_seconds: wall time after which a checkpoint is due; None likewise.
        keep_checkpoints: number of checkpoints that are kept.

    Raises:
        RecordError: for a value that makes no sense.
    """

    frame_every: int = 1
    trajectory_every: int = 1
    top_pairs: int | None = None
    trajectory_dtype: str = "float32"
    pair_dtype: str = "float32"
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
            elif value is not None or "None" not in str(field.type):
                whole = "float" not in str(field.type)
                _check_positive(field.name, value, whole)

    def as_dict(self) -> dict[str, Any]:
        """Return the settings that are set, for run.toml."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def _check_positive(name: str, value: Any, whole: bool) -> None:
    kinds = int | np.integer if whole else int | float | np.number
    if isinstance(value, bool) or not (isinstance(value, kinds) and bool(value > 0)):
        number = "a whole number above 0" if whole else "a positive number"
        raise RecordError(f"{name} must be {number}, got {value!r}")

"""Opening a run directory."""

from __future__ import annotations

import os
from pathlib import Path

from mdxai.record.reader import Run, read_run


def open_run(path: str | os.PathLike[str]) -> Run:
    """Open a run directory for reading, finished or not.

    This also registers the format with MDAnalysis, so that `MDAnalysis.Universe(run)` works.

    Raises:
        RecordError: when there is no run, it has another schema, or run.toml is damaged.
    """
    import mdxai.record.mdanalysis  # noqa: F401 (registers the format with MDAnalysis)

    return read_run(Path(path))

"""The folder of an analysis: every table as Parquet and CSV, and what is needed to repeat it."""

from __future__ import annotations

import platform
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import Any

import tomli_w

from mdxai.analysis.analysis_result import Analysis
from mdxai.record.durable_files import make_folder, write_file

TABLES, TOML = "tables", "analysis.toml"


def write_tables(found: Analysis, folder: Path) -> None:
    """Write every table as `tables/NAME.parquet` and `tables/NAME.csv`, and `analysis.toml`.

    Raises:
        RecordError: where something cannot be written.
    """
    make_folder(folder / TABLES)
    for name, table in found.tables().items():
        content = BytesIO()
        table.to_parquet(content, index=False)
        write_file(folder / TABLES / f"{name}.parquet", content.getvalue())
        write_file(folder / TABLES / f"{name}.csv", table.to_csv(index=False).encode())
    write_file(folder / TOML, tomli_w.dumps(repeating(found)).encode())


def repeating(found: Analysis) -> dict[str, Any]:
    """Return what is needed to repeat an analysis, as plain data."""
    plain = dict(found.identity)
    plain["options"] = {k: v for k, v in plain["options"].items() if v is not None}
    return plain | {
        "n_read": found.n_read, "n_used": found.n_used,
        "left_out": [
            {"reason": o.reason, "count": o.count, "first": list(o.first)} for o in found.left_out
        ],
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("mdxai", "schnetpack", "torch", "numpy", "scipy")},
        },
    }  # fmt: skip

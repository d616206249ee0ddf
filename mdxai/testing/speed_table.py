"""Measured times as one table, with the machine that they are of."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from mdxai.errors import MdxaiError
from mdxai.record.durable_files import write_file

PACKAGES = ("mdxai", "torch", "schnetpack", "ase", "numpy", "numba", "pyarrow")


class SpeedTableError(MdxaiError, ValueError):
    """A table that cannot be read, or that is of another machine."""


def machine() -> dict[str, Any]:
    """Return processor, cores, GPU and versions: what a time is of."""
    import torch

    return {
        "processor": _processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "python": platform.python_version(),
        **{name: _version(name) for name in PACKAGES},
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # a source tree that is not installed
        return "unknown"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    named = (line.split(":")[1].strip() for line in lines if "model name" in line)
    return next(named, platform.processor() or platform.machine())


@dataclass
class SpeedTable:
    """What was measured on one machine, by section and quantity; several runs give ranges.

    Args:
        folder: where bench.json and bench.md are; what is there already is added to.

    Raises:
        SpeedTableError: for a table of another machine or other versions, or a damaged one.
    """

    folder: Path
    machine: Mapping[str, Any] = field(default_factory=machine)
    values: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    runs: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self._path.is_file():
            try:
                held = json.loads(self._path.read_text(encoding="utf-8"))
                before, self.values, self.runs = held["machine"], held["values"], held["runs"]
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise SpeedTableError(f"{self._path} is no table of mdxai: {error}") from error
            if before != dict(self.machine):
                changed = [key for key in self.machine if before.get(key) != self.machine[key]]
                raise SpeedTableError(
                    f"{self._path} was measured with another {', '.join(changed)}; choose another "
                    "--out, because times of two machines make no range"
                )
        load = round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else "unknown"
        self.runs.append({"begun": datetime.now(UTC).isoformat(timespec="seconds"), "load": load})

    @property
    def _path(self) -> Path:
        return self.folder / "bench.json"

    def add(self, section: str, what: str, value: float, unit: str, bar: str = "") -> None:
        """Add one measured value, and the bar that it is held against, and write both files."""
        row = self.values.setdefault(section, {}).setdefault(what, {"unit": unit, "values": []})
        row["bar"] = bar
        row["values"].append(float(f"{value:.4g}"))
        self.folder.mkdir(parents=True, exist_ok=True)
        held = {"machine": dict(self.machine), "runs": self.runs, "values": self.values}
        write_file(self._path, (json.dumps(held, indent=1) + "\n").encode())
        write_file(self.folder / "bench.md", self.markdown().encode())

    def markdown(self) -> str:
        """Return the table."""
        lines = ["# Speed", "", *(f"- {key}: {value}" for key, value in self.machine.items())]
        lines += [f"- measured {run['begun']}, load {run['load']}" for run in self.runs]
        for section, rows in self.values.items():
            lines += ["", f"## {section}", "", "| | measured | unit | bar |", "|---|---|---|---|"]
            lines += [
                f"| {what} | {range_text(row['values'])} | {row['unit']} | {row['bar']} |"
                for what, row in rows.items()
            ]
        return "\n".join(lines) + "\n"


def range_text(values: list[float]) -> str:
    """Return one value, or the range of several."""
    low, high = (f"{end:.3g}" for end in (min(values), max(values)))
    return low if low == high else f"{low}–{high}"

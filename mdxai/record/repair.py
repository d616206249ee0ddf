"""Checking every file of a run directory, and copying what is undamaged."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from mdxai.record.checkpoint import (
    Checkpoint,
    read_checkpoint,
    refuse_missing_parts,
)
from mdxai.record.durable_files import (
    RecordError,
    RecordWarning,
    as_record_error,
    copy_file,
    hash_of,
    make_folder,
)
from mdxai.record.header import read_header, read_verdict, write_header
from mdxai.record.layout import (
    HEADER,
    ORPHAN,
    ROWS,
    TEMPORARY,
    VERDICT,
    WRITER,
    is_checkpoint,
    is_part,
    list_checkpoints,
)
from mdxai.record.parts import (
    PARQUET_ERRORS,
    Part,
    list_parts,
    read_groups,
    verify,
    without_covered,
)

WHOLE, DAMAGED, MISSING = "whole", "damaged", "missing"
ORPHANED, COVERED, UNFINISHED = "orphaned", "covered", "unfinished"


@dataclass(frozen=True, slots=True)
class FileState:
    """State of one file. rows: their number, in a part. detail: what is wrong with the file."""

    name: str
    state: str
    rows: int | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Repair:
    """What `repair` found. repaired: the new directory; None when nothing was wrong."""

    path: Path
    files: tuple[FileState, ...]
    repaired: Path | None = None

    @property
    def whole(self) -> bool:
        """Whether nothing is damaged or missing."""
        return not any(file.state in (DAMAGED, MISSING) for file in self.files)

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {
            "run": str(self.path),
            "whole": self.whole,
            "repaired": None if self.repaired is None else str(self.repaired),
            "files": [asdict(file) for file in self.files],
        }


def repair(path: str | os.PathLike[str], out: str | os.PathLike[str] | None = None) -> Repair:
    """Check every file of a run; if one is damaged or missing, copy the others to a new directory.

    The original is never changed. Undamaged parts are copied, and checkpoints whose parts are all
    undamaged. A damaged run.toml is restored from a checkpoint.

    Args:
        path: run directory; no process may be writing to it.
        out: directory to write; `path` with "-repaired" by default.

    Raises:
        RecordError: when `path` is no run directory, or `out` exists or cannot be written.
    """
    folder = Path(path)
    names = _names(folder)
    found = [_state_of(folder, name) for name in names]
    if not any(name == HEADER or _is_record(name) for name in names):
        raise RecordError(f"{folder} holds no run: it has neither {HEADER} nor any part")
    if HEADER not in names:
        found.append(FileState(HEADER, MISSING))
    files = (*found, *_missing(folder, found))
    report = Repair(folder, tuple(sorted(files, key=lambda file: file.name)))
    if report.whole:
        return report
    target = folder.with_name(f"{folder.resolve().name}-repaired") if out is None else Path(out)
    _write(folder, target, report)
    return Repair(folder, report.files, target)


def _names(folder: Path) -> list[str]:
    try:
        return sorted(path.name for path in folder.iterdir() if path.is_file())
    except OSError as error:
        raise RecordError(f"{folder} cannot be read: {error.strerror or error}") from error


def _is_record(name: str) -> bool:
    name = name.removesuffix(ORPHAN)
    return is_part(name) or is_checkpoint(name)


def _state_of(folder: Path, name: str) -> FileState:
    try:
        return _checked(folder, name)
    except FileNotFoundError:
        return FileState(name, MISSING, detail="it was deleted during the check")
    except (RecordError, OSError) as error:
        state = ORPHANED if name.endswith(ORPHAN) else DAMAGED
        return FileState(name, state, detail=str(error))


def _checked(folder: Path, name: str) -> FileState:
    path = folder / name
    if name == WRITER:
        return FileState(name, UNFINISHED, detail="a process is writing to the run, or was killed")
    if name.endswith(TEMPORARY):
        return FileState(name, UNFINISHED, detail="a killed process was writing it")
    if name == HEADER:
        read_header(folder)
    elif name == VERDICT:
        read_verdict(folder)
    elif not _is_record(name):
        _check_other(path)
    elif name.endswith(ORPHAN):
        return FileState(name, ORPHANED, detail="superseded when the run was resumed")
    elif name.endswith(".npz"):
        read_checkpoint(path)
    else:
        return _checked_part(folder, path)
    return FileState(name, WHOLE)


def _check_other(path: Path) -> None:
    """Read a file that carries no hash, such as a figure or a black box."""
    hash_of(path)
    if path.suffix == ".parquet":
        try:
            pq.read_table(path)
        except PARQUET_ERRORS as error:
            raise RecordError(f"{path} is damaged: {error}") from error


def _checked_part(folder: Path, path: Path) -> FileState:
    part = Part.parse(path)
    if part is None:
        raise RecordError(f"{path} is damaged: its name is not that of a part")
    verify(part)
    rows, last = 0, part.first - 1
    for table in read_groups(part):
        steps = table["step"].to_numpy() if "step" in table.column_names else np.empty(0)
        least = 1 if part.kind in ("frames", "trajectory", "explanations") else 0
        if len(steps) != table.num_rows or np.any(np.diff(steps, prepend=last) < least):
            if part.kind != "events":
                raise RecordError(f"{path} is damaged: its steps do not ascend")
        elif len(steps):
            last = int(steps[-1])
        rows += table.num_rows
    if last > part.last:
        raise RecordError(f"{path} is damaged: it holds step {last}, its name ends at {part.last}")
    if part not in list_parts(folder, part.kind):
        return FileState(path.name, COVERED, rows, "a larger part holds its rows")
    return FileState(path.name, WHOLE, rows)


def _missing(folder: Path, found: list[FileState]) -> Iterator[FileState]:
    """Yield missing parts that the verdict, else the newest readable checkpoint, names."""
    for source, parts in _named(folder):
        for kind, names in parts.items():
            present = [p for f in found if (p := Part.parse(folder / f.name)) is not None]
            present = [p for p in present if p.kind == kind and not p.name.endswith(ORPHAN)]
            for name in names:
                part = Part.parse(folder / name)
                dropped = kind == "trajectory" and _dropped(folder, part, present)
                held = part is not None and any(part == p or part.inside(p) for p in present)
                if not held and not dropped:
                    yield FileState(name, MISSING, detail=f"{source} names it")
        return


def _dropped(folder: Path, part: Part | None, present: list[Part]) -> bool:
    """Return whether a run that retains few frames has deleted a part on purpose."""
    try:
        retained = "retain" in read_header(folder).get("record", {})
    except RecordError:
        retained = True
    kept = without_covered(present)
    return retained and part is not None and bool(kept) and part.last <= kept[0].last


def _named(folder: Path) -> Iterator[tuple[str, Mapping[str, list[str]]]]:
    try:
        verdict = read_verdict(folder).get("parts")
        if isinstance(verdict, dict):
            yield VERDICT, verdict
    except RecordError:
        pass
    for path, checkpoint in _readable_checkpoints(folder):
        yield path.name, checkpoint.parts


def _readable_checkpoints(folder: Path) -> Iterator[tuple[Path, Checkpoint]]:
    """Yield path and content of the readable checkpoints, newest first."""
    for path in reversed(list_checkpoints(folder)):
        try:
            yield path, read_checkpoint(path)
        except RecordError:
            continue


def _write(folder: Path, target: Path, report: Repair) -> None:
    if target.exists():
        raise RecordError(f"{target} exists already; move it, or name another directory")
    with as_record_error(target):
        make_folder(target)
        states = {file.name: file.state for file in report.files}
        kept = [name for name, state in states.items() if state in (WHOLE, COVERED)]
        for name in filter(is_part, kept):
            copy_file(folder / name, target)
        _copy_checkpoints(folder, target)
        parts_whole = not any(
            state in (DAMAGED, MISSING) and is_part(name, ROWS) for name, state in states.items()
        )
        for name in kept:
            others = not _is_record(name) and name != VERDICT
            if others or (name == VERDICT and parts_whole):
                copy_file(folder / name, target)
    if states.get(HEADER) != WHOLE:
        header = next((c.header for _, c in _readable_checkpoints(folder) if c.header), None)
        if header is not None:
            write_header(target, header)


def _copy_checkpoints(folder: Path, target: Path) -> None:
    """Copy the checkpoints whose parts have all been copied."""
    for path, checkpoint in _readable_checkpoints(folder):
        try:
            refuse_missing_parts(target, checkpoint)
        except RecordError as reason:
            warnings.warn(f"checkpoint left out: {reason}", RecordWarning, stacklevel=4)
        else:
            copy_file(path, target)

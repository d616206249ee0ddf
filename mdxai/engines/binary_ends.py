"""Whether a binary trajectory ends with a whole frame; MDAnalysis leaves out half of one unsaid."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any


def what_is_left(reader: Any) -> str:
    """Return what stands behind the last whole frame of a DCD, XTC or TRR file; empty for nothing.

    Args:
        reader: of MDAnalysis.
    """
    path = Path(str(reader.filename))
    end_of = {"DCD": _end_of_dcd, "XTC": _end_of_xtc, "TRR": _end_of_trr}.get(str(reader.format))
    if end_of is None or not path.is_file():
        return ""
    with path.open("rb") as file:
        try:
            end = end_of(file, reader)
        except struct.error:
            return "its last frame is not whole"
    left = 0 if end is None else path.stat().st_size - end
    return f"{left} bytes of another frame follow, which is not whole" if left else ""


def _end_of_dcd(file: Any, reader: Any) -> int | None:
    """Return where the frames end by the header; None where its frames differ in length."""
    (mark,) = struct.unpack("<i", file.read(4))
    order = "<" if mark == 84 else ">"
    control = struct.unpack(f"{order}20i", file.read(84)[4:])
    file.seek(92)
    (title,) = struct.unpack(f"{order}i", file.read(4))
    start = 92 + 8 + title + 12
    charmm = control[19] != 0  # else X-PLOR's, whose time step fills two words
    n_fixed, has_cell, four_dimensions = control[8], charmm and control[10], charmm and control[11]
    if n_fixed or mark not in (84, 84 << 24):
        return None
    axes = 4 if four_dimensions else 3
    frame = (56 if has_cell else 0) + axes * (8 + 4 * int(reader.n_atoms))
    return int(start + frame * len(reader))


def _last_offset(reader: Any) -> int:
    return int(reader._xdr.offsets[-1])


def _end_of_xtc(file: Any, reader: Any) -> int:
    """Return where the last frame ends: its header, then coordinates, compressed above 9 atoms."""
    start = _last_offset(reader)
    file.seek(start)
    magic, n_atoms = struct.unpack(">2i", file.read(8))
    if n_atoms <= 9:
        return int(start + 56 + 12 * n_atoms)
    wide = magic == 2023
    file.seek(start + 88)
    (size,) = struct.unpack(">q" if wide else ">i", file.read(8 if wide else 4))
    return int(start + (96 if wide else 92) + (size + 3) // 4 * 4)


def _end_of_trr(file: Any, reader: Any) -> int:
    """Return where the last frame ends: its header says how long each block is."""
    start = _last_offset(reader)
    file.seek(start + 8)
    (name,) = struct.unpack(">i", file.read(4))
    header = 12 + (name + 3) // 4 * 4
    file.seek(start + header)
    sizes = struct.unpack(">13i", file.read(52))
    box, positions, n_atoms = sizes[2], sizes[7], sizes[10]
    real = positions // (3 * n_atoms) if positions else max(box // 9, 4)
    return int(start + header + 52 + 2 * real + sum(sizes[:10]))

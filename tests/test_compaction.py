"""Parts are merged rarely, into files of limited size; the writer thread imports nothing."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from mdxai.record import compaction
from mdxai.record.parts import Part, list_parts, read_groups, write_part

ROWS = 200


def small_part(folder: Path, number: int) -> Part:
    """Pairs of one step, of random numbers that no compression shortens."""
    rng = np.random.default_rng(number)
    columns = {"i": np.arange(ROWS), "time_fs": np.full(ROWS, 1.0), "x": rng.random(ROWS)}
    table = pa.table({"step": np.full(ROWS, number), **columns})
    return write_part(folder, "pairs", [table])[0]


@pytest.fixture
def rewritten(monkeypatch):
    """How often each step was written again by a merge."""
    count: Counter[int] = Counter()

    def counting(folder, kind, tables):
        part, size = write_part(folder, kind, tables)
        for table in read_groups(part, ["step"]):
            count.update(table["step"].unique().to_pylist())
        return part, size

    monkeypatch.setattr(compaction, "write_part", counting)
    return count


def test_a_row_is_rewritten_as_often_as_the_logarithm_says(tmp_path, rewritten):
    """Of 8³ parts each row was merged with 8, 64 and 512 others, whatever came between."""
    parts: list[Part] = []
    for number in range(512):
        parts = compaction.merge_tail(tmp_path, [*parts, small_part(tmp_path, number)])
    assert max(rewritten.values()) <= 3
    assert len(parts) < 3 * compaction.FEW
    assert parts == list_parts(tmp_path, "pairs")
    steps = [
        s for part in parts for t in read_groups(part, ["step"]) for s in t["step"].to_pylist()
    ]
    assert steps == np.repeat(np.arange(512), ROWS).tolist()


@pytest.mark.parametrize("merge", [compaction.merge_tail, compaction.merge_all])
def test_merged_parts_keep_within_their_limit(tmp_path, monkeypatch, merge):
    size = small_part(tmp_path, 0).path.stat().st_size
    limit = 5 * size
    monkeypatch.setattr(compaction, "MERGED_BYTES", {"pairs": limit})
    parts: list[Part] = []
    for number in range(40):
        parts = merge(tmp_path, [*parts, small_part(tmp_path, number)])
    sizes = [part.path.stat().st_size for part in parts]
    assert max(sizes) <= limit
    assert sum(limit // 2 <= s for s in sizes) >= len(sizes) - compaction.FEW
    assert 1 < len(parts) < 25


FIRST_PART = """
import sys
from mdxai.record import RunWriter
from tests.synthetic_run import HEADER, PRINCIPLES, add_step, state_at
writer = RunWriter(sys.argv[1])
writer.start(HEADER, PRINCIPLES)
add_step(writer, 0)
before = set(sys.modules)
for step in range(1, 20):
    add_step(writer, step)
writer.commit(19, state_at(19))
writer.finish({}, None)
print(sorted({name.partition(".")[0] for name in set(sys.modules) - before}))
"""


def test_the_first_part_imports_nothing(tmp_path):
    """An import in the writer thread holds the interpreter's lock: an MD step would wait for it."""
    command = [sys.executable, "-c", FIRST_PART, str(tmp_path / "run")]
    root = Path(__file__).parents[1]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, check=True)
    assert done.stdout.strip() == "[]"

"""What recording costs: time per frame, the slowest step, bytes on disk, memory.

python3 -m uv run pytest -m benchmark -n 0 -s tests/benchmarks/test_record_speed.py
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from mdxai.principles.frame_quantities import frame_quantities
from mdxai.record import RecordSettings, RunWriter

from ..synthetic_run import HEADER, Measure, attribution_of, deviations_at, frame_at

pytestmark = pytest.mark.benchmark
PRINCIPLES = [Measure(f"principle{k}") for k in range(60)]
ROWS_PER_FRAME = {"frames": 1, "trajectory": 1, "explanations": 1, "pairs": 36}


def explained_frame(step):
    """Return a frame of ethanol with 60 deviations and 36 pairs, all arrays new.

    The writer holds explanations by reference, so reused arrays would all be written alike.
    """
    frame = frame_at(step)
    frame_quantities(frame).temperature  # noqa: B018 (as the principles of a run do)
    return frame, deviations_at(step, PRINCIPLES), attribution_of(frame)


def record(writer, step, frame, deviations, attribution):
    writer.add_frame(frame, deviations)
    writer.add_attribution(frame, attribution)
    if writer.due(step):
        writer.commit(step, {"step": step})


def test_time_and_bytes_per_frame(tmp_path):
    writer = RunWriter(tmp_path / "run", RecordSettings())
    writer.start(HEADER, PRINCIPLES)
    n_frames, times = 12_000, []
    for step in range(n_frames):
        explained = explained_frame(step)
        begin = time.perf_counter()
        record(writer, step, *explained)
        times.append(time.perf_counter() - begin)
    writer.finish({}, None)
    print(f"\nper frame: median {1e6 * np.median(times):.1f} µs")
    for kind, rows in ROWS_PER_FRAME.items():
        size = sum(p.stat().st_size for p in (tmp_path / "run").glob(f"{kind}-*.parquet"))
        print(f"{kind}: {size / rows / n_frames:.1f} bytes per row on disk")


def test_slowest_step_while_a_part_is_written(tmp_path):
    """Steps of 1.5 ms of NumPy work, about as long as an MD step of ethanol."""
    writer = RunWriter(tmp_path / "run", RecordSettings(rows_per_part=1000))
    writer.start(HEADER, PRINCIPLES)
    matrix = np.random.default_rng(0).normal(size=(120, 120))
    times = []
    for step in range(5_000):
        explained = explained_frame(step)
        writing = writer.is_writing
        begin = time.perf_counter()
        while time.perf_counter() - begin < 1.5e-3:
            matrix @ matrix
        record(writer, step, *explained)
        times.append((time.perf_counter() - begin, writing or writer.is_writing))
    writer.finish({}, None)
    plain = np.median([t for t, writing in times if not writing])
    slow = np.array([t for t, writing in times if writing])
    print(
        f"\nwhile a part is written ({len(slow)} steps): median {np.median(slow) / plain:.2f}, "
        f"slowest {slow.max() / plain:.2f} of the median step"
    )


def peak_memory(path, n_frames):
    """Return the peak resident memory of a process that records this many frames, MiB."""
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "tests.benchmarks.test_record_speed", path, str(n_frames)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=root)
    return float(done.stdout)


def test_memory(tmp_path):
    # Memory at the start differs by 20 MiB from process to process.
    few = min(peak_memory(tmp_path / f"few{k}", 1_000) for k in range(3))
    many = peak_memory(tmp_path / "many", 200_000)
    print(f"\npeak resident memory: 1e3 frames {few:.0f} MiB, 2e5 frames {many - few:+.1f} MiB")


if __name__ == "__main__":
    path, n_frames = sys.argv[1:]
    recorder = RunWriter(path, RecordSettings())
    recorder.start(HEADER, PRINCIPLES)
    for number in range(int(n_frames)):
        record(recorder, number, *explained_frame(number))
    recorder.finish({}, None)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)

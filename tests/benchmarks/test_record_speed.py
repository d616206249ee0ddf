"""What recording costs: per frame, while a part is written, on disk, and in memory.

python3 -m uv run pytest -m benchmark -n 0 -s tests/benchmarks/test_record_speed.py
"""

from __future__ import annotations

import subprocess
import sys
import time

import numpy as np
import pytest

from mdxai.record import RecordSettings, RunWriter

from ..synthetic_run import HEADER, Measure, attribution_of, deviations_at, frame_at

pytestmark = pytest.mark.benchmark
PRINCIPLES = [Measure(f"principle{k}") for k in range(60)]


def inputs(n=50):
    frames = [frame_at(step) for step in range(n)]
    return [(f, deviations_at(f.step, PRINCIPLES), attribution_of(f)) for f in frames]


def numbered(frame, step):
    object.__setattr__(frame, "step", step)  # a fresh frame would be timed too
    return frame


def shaken(frame, attribution, rng):
    """Put new numbers into a frame: repeated ones would compress as no trajectory does."""
    for name in ("positions", "velocities", "forces"):
        object.__setattr__(frame, name, rng.normal(size=(frame.n_atoms, 3)))
    n_pairs = len(attribution.pairs)
    object.__setattr__(attribution.pairs, "distances", rng.normal(size=n_pairs))
    object.__setattr__(attribution, "strengths", rng.normal(size=n_pairs))


def test_append_and_size(tmp_path):
    """Ethanol, 60 deviations, 36 pairs of every frame."""
    writer = RunWriter(tmp_path / "run", RecordSettings())
    writer.start(HEADER, PRINCIPLES)
    prepared, times = inputs(), []
    for step in range(12_000):
        frame, deviations, attribution = prepared[step % 50]
        numbered(frame, step)
        begin = time.perf_counter()
        writer.add_frame(frame, deviations)
        writer.add_attribution(frame, attribution)
        due = writer.due(step)
        times.append(time.perf_counter() - begin)
        if due:
            writer.commit(step, {"step": step})
        time.sleep(0.0002)
    writer.finish({}, None)
    micro = 1e6 * np.array(times)
    print(f"\nper frame: median {np.median(micro):.1f} µs")
    frames = 12_000
    for kind, rows in (("frames", frames), ("trajectory", frames), ("pairs", 36 * frames)):
        size = sum(p.stat().st_size for p in (tmp_path / "run").glob(f"{kind}-*.parquet"))
        print(f"{kind}: {size / rows:.1f} bytes per row on disk")


def test_slowest_step_while_a_part_is_written(tmp_path):
    """Steps of 1.5 ms of NumPy work, about as long as an MD step of ethanol."""
    writer = RunWriter(tmp_path / "run", RecordSettings(rows_per_part=1000))
    writer.start(HEADER, PRINCIPLES)
    prepared, times = inputs(), []
    matrix = np.random.default_rng(0).normal(size=(120, 120))
    for step in range(5_000):
        frame, deviations, attribution = prepared[step % 50]
        numbered(frame, step)
        begin = time.perf_counter()
        while time.perf_counter() - begin < 1.5e-3:
            matrix @ matrix
        writer.add_frame(frame, deviations)
        writer.add_attribution(frame, attribution)
        writing = writer.is_writing
        if writer.due(step):
            writer.commit(step, {"step": step})
            writing = True
        times.append((time.perf_counter() - begin, writing))
    writer.finish({}, None)
    plain = np.median([t for t, writing in times if not writing])
    slow = np.array([t for t, writing in times if writing])
    print(
        f"\nwhile a part is written ({len(slow)} steps): median {np.median(slow) / plain:.2f}, "
        f"slowest {slow.max() / plain:.2f} of the median step"
    )


MEMORY = """
import resource, sys
sys.path.insert(0, {root!r})
from mdxai.record import RecordSettings, RunWriter
from tests.synthetic_run import HEADER
import numpy as np
from tests.benchmarks.test_record_speed import PRINCIPLES, inputs, numbered, shaken
rng = np.random.default_rng(0)
writer = RunWriter({path!r}, RecordSettings())
writer.start(HEADER, PRINCIPLES)
prepared = inputs()
for step in range({frames}):
    frame, deviations, attribution = prepared[step % 50]
    numbered(frame, step)
    shaken(frame, attribution, rng)
    writer.add_frame(frame, deviations)
    writer.add_attribution(frame, attribution)
    if writer.due(step):
        writer.commit(step, {{"step": step}})
writer.finish({{}}, None)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def peak_memory(path, frames):
    """Return the peak resident memory of a process that records so many frames, MiB."""
    from pathlib import Path

    root = str(Path(__file__).parents[2])
    code = MEMORY.format(root=root, path=str(path), frames=frames)
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return float(done.stdout)


def test_memory(tmp_path):
    # What starting takes differs by 20 MiB from process to process.
    few = min(peak_memory(tmp_path / f"few{k}", 1_000) for k in range(3))
    many = peak_memory(tmp_path / "many", 1_000_000)
    print(f"\npeak resident memory: 1e3 frames {few:.0f} MiB, 1e6 frames {many - few:+.1f} MiB")

"""Whatever a trajectory holds, it is read as ASE or MDAnalysis read it, or refused in one line."""

from __future__ import annotations

import os
import tempfile
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import units
from ase.build import molecule
from ase.io import write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import mdxai
from mdxai.engines import Selection
from mdxai.monitoring.replay import open_trajectory

from .hostile_trajectories import TEXT, Hostile, hostile_files, scales

# MDAnalysis' readers fail once more when they are thrown away.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
MANY = int(os.environ.get("MDXAI_HOSTILE", "10000"))


def outcome(hostile):
    """Return the frames that are read, and the error in the end."""
    frames, failed = [], None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            opened = open_trajectory(hostile.path, hostile.topology, hostile.selection)
            for frame in opened.frames:
                frames.append(frame)  # noqa: PERF402 (those before an error are kept)
        except mdxai.MdxaiError as error:
            failed = error
    if failed is not None:
        assert "\n" not in str(failed)
        assert len(str(failed)) > 20
    return frames, failed


def same(first, second):
    return np.array_equal(first.positions, second.positions, equal_nan=True)


def assert_is(frame, atoms, hostile):
    """Check a frame against what ASE or MDAnalysis reads, in the units that are stated."""
    length, speed = scales(hostile)
    np.testing.assert_array_equal(frame.numbers, atoms.numbers)
    tight = {"rtol": 1e-6, "atol": 1e-6}
    np.testing.assert_allclose(frame.positions, atoms.positions * length, **tight)
    if "cell" in hostile.selection.without:
        assert not frame.pbc.any()
    else:
        np.testing.assert_array_equal(frame.pbc, atoms.pbc)
        if atoms.pbc.any():
            np.testing.assert_allclose(frame.cell, atoms.cell.array * length, **tight)
    if frame.has_velocities and atoms.has("momenta"):
        expected = atoms.get_momenta() / atoms.get_masses()[:, None] * speed
        np.testing.assert_allclose(frame.velocities, expected, rtol=1e-5, atol=1e-12)
    if "velocities" in hostile.selection.without:
        assert not frame.has_velocities


def is_repeated(hostile, at):
    """Whether a frame is the last one again; of files without velocities it is not known."""
    known = hostile.kind in ("traj", "extxyz", "gz", "lammpstrj")
    return known and same(hostile.truth[at], hostile.truth[at - 1])


def holds(frame, atoms, hostile):
    places = atoms.positions * scales(hostile)[0]
    return frame.positions.shape == places.shape and np.allclose(
        frame.positions, places, atol=1e-9, rtol=0, equal_nan=True
    )


def assert_is_part_of_the_truth(frames, hostile):
    """Check all frames in their order; only a repeated one may be left out. Return its place."""
    truth, at = hostile.truth, -1
    for number, frame in enumerate(frames):
        at += 1 + (hostile.selection.start if number == 0 else 0)
        repeated = 0 < at < len(truth) and is_repeated(hostile, at)
        if repeated and at + 1 < len(truth) and holds(frame, truth[at + 1], hostile):
            at += 1
        assert at < len(truth)
        assert_is(frame, truth[at], hostile)
        if hostile.selection.timestep is not None:
            index = frame.time / hostile.selection.timestep
            assert index == pytest.approx(number + hostile.selection.start)
    return at


def check(hostile):
    compare(hostile, *outcome(hostile))


def compare(hostile, frames, error):
    last = assert_is_part_of_the_truth(frames, hostile)
    if error is not None or not frames:  # an engine refuses a trajectory without frames
        return
    after = range(last + 1, len(hostile.truth))
    rest = [at for at in after if at == 0 or not is_repeated(hostile, at)]
    if hostile.cut == hostile.size:
        assert not rest, "frames are left out unsaid"
    elif hostile.kind in TEXT and hostile.kind != "gz":
        # Only where a frame ends, with or without the end of its line, is nothing amiss.
        closing = 4 if hostile.kind == "pdb" else 1  # bytes that END of ENDMDL leaves
        tail = [end for end in hostile.ends if end - closing <= hostile.cut]
        ended = tail and hostile.path.read_bytes()[tail[-1] :].strip() == b""
        assert ended, f"cut at {hostile.cut} of {hostile.ends} and not seen"
    elif hostile.kind in ("gz", "traj"):  # a .traj may end in the unused part of its index
        assert not rest, "a cut was not seen"


def times(examples, *, same_each_time=False):
    return settings(
        max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck),
        database=None, derandomize=same_each_time,
    )  # fmt: skip


@times(60, same_each_time=True)
@given(st.data())
def test_hostile_files_are_read_as_they_are_or_refused(data):
    with tempfile.TemporaryDirectory() as folder:
        check(data.draw(hostile_files(Path(folder))))


def shifted(frame):
    return replace(frame, positions=frame.positions + 0.01)


SABOTAGE = {
    "moved": lambda frames: [shifted(frame) for frame in frames],
    "one moved": lambda frames: [*frames[:-1], shifted(frames[-1])],
    "left out": lambda frames: [*frames[:1], *frames[2:]],
    "cut short": lambda frames: frames[:-1],
    "out of order": lambda frames: frames[::-1],
    "other elements": lambda frames: [replace(f, numbers=f.numbers + 1) for f in frames],
    "other velocities": lambda frames: [replace(f, velocities=2 * f.velocities) for f in frames],
    "other times": lambda frames: [replace(f, time=2 * f.time + 1) for f in frames],
}


@pytest.mark.parametrize("how", SABOTAGE)
def test_the_checks_of_hostile_files_see_what_is_read_wrongly(how, tmp_path):
    """A sound file whose frames are falsified after reading."""
    velocities = np.random.default_rng(0).normal(scale=0.05, size=(3, 3))
    images = []
    for k in range(5):
        atoms = molecule("H2O")
        atoms.positions += 0.5 * units.fs * k * velocities
        atoms.set_velocities(velocities)
        images.append(atoms)
    path = tmp_path / "md.traj"
    write(path, images)
    size = path.stat().st_size
    sound = Hostile(path, "traj", Selection(timestep=0.5), None, images, (), size, size)
    read, error = outcome(sound)
    assert (len(read), error) == (5, None)
    compare(sound, read, error)
    seen = False
    try:
        compare(sound, SABOTAGE[how](read), error)
    except AssertionError:
        seen = True
    assert seen


@pytest.mark.slow
@times(MANY)
@given(st.data())
def test_many_hostile_files(data):
    """10,000, or as many as MDXAI_HOSTILE says."""
    with tempfile.TemporaryDirectory() as folder:
        check(data.draw(hostile_files(Path(folder))))

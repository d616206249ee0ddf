"""Frames to label: before the onset, and unlike each other."""

from __future__ import annotations

import numpy as np

import mdxai
from mdxai.mending.active_learning import farthest_first, frames_to_label

from .hot_ethanol import watched


def test_frames_to_label_come_before_the_onset_and_differ(tmp_path):
    path = tmp_path / "run"
    watched(path, on_unstable="halt")
    run = mdxai.open_run(path)
    frames = frames_to_label(run, 5)
    assert 0 < len(frames) <= 5
    for atoms in frames:
        assert atoms.info["time_fs"] < run.verdict["onset_fs"]
        assert atoms.calc is None
        assert atoms.get_all_distances()[np.triu_indices(9, 1)].max() < 8
    assert len({atoms.positions.tobytes() for atoms in frames}) == len(frames)


def test_farthest_first_against_brute_force():
    points = np.random.default_rng(0).normal(size=(30, 3))
    chosen = farthest_first(points, 6)
    for k in range(1, 6):
        gaps = [min(np.linalg.norm(p - points[c]) for c in chosen[:k]) for p in points]
        assert chosen[k] == int(np.argmax(gaps))
    assert farthest_first(np.zeros((4, 2)), 3) == [0]

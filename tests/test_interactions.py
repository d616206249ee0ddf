"""Means of the recorded pairs over frames: the same as a data frame of all rows gives."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

import mdxai
from mdxai.record import RunWriter
from mdxai.report.interactions import Window, read_interactions

from .synthetic_run import HEADER, PRINCIPLES, attribution_of, frame_at, write_run


def test_means_of_pairs_equal_a_data_frame(tmp_path):
    write_run(tmp_path / "run", steps=60)
    run = mdxai.open_run(tmp_path / "run")
    end, late = 20.3, 6.0  # fs
    found = read_interactions(run, Window(end, late, shown=15.9))
    pairs = run.pairs_table().to_pandas().astype({"two_body_eV": float, "distance_ang": float})
    usual = pairs[pairs.time_fs < end - late].groupby(["i", "j"])
    last = pairs[(pairs.time_fs >= end - late) & (pairs.time_fs < end)].groupby(["i", "j"])
    means = found.means
    keys = list(zip(means.i, means.j, strict=True))
    assert means.n_frames == pairs[pairs.time_fs < end - late].step.nunique()
    assert means.n_late == 3
    np.testing.assert_allclose(means.mean, usual.two_body_eV.mean()[keys], rtol=1e-6)
    np.testing.assert_allclose(means.spread, usual.two_body_eV.std(ddof=0)[keys], rtol=1e-4)
    np.testing.assert_allclose(means.distance, usual.distance_ang.mean()[keys], rtol=1e-6)
    np.testing.assert_allclose(means.late, last.two_body_eV.mean()[keys], rtol=1e-6)
    strength = usual.two_body_eV.apply(lambda x: x.abs().mean())
    assert (np.diff(strength[keys]) <= 1e-9).all()
    assert found.frame.time == 15.0
    changed = means.most_changed(3)
    assert np.abs(changed.late - changed.mean)[0] == np.abs(means.late - means.mean).max()


def test_images_of_a_pair_add_up(tmp_path):
    """Flow holds every image of a pair within the cutoff."""
    writer = RunWriter(tmp_path / "run")
    writer.start(HEADER, PRINCIPLES)
    frame, one = frame_at(0), attribution_of(frame_at(0))
    images, flows = one.pairs.select(np.array([0, 0, 1])), np.array([0.25, 0.5, -1.0])
    one = replace(one, method="flow", pairs=images, strengths=flows, several_images=None)
    writer.add_frame(frame, {})
    writer.add_attribution(frame, one)
    writer.finish({}, None)
    means = read_interactions(mdxai.open_run(tmp_path / "run"), Window()).means
    assert means.mean.tolist() == [-1.0, 0.75]

"""The relevance profile of a frame against masks in NumPy, and that all read the same one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mdxai.serialization import restore, snapshot
from mdxai.statistics import (
    ElementPairChannels,
    RelevanceProfile,
    StatisticsError,
    profile_moments,
)

from .explained_frames import explained, shaken


def profile_of(frame, strengths=None):
    pairs = frame.pairs(5.0)
    relevance = -1 / pairs.distances if strengths is None else strengths
    return pairs, RelevanceProfile(frame.numbers, pairs.i, pairs.j, pairs.distances, relevance)


@pytest.mark.parametrize("width", [0.25, 0.1, 0.3])
def test_bins_hold_the_mean_strength_of_their_pairs(width):
    frame = shaken(3)
    pairs, profile = profile_of(frame)
    names, place = ElementPairChannels(frame.numbers), np.floor(pairs.distances / width)
    kind = names.of(pairs.i, pairs.j)
    cells = {
        (int(c), float(b) * width + width / 2): (1 / pairs.distances)[(kind == c) & (place == b)]
        for c, b in set(zip(kind.tolist(), place.tolist(), strict=True))
    }
    bins = profile.bins(width)
    channel, centers, means = bins.occupied()
    found = {(int(c), float(r)): m for c, r, m in zip(channel, centers, means, strict=True)}
    assert found == {key: pytest.approx(values.mean()) for key, values in cells.items()}
    assert bins.count.sum() == len(pairs)
    assert np.isnan(bins.mean).sum() == (bins.count == 0).sum()
    assert profile.bins(width) is bins
    assert profile.names == names.names


def test_pairs_that_are_not_finite_are_in_no_bin():
    frame = shaken(4)
    pairs = frame.pairs(5.0)
    strengths, distances = np.ones(len(pairs)), pairs.distances.copy()
    strengths[0], distances[1], distances[2] = np.nan, np.nan, np.inf
    profile = RelevanceProfile(frame.numbers, pairs.i, pairs.j, distances, strengths)
    assert profile.bins(0.25).count.sum() == len(pairs) - 3
    with pytest.raises(StatisticsError, match="expected a width of bins > 0 Å, got 0"):
        profile.bins(0)


def test_pairs_of_several_frames_are_binned_frame_by_frame():
    frames = [shaken(seed) for seed in range(3)]
    pairs = [frame.pairs(5.0) for frame in frames]
    i, j, r = (np.concatenate([getattr(p, n) for p in pairs]) for n in ("i", "j", "distances"))
    which = np.repeat([0, -1, 1], [len(p) for p in pairs])  # that in the middle is left out
    both = RelevanceProfile(frames[0].numbers, i, j, r, -1 / r).bins_by_frame(which, 2, 0.25)
    for row, frame in ((0, frames[0]), (1, frames[2])):
        alone = profile_of(frame)[1].bins(0.25)
        n = alone.count.shape[2]
        np.testing.assert_array_equal(both.count[row, :, :n], alone.count[0])
        np.testing.assert_array_equal(both.total[row, :, :n], alone.total[0])


def test_pairs_of_atoms_that_do_not_exist():
    with pytest.raises(StatisticsError, match="expected pairs of atoms 0…1, got atoms up to 7"):
        RelevanceProfile(np.array([1, 8]), np.array([0]), np.array([7]), np.ones(1), np.ones(1))


def test_an_explanation_makes_its_profile_once_and_keeps_it_out_of_checkpoints():
    frame = shaken(5)
    attribution = explained(frame, lambda i, j, r: -1 / r)
    without = snapshot(attribution)
    assert attribution.profile is attribution.profile
    np.testing.assert_array_equal(attribution.profile.strengths, np.abs(attribution.strengths))
    assert snapshot(attribution)["attributes"].keys() == without["attributes"].keys()
    again = restore(None, snapshot(attribution))
    np.testing.assert_array_equal(again.profile.strengths, attribution.profile.strengths)


def test_moments_of_a_run_take_profiles():
    moments = profile_moments(shaken(0).numbers, 5.0)
    profiles = [profile_of(shaken(seed))[1] for seed in range(3)]
    for profile in profiles:
        moments.update(*profile.samples)
    assert moments.channels == profiles[0].names
    assert moments.count.sum() == sum(len(profile.strengths) for profile in profiles)
    assert moments.bins.n_bins == 240
    assert profile_moments(np.array([18]), 5.0) is None


def test_the_page_on_statistics_runs():
    page = Path(__file__).resolve().parents[1] / "docs" / "statistics.md"
    snippet = page.read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    names = {}
    exec(snippet, names)
    profile, moments = names["profile"], names["moments"]
    assert moments.count.sum() == len(profile.strengths)
    for channel, mean in zip(names["channel"], names["mean"], strict=True):
        occupied = moments.count[channel] > 0
        low, high = moments.minimum[channel][occupied].min(), moments.maximum[channel].max()
        assert low * (1 - 1e-12) <= mean <= high * (1 + 1e-12)

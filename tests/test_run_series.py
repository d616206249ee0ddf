"""Series of a run: their values and their kinds."""

from __future__ import annotations

import numpy as np
import pytest

from mdxai.study.run_outcome import (
    Outcome,
    load_outcomes,
)
from mdxai.study.run_series import bin_of, kind_of_series
from tests import synthetic_run as made


def outcome(name, unstable, model="m"):
    return Outcome(name, model, "H2O", 300.0, 100.0, unstable, np.arange(3.0))


def test_every_series_has_a_kind():
    names = ("bond", "contact", "decay_rise", "rotation", "force_norm", "C-H 1.125 Å",
             "profile_rms", "noise")  # fmt: skip
    assert [kind_of_series(name) for name in names] == [
        "motion", "motion", "explanation", "probe", "plain", "relevance", "relevance", "other",
    ]  # fmt: skip


def test_series_agree_with_the_record_row_by_row(tmp_path):
    """Against plain loops over the frames and pairs that were written."""
    (outcome,) = load_outcomes(made.write_judged_run(tmp_path / "r"), bin_width=0.5)
    symbols = ["C", "C", "O", *6 * ["H"]]
    for row in range(60):
        frame, principles = made.frame_at(row), made.deviations_at(row)
        for name, deviation in principles.items():
            expected = np.nan if deviation is None else deviation.value
            np.testing.assert_equal(outcome.series[name][row], expected)
        norm = np.linalg.norm(frame.forces, axis=1).max()
        assert outcome.series["force_norm"][row] == pytest.approx(norm, rel=1e-6)
        assert outcome.series["kinetic_temperature"][row] == pytest.approx(frame.temperature)
        strengths: dict[tuple[str, int], list[float]] = {}
        if row % 5 == 0:
            explained = made.attribution_of(frame)
            pairs = explained.pairs
            for i, j, d, s in zip(
                pairs.i, pairs.j, pairs.distances, explained.two_body, strict=True
            ):
                pair = "-".join(sorted((symbols[i], symbols[j])))
                strengths.setdefault((pair, int(d / 0.5)), []).append(abs(s))
        for name, values in outcome.series.items():
            if (cell := bin_of(name)) is not None:
                expected = strengths.get((cell[0], int(cell[1] / 0.5)), [np.nan])
                assert values[row] == pytest.approx(np.mean(expected), rel=1e-4, nan_ok=True)

"""Calibrations from labelled runs."""

from __future__ import annotations

import numpy as np
import pytest

from mdxai.early_warning import Calibration, CalibrationError
from mdxai.study.lead_time.alarms import (
    AnyAlarm,
    Streams,
    Watching,
    watched_ns,
)
from mdxai.study.lead_time.calibrate import calibrate

from .synthetic_outcomes import GROUPS


def test_all_watches_together_keep_to_the_rate(labelled_runs, tmp_path):
    watch = [("drift", "cusum"), ("noise", "ewma"), ("temperature", "shewhart")]
    made = calibrate(labelled_runs, (10.0, 25.0, 60.0), watch=watch, groups=GROUPS)
    stable = np.array([not outcome.unstable for outcome in labelled_runs])
    ends = np.array([outcome.end for outcome in labelled_runs])
    parts = [Streams(labelled_runs, series, Watching()).alarms(label) for series, label in watch]
    for n, rate in enumerate(made.rates):
        thresholds = [w.levels[n].threshold for w in made.watches]
        together = AnyAlarm(parts, thresholds)
        first = together.at(1.0)
        assert np.isfinite(first[stable]).sum() == rate.n_alarms
        assert (rate.n_alarms + 1) / rate.watched_ns <= rate.alarms_per_ns
        assert rate.watched_ns == pytest.approx(watched_ns(first, together, ends, stable))
        drift = parts[0].at(thresholds[0])
        leads = (ends - drift)[np.isfinite(drift) & ~stable]
        history = made.watches[0].levels[n].history
        assert (history.n_runs, history.n_unstable) == (np.isfinite(drift).sum(), len(leads))
        assert history.median_fs == pytest.approx(np.median(leads))
    made.save(tmp_path / "c.toml")
    again = Calibration.load(tmp_path / "c.toml")
    assert again.text() == made.text()
    assert again.at(30.0).rates[0].alarms_per_ns == 25.0
    assert again.at(30.0).watches[0].level == made.watches[0].levels[1]
    with pytest.raises(CalibrationError, match="it has thresholds for 10, 25, 60"):
        again.at(9.0)
    best = calibrate(labelled_runs, (20.0,), groups=GROUPS)
    assert "drift" in {w.series for w in best.watches}

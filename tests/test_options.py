"""Options of a monitor: one value, checked once, from the command line to the run."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

from mdxai.early_warning import Calibration
from mdxai.errors import MdxaiError
from mdxai.monitoring.options import MonitorOptions, OptionError
from mdxai.record import RecordSettings
from mdxai.stability.thresholds import PROBE_THRESHOLDS, THRESHOLDS


def test_a_changed_option_is_checked_as_one_given_at_first():
    options = MonitorOptions(attribute_every=5).with_changes({"gamma": 0.25})
    assert (options.attribute_every, options.gamma) == (5, 0.25)
    assert MonitorOptions().with_changes({}) == MonitorOptions()
    with pytest.raises(OptionError, match="gamma must be 0 or a positive number, got -1"):
        options.with_changes({"gamma": -1})


def test_an_option_that_does_not_exist_names_the_nearest():
    with pytest.raises(OptionError, match="no option 'atribute_every'; did you mean 'attribute_"):
        MonitorOptions().with_changes({"atribute_every": 5})
    every = ", ".join(field.name for field in fields(MonitorOptions))
    with pytest.raises(OptionError, match=f"no option 'zzz'; there are {every}"):
        MonitorOptions().with_changes({"zzz": 5})


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"attribute_every": True}, "attribute_every must be 0 or a positive whole number"),
        ({"probe_every": -1}, "probe_every must be 0 or a positive whole number, got -1"),
        ({"gamma": np.nan}, "gamma must be 0 or a positive number, got nan"),
        ({"max_overhead": 1.0}, "max_overhead must be between 0 and 1, or None, got 1.0"),
        ({"on_warning": "halt"}, "on_warning must be 'ignore', 'warn' or a function, got 'halt'"),
        ({"alarms_per_ns": 10.0}, "alarms_per_ns is a rate of early warnings, which need early_"),
    ],
)
def test_unusable_options_say_what_was_expected(option, message):
    with pytest.raises(OptionError, match=message):
        MonitorOptions(**option)


def test_files_are_read_when_the_options_are_made(tmp_path):
    limits = tmp_path / "limits.toml"
    limits.write_text("[bond]\nunstable = 0.7\n")
    options = MonitorOptions(thresholds=limits, early_warning="shipped")
    changed = {t.principle: t for t in options.judged_by}["bond"]
    assert changed.unstable == 0.7
    assert isinstance(options.calibration, Calibration)
    limits.unlink()
    assert options.with_changes({"gamma": 0.2}).judged_by == options.judged_by
    with pytest.raises(MdxaiError, match=r"limits\.toml"):
        MonitorOptions(thresholds=limits)


def test_a_probed_run_is_judged_by_the_thresholds_of_probes_too():
    assert MonitorOptions().judged_by == THRESHOLDS
    assert MonitorOptions(probe_every=10).judged_by == THRESHOLDS + PROBE_THRESHOLDS


def test_only_reactions_beyond_a_message_act():
    assert not MonitorOptions().acts
    assert not MonitorOptions(on_unstable="ignore", on_warning="ignore").acts
    assert MonitorOptions(on_unstable="halt").acts
    assert MonitorOptions(on_warning=print).acts
    assert MonitorOptions(allowed_reactions="O-H").allowed_reactions == ("O-H",)
    assert MonitorOptions().record == RecordSettings()

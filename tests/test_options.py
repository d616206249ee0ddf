"""Options of a monitor: one value, checked once, from the command line to the run."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
from ase import units
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.harmonic import SpringCalculator
from ase.md.verlet import VelocityVerlet

import mdxai
from mdxai.early_warning import Calibration
from mdxai.errors import MdxaiError
from mdxai.monitoring.monitor import Monitor
from mdxai.monitoring.options import MonitorOptions, OptionError
from mdxai.monitoring.replay import replay
from mdxai.record import RecordSettings
from mdxai.stability.thresholds import PROBE_THRESHOLDS, THRESHOLDS, Threshold, ThresholdError

from .conftest import copper, ethanol_dynamics, heated
from .hot_ethanol import hot


def test_a_changed_option_is_checked_as_one_given_at_first():
    options = MonitorOptions(attribute_every=5).with_changes({"gamma": 0.25})
    assert (options.attribute_every, options.gamma) == (5, 0.25)
    assert MonitorOptions().with_changes({}) == MonitorOptions()
    with pytest.raises(OptionError, match="gamma must be from 0 to 1000, got -1"):
        options.with_changes({"gamma": -1})


def test_an_option_that_does_not_exist_names_the_nearest():
    with pytest.raises(OptionError, match="no option 'atribute_every'; did you mean 'attribute_"):
        MonitorOptions().with_changes({"atribute_every": 5})
    with pytest.raises(OptionError, match=r"'interval'; write dyn.attach\(monitor, interval=...\)"):
        MonitorOptions().with_changes({"interval": 5})
    every = ", ".join(field.name for field in fields(MonitorOptions))
    with pytest.raises(OptionError, match=f"no option 'zzz'; there are {every}"):
        MonitorOptions().with_changes({"zzz": 5})


@pytest.mark.parametrize(
    "given",
    [
        lambda: mdxai.Monitor(VelocityVerlet(copper(), 1.0), atribute_every=3),
        lambda: mdxai.ReplicaMonitor(atribute_every=3),
        lambda: replay("schnet-ethanol", [], atribute_every=3),
    ],
    ids=["monitor", "replicas", "replay"],
)
def test_whatever_takes_options_names_the_nearest(given):
    with pytest.raises(OptionError, match="no option 'atribute_every'; did you mean 'attribute_"):
        given()


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"attribute_every": True}, "attribute_every must be 0 or a positive whole number"),
        ({"probe_every": -1}, "probe_every must be 0 or a positive whole number, got -1"),
        ({"gamma": np.nan}, "gamma must be from 0 to 1000, got nan"),
        ({"max_overhead": 1.0}, "max_overhead must be between 0 and 1, or None, got 1.0"),
        ({"on_warning": "halt"}, "on_warning must be 'ignore', 'warn' or a function, got 'halt'"),
        ({"gamma": 5000}, "gamma must be from 0 to 1000, got 5000"),
        ({"report": "no"}, "report must be True or False, got 'no'"),
        ({"allowed_reactions": 5}, "allowed_reactions must be patterns such as .*, got 5"),
        ({"thresholds": None}, "thresholds must be thresholds or a file of them, got None"),
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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"attribute_every": -1}, "attribute_every must be 0 or a positive whole number, got -1"),
        ({"on_unstable": "explode"}, "'raise', 'drop' or a function, got 'explode'"),
        ({"attribute_every": "10"}, "attribute_every must be 0 or .* whole number, got '10'"),
        ({"blackbox": None}, "blackbox must be 0 or a positive whole number, got None"),
        ({"max_overhead": "5 %"}, "max_overhead must be between 0 and 1, or None, got '5 %'"),
        ({"record": {"retain": 5}}, r"record must be RecordSettings\(...\), got {'retain'"),
        (
            {"context": {"seed": np.random.default_rng(0)}},
            "context must be a mapping of text, numbers",
        ),
        ({"context": 5}, "context must be a mapping of text, numbers"),
    ],
)
def test_unusable_arguments(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message) as caught:
        Monitor(ethanol_dynamics(), tmp_path / "run", **arguments)
    assert type(caught.value).__module__.startswith("mdxai.")  # one line on the command line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("options", [{"max_overhead": 0}, {"max_overhead": 2}, {"blackbox": -1}])
def test_unusable_choices(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        Monitor(hot(), None, **options)


def test_thresholds_that_fit_nothing_are_refused_and_missing_ones_named():
    dynamics = VelocityVerlet(bulk("Cu", cubic=True), 2 * units.fs)
    dynamics.atoms.calc = EMT()
    for thresholds, message in (
        ([Threshold("enrgy", 1, 2, 0, "x")], "unknown or repeated: enrgy"),
        ("file.toml", "file.toml"),
    ):
        with pytest.raises(ThresholdError, match=message):
            mdxai.Monitor(dynamics, thresholds=thresholds)
    with pytest.raises(ThresholdError, match="got warn nan"):
        Threshold("energy", np.nan, 1, 0, "x")
    monitor = mdxai.Monitor(dynamics, thresholds=[])
    dynamics.attach(monitor)
    dynamics.run(2)
    assert "no threshold was given" in monitor.verdict.unavailable["energy"]
    for every in (np.nan, 2.5, -1):
        with pytest.raises(ValueError, match="probe_every must be 0 or a positive whole number"):
            mdxai.Monitor(dynamics, probe_every=every)


def test_external_forces_leave_momentum_aside_and_say_so():
    """A calculator with a field of its own: conserved with it, and no isolated system."""
    atoms = heated(copper(), 300)
    atoms.calc = SpringCalculator(atoms.positions.copy(), 5.0)

    def watched(**options):
        dynamics = VelocityVerlet(atoms.copy(), 2 * units.fs)
        dynamics.atoms.calc = SpringCalculator(atoms.positions.copy(), 5.0)
        monitor = Monitor(dynamics, attribute_every=0, on_unstable="ignore", **options)
        with monitor:
            dynamics.attach(monitor)
            dynamics.run(60)
        return monitor.verdict

    found = watched()
    assert found.stability == "broken"
    assert {f.principle for f in found.findings} == {"net_force", "momentum"}
    assert "state external forces" in str(found)
    stated = watched(external_forces=True)
    assert stated.stability == "stable"
    assert "as stated" in stated.unavailable["net_force"]


def test_time_that_runs_backwards_is_refused():
    atoms = heated(copper(), 300)
    atoms.calc = EMT()
    dynamics = VelocityVerlet(atoms, -2 * units.fs)
    with Monitor(dynamics, attribute_every=0) as monitor:
        dynamics.attach(monitor)
        with pytest.raises(OptionError, match="timestep of the dynamics is -2 fs"):
            dynamics.run(2)

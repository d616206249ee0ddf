"""Outcomes read from run directories: endings, names, traits."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import mdxai
from mdxai.monitoring.run import RunSettings, read_structure, simulate
from mdxai.study.run_outcome import (
    AssociationError,
    AssociationWarning,
    load_outcomes,
    read_outcomes,
)
from tests import synthetic_run as made
from tests.synthetic_run import write_judged_run


def test_ending_follows_the_verdict(tmp_path):
    write_judged_run(tmp_path / "a" / "replica-00")
    write_judged_run(tmp_path / "a" / "replica-01", {"stability": "unstable", "onset_fs": 12.25})
    write_judged_run(tmp_path / "a" / "replica-02", {"stability": "suspect"})
    write_judged_run(tmp_path / "a" / "replica-03", {"stability": "inconclusive"})
    write_judged_run(tmp_path / "a" / "replica-04", {"stability": "unstable", "onset_fs": 0.0})
    write_judged_run(
        tmp_path / "a.interrupted-1" / "replica-00", {"stability": "unstable", "onset_fs": 3.0}
    )
    found, left_out = read_outcomes(tmp_path)
    assert [(o.run, o.end, o.unstable) for o in found] == [
        ("replica-00", 29.5, False), ("replica-01", 12.25, True), ("replica-02", 29.5, False),
    ]  # fmt: skip
    assert set(left_out) == {"replica-03", "replica-04"}
    assert "fewer than two frames" in left_out["replica-03"]
    assert "first frame" in left_out["replica-04"]
    assert len(found[0].times) == 60
    assert found[1].times.max() == 12.0  # nothing of the onset itself
    assert found[0].molecule == "C2H6O"
    with pytest.warns(AssociationWarning, match="2 runs are left out"):
        load_outcomes(tmp_path)


def test_a_run_without_verdict_is_judged_and_censored_at_its_last_frame(tmp_path):
    """The made-up principles have no thresholds, so no frame can be an onset."""
    (outcome,) = load_outcomes(write_judged_run(tmp_path / "r", finish=False))
    assert (outcome.end, outcome.unstable) == (29.5, False)


def test_another_onset_is_that_of_its_finding(tmp_path):
    finding = {"principle": "bond", "severity": "unstable", "time_fs": 20.0}
    principles = [*made.PRINCIPLES, made.Measure("bond")]
    writer = made.RunWriter(tmp_path / "r", made.RecordSettings())
    writer.start(made.HEADER, principles)
    for step in range(60):
        writer.add_frame(made.frame_at(step), made.deviations_at(step, principles))
    writer.finish({"stability": "unstable", "onset_fs": 10.0, "start_fs": 0.0,
                   "duration_fs": 29.5, "findings": [finding]}, None)  # fmt: skip
    (outcome,) = load_outcomes(tmp_path / "r", onset="bond")
    assert (outcome.end, outcome.unstable) == (20.0, True)
    (outcome,) = load_outcomes([tmp_path / "r"])
    assert (outcome.end, outcome.unstable) == (10.0, True)
    with pytest.raises(AssociationError, match="contact was not recorded"):
        load_outcomes(tmp_path / "r", onset="contact")
    with pytest.raises(AssociationError, match="there is no onset 'bend'"):
        load_outcomes(tmp_path / "r", onset="bend")


def test_temperature_and_traits_are_those_that_the_run_states(tmp_path):
    engine = {"engine": {"name": "Langevin", "timestep": 0.5, "temperature": 500.0}}
    context = {"context": {"temperature": 300.0, "traits": {"cutoff": 4.0, "n_train": 50}}}
    settings = {"context": {"settings": {"temperature": 900.0}}}
    for name, header in {"a": engine | context, "b": context, "c": settings, "d": {}}.items():
        write_judged_run(tmp_path / name, header=header)
    a, b, c, d = load_outcomes(tmp_path)
    assert [a.temperature, b.temperature, c.temperature] == [500.0, 300.0, 900.0]
    mean = d.series["kinetic_temperature"].mean()
    assert abs(d.temperature - mean) <= 25
    assert d.temperature % 50 == 0
    assert a.traits == {"cutoff": 4.0, "n_train": 50.0}
    assert d.traits == {}


def test_models_of_one_name_are_told_apart_by_their_weights(tmp_path):
    write_judged_run(tmp_path / "a")
    write_judged_run(
        tmp_path / "b", header={"calculator": {"name": "made up", "weights_sha256": "cd" * 32}}
    )
    write_judged_run(
        tmp_path / "c", header={"calculator": {"name": "other", "weights_sha256": "cd" * 32}}
    )
    assert [o.model for o in load_outcomes(tmp_path)] == [
        "made up abababab", "made up cdcdcdcd", "other",
    ]  # fmt: skip


def test_folders_without_a_usable_run_are_refused(tmp_path):
    with pytest.raises(AssociationError, match="holds no run: expected a run directory"):
        load_outcomes(tmp_path)
    write_judged_run(tmp_path / "r", {"stability": "inconclusive"})
    with pytest.raises(AssociationError, match="none of 1 runs can be used"):
        load_outcomes(tmp_path)
    with pytest.raises(AssociationError, match="bin_width must be positive"):
        load_outcomes(tmp_path, bin_width=0)


def test_traits_of_a_real_run_are_those_of_its_calculator(tmp_path):
    settings = RunSettings(temperature=300.0, steps=20)
    calculator = mdxai.load_calculator("schnet-ethanol-weak")
    simulate(calculator, read_structure("CH3CH2OH"), settings, tmp_path / "r")
    with warnings.catch_warnings():
        warnings.simplefilter("error", AssociationWarning)
        (outcome,) = load_outcomes(tmp_path / "r")
    assert outcome.model == "schnet-ethanol-weak"
    assert (outcome.temperature, outcome.end, outcome.unstable) == (300.0, 10.0, False)
    assert outcome.traits["n_train"] == 50
    assert (
        outcome.traits["force_mae_mev_per_ang"] == calculator.card.errors["force_mae_mev_per_ang"]
    )
    assert np.isfinite(outcome.series["C-H 1.125 Å"]).sum() == 3

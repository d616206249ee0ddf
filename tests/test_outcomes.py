"""Outcomes read from run directories: endings, series, names, traits."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest

import mdxai
from mdxai.cli.main import main
from mdxai.monitoring.run import RunSettings, read_structure, simulate
from mdxai.study.run_outcome import (
    AssociationError,
    AssociationWarning,
    load_outcomes,
    read_outcomes,
)
from mdxai.study.run_series import bin_of
from tests import synthetic_run as made


def write(path, verdict=None, *, header=None, steps=60, finish=True):
    """A made-up run with a verdict that a monitor could have written."""
    content = {"stability": "stable", "onset_fs": None, "start_fs": 0.0,
               "duration_fs": 0.5 * (steps - 1), "findings": []} | (verdict or {})  # fmt: skip
    writer = made.RunWriter(path, made.RecordSettings())
    writer.start(made.HEADER | (header or {}), made.LAWS)
    for step in range(steps):
        made.add_step(writer, step)
    if finish:
        writer.finish(content, None)
    else:
        writer.commit(steps - 1, made.state_at(steps - 1))
        writer.close()
    return path


def test_ending_follows_the_verdict(tmp_path):
    write(tmp_path / "a" / "replica-00")
    write(tmp_path / "a" / "replica-01", {"stability": "unstable", "onset_fs": 12.25})
    write(tmp_path / "a" / "replica-02", {"stability": "suspect"})
    write(tmp_path / "a" / "replica-03", {"stability": "inconclusive"})
    write(tmp_path / "a" / "replica-04", {"stability": "unstable", "onset_fs": 0.0})
    write(tmp_path / "a.interrupted-1" / "replica-00", {"stability": "unstable", "onset_fs": 3.0})
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
    (outcome,) = load_outcomes(write(tmp_path / "r", finish=False))
    assert (outcome.end, outcome.unstable) == (29.5, False)


def test_another_onset_is_that_of_its_finding(tmp_path):
    finding = {"principle": "bond", "severity": "unstable", "time_fs": 20.0}
    principles = [*made.LAWS, made.Measure("bond")]
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


def test_series_agree_with_the_record_row_by_row(tmp_path):
    """Against plain loops over the frames and pairs that were written."""
    (outcome,) = load_outcomes(write(tmp_path / "r"), bin_width=0.5)
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


def test_temperature_and_traits_come_from_what_the_run_states(tmp_path):
    engine = {"engine": {"name": "Langevin", "timestep": 0.5, "temperature": 500.0}}
    context = {"context": {"temperature": 300.0, "traits": {"cutoff": 4.0, "n_train": 50}}}
    settings = {"context": {"settings": {"temperature": 900.0}}}
    for name, header in {"a": engine | context, "b": context, "c": settings, "d": {}}.items():
        write(tmp_path / name, header=header)
    a, b, c, d = load_outcomes(tmp_path)
    assert [a.temperature, b.temperature, c.temperature] == [500.0, 300.0, 900.0]
    mean = d.series["kinetic_temperature"].mean()
    assert abs(d.temperature - mean) <= 25
    assert d.temperature % 50 == 0
    assert a.traits == {"cutoff": 4.0, "n_train": 50.0}
    assert d.traits == {}


def test_models_of_one_name_are_told_apart_by_their_weights(tmp_path):
    write(tmp_path / "a")
    write(tmp_path / "b", header={"calculator": {"name": "made up", "weights_sha256": "cd" * 32}})
    write(tmp_path / "c", header={"calculator": {"name": "other", "weights_sha256": "cd" * 32}})
    assert [o.model for o in load_outcomes(tmp_path)] == [
        "made up abababab", "made up cdcdcdcd", "other",
    ]  # fmt: skip


def test_nothing_to_read_is_one_clear_error(tmp_path):
    with pytest.raises(AssociationError, match="holds no run: expected a run directory"):
        load_outcomes(tmp_path)
    write(tmp_path / "r", {"stability": "inconclusive"})
    with pytest.raises(AssociationError, match="none of 1 runs can be used"):
        load_outcomes(tmp_path)
    with pytest.raises(AssociationError, match="bin_width must be positive"):
        load_outcomes(tmp_path, bin_width=0)


def test_a_real_run_brings_the_traits_of_its_card(tmp_path):
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


def test_the_command_line_compares_run_directories(tmp_path, capsys, monkeypatch):
    for model in range(3):
        for replica in range(2):
            broke = {"stability": "unstable", "onset_fs": 20.0 + model + replica / 2}
            header = {"calculator": {"name": f"m{model}", "weights_sha256": "ab" * 32},
                      "context": {"temperature": 300.0}}  # fmt: skip
            write(tmp_path / "runs" / f"m{model}" / f"replica-0{replica}",
                  broke if model < 2 else None, header=header)  # fmt: skip
    command = ["mdxai", "associate", str(tmp_path / "runs"), "--lag", "5", "--resamples", "100"]
    for extra in (["--out", str(tmp_path / "out")], ["--json"]):
        monkeypatch.setattr("sys.argv", command + extra)
        with pytest.raises(SystemExit) as left:
            main()
        assert not left.value.code
        said = capsys.readouterr().out
        assert ("6 runs of 3 models, 4 of them" in said) or (len(json.loads(said)["runs"]) == 6)
    assert (tmp_path / "out" / "relevance.png").stat().st_size > 1000
    monkeypatch.setattr("sys.argv", [*command[:2], str(tmp_path / "out")])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 2
    assert "holds no run" in capsys.readouterr().err

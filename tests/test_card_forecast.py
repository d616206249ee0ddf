"""Forecasts in cards: written by a command, refused when damaged, shown by runs."""

from __future__ import annotations

import json
import math
import os
import shutil
import tomllib
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import molecule
from ase.io import read, write
from ase.md.verlet import VelocityVerlet

import mdxai
from mdxai.calculators import Card
from mdxai.calculators.library import find_calculator
from mdxai.forecast import CardForecast, ForecastError
from mdxai.forecast.kept_paths import paths_of
from mdxai.forecast.weakest_barrier import WeakestBarrier
from mdxai.frame import BOLTZMANN, Frame
from mdxai.report import write_report

from .conftest import ETHANOL, invoke
from .test_foretell import QUICK, ROOT, TESTING, forecast_of

FORETOLD = [name for name in sorted(mdxai.list_calculators()) if "ethanol" in name]


def card(name):
    return Card.load(find_calculator(name) / "card.toml")


@pytest.fixture
def known():
    return CardForecast.read(card("schnet-ethanol"))


@pytest.fixture(scope="module")
def frame():
    return Frame.from_atoms(molecule(ETHANOL))


@pytest.mark.parametrize("name", sorted(mdxai.list_calculators()))
def test_what_a_shipped_card_says_follows_from_its_parts(name, frame):
    """The law may have changed since: then `mdxai forecast --write-card` makes the card anew."""
    held = CardForecast.read(card(name))
    if "aspirin" in name:
        frame = Frame.from_atoms(read(ROOT / "runs" / "false_alarms" / "aspirin.xyz"))
    same = held.about(frame)
    assert same is held
    assert same.says == same.sentence(frame, 300.0, 1000.0)
    assert sum(w.time for w in same.watched) > 0
    assert sum(w.onsets for w in same.watched) > 0 or name.endswith("-mended")


def test_the_weakest_is_that_of_the_highest_rate(known, frame):
    rates = [
        s.multiplicity * s.prefactor_per_ps * math.exp(-s.barrier / (BOLTZMANN * 1000.0))
        for s in known.weak_spots
    ]
    spot = known.weak_spots[int(np.argmax(rates))]
    said = known.sentence(frame, 1000.0, 10.0)
    assert f"weakest: {spot.label(frame.symbols)}" in said
    assert f"barrier {spot.barrier:.2f} eV" in said


def test_atoms_are_those_of_the_structure_at_hand(known, frame):
    order = np.random.default_rng(1).permutation(9)
    shuffled = Frame.from_atoms(molecule(ETHANOL)[order])
    again = known.about(shuffled)
    for spot, other in zip(known.weak_spots, again.weak_spots, strict=True):
        here, there = spot.indices, other.indices
        assert [frame.symbols[a] for a in here] == [shuffled.symbols[a] for a in there]
        if spot.kind == "angle":  # the one in the middle is the same heavy atom
            assert order[there[1]] == here[1]
    assert again.hazard(500.0) == known.hazard(500.0)
    assert again.about(shuffled) is again


def test_an_isomer_or_a_crystal_is_another_molecule(known):
    boxed = molecule(ETHANOL, cell=[20.0] * 3, pbc=True)
    for atoms in (molecule("CH3OCH3"), molecule("CH4"), boxed):
        assert known.about(Frame.from_atoms(atoms)) is None


@pytest.fixture(scope="module")
def found():
    return forecast_of(options=replace(QUICK, testing=replace(TESTING, most=0.5, replicas=2)))


def test_a_forecast_survives_its_card(found, tmp_path):
    given = card("schnet-ethanol")
    given = replace(given, forecast=CardForecast.of(found, given.weights_sha256).as_dict())
    given.dump(tmp_path / "card.toml")
    held = CardForecast.read(Card.load(tmp_path / "card.toml"))
    assert held.as_dict() == given.forecast
    swapped = Frame.from_atoms(Atoms("OC", [[0, 0, 1.1], [0, 0, 0]]))
    hazard = held.about(swapped).hazard(600.0)
    for one in ("value", "low", "high"):
        assert getattr(hazard, one) == pytest.approx(getattr(found.hazard, one), rel=0.02)


def test_a_run_follows_the_paths_of_the_card(found):
    frame = found.structure
    (known,) = paths_of(found.weak_spots).paths
    followed = CardForecast.of(found, "").followed(frame, found.temperature)
    (path,) = followed.paths
    assert followed.numbers == tuple(frame.numbers.tolist())
    for end in (0, known.top):
        assert path.lengths[path.top if end else 0] == pytest.approx(known.lengths[end], abs=1e-4)
    assert (path.height, path.barrier) == pytest.approx((known.height, known.barrier), abs=1e-4)
    assert int(np.argmax(path.energies)) == path.top
    assert path.rate_per_ps == pytest.approx(known.rate_per_ps, rel=0.02)
    hotter = CardForecast.of(found, "").followed(frame, 2 * found.temperature).paths[0]
    cold = 1 / (BOLTZMANN * found.temperature)
    assert hotter.rate_per_ps == pytest.approx(
        path.rate_per_ps * math.exp(0.5 * cold * path.barrier)
    )


@pytest.mark.parametrize("name", FORETOLD)
def test_shipped_cards_hold_the_paths_of_their_weak_spots(name, frame):
    held = CardForecast.read(card(name))
    order = np.random.default_rng(2).permutation(9)
    shuffled = Frame.from_atoms(molecule(ETHANOL)[order])
    again = held.about(shuffled)
    assert 0 < len(held.paths) <= len(held.weak_spots)
    lowest = min(spot.barrier for spot in held.weak_spots)
    assert min(path.barrier for path in held.paths) == lowest
    for path, other in zip(held.paths, again.paths, strict=True):
        ends, moved = (
            [tuple(map(int, a.split("-"))) for a in p.atoms.split()] for p in (path, other)
        )
        for here, there in zip(ends, moved, strict=True):
            length = np.linalg.norm(frame.positions[here[-1]] - frame.positions[here[0]])
            # Near the minimum; atoms of two groups are as far apart as the torsion has it.
            near = 1.2 if path.kind == "approach" else 0.45
            assert length == pytest.approx(path.start, abs=near)
            assert {frame.symbols[here[0]], frame.symbols[here[-1]]} == {
                shuffled.symbols[there[0]], shuffled.symbols[there[-1]]
            }  # fmt: skip


def test_a_monitor_takes_the_card_and_does_not_search(monkeypatch):
    def search(*args, **keywords):
        raise AssertionError("searched, though the card holds the paths")

    monkeypatch.setattr("mdxai.forecast.find_weak_spots.weak_spots", search)
    monkeypatch.setattr("mdxai.forecast.weak_spots", search)
    atoms = molecule(ETHANOL)
    atoms.calc = mdxai.load_calculator("schnet-ethanol")
    dyn = VelocityVerlet(atoms, 0.5 * units.fs)
    with mdxai.Monitor(dyn, forecast=True, attribute_every=0) as monitor:
        dyn.attach(monitor, interval=1)
        dyn.run(4)
    known = CardForecast.read(card("schnet-ethanol"))
    assert {seen.trace.path.label for seen in monitor.weak_spots.paths} == {
        path.label for path in known.paths
    }


def test_without_weak_spots_and_onsets_only_what_was_watched_tells(known, frame):
    nothing = replace(known, weak_spots=(), watched=())
    assert nothing.hazard(300.0).value == 0
    assert nothing.hazard(300.0).high == math.inf
    assert "no weak spot below 3 eV" in nothing.sentence(frame, 300.0, 10.0)


def test_a_forecast_without_weak_spots_is_for_no_card(found):
    with pytest.raises(ForecastError, match="look for them, too"):
        CardForecast.of(replace(found, weak_spots=None), "")


@pytest.fixture
def copied(tmp_path):
    return shutil.copytree(find_calculator("schnet-ethanol"), tmp_path / "copy")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ceiling": None}, "missing 1 required positional argument: 'ceiling'"),
        ({"top": 1.0}, "unknown entries top"),
        ({"watched": [{"temperature": 0.0, "time": 1.0, "onsets": 1}]}, "replicas need"),
        ({"symbols": "C2"}, "bonds and weak spots need atoms of C2"),
        ({"bonds": "0-x"}, "invalid literal"),
        ({"weights_sha256": "0" * 64}, "holds the forecast of other weights"),
    ],
)
def test_damaged_forecasts_are_refused(copied, change, message):
    given = card("schnet-ethanol")
    forecast = {k: v for k, v in (dict(given.forecast) | change).items() if v is not None}
    replace(given, forecast=forecast).dump(copied / "card.toml")
    with pytest.raises(ForecastError, match=message):
        CardForecast.read(Card.load(copied / "card.toml"))
    refused = invoke("run", copied, ETHANOL, "--steps", "1", "--out", copied / "run")
    assert refused.exit_code == 2
    assert "make it anew with `mdxai forecast --write-card`" in " ".join(refused.stderr.split())


def test_a_card_may_hold_none(copied):
    path = copied / "card.toml"
    replace(Card.load(path), forecast={}).dump(path)
    assert "forecast" not in path.read_text()
    assert CardForecast.read(Card.load(path)) is None


def test_a_guard_leaves_no_forecast_of_the_network_without_it():
    plain = mdxai.load_calculator("schnet-ethanol")
    assert CardForecast.read(mdxai.guard(plain, molecule(ETHANOL)).card) is None
    assert CardForecast.read(plain.card) is not None


def test_the_command_refuses_a_card_before_it_looks_for_weak_spots(copied, tmp_path, monkeypatch):
    monkeypatch.setattr("mdxai.forecast.foretell", lambda *given, **how: pytest.fail("too late"))
    boxed = molecule(ETHANOL, cell=[12.0] * 3, pbc=True)
    write(tmp_path / "boxed.xyz", boxed)
    for name, structure, options, message in (
        ("lj", ETHANOL, (), "lj has no card to write into"),
        (copied / "weights.pt", ETHANOL, (), "has no card to write into"),
        (copied, ETHANOL, ("--only", "life-test"), "which --only life-test leaves out"),
        (copied, ETHANOL, ("--ceiling", 1), "need a ceiling of 3 eV or more, got 1 eV"),
        (copied, tmp_path / "boxed.xyz", (), "the structure is periodic"),
    ):
        result = invoke("forecast", name, structure, "--write-card", *options)
        assert result.exit_code == 2
        assert message in " ".join(result.stderr.replace("│", " ").split())


def test_a_card_that_cannot_be_written_is_refused_first(copied, monkeypatch):
    monkeypatch.setattr("mdxai.forecast.foretell", lambda *given, **how: pytest.fail("too late"))
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write anything
    result = invoke("forecast", copied, ETHANOL, "--write-card")
    assert result.exit_code == 2
    assert "cannot be written; copy" in " ".join(result.stderr.split())


@pytest.mark.slow
def test_the_command_writes_a_card(copied, frame):
    path = copied / "card.toml"
    before = Card.load(path)
    replace(before, forecast={}).dump(path)
    result = invoke("forecast", copied, ETHANOL, "--write-card", "--json", "--most", "4")
    assert result.exit_code in (0, 3), result.stderr
    after = Card.load(path)
    assert replace(after, forecast={}) == replace(before, forecast={})
    plain = json.loads(result.stdout)
    held = CardForecast.read(after)
    assert held.says == held.sentence(frame, 300.0, 1000.0)
    assert held.hazard(300.0).value == pytest.approx(plain["hazard_per_ps"]["value"], rel=0.05)
    mdxai.load_calculator(copied)


@pytest.mark.pages
def test_a_run_shows_its_forecast_and_keeps_it(known, frame, tmp_path):
    out = tmp_path / "run"
    line = ("run", "schnet-ethanol", ETHANOL, "--temperature", "500", "--steps", "4",
            "--attribute-every", "0", "--out", out)  # fmt: skip
    result = invoke(*line)
    assert result.exit_code == 0, result.stderr
    said = known.sentence(frame, 500.0, 0.002)
    assert f"forecast: {said}" in " ".join(result.stderr.split())
    header = tomllib.loads((out / "run.toml").read_text())
    assert header["context"]["forecast"] == said
    assert f"Foretold before the run, by the calculator's card: {said}" in (
        write_report(out).read_text()
    )
    longer = [*line, "--resume"]
    longer[longer.index("4")] = "6"
    assert invoke(*longer).exit_code == 0


def test_a_run_of_another_molecule_has_none(tmp_path):
    out = tmp_path / "run"
    result = invoke("run", "schnet-ethanol", "CH3OCH3", "--steps", "4", "--attribute-every", "0",
                    "--out", out, "--json")  # fmt: skip
    assert result.exit_code in (0, 3), result.stderr
    assert "forecast" not in tomllib.loads((out / "run.toml").read_text())["context"]


def test_a_card_is_written_at_once_or_not_at_all(copied, monkeypatch):
    path = copied / "card.toml"
    before = path.read_text()

    def full(self, text, **how):
        raise OSError("no space left on device")

    given = Card.load(path)
    monkeypatch.setattr(type(path), "write_text", full)
    with pytest.raises(OSError, match="no space"):
        given.dump(path)
    assert path.read_text() == before


def test_a_card_searched_to_a_low_ceiling_says_nothing_of_higher_barriers(copied, known, frame):
    given = Card.load(copied / "card.toml")
    low = replace(known, ceiling=0.3, weak_spots=(), paths=())
    replace(given, forecast=low.as_dict()).dump(copied / "card.toml")
    calculator = mdxai.load_calculator(copied)
    probe = WeakestBarrier(calculator, calculator.potential)
    assert probe.deviate(frame).value == pytest.approx(0.31, abs=0.02)


def test_constant_energy_runs_have_no_forecast_of_their_first_temperature(tmp_path):
    found = invoke(
        "run", "schnet-ethanol", ETHANOL, "--temperature", 1000, "--ensemble", "nve", "--steps", 2,
        "--out", tmp_path / "run",
    )  # fmt: skip
    assert "forecast:" not in found.stderr


def test_a_card_of_another_kind_foretells_nothing(known, frame):
    theirs = SimpleNamespace(forecast=known.as_dict(), name="theirs")
    assert CardForecast.for_frame(theirs, frame) is None
    assert CardForecast.for_frame(None, frame) is None
    assert CardForecast.for_frame(card("schnet-ethanol"), frame).says == known.says

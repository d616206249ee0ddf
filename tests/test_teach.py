"""Teaching: a network of water, trained on cold frames, learns from a reference what it lacks."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import tomli_w
from ase import Atoms
from ase.build import molecule
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write

import mdxai
from mdxai.calculators import CalculatorError
from mdxai.calculators.card import Card
from mdxai.calculators.fine_tuning import FineTuner, FineTuning
from mdxai.calculators.training import Recipe, train
from mdxai.forecast import CardForecast, ForecastOptions
from mdxai.mending import LabelSource, TeachError, TeachOptions, teach
from mdxai.mending.active_learning import LabelError, farthest_first
from mdxai.mending.kept_labels import KeptLabels
from mdxai.mending.weak_spot_frames import frames_of_weak_spots
from mdxai.report import write_teaching_page

from .conftest import heated, invoke, langevin
from .test_weak_spots import WATER

pytestmark = pytest.mark.filterwarnings("ignore")  # lightning's advice on loaders and loggers

OFFSET = -2000.0  # eV
ONLY_SPOTS = ForecastOptions(parts=("weak-spots",))
HOT = TeachOptions(temperature=1000.0, duration=1e4, frames=60, per_round=30, forecast=ONLY_SPOTS)
TUNING = FineTuning(epochs=40, learning_rate=5e-3)
# For what does not depend on how well the model is taught.
FEW, QUICK = replace(HOT, frames=12), FineTuning(epochs=2)


def water_energy(x):
    """Return the energy, eV, of positions (3, 3): Morse bonds, an angle, hydrogens that repel."""
    a, b = x[1] - x[0], x[2] - x[0]
    ra, rb = np.linalg.norm(a), np.linalg.norm(b)
    bonds = sum(4.8 * (1 - np.exp(-2.2 * (r - 0.96))) ** 2 for r in (ra, rb))
    repulsion = 30.0 * np.exp(-np.linalg.norm(a - b) / 0.35)
    return OFFSET + bonds + 2.0 * (a @ b / (ra * rb) + 0.25) ** 2 + repulsion


def water_forces(x, step=1e-4):
    forces = np.zeros_like(x)
    for place in np.ndindex(x.shape):
        move = np.zeros_like(x)
        move[place] = step
        forces[place] = -(water_energy(x + move) - water_energy(x - move)) / (2 * step)
    return forces


class Water(Calculator):
    """The reference. `scale` of its forces, `fails` after so many labels."""

    implemented_properties = ("energy", "forces")
    asked = 0  # by all of them

    def __init__(self, scale=1.0, fails=10**9):
        super().__init__()
        self.scale, self.fails = scale, fails

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        Water.asked += 1
        if Water.asked > self.fails:
            raise KeyboardInterrupt
        x = self.atoms.positions
        self.results = {"energy": water_energy(x) + 5.0, "forces": self.scale * water_forces(x)}


def failing(after):
    """Return a reference that is killed after so many labels."""
    return Water(fails=Water.asked + after)


@pytest.fixture(scope="module")
def water(tmp_path_factory):
    """A folder with data of water and a network trained on it."""
    folder = tmp_path_factory.mktemp("water")
    rng = np.random.default_rng(0)
    frames = WATER.positions + rng.normal(scale=0.05, size=(90, 3, 3))
    np.savez(
        folder / "water.npz", z=WATER.numbers, R=frames, E=[water_energy(x) for x in frames],
        F=[water_forces(x) for x in frames], train_01=np.arange(60), test_01=np.arange(60, 90),
    )  # fmt: skip
    recipe = {
        "name": "water", "summary": "test", "data_file": "water.npz", "level_of_theory": "analytic",
        "source": "test", "data_licence": "CC0", "n_train": 50, "n_validation": 10,
        "max_epochs": 30, "learning_rate": 1e-2,
        "network": {"type": "SchNet", "n_atom_basis": 24, "n_interactions": 2, "n_rbf": 20,
                    "cutoff": 4.0},
    }  # fmt: skip
    (folder / "recipe.toml").write_text(tomli_w.dumps(recipe))
    train(Recipe.load(folder / "recipe.toml"), folder, folder / "water", progress=False)
    return folder


def taught(water, out, source=None, options=HOT, tuning=TUNING):
    source = source or LabelSource(Water)
    return teach(water / "water", FineTuner(water / "water", water, tuning), source, out,
                 options=options)  # fmt: skip


@pytest.fixture(scope="module")
def done(water, tmp_path_factory):
    """The outcome of teaching that was never interrupted."""
    return taught(water, tmp_path_factory.mktemp("done") / "water-mended")


def test_holes_are_closed_by_labels_and_the_test_error_is_kept(water, done):
    first, best = done.rounds[0], done.best
    assert min(first.barriers) < 1.5
    assert min(best.barriers, default=3.0) > min(first.barriers) + 1.0
    assert done.gain > 100
    assert best.force_error <= 1.1 * first.force_error
    assert done.stopped == "the survival that was asked for is reached"
    path = first.forecast.weak_spots.spots[0].path
    atoms = Atoms(WATER.numbers, path.positions[0])
    atoms.calc = mdxai.load_calculator(done.folder)
    zero, true = atoms.get_potential_energy(), np.array([water_energy(x) for x in path.positions])
    true -= true[0]
    wrong = np.flatnonzero((np.abs(path.energies - true) > 0.3) & (true < 3.0))
    assert len(wrong) > 2
    errors = []
    for k in wrong:  # where the old model had its hole, the new one follows the reference
        atoms.positions = path.positions[k]
        errors.append(abs(atoms.get_potential_energy() - zero - true[k]))
    assert np.mean(errors) < 0.5 * np.abs(path.energies - true)[wrong].mean()


def test_what_came_of_it_is_a_calculator_with_card_forecast_labels_and_page(water, done):
    folder = done.folder
    card = mdxai.load_calculator(folder).card
    assert card.name == "water-mended"
    assert card.provenance["labels_by"] == "Water"
    assert card.provenance["taught_from"].startswith("water (")
    assert card.provenance["labels"] == done.best.labels
    data = Card.load(water / "water" / "card.toml").distances
    assert card.distances["H-O"][1] == data["H-O"][1]
    low = [a for a in read(folder / "labels.extxyz", index=":")
           if a.get_potential_energy() - 5.0 - water_energy(WATER.positions) < 1.0]  # fmt: skip
    assert card.distances["H-H"][0] <= min(a.get_distance(1, 2) for a in low)
    assert card.distances["H-H"][0] < data["H-H"][0]
    assert CardForecast.read(card).symbols == "OH2"
    labels = read(folder / "labels.extxyz", index=":")
    assert len(labels) == done.asked_for <= HOT.frames
    for atoms in labels:  # as the reference gives them, the same structures and no explosion
        assert atoms.get_potential_energy() == pytest.approx(water_energy(atoms.positions) + 5.0)
        assert atoms.get_forces() == pytest.approx(water_forces(atoms.positions), abs=1e-5)
    page = write_teaching_page(done, folder).read_text(encoding="utf-8")
    assert "by Water" in page
    assert page.count("<svg") == 3
    json.dumps(done.as_dict(), allow_nan=False)


def test_killed_at_any_label_it_goes_on_and_comes_to_the_same(water, tmp_path):
    whole = taught(water, tmp_path / "whole", None, FEW, QUICK)
    out, begun = tmp_path / "cut", Water.asked
    for after in (1, 4):
        with pytest.raises(KeyboardInterrupt):
            taught(water, out, LabelSource(partial(failing, after)), FEW, QUICK)
    assert len(read(out / "labels.extxyz", index=":")) == 5
    found = taught(water, out, None, FEW, QUICK)
    assert Water.asked - begun == found.asked_for + 2  # only what was cut was asked for twice
    hashes = [Card.load(w.rounds[1].folder / "card.toml").weights_sha256 for w in (whole, found)]
    assert hashes[0] == hashes[1]
    assert taught(water, out, None, FEW, QUICK).rounds[-1].row == found.rounds[-1].row
    assert Water.asked - begun == found.asked_for + 2


def recorded(water, path):
    """Return the directory of a short run."""
    atoms = heated(WATER.copy())
    atoms.calc = mdxai.load_calculator(water / "water")
    dynamics = langevin(atoms)
    with mdxai.Monitor(dynamics, path, attribute_every=0) as monitor:
        dynamics.attach(monitor, interval=1)
        dynamics.run(100)
    return path


@pytest.mark.slow
def test_frames_that_were_labelled_elsewhere_come_back(water, tmp_path):
    out, run = tmp_path / "out", recorded(water, tmp_path / "run")
    waiting = taught(water, out, LabelSource(runs=(run,)), FEW, QUICK)
    assert waiting.asked == out / "rounds" / "0" / "asked.extxyz"
    assert waiting.folder is None
    frames = read(waiting.asked, index=":")
    origins = [{"data_row", "run", "weak_spot"} & set(atoms.info) for atoms in frames]
    assert [sum(one == {of} for one in origins) for of in ("data_row", "run")] == [2, 6]
    assert sum(one == {"weak_spot"} for one in origins) == len(frames) - 8 > 0
    for atoms in frames[:-1]:  # one calculation failed
        results = {"energy": water_energy(atoms.positions), "forces": water_forces(atoms.positions)}
        atoms.calc = SinglePointCalculator(atoms, **results)
    write(tmp_path / "back.extxyz", frames[:-1])
    found = taught(water, out, LabelSource(None, (tmp_path / "back.extxyz",)), FEW, QUICK)
    assert 5 <= found.rounds[1].labels < len(frames)
    write(tmp_path / "bare.extxyz", WATER)
    with pytest.raises(LabelError, match=r"frame 0 of .*bare.extxyz has no energy and forces"):
        taught(water, out, LabelSource(None, (tmp_path / "bare.extxyz",)), FEW, QUICK)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"source": LabelSource(lambda: Water(scale=1.5))}, r"differ from those of the data by"),
        ({"options": replace(HOT, height=0.01)}, r"labels lie within 0.01 eV"),
    ],
)
def test_labels_that_would_spoil_the_model_are_refused(water, tmp_path, change, message):
    with pytest.raises(TeachError, match=message):
        taught(water, tmp_path / "out", **change)


def test_wrong_inputs_give_one_clear_error(water, done, tmp_path):
    trainer = FineTuner(water / "water", water)
    for atoms, message in ((molecule("CH4"), "the atoms of the data"), (cell(), "periodic")):
        with pytest.raises(TeachError, match=message):
            teach(water / "water", trainer, LabelSource(Water), tmp_path, structure=atoms)
    with pytest.raises(TeachError, match="differs in temperature"):
        taught(water, done.folder, options=replace(HOT, temperature=500.0))
    with pytest.raises(CalculatorError, match="already holds a calculator"):
        taught(water, water / "water")
    with pytest.raises(TeachError, match="frames must be above 0"):
        replace(HOT, frames=0)
    with pytest.raises(CalculatorError, match=r"has no recipe.toml"):
        FineTuner(tmp_path, water)
    (tmp_path / "other.extxyz").write_text("2\n\nH 0 0 0\nH 0 0 1\n")
    with pytest.raises(LabelError, match="other atoms than the structure"):
        KeptLabels(tmp_path / "other.extxyz", WATER.numbers)


def cell():
    return Atoms("OH2", WATER.positions, cell=[9, 9, 9], pbc=True)


def test_a_refused_label_is_asked_for_once(tmp_path):
    kept = KeptLabels(tmp_path / "labels.extxyz", WATER.numbers)
    kept.refuse(WATER, "it did not converge")
    again = KeptLabels(tmp_path / "labels.extxyz", WATER.numbers)
    assert again.find(WATER) is not None
    assert again.first_failure == "it did not converge"
    assert again.within(0.0, 10.0, 10.0) == []


def test_frames_are_sound_new_and_beyond_the_data(done):
    spots = done.rounds[0].forecast.weak_spots
    frames = frames_of_weak_spots(spots, 12)
    assert len({atoms.positions.tobytes() for atoms in frames}) == len(frames) > 5
    for atoms in frames:
        assert atoms.get_all_distances()[np.triu_indices(3, 1)].min() > 0.4
        assert atoms.info["model_eV"] > 0.25 or atoms.info["length_A"] < 1.2
    rest = frames_of_weak_spots(spots, 99, frames)
    assert not {a.positions.tobytes() for a in rest} & {a.positions.tobytes() for a in frames}


def test_farthest_first_goes_away_from_what_is_known():
    points = np.array([[0.0], [1.0], [2.0], [10.0]])
    assert farthest_first(points, 2) == [0, 3]
    assert farthest_first(points, 3, np.array([[10.0]])) == [0, 2, 1]


def test_the_command_teaches(water, tmp_path):
    out = tmp_path / "out"
    arguments = ("mend", water / "water", "--data", water, "--temperature", 1000, "--duration",
                 "10ns", "--most", 0, "--out", out, "--json")  # fmt: skip
    waiting = invoke(*arguments)
    assert waiting.exit_code == 7
    assert json.loads(waiting.stdout)["asked"].endswith("asked.extxyz")
    assert (out / "report.html").exists()
    refused = invoke(*arguments, "--label", "emt")
    assert refused.exit_code == 2
    assert "differs in labels" in " ".join(refused.stderr.split())


@pytest.mark.slow
def test_pyscf_labels_are_those_of_rmd17(shared_data):
    pytest.importorskip("pyscf")
    from mdxai.calculators.pyscf_calculator import PyscfCalculator

    with np.load(shared_data / "rmd17" / "rmd17_ethanol.npz") as data:
        for row in data["test_01"][:3]:
            atoms = Atoms(data["z"], data["R"][row], calculator=PyscfCalculator())
            assert atoms.get_potential_energy() == pytest.approx(data["E"][row], abs=0.003)
            assert np.abs(atoms.get_forces() - data["F"][row]).mean() < 0.0005

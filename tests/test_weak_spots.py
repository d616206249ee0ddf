"""Weak spots: barriers, paths and rates against exact values; what is a hole and what is none."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.lj import LennardJones
from ase.io import read, write
from ase.mep import NEB
from ase.optimize import FIRE
from ase.vibrations import Vibrations
from networkx.algorithms.isomorphism import GraphMatcher, categorical_node_match
from scipy.optimize import minimize, root

import mdxai
from mdxai.calculators import CalculatorError, twin_of
from mdxai.calculators.reference_data import ReferenceDataError
from mdxai.forecast import KeptSearchError, ScanOptions, WeakSpotError, weak_spots
from mdxai.forecast.conformers import (
    MOST_FRAMES,
    conformers_of,
    positions_of,
    thermal_positions,
)
from mdxai.forecast.coordinates import coordinates_of, pair_colours
from mdxai.forecast.evaluations import evaluations
from mdxai.forecast.forbidden import Physics, single_bond
from mdxai.forecast.kept_evaluations import KEPT
from mdxai.forecast.relaxation import Distances, relax
from mdxai.forecast.saddle import stationary_point
from mdxai.frame import BOLTZMANN, Frame
from mdxai.principles.motion.structure import bonds_of
from mdxai.report import draw_weak_spot

from .conftest import ETHANOL, shaken

PER_PS = 1e10 * np.sqrt(1.602176634e-19 / 1.66053906660e-27) / (2 * np.pi) * 1e-12


class Analytic(Calculator):
    """An energy as a function of positions (n_atoms, 3), in torch."""

    implemented_properties = ("energy", "forces")

    def __init__(self, energy):
        super().__init__()
        self.energy = energy

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        x = torch.tensor(self.atoms.positions, requires_grad=True)
        energy = self.energy(x)
        (slope,) = torch.autograd.grad(energy, x)
        self.results = {"energy": energy.item(), "forces": -slope.numpy()}


def holed_pair(x):
    """Argon with a well of 3 eV at 2.5 Å."""
    r = torch.linalg.norm(x[1] - x[0])
    lj = 4 * 0.0104 * ((3.4 / r) ** 12 - (3.4 / r) ** 6)
    return lj - 3.0 * torch.exp(-(((r - 2.5) / 0.15) ** 2) / 2)


def double_well(x):
    """Two equal wells, at 3.8 Å and at 1.0 Å, 0.8 eV deep."""
    r = torch.linalg.norm(x[1] - x[0])
    return 0.8 * (((r - 2.4) / 1.4) ** 2 - 1) ** 2


def holed_water(x):
    """Morse bonds, a bending angle, and a well of 2 eV where the hydrogens are 0.8 Å apart."""
    a, b = x[1] - x[0], x[2] - x[0]
    ra, rb = torch.linalg.norm(a), torch.linalg.norm(b)
    bonds = sum(4.8 * (1 - torch.exp(-2.2 * (r - 0.96))) ** 2 for r in (ra, rb))
    cosine = a @ b / (ra * rb)
    apart = torch.linalg.norm(a - b)
    return bonds + 2.0 * (cosine + 0.25) ** 2 - 2.0 * torch.exp(-(((apart - 0.8) / 0.12) ** 2) / 2)


AR2 = Atoms("Ar2", [[0, 0, 0], [3.6, 0, 0]])
WATER = Atoms("OH2", [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])


def exact(energy, atoms, minimum, top, temperature):
    """Return barrier and Vineyard's rate from exact gradients and Hessians; starts are given."""
    masses = np.repeat(atoms.get_masses(), 3)

    def flat(x):
        return energy(x.reshape(-1, 3))

    def gradient(x):
        return torch.autograd.functional.jacobian(flat, torch.tensor(x)).numpy()

    energies, squares = [], []
    for start in (minimum, top):
        x = root(gradient, np.asarray(start, dtype=float).ravel(), method="lm", tol=1e-14).x
        assert np.abs(gradient(x)).max() < 1e-8
        hessian = torch.autograd.functional.hessian(flat, torch.tensor(x)).numpy()
        values = np.linalg.eigvalsh(hessian / np.sqrt(np.outer(masses, masses)))
        energies.append(float(flat(torch.tensor(x))))
        squares.append(values[np.abs(values) > 1e-4])
    barrier = energies[1] - energies[0]
    assert (squares[0] > 0).all()
    assert (squares[1] < 0).sum() == 1
    logs = [np.log(np.sqrt(v[v > 0]) * PER_PS).sum() for v in squares]
    return barrier, np.exp(logs[0] - logs[1] - barrier / (BOLTZMANN * temperature))


def pair(r):
    return [[0, 0, 0], [r, 0, 0]]


def bent(r, apart):
    y = apart / 2
    return [[0, 0, 0], [np.sqrt(r**2 - y**2), y, 0], [np.sqrt(r**2 - y**2), -y, 0]]


@pytest.mark.parametrize(
    ("energy", "atoms", "minimum", "top", "kind"),
    [
        (holed_pair, AR2, pair(3.8), pair(2.9), "approach"),
        (double_well, AR2, pair(3.8), pair(2.4), "approach"),
        (holed_water, WATER, bent(0.96, 1.52), bent(0.96, 1.15), "angle"),
    ],
    ids=["pair", "double well", "triatomic"],
)
def test_barrier_path_and_rate_are_exact(energy, atoms, minimum, top, kind):
    barrier, rate = exact(energy, atoms, minimum, top, 500.0)
    found = weak_spots(Analytic(energy), atoms, temperature=500.0)
    spot = found.worst
    assert spot.kind == kind
    assert spot.note == ""
    assert spot.barrier == pytest.approx(barrier, rel=0.01)
    assert spot.rate_per_ps(500.0) == pytest.approx(rate, rel=0.05)
    path = spot.path
    zero = float(energy(torch.tensor(found.minimum.positions)))
    along = [float(energy(torch.tensor(x))) - zero for x in path.positions]
    assert path.energies == pytest.approx(along, abs=1e-6)
    assert path.top == int(np.argmax(path.energies))
    held = (spot.atoms[0], spot.atoms[-1])
    for k in range(1, path.top):  # each point is the lowest with this distance
        assert _lowest(energy, path.positions[k], held) == pytest.approx(
            path.energies[k] + zero, abs=0.01 * barrier
        )


def _lowest(energy, start, held):
    """Return the lowest energy with a distance held, by SLSQP on exact gradients."""
    i, j = held

    def distance(x):
        x = x.reshape(-1, 3)
        return np.linalg.norm(x[i] - x[j])

    def with_gradient(x):
        x = torch.tensor(x.reshape(-1, 3), requires_grad=True)
        value = energy(x)
        return value.item(), torch.autograd.grad(value, x)[0].numpy().ravel()

    length = distance(start.ravel())
    rule = {"type": "eq", "fun": lambda x: distance(x) - length}
    found = minimize(with_gradient, start.ravel(), jac=True, constraints=[rule], method="SLSQP")
    return found.fun


def test_a_sound_cluster_has_no_weak_spot():
    places = 3.8 * np.vstack([np.zeros(3), np.eye(3), -np.eye(3)])
    argon = LennardJones(epsilon=0.0104, sigma=3.4, rc=12.0)
    found = weak_spots(argon, Atoms("Ar7", places))
    assert len(found) == 0
    assert found.worst is None
    assert found.hazard_per_ps == 0
    assert "no weak spot below 3 eV" in str(found)


def proton(x):
    """O–H···O in a line: the proton moves between two equal wells over 0.15 eV."""
    a, b = (torch.linalg.norm(x[1] - x[k]) for k in (0, 2))
    apart = torch.linalg.norm(x[2] - x[0])
    off = torch.linalg.norm(torch.linalg.cross(x[1] - x[0], (x[2] - x[0]) / apart))
    well = 0.15 * (((a - b) / 0.5) ** 2 - 1) ** 2
    return well + 20 * (apart - 2.5) ** 2 + 20 * off**2


def test_a_proton_that_is_handed_on_is_no_hole():
    atoms = Atoms("OHO", [[0, 0, 0], [1.0, 0, 0], [2.5, 0, 0]])
    assert len(weak_spots(Analytic(proton), atoms)) == 0


@pytest.fixture(scope="module")
def models():
    """The weak spots of ethanol in two shipped networks, at 1000 K."""
    names = ("schnet-ethanol", "painn-ethanol")
    return {
        name: weak_spots(mdxai.load_calculator(name), molecule(ETHANOL), temperature=1000.0)
        for name in names
    }


@pytest.mark.slow
def test_hydrogens_of_our_networks_fall_into_each_other(models):
    """`mdxai check` squeezes schnet-ethanol without finding this; half of its runs end there."""
    for name, barriers in (("schnet-ethanol", (0.687, 0.694)), ("painn-ethanol", (0.890, 0.895))):
        closing = [
            spot for spot in models[name].spots
            if spot.kind == "angle" and [spot.label[0], spot.label[-2]] == ["H", "H"]
        ]  # fmt: skip
        assert [spot.barrier for spot in closing] == pytest.approx(barriers, abs=0.01)
        assert all("Å apart though H" in spot.forbidden for spot in closing)
        assert [spot.note for spot in closing] == ["", ""]


@pytest.mark.slow
def test_rates_are_those_of_the_stability_study(models):
    """runs/stability at 1000 K: 2 of 4 runs of schnet-ethanol break, 3 of 4 of painn-ethanol.

    Maximum likelihood of the latter is 0.12 per ps; with so few events a factor of 3 is all that
    can be asked for.
    """
    assert 0.04 < models["painn-ethanol"].hazard_per_ps < 0.36
    assert 0.02 < models["schnet-ethanol"].hazard_per_ps < 0.3


@pytest.mark.slow
def test_a_saddle_is_the_top_of_a_nudged_elastic_band(models):
    """ASE's climbing-image band between the minimum and the hole finds the same barrier."""
    found = models["schnet-ethanol"]
    spot = next(s for s in found.spots if s.label.startswith("H4–C1–H5"))
    calculator = mdxai.load_calculator("schnet-ethanol", dtype="float64")
    keep = [*range(spot.path.top - 3, spot.path.top + 3)]
    images = [Atoms(found.minimum.numbers, spot.path.positions[k]) for k in keep]
    for image in images:
        image.calc = calculator
    band = NEB(images, climb=True, allow_shared_calculator=True, method="improvedtangent")
    FIRE(band, logfile=None).run(fmax=0.03, steps=600)
    start = Atoms(found.minimum.numbers, found.minimum.positions, calculator=calculator)
    top = max(image.get_potential_energy() for image in images[1:-1])
    assert top - start.get_potential_energy() == pytest.approx(spot.barrier, abs=0.005)


@pytest.mark.slow
def test_no_barrier_is_below_the_minimum():
    """This network has holes so deep that a saddle between two of them lies below its minimum."""
    study = Path(mdxai.__file__).parents[1] / "runs" / "forecast"
    name = "schnet-malonaldehyde-200-c5-b3-s1"
    start = json.loads((study / "weak" / f"{name}.json").read_text())["weak"]["minimum"]
    calculator = mdxai.load_calculator(study / "models" / name)
    found = weak_spots(calculator, Atoms(start["symbols"], start["positions"]), temperature=1000)
    assert len(found) > 3
    assert all(spot.barrier > 0 for spot in found.spots)
    assert "the saddle found lies below the minimum" in [spot.note for spot in found.spots]


@pytest.mark.slow
def test_xtb_has_no_weak_spot_in_ethanol():
    tblite = pytest.importorskip("tblite.ase", reason="tblite is not installed")

    def xtb():
        return tblite.TBLite(method="GFN2-xTB", verbosity=0)

    assert len(weak_spots(xtb, molecule(ETHANOL), temperature=1000.0)) == 0


@pytest.mark.slow
def test_xtb_confirms_the_holes_of_a_network():
    tblite = pytest.importorskip("tblite.ase", reason="tblite is not installed")

    def xtb():
        return tblite.TBLite(method="GFN2-xTB", verbosity=0)

    network = mdxai.load_calculator("schnet-ethanol")
    found = weak_spots(network, molecule(ETHANOL), temperature=1000.0, reference=xtb)
    closing = next(s for s in found.spots if s.label.startswith("H4–C1–H5"))
    assert closing.reference_barrier > closing.barrier + 0.5


def test_a_reference_tells_reactions_from_holes():
    water = Analytic(holed_water)

    def sound(x):
        a, b = x[1] - x[0], x[2] - x[0]
        apart = torch.linalg.norm(a - b)
        return holed_water(x) + 2.0 * torch.exp(-(((apart - 0.8) / 0.12) ** 2) / 2)

    agreed = weak_spots(water, WATER, reference=water)
    assert len(agreed) == 0
    assert {spot.kind for spot in agreed.real} >= {"angle"}
    opposed = weak_spots(water, WATER, reference=Analytic(sound))
    spot = opposed.worst
    assert spot.kind == "angle"
    assert spot.reference_barrier > spot.barrier + 0.5
    assert f"{spot.reference_barrier:.2f}" in str(opposed)


def test_results_are_written(tmp_path):
    found = weak_spots(Analytic(holed_water), WATER, temperature=400.0)
    content = json.loads(json.dumps(found.as_dict()))
    first = content["weak_spots"][0]
    assert first["atoms"] == list(found.spots[0].atoms)
    assert first["barrier_kT"] == pytest.approx(found.spots[0].barrier / (BOLTZMANN * 400.0))
    assert content["hazard_per_ps"] == pytest.approx(found.hazard_at(400.0))
    found.write_paths(tmp_path / "paths.extxyz")
    images = read(tmp_path / "paths.extxyz", index=":")
    assert len(images) == sum(len(spot.path.energies) for spot in found.spots)
    assert images[0].get_potential_energy() == 0
    assert images[0].info["weak_spot"] == found.spots[0].label


def test_the_picture_shows_model_and_reference(tmp_path):
    reference = LennardJones(sigma=1.0, epsilon=0.1, rc=10.0)
    found = weak_spots(Analytic(holed_water), WATER, reference=reference)
    figure = draw_weak_spot(found)
    energy, molecule_at_top = figure.axes
    model, top, other = energy.lines[:3]
    path = found.worst.path
    assert model.get_ydata() == pytest.approx(path.energies)
    assert top.get_ydata() == pytest.approx([found.worst.barrier])
    assert other.get_ydata() == pytest.approx(path.reference)
    assert {text.get_text() for text in molecule_at_top.texts} == {"O0", "H1", "H2"}
    figure.savefig(tmp_path / "spot.png")
    argon = LennardJones(epsilon=0.0104, sigma=3.4, rc=12.0)
    with pytest.raises(WeakSpotError, match="there is no weak spot to draw"):
        draw_weak_spot(weak_spots(argon, AR2))


def test_a_path_whose_distance_turns_is_drawn_against_the_way(tmp_path):
    found = weak_spots(Analytic(holed_water), WATER)
    straight, path = found.worst, found.worst.path
    lengths = path.lengths.copy()
    lengths[path.top] = lengths[path.top - 1] + 0.05  # as at a saddle beside the scan
    turning = replace(straight, path=replace(path, lengths=lengths))
    drawn = {}
    for name, spot in {"straight": straight, "turning": turning}.items():
        axes = draw_weak_spot(found, spot).axes[0]
        drawn[name] = axes.lines[0].get_xdata(), axes.lines[1].get_xdata(), axes.get_xlabel()
    assert drawn["straight"][0] == pytest.approx(path.lengths)
    assert drawn["straight"][2] == "distance / Å"
    x, top, label = drawn["turning"]
    moves = [np.sqrt(((b - a) ** 2).sum()) for a, b in pairwise(path.positions)]
    assert x == pytest.approx([sum(moves[:k]) for k in range(len(lengths))])
    assert (np.diff(x) > 0).all()
    assert top == pytest.approx([x[path.top]])
    assert label == "way of all atoms along the path / Å"


@pytest.mark.parametrize(
    ("atoms", "temperature", "message"),
    [
        (Atoms("Ar"), 300.0, "at least two atoms, got 1"),
        (AR2, 0.0, "temperature above 0 K, got 0"),
        (Atoms("Ar2", pair(1.1)), 300.0, r"relaxes into what physics forbids \(Ar0–Ar1 overlap"),
    ],
)
def test_bad_input_is_one_clear_error(atoms, temperature, message):
    with pytest.raises(WeakSpotError, match=message):
        weak_spots(Analytic(double_well), atoms, temperature=temperature)


def test_a_structure_that_the_calculator_refuses_is_an_error():
    with pytest.raises(CalculatorError, match="has never seen S"):
        weak_spots(mdxai.load_calculator("schnet-ethanol"), molecule("CH3SH"))


def test_equal_coordinates_are_one():
    frame = Frame.from_atoms(molecule(ETHANOL))
    found = {(c.kind, tuple(sorted(frame.symbols[a] for (a,) in c.groups))): 0 for c in
             coordinates_of(frame)}  # fmt: skip
    for c in coordinates_of(frame):
        found[c.kind, tuple(sorted(frame.symbols[a] for (a,) in c.groups))] += c.multiplicity
    n = frame.n_atoms
    inwards = sum(count for (kind, _), count in found.items() if kind != "stretch")
    assert inwards == n * (n - 1) // 2
    assert found["stretch", ("C", "H")] == 5
    assert found["angle", ("H", "H")] == 4


def test_equal_coordinates_are_named_each():
    """Every pair once, with its middle atom where there is one; distances of equal kinds."""
    frame = Frame.from_atoms(molecule("isobutane"))
    i, j = bonds_of(frame)
    bonded = {frozenset(bond) for bond in zip(i.tolist(), j.tolist(), strict=True)}
    named = []
    for c in coordinates_of(frame):
        assert len(c.equivalent) == c.multiplicity
        assert c.equivalent[0] == c.atoms
        for atoms in c.equivalent:
            steps = {frozenset(step) for step in pairwise(atoms)}
            assert steps <= bonded or c.kind == "approach"
            named += [frozenset((atoms[0], atoms[-1]))] * (c.kind != "stretch")
    n = frame.n_atoms
    assert len(named) == len(set(named)) == n * (n - 1) // 2


def test_graph_symmetry_agrees_with_all_permutations():
    """Brute force over all automorphisms of cyclopropane and of a substituted ring."""
    for name in ("C3H6_D3h", "CH3CH2OH", "C4H4O", "isobutane"):
        frame = Frame.from_atoms(molecule(name))
        n = frame.n_atoms
        bonded = np.zeros((n, n), dtype=bool)
        i, j = bonds_of(frame)
        bonded[i, j] = bonded[j, i] = True
        graph = nx.from_numpy_array(bonded)
        nx.set_node_attributes(graph, dict(enumerate(frame.numbers.tolist())), "z")
        orbit = {}
        same = categorical_node_match("z", 0)
        for mapping in GraphMatcher(graph, graph, node_match=same).isomorphisms_iter():
            for a in range(n):
                for b in range(a + 1, n):
                    image = tuple(sorted((mapping[a], mapping[b])))
                    orbit[a, b] = min(orbit.get((a, b), image), image)
        colours = pair_colours(frame.numbers, bonded)
        classes = {(colours[a, b], least) for (a, b), least in orbit.items()}
        assert len(classes) == len(set(orbit.values())) == len({c for c, _ in classes})


def test_relaxation_holds_distances_and_agrees_with_one_by_one(networks):
    potential = networks["painn-ethanol"]
    frame = Frame.from_atoms(molecule(ETHANOL))
    rng = np.random.default_rng(1)
    positions = frame.positions + rng.normal(scale=0.03, size=(3, frame.n_atoms, 3))
    held = Distances.between(
        [((4,), (5,)), ((6,), (7,)), ((0,), (2,))], np.zeros((3, 3)), frame.n_atoms
    )
    evaluate = evaluations(potential, frame)
    energies, forces = evaluate(positions)
    for k in range(3):
        energy, pull = potential.evaluate(Frame.from_atoms(Atoms(frame.numbers, positions[k])))
        assert energies[k] == pytest.approx(energy, abs=1e-8)
        assert forces[k] == pytest.approx(pull, abs=1e-8)
    relaxed = relax(evaluate, positions, held=held, fmax=0.02, steps=200)
    assert relaxed.converged.all()
    assert (relaxed.energies < energies).all()
    assert held.lengths(relaxed.positions) == pytest.approx(held.lengths(positions), abs=1e-9)
    left = held.project(evaluate(relaxed.positions)[1], relaxed.positions)
    assert np.linalg.norm(left, axis=2).max() < 0.02


def test_what_a_potential_refuses_is_nan_and_the_others_go_on():
    twin = twin_of(LennardJones(sigma=3.4, epsilon=0.01, rc=10.0))
    positions = np.array([pair(3.0), [[0, 0, 0], [np.nan, 0, 0]]])
    energies, forces = evaluations(twin, Frame.from_atoms(AR2))(positions)
    assert np.isfinite(energies[0])
    assert np.isnan(energies[1])
    assert np.isnan(forces[1]).all()


def test_what_physics_forbids():
    frame = Frame.from_atoms(shaken(amplitude=0.02))
    physics = Physics(frame)
    assert physics.forbids(frame.positions, 1.0) == ""
    assert physics.keeps_bonds(frame.positions)

    def with_pair(i, j, length):
        x = frame.positions[None].copy()
        one = Distances.between([((i,), (j,))], np.zeros((1, 3)), frame.n_atoms)
        return one.set(x, np.array([length]))[0]

    assert "overlap" in physics.forbids(with_pair(4, 5, 0.3), 9.0)
    assert "H4 keeps its bonds" in physics.forbids(with_pair(4, 5, 1.2), 9.0)
    assert physics.forbids(with_pair(4, 5, 1.5), 0.0) == ""
    far = frame.positions.copy()
    far[3] += 1.2 * (far[3] - far[2])  # the hydrogen of the hydroxyl group leaves
    assert "O2–H3 breaks" in physics.forbids(far, 1.0)
    assert physics.forbids(far, 4.0) == ""  # what that costs


@pytest.mark.parametrize(
    ("bond", "energy"), [((6, 1), 4.3), ((6, 6), 3.6), ((6, 8), 3.7), ((8, 1), 4.8), ((7, 1), 4.0)]
)
def test_single_bonds(bond, energy):
    """Mean bond energies of textbooks; Pauling's rule is good to a few tenths of an eV."""
    assert single_bond(*bond) == pytest.approx(energy, abs=0.35)


@pytest.mark.slow
def test_a_minimum_has_the_frequencies_of_ase(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    calculator = mdxai.load_calculator("painn-ethanol", dtype="float64")
    evaluate = evaluations(calculator.potential, Frame.from_atoms(molecule(ETHANOL)))
    start = relax(evaluate, molecule(ETHANOL).positions[None], fmax=0.02, steps=300).positions[0]
    minimum = stationary_point(evaluate, start, fmax=1e-4)
    assert minimum.order == 0
    atoms = Atoms(molecule(ETHANOL).numbers, minimum.positions, calculator=calculator)
    vibrations = Vibrations(atoms)
    vibrations.run()
    per_ps = vibrations.get_frequencies().real[6:] * 0.0299792458
    assert minimum.frequencies == pytest.approx(per_ps, rel=2e-3, abs=0.05)


def rigid_until_turned(x):
    """H–C–C–H with a trans minimum and a cis one 0.1 eV higher; only cis has a hole, at 2.6 Å."""
    (h, a, b, k) = x
    axis, one, other = b - a, h - a, k - b
    length = torch.linalg.norm(axis)
    bonds = sum(
        4.8 * (1 - torch.exp(-2.0 * (torch.linalg.norm(v) - 1.1))) ** 2 for v in (one, other)
    )
    middle = 3.0 * (1 - torch.exp(-1.6 * (length - 1.52))) ** 2
    bends = sum(
        3.0 * (v @ axis * sign / (torch.linalg.norm(v) * length) + 0.3) ** 2
        for v, sign in ((one, 1), (other, -1))
    )  # fmt: skip
    first, second = torch.linalg.cross(one, axis), torch.linalg.cross(other, axis)
    c = first @ second / (torch.linalg.norm(first) * torch.linalg.norm(second))  # 1: cis
    well = torch.exp(-(((length - 2.6) / 0.15) ** 2) / 2 - ((1 - c) / 0.3) ** 2 / 2)
    return bonds + middle + bends + 0.4 * (1 - c**2) + 0.05 * (1 + c) - 2.5 * well


def four(length, across):
    """H–C–C–H in a plane; `across`: -1 for trans, 1 for cis."""
    x, y = 1.1 * -0.3, 1.1 * np.sqrt(1 - 0.09)
    return [[x, y, 0], [0, 0, 0], [length, 0, 0], [length - x, across * y, 0]]


TRANS, CIS = (Atoms("HCCH", four(1.52, across)) for across in (-1, 1))


def test_a_hole_of_another_conformer_is_found_from_frames():
    """Its barrier and rate count from the lowest minimum, trans, whichever frame comes first."""
    barrier, rate = exact(rigid_until_turned, TRANS, TRANS.positions, four(2.2, 1), 500.0)
    calculator = Analytic(rigid_until_turned)
    assert len(weak_spots(calculator, TRANS, temperature=500.0)) == 0
    found = weak_spots(calculator, CIS, temperature=500.0, frames=[TRANS, CIS, CIS])
    assert found.n_scanned == 2 * len(coordinates_of(found.minimum))
    (spot,) = found.spots
    assert (spot.kind, spot.atoms) == ("stretch", (1, 2))
    assert spot.barrier == pytest.approx(barrier, rel=0.01)
    assert spot.rate_per_ps(500.0) == pytest.approx(rate, rel=0.05)
    assert spot.path.energies[0] == pytest.approx(0.1, abs=0.003)  # cis, where the path begins
    assert found.minimum.energy == pytest.approx(0.0, abs=0.003)


def test_short_hot_runs_visit_the_conformers_of_ethanol():
    """Its three are trans and two gauche, of which one is the other's mirror image."""
    calculator = mdxai.load_calculator("schnet-ethanol")
    frame = Frame.from_atoms(molecule(ETHANOL))
    evaluate = evaluations(calculator.potential, frame)
    energies, forces = evaluate(frame.positions[None])
    start = frame.with_results(float(energies[0]), forces[0])
    visited = thermal_positions(evaluate, start, 800.0)
    found = conformers_of(evaluate, Physics(frame), visited)
    angles = [abs(180 - Atoms(frame.numbers, x).get_dihedral(0, 1, 2, 3)) for x in found]
    assert min(angles) == pytest.approx(0.0, abs=5.0)
    assert max(angles) == pytest.approx(120.0, abs=10.0)


@pytest.mark.slow
def test_a_hole_of_another_conformer_is_found_from_hot_runs():
    """`schnet-ethanol` closes the hydrogens of its methyl group more easily when it is gauche."""
    calculator, atoms = mdxai.load_calculator("schnet-ethanol"), molecule(ETHANOL)
    cold = weak_spots(calculator, atoms)
    hot = weak_spots(calculator, atoms, options=ScanOptions(heat=800.0))
    assert hot.n_scanned % cold.n_scanned == 0
    assert hot.n_scanned > cold.n_scanned
    assert hot.spots[0].barrier == pytest.approx(0.60, abs=0.02)
    assert cold.spots[0].barrier == pytest.approx(0.69, abs=0.02)


def test_frames_are_read_from_files_and_spread(tmp_path):
    rng = np.random.default_rng(1)
    positions = CIS.positions + rng.normal(scale=0.05, size=(100, 4, 3))
    write(tmp_path / "run.extxyz", [Atoms("HCCH", x) for x in positions])
    np.savez(tmp_path / "set.npz", R=positions, z=CIS.numbers)
    frame = Frame.from_atoms(TRANS)
    for name in ("run.extxyz", "set.npz"):
        read_back = positions_of(tmp_path / name, frame)
        assert len(read_back) == MOST_FRAMES
        assert read_back[[0, -1]] == pytest.approx(positions[[0, -1]], abs=1e-6)
    with pytest.raises(ReferenceDataError, match="no reference data"):
        positions_of(tmp_path / "none.xyz", frame)
    with pytest.raises(
        WeakSpotError,
        match="frame 1 has other atoms than the structure: C2H4; expected",
    ):
        positions_of([TRANS, molecule("C2H4")], frame)
    with pytest.raises(WeakSpotError, match="frame 1 has its atoms in another order than the fram"):
        positions_of([TRANS, TRANS[[1, 2, 0, 3]]], frame)
    with pytest.raises(WeakSpotError, match="there are no frames"):
        positions_of([], frame)


def test_frames_may_number_the_atoms_otherwise():
    """As rMD17 numbers those of ethanol: the same elements in the same order, but other atoms."""
    ours = molecule("CH3CH2OH")
    theirs = ours[[1, 0, 2, 3, 4, 5, 6, 7, 8]]  # the carbons exchanged
    last = ours[[3, 4, 5, 6, 7, 8, 0, 1, 2]]
    frame = Frame.from_atoms(ours)
    for frames in ([ours, ours], [theirs, theirs], [last]):
        assert positions_of(frames, frame) == pytest.approx(
            np.array([ours.positions] * len(frames))
        )
    turned = molecule("CH3OCH3")[[0, 2, 1, *range(3, 9)]]
    assert turned.symbols.get_chemical_formula() == ours.symbols.get_chemical_formula()
    with pytest.raises(WeakSpotError, match="none of 1 frames has the bonds of the structure"):
        positions_of([turned], frame)


def test_conformers_are_told_apart_but_not_from_their_images():
    """Lowest first. Mirrored, moved or with its ends exchanged it is the same."""
    frame, evaluate = Frame.from_atoms(TRANS), evaluations(
        twin_of(Analytic(rigid_until_turned)), Frame.from_atoms(TRANS)
    )  # fmt: skip
    gone = TRANS.positions + np.array([[5.0, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0]])
    trans, cis = TRANS.positions, CIS.positions
    starts = np.array([cis, trans + 1.0, trans * [1, -1, 1], cis[::-1], gone])
    found = conformers_of(evaluate, Physics(frame), starts)
    assert len(found) == 2
    assert evaluate(np.array(found))[0] == pytest.approx([0.0, 0.1], abs=0.005)


class Counting(Analytic):
    """Ends, as a killed process does, once it was evaluated so often in all its copies."""

    calls, last = 0, 10**9

    def calculate(self, *args, **kwargs):
        Counting.calls += 1
        if Counting.calls > Counting.last:
            raise KeyboardInterrupt
        super().calculate(*args, **kwargs)


def test_a_killed_search_goes_on_and_finds_the_same(tmp_path, monkeypatch):
    search = {
        "temperature": 500.0, "frames": [TRANS, CIS], "reference": Counting(double_well),
        "options": ScanOptions(points=10, steps=30),
    }  # fmt: skip
    calculator = Counting(rigid_until_turned)
    monkeypatch.setattr(Counting, "calls", 0)
    whole = weak_spots(calculator, CIS, **search)
    total = Counting.calls
    for part in (0.1, 0.5, 0.3):
        monkeypatch.setattr(Counting, "calls", 0)
        monkeypatch.setattr(Counting, "last", int(part * total))
        with pytest.raises(KeyboardInterrupt):
            weak_spots(calculator, CIS, path=tmp_path, **search)
    monkeypatch.setattr(Counting, "calls", 0)
    monkeypatch.setattr(Counting, "last", 10**9)
    again = weak_spots(calculator, CIS, path=tmp_path, **search)
    assert 0.05 * total < Counting.calls < 0.15 * total
    assert again.as_dict() == whole.as_dict()
    assert len(again) == 1
    assert again.spots[0].path.reference == pytest.approx(whole.spots[0].path.reference, abs=0)
    with pytest.raises(KeptSearchError, match="which differs in frames"):
        weak_spots(calculator, CIS, path=tmp_path, **search | {"frames": None})
    (tmp_path / KEPT).write_bytes(b"torn")
    with pytest.raises(KeptSearchError, match="cannot be used: file is not a database"):
        weak_spots(calculator, CIS, path=tmp_path, **search)

"""Every probe catches the fault it is for and passes sound models."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones

import mdxai
from mdxai.calculators import CalculatorError, twin_of
from mdxai.frame import Frame
from mdxai.principles import PrincipleUnavailable, dimer_curve
from mdxai.principles.probes.mismatch import energy_and_forces
from mdxai.principles.probes.configurations import closest_pairs, deepest_fall, noise
from mdxai.principles.probes.gradient import Gradient, precision_of
from mdxai.principles.probes.locality import doubling, spectator
from mdxai.principles.probes.partial_forces import PartialForces
from mdxai.principles.probes.probe_registry import probe_principles
from mdxai.principles.probes.repulsion import (
    DIMER_MEASURES,
    DimerCurves,
    Dimers,
    Squeeze,
    squeeze_scans,
)
from mdxai.principles.probes.smoothness import BondStretch, CutoffJump, cutoff_scans, stretch_scans
from mdxai.principles.probes.symmetry import CHANGES, comparison, invariances
from mdxai.stability.thresholds import PROBE_THRESHOLDS


class Pairwise(Calculator):
    """Morse wells for every pair, smooth everywhere, with faults to order.

    Faults: "double" forces, "curl" (a force without energy), "field" (energy depends on absolute
    orientation), "hole" between close H, "jump" of the energy at 5 Å, "mean" (an energy that
    depends on how many atoms there are), "order" of the atoms, "single" (energies in float32).
    """

    implemented_properties = ("energy", "forces")

    def __init__(self, fault="", **kwargs):
        super().__init__(**kwargs)
        self.fault = fault

    def calculate(self, atoms=None, properties=None, system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        x, z = self.atoms.positions, self.atoms.numbers
        i, j = np.triu_indices(len(x), k=1)
        v = x[j] - x[i]
        r = np.linalg.norm(v, axis=1)
        wall = np.exp(-4 * (r - 1.2))
        energies, slopes = 2 * wall, -8 * wall
        if self.fault == "hole":
            near = (z[i] == 1) & (z[j] == 1)
            dip = near * np.exp(-(((r - 1.2) / 0.15) ** 2))
            energies, slopes = energies - 6 * dip, slopes + 12 * (r - 1.2) / 0.15**2 * dip
        if self.fault == "jump":
            energies = energies + 0.01 * (r < 5.0)
        energy, forces = energies.sum(), np.zeros_like(x)
        pull = slopes[:, None] * v / r[:, None]
        np.add.at(forces, i, pull)
        np.add.at(forces, j, -pull)
        energy, forces = self._broken(energy, forces, x)
        self.results = {"energy": energy, "forces": forces}

    def _broken(self, energy, forces, x):
        if self.fault == "double":
            forces = 2 * forces
        elif self.fault == "curl":
            forces[2] += np.cross([0, 0, 0.2], x[2] - x.mean(axis=0))
        elif self.fault == "field":
            energy += 0.1 * x[0, 0]
            forces[0, 0] -= 0.1
        elif self.fault == "mean":
            energy += 0.1 * np.sqrt(len(x))
            forces = forces * len(x) / 9
        elif self.fault == "order":
            energy += 0.05 * (x[0] - x[1]) @ (x[0] - x[1])
            forces[0] -= 0.1 * (x[0] - x[1])
            forces[1] += 0.1 * (x[0] - x[1])
        elif self.fault == "single":
            energy = float(np.float32(energy + 4000))
        return energy, forces


@pytest.fixture
def frame():
    atoms = molecule("CH3CH2OH")
    atoms.rattle(0.03, seed=1)
    return Frame.from_atoms(atoms)


@pytest.fixture(scope="module")
def networks():
    return {
        name: mdxai.load_calculator(name, dtype=dtype).potential
        for name, dtype in (("schnet-ethanol", "float32"), ("painn-ethanol", "float64"))
    }


def values(principles, frame):
    return {p.name: p.deviate(frame).value for p in principles}


def limits():
    return {t.principle: t for t in PROBE_THRESHOLDS}


def invariance(fault, change, frame):
    compare = comparison(twin_of(Pairwise(fault)), CHANGES[change])
    return values(energy_and_forces(change, compare), frame)


@pytest.mark.parametrize(("fault", "found"), [("", False), ("single", False), ("double", True)])
def test_forces_are_the_gradient(frame, fault, found):
    value = Gradient(twin_of(Pairwise(fault))).deviate(frame).value
    assert (value > limits()["gradient"].unstable) == found
    assert found or value <= limits()["gradient"].warn


def test_a_force_without_energy_names_its_atom(frame):
    deviation = Gradient(twin_of(Pairwise("curl"))).deviate(frame)
    force = 0.2 * np.linalg.norm((frame.positions[2] - frame.positions.mean(axis=0))[:2])
    assert deviation.atoms == (2,)
    assert 0.02 < deviation.value <= force + 1e-6


def test_noise_is_that_of_the_energy():
    rng = np.random.default_rng(0)
    points = np.linspace(-1e-3, 1e-3, 400)
    smooth = np.sin(points)
    assert noise(smooth) < 1e-14
    assert noise(smooth + rng.normal(scale=1e-6, size=400)) == pytest.approx(1e-6, rel=0.2)
    assert noise(np.full(9, np.float32(4209.3), dtype=np.float64)) == np.spacing(np.float32(4209))


@pytest.mark.parametrize(
    ("fault", "broken"),
    [
        ("", set()),
        ("field", {"translation", "rotation", "reflection", "permutation"}),
        ("order", {"permutation"}),
    ],
)
def test_symmetries(frame, fault, broken):
    found = {
        change
        for change in CHANGES
        if not invariance(fault, change, frame)[change] <= limits()[change].unstable
    }
    assert found == broken


def test_a_field_turns_forces_the_wrong_way(frame):
    """A force of 0.1 eV/Å that stays along x differs by at most twice that once turned back."""
    turned = invariance("field", "rotation", frame)["rotation_forces"]
    assert 0.02 < turned <= 0.2 + 1e-9
    assert invariance("field", "translation", frame)["translation_forces"] < 1e-9


def test_symmetries_of_a_periodic_cell():
    atoms = bulk("Cu", cubic=True).repeat(2)
    atoms.rattle(0.05, seed=2)
    found = values(invariances(twin_of(EMT())), Frame.from_atoms(atoms))
    assert max(found.values()) < 1e-9


class Holed:
    """A network with a Gaussian hole in the energy of every two H, at 1.2 Å."""

    def __init__(self, network, depth):
        self.network, self.depth = network, depth
        self.name, self.cutoff = "holed", network.cutoff
        self.n_layers, self.elements = network.n_layers, network.elements

    def evaluate(self, frame):
        energy, forces = self.network.evaluate(frame)
        hydrogens = frame.positions[frame.numbers == 1]
        r = np.linalg.norm(hydrogens[:, None] - hydrogens, axis=-1)
        holes = np.exp(-(((r[np.triu_indices(len(r), k=1)] - 1.2) / 0.1) ** 2))
        return energy - self.depth * holes.sum(), forces


def test_squeeze_finds_the_hole_and_its_depth(frame, networks):
    def measured(depth):
        scans = squeeze_scans(Holed(networks["schnet-ethanol"], depth))
        return [Squeeze(quantity, scans).deviate(frame) for quantity in ("squeeze", "wall")]

    squeeze, _ = measured(4.0)
    assert [frame.symbols[a] for a in squeeze.atoms] == ["H", "H"]
    assert 1 < squeeze.value <= 4
    assert [d.value for d in measured(0.0)] == [0, 0]


def test_a_wall_that_is_missing_is_missed(frame):
    class Nothing(Pairwise):
        def _broken(self, energy, forces, x):
            return 0.0, 0 * forces

    scans = squeeze_scans(twin_of(Nothing()))
    assert values([Squeeze("squeeze", scans), Squeeze("wall", scans)], frame) == {
        "squeeze": 0, "wall": 5,
    }  # fmt: skip


def test_dimers(frame):
    hole = {m: Dimers(m, DimerCurves(twin_of(Pairwise("hole"))), frame) for m in DIMER_MEASURES}
    wrong = values(hole.values(), frame)
    right = DimerCurves(twin_of(Pairwise()))
    fine = values([Dimers(m, right, frame) for m in DIMER_MEASURES], frame)
    assert all(fine[m] <= limits()[m].warn for m in DIMER_MEASURES), fine
    assert wrong["dimer_flips"] >= 1
    assert wrong["dimer_jump"] > 0.3
    assert wrong["dimer_tortuosity"] > 10 * fine["dimer_tortuosity"]
    double = Dimers("dimer_work", DimerCurves(twin_of(Pairwise("double"))), frame)
    assert double.deviate(frame).value > 0.1


def test_dimer_curve_is_that_of_the_formula():
    curve = dimer_curve(twin_of(LennardJones(epsilon=0.0104, sigma=3.4, rc=20.0)), (18, 18))
    x = (3.4 / curve.distances) ** 6
    rise = curve.energies - curve.energies[0]
    assert rise == pytest.approx(4 * 0.0104 * ((x * x - x) - (x * x - x)[0]))
    assert curve.forces == pytest.approx(24 * 0.0104 * (2 * x * x - x) / curve.distances)


def test_elements_that_a_calculator_refuses_are_reported():
    frame = Frame.from_atoms(molecule("CH3SH"))
    dimers = Dimers("dimer_wall", DimerCurves(twin_of(EMT())), frame)
    assert set(dimers.refused) == {"C-S", "H-S"}
    with pytest.raises(PrincipleUnavailable, match="fails on S2"):
        Dimers("dimer_wall", DimerCurves(twin_of(EMT())), Frame.from_atoms(molecule("S2")))


def test_jump_at_the_cutoff_stated_or_not(frame):
    for cutoff in (5.0, np.nan):
        scans = cutoff_scans(twin_of(Pairwise("jump"), cutoff=cutoff))
        assert CutoffJump("energy", scans).deviate(frame).value == pytest.approx(10, rel=0.05)
    sound = cutoff_scans(twin_of(Pairwise(), cutoff=5.0))
    assert CutoffJump("energy", sound).deviate(frame).value < 1e-3
    assert CutoffJump("forces", sound).deviate(frame).value < 1e-3


def test_force_jump_of_a_truncated_lennard_jones_is_its_slope_there():
    """ASE shifts the energy to zero at the cutoff and leaves the slope."""
    atoms = bulk("Ar", "fcc", 5.26, cubic=True).repeat(2)
    frame = Frame.from_atoms(atoms)
    scans = cutoff_scans(twin_of(LennardJones(epsilon=0.0104, sigma=3.4, rc=6.0)))
    x = (3.4 / 6.0) ** 6
    slope = 24 * 0.0104 * (x - 2 * x * x) / 6.0
    assert CutoffJump("forces", scans).deviate(frame).value == pytest.approx(slope, rel=0.05)
    assert CutoffJump("energy", scans).deviate(frame).value < 0.1


def test_stretch_of_one_bond_falls_where_it_ought_to_rise(frame):
    class Ripple(Pairwise):
        def _broken(self, energy, forces, x):
            r = np.linalg.norm(x[2] - x[1])
            well, fault = 20 * (r - 1.4) ** 2, -3 * np.exp(-(((r - 1.9) / 0.1) ** 2))
            return well + fault * (self.fault == "ripple"), forces

    def measured(fault, quantity):
        scans = stretch_scans(twin_of(Ripple(fault)), frame)
        return BondStretch(quantity, scans).deviate(frame)

    assert measured("", "stretch").value == 0
    assert measured("", "inflections").value == 0
    fallen = measured("ripple", "stretch")
    assert fallen.value > 0.4
    assert set(fallen.atoms) == {1, 2}
    assert measured("ripple", "inflections").value >= 1


def test_far_atoms_and_copies(frame):
    def measured(fault):
        twin = twin_of(Pairwise(fault))
        principles = [*energy_and_forces("locality", spectator(twin, frame))]
        return values([*principles, *energy_and_forces("extensivity", doubling(twin))], frame)

    assert max(measured("").values()) < 1e-6
    broken = measured("mean")
    assert all(value > limits()[name].unstable for name, value in broken.items()), broken
    with pytest.raises(PrincipleUnavailable, match="periodic"):
        spectator(twin_of(EMT()), Frame.from_atoms(bulk("Cu")))


def test_partial_forces_of_a_pair_potential_and_of_a_network(frame, networks):
    class Pair:
        """F_ij of E_i = ½ Σ_j u(r_ij): central and reciprocal."""

        def partial_forces(self, frame):
            v = frame.positions[None] - frame.positions[:, None]
            r = np.linalg.norm(v, axis=-1) + np.eye(frame.n_atoms)
            return v / r[..., None] ** 3

    for quantity in ("reciprocity", "centrality"):
        principle = PartialForces(networks["painn-ethanol"], quantity, frame)
        assert 0.05 < principle.deviate(frame).value < 1
        principle._twin = Pair()
        assert principle.deviate(frame).value < 1e-12
    with pytest.raises(PrincipleUnavailable, match="no partial forces"):
        PartialForces(twin_of(EMT()), "centrality", frame)


def test_precision_of_float32_and_not_of_float64(frame, networks):
    found = values(energy_and_forces("precision", precision_of(networks["schnet-ethanol"])), frame)
    assert 0 < found["precision"] < 1e-2
    assert 0 < found["precision_forces"] < 1e-3
    with pytest.raises(PrincipleUnavailable, match="float64"):
        precision_of(networks["painn-ethanol"])


@pytest.mark.parametrize("name", ["schnet-ethanol", "painn-ethanol"])
def test_sound_networks_pass_what_their_architecture_guarantees(frame, networks, name):
    twin = networks[name]
    scans = cutoff_scans(twin)
    principles = [Gradient(twin, n_atoms=4), *invariances(twin), CutoffJump("energy", scans),
            CutoffJump("forces", scans), *energy_and_forces("locality", spectator(twin, frame)),
            *energy_and_forces("extensivity", doubling(twin))]  # fmt: skip
    found = values(principles, frame)
    assert all(value <= limits()[p].warn for p, value in found.items()), found


def test_every_probe_is_made_or_explained_and_lj_passes_them_all():
    frame = Frame.from_atoms(bulk("Ar", "fcc", 5.26, cubic=True))
    principles, unavailable = probe_principles(
        twin_of(LennardJones(epsilon=0.0104, sigma=3.4, rc=10)), frame
    )
    found = values(principles, frame)
    assert all(value <= limits()[p].warn for p, value in found.items()), found
    assert set(found) | set(unavailable) == set(limits()) | {"reciprocity", "centrality"}
    assert all(p.cost == "probe" for p in principles)


def test_nan_is_never_obeyed(frame):
    class Broken(Pairwise):
        def _broken(self, energy, forces, x):
            return np.nan, forces * np.nan

    principles, _ = probe_principles(twin_of(Broken()), frame)
    found = values(principles, frame)
    obeyed = [name for name, value in found.items() if value <= limits()[name].warn]
    assert obeyed == []


def test_twins_are_independent(frame):
    atoms = molecule("CH3CH2OH")
    running = atoms.calc = EMT()
    before = atoms.get_potential_energy()
    twin = twin_of(running)
    twin.evaluate(frame)
    assert running.atoms.positions == pytest.approx(atoms.positions)
    assert running.results["energy"] == before
    assert np.isnan(twin.cutoff)


def test_what_cannot_be_copied_can_be_made_anew(frame):
    class Stubborn(Pairwise):
        def __deepcopy__(self, memo):
            raise TypeError("cannot pickle a lock")

    with pytest.raises(CalculatorError, match="cannot be copied"):
        twin_of(Stubborn())
    assert twin_of(Stubborn).evaluate(frame)[0] == Pairwise().get_potential_energy(
        Atoms(frame.numbers, frame.positions)
    )
    with pytest.raises(CalculatorError, match="expected an ASE calculator"):
        twin_of(3)


def test_closest_pairs_and_deepest_fall(frame):
    pairs = closest_pairs(frame)
    distances = np.linalg.norm(frame.positions[:, None] - frame.positions, axis=-1)
    hydrogens = np.flatnonzero(frame.numbers == 1)
    shortest = distances[np.ix_(hydrogens, hydrogens)] + 9 * np.eye(len(hydrogens))
    assert len(pairs) == 5  # C–C, C–H, C–O, H–H, H–O
    assert np.isclose(pairs.distances, shortest.min()).any()
    assert deepest_fall(np.array([0.0, 3, 1, 2, -1, 5])) == 4
    assert np.isnan(deepest_fall(np.array([0.0, np.nan, 1])))


@pytest.mark.slow
def test_an_independent_method_passes(frame):
    tblite = pytest.importorskip("tblite.ase")
    twin = twin_of(lambda: tblite.TBLite(method="GFN2-xTB", verbosity=0))
    principles, _ = probe_principles(twin, frame)
    found = values(principles, frame)
    assert all(value <= limits()[p].warn for p, value in found.items()), found

"""Mistakes of units are found in the first frames; sound files of any matter are left in peace."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, fcc111, graphene, molecule, nanotube
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.collections import g2
from ase.data import covalent_radii
from ase.io import read, write
from ase.md.langevin import Langevin
from ase.md.verlet import VelocityVerlet

from mdxai.engines import Selection
from mdxai.engines.plausibility import (
    doubts,
    of_cell,
    of_distances,
    of_temperature,
    of_velocities,
)
from mdxai.engines.stated import SYSTEMS
from mdxai.frame import Frame
from mdxai.monitoring.replay import open_trajectory
from tests.conftest import ethanol_with, heated

FS = units.fs


class Springs(Calculator):
    """Bonds of the first structure as springs, 30 eV/Å² as of C–H: a molecule of any elements."""

    implemented_properties = ("energy", "forces")

    def __init__(self, atoms, stiffness=30.0):
        super().__init__()
        i, j = np.triu_indices(len(atoms), 1)
        lengths = atoms.get_all_distances()[i, j]
        radii = covalent_radii[atoms.numbers]
        near = lengths < 2.2 * (radii[i] + radii[j])
        self.bonds, self.lengths = (i[near], j[near]), lengths[near]
        self.stiffness = np.where(self.lengths < 1.3 * (radii[i] + radii[j])[near], stiffness, 3.0)

    def calculate(self, atoms=None, properties=(), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        i, j = self.bonds
        vectors = atoms.positions[j] - atoms.positions[i]
        lengths = np.linalg.norm(vectors, axis=1)
        pull = self.stiffness * (lengths - self.lengths)
        forces = np.zeros((len(atoms), 3))
        np.add.at(forces, i, (pull / lengths)[:, None] * vectors)
        np.add.at(forces, j, -(pull / lengths)[:, None] * vectors)
        energy = float(np.sum(0.5 * self.stiffness * (lengths - self.lengths) ** 2))
        self.results = {"energy": energy, "forces": forces}


def run(atoms, temperature, timestep, every, n_frames=6, friction=None, seed=1):
    """Return the first frames of a run."""
    heated(atoms, temperature, rng=seed)
    if friction is None:
        dynamics = VelocityVerlet(atoms, timestep * FS)
    else:
        dynamics = Langevin(
            atoms, timestep * FS, temperature_K=temperature, friction=friction / FS,
            rng=np.random.default_rng(seed), fixcm=False,
        )  # fmt: skip
    frames = []
    dynamics.attach(
        lambda: frames.append(
            Frame.from_atoms(atoms, step=dynamics.nsteps, time=dynamics.get_time() / FS)
        ),
        every,
    )
    dynamics.run(every * (n_frames - 1))
    return frames


def with_springs(name):
    atoms = molecule(name)
    atoms.calc = Springs(atoms)
    return atoms


def metal(element, size=3):
    atoms = bulk(element, cubic=True).repeat(size)
    atoms.calc = EMT()
    return atoms


def argon():
    atoms = bulk("Ar", "fcc", 5.3, cubic=True).repeat(3)
    atoms.calc = LennardJones(sigma=3.4, epsilon=0.0104, rc=8.0)
    return atoms


def hydrogen():
    """A gas of 16 molecules."""
    gas = Atoms(cell=[20, 20, 20], pbc=True)
    for k in range(16):
        pair = molecule("H2")
        pair.rotate(37 * k, (1, k, 2))
        pair.translate([5 * (k % 4), 5 * (k // 4 % 2), 5 * (k // 8)])
        gas += pair
    bonds = [(2 * k, 2 * k + 1) for k in range(16)]
    gas.calc = Springs(gas)
    gas.calc.bonds = tuple(np.array(bonds).T)
    gas.calc.lengths, gas.calc.stiffness = np.full(16, 0.74), np.full(16, 35.0)
    return gas


@cache
def ethanol(every=1):
    return run(ethanol_with("schnet-ethanol"), 300, 0.5, every)


SLOW = pytest.mark.slow
SPACINGS = [
    (0.25, 1), (0.5, 1), (1.0, 1), (0.5, 4), (0.5, 7),
    *(pytest.param(*far, marks=SLOW) for far in ((0.5, 9), (0.5, 16), (0.5, 40), (1.0, 100))),
]  # fmt: skip
SPRINGS = ("H2O", "CO2", "CH4", "NaCl")
MORE = ("H2", "HF", "C6H6", "LiF", "SiH4", "CS2")


@pytest.mark.parametrize(("timestep", "every"), SPACINGS)
@pytest.mark.parametrize("name", [*SPRINGS, *(pytest.param(name, marks=SLOW) for name in MORE)])
def test_molecules_are_left_in_peace(name, timestep, every):
    for seed, temperature in ((1, 30), (2, 300), (3, 3000)):
        frames = run(with_springs(name), temperature, timestep, every, seed=seed)
        assert doubts(frames) == []


@pytest.mark.parametrize(
    "every", [1, 5, *(pytest.param(every, marks=SLOW) for every in (2, 9, 20, 60, 200))]
)
@pytest.mark.parametrize("make", [lambda: metal("Cu"), lambda: metal("Al", 2), argon, hydrogen])
def test_extended_matter_is_left_in_peace(make, every):
    if every > 20 and make is argon:
        every = 40  # its neighbours are slow to find
    for temperature in (20, 1200):
        assert doubts(run(make(), temperature, 1.0, every, n_frames=5)) == []


@pytest.mark.parametrize("temperature", [5_000, 20_000])
def test_hot_hydrogen_is_left_in_peace(temperature):
    for every in (1, 10, 50):
        assert doubts(run(hydrogen(), temperature, 0.2, every)) == []


def test_sound_structures_have_sound_distances():
    for name in g2.names:
        atoms = g2[name]
        assert of_distances(Frame.from_atoms(atoms)) is None, name
    crystals = [
        bulk(e) for e in ("Na", "K", "Cs", "Fe", "W", "Be", "Mg", "Ti", "C", "Si", "Ge", "Au")
    ]
    crystals += [bulk("NaCl", "rocksalt", 5.64), bulk("CsCl", "cesiumchloride", 4.12, cubic=True),
                 bulk("GaAs", "zincblende", 5.65), bulk("Ne", "fcc", 4.5)]  # fmt: skip
    crystals += [graphene(vacuum=8), nanotube(4, 4), fcc111("Pt", (2, 2, 3), vacuum=8)]
    for atoms in crystals:
        frame = Frame.from_atoms(atoms)
        assert of_cell(frame) is None
        assert of_distances(frame) is None, atoms
        larger = atoms.repeat([3 if length else 1 for length in atoms.cell.lengths()])
        assert of_distances(Frame.from_atoms(larger)) is None, atoms


def test_atoms_at_rest_or_started_at_rest_are_left_in_peace():
    atoms = ethanol_with("schnet-ethanol")
    atoms.rattle(0.05, seed=1)
    for every in (1, 8, 30):
        assert doubts(run(atoms, 0, 0.5, every)) == []
    still = [replace(f, velocities=0 * f.velocities) for f in ethanol()[:1] * 4]
    assert doubts([replace(f, time=0.5 * k) for k, f in enumerate(still)]) == []


def test_langevin_dynamics_are_left_in_peace():
    for friction in (0.01, 0.1, 1.0):
        for every in (1, 10):
            frames = run(ethanol_with("schnet-ethanol"), 500, 0.5, every, friction=friction)
            assert doubts(frames) == []


def scaled(frames, factor):
    return [replace(f, velocities=f.velocities * factor) for f in frames]


@pytest.mark.parametrize(
    ("factor", "likely"),
    [
        (1e-3, "1000 times larger"), (1e3, "in Å/ps"), (FS, "10.18 times larger"),
        (1 / FS, "Å/ase_time"), (0.1, "10.18 times larger"), (SYSTEMS["akma"].velocities, "48.89"),
        (SYSTEMS["electron"].velocities / SYSTEMS["real"].velocities, "another unit"),
        (SYSTEMS["si"].velocities, "m/s"), (1e5, "in m/s"),
    ],
)  # fmt: skip
def test_velocities_in_another_unit(factor, likely):
    doubt = of_velocities(scaled(ethanol(), factor))
    assert doubt is not None
    assert doubt.refuses
    assert likely in doubt.message
    assert "--units" in doubt.message


@pytest.mark.parametrize("factor", [1e-3, FS, 0.01])
def test_velocities_that_carry_atoms_nowhere_are_seen_between_distant_frames(factor):
    doubt = of_velocities(scaled(ethanol(40), factor))
    assert doubt is not None
    assert "as far as their velocities carry them" in doubt.message


@pytest.mark.parametrize("wrong", [0.001, 0.1, 0.25, 2.0, 4.0])
def test_times_that_are_wrong(wrong):
    frames = [replace(f, time=f.time * wrong) for f in ethanol()]
    doubt = of_velocities(frames)
    assert doubt is not None
    assert "fs apart rather than" in doubt.message
    assert "--timestep 0.5" in doubt.message


@pytest.mark.parametrize("wrong", [48.888, 1000.0])
def test_times_that_are_far_too_long(wrong):
    """As of a DCD whose time step is in fs; of many atoms no vibration explains it."""
    frames = [replace(f, time=f.time * wrong) for f in run(metal("Cu", 2), 600, 1.0, 1)]
    doubt = of_velocities(frames)
    assert doubt is not None
    assert "fs apart rather than" in doubt.message


def test_velocities_of_a_plasma_are_a_word_only():
    hot = scaled(ethanol(40), 20)
    doubt = of_temperature(hot)
    assert doubt is not None
    assert not doubt.refuses
    assert "K; if that is not meant" in doubt.message


@pytest.mark.parametrize(
    ("factor", "likely"),
    [
        (1 / units.Bohr, "in bohr?"),
        (0.1, "in nm?"),
        (units.Bohr, "taken for bohr"),
        (1e-10, "upon"),
    ],
)
@pytest.mark.parametrize("name", ["CH3CH2OH", "C6H6", "H2O", "SiH4", "SF6"])
def test_lengths_in_another_unit(name, factor, likely):
    atoms = molecule(name) if name != "SF6" else Atoms(
        "SF6", [[0, 0, 0], *(1.56 * s * np.eye(3)[k] for k in range(3) for s in (1, -1))]
    )  # fmt: skip
    frame = Frame.from_atoms(atoms)
    doubt = of_distances(replace(frame, positions=frame.positions * factor))
    assert doubt is not None
    assert likely in doubt.message
    assert of_distances(frame) is None


@pytest.mark.parametrize("factor", [1 / units.Bohr, 0.1])
def test_metals_in_another_unit(factor):
    frame = Frame.from_atoms(metal("Cu"))
    wrong = replace(frame, positions=frame.positions * factor, cell=frame.cell * factor)
    assert doubts([wrong])


@pytest.mark.parametrize(
    ("cell", "pbc", "message"),
    [
        (np.eye(3), True, None),
        (np.diag([1, 1, 1]), True, None),
        (0.5 * np.eye(3), True, "from their own images"),
        (np.zeros((3, 3)), True, "that it does not give"),
        (np.diag([10, 10, 0]), True, "that it does not give"),
        (np.diag([10, 10, 0]), (True, True, False), None),
        ([[10, 0, 0], [10, 1e-9, 0], [0, 0, 10]], True, "flat"),
        (np.diag([10, np.nan, 10]), True, "that it does not give"),
        (np.diag([0.1, 10, 10]), (False, True, True), None),
    ],
)
def test_cells_that_no_matter_has(cell, pbc, message):
    frame = Frame.from_atoms(Atoms("H", cell=cell, pbc=pbc))
    doubt = of_cell(frame)
    assert (doubt is None) == (message is None)
    if doubt is not None:
        assert message in doubt.message
        assert "--without cell" in doubt.message


@pytest.mark.parametrize("suffix", ["traj", "extxyz", "xyz", "json", "db", "bundle", "nc"])
def test_every_format_of_a_sound_run_is_read_without_doubt(tmp_path, suffix):
    """Formats that ASE writes and reads, of a molecule, a slab and a crystal."""
    kinds = {"bundle": "bundletrajectory", "nc": "netcdftrajectory", "xyz": "xyz"}
    slab = fcc111("Cu", (2, 2, 3), vacuum=8)
    slab.calc = EMT()
    for n, atoms in enumerate((ethanol_with("schnet-ethanol"), slab, metal("Al", 2))):
        images = [frame.to_atoms() for frame in run(atoms, 400, 1.0, 1, n_frames=8)]
        file = tmp_path / f"md{n}.{suffix}"
        try:
            write(file, images, format=kinds.get(suffix))
        except ImportError:
            pytest.skip(f"ASE needs another package for {suffix}")
        chosen = Selection(timestep=1.0, format=kinds.get(suffix))
        found = list(open_trajectory(file, None, chosen).frames)
        expected = read(file, ":", format=kinds.get(suffix))
        assert len(found) == len(expected) == 8
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_array_equal(ours.positions, theirs.positions)
            np.testing.assert_array_equal(ours.cell, theirs.cell.array)
            if ours.has_velocities:
                np.testing.assert_allclose(ours.velocities, theirs.get_velocities() * FS)

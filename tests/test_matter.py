"""Crystals, melts, surfaces and clusters: each principle proven on its fault, silent without."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.calculators.emt import EMT
from ase.cluster import Octahedron
from ase.constraints import FixAtoms
from ase.geometry import find_mic

from mdxai.engines import AseEngine, EngineDescription
from mdxai.frame import Frame
from mdxai.principles import (
    Crowding,
    Density,
    Detached,
    Lindemann,
    PairDistribution,
    PrincipleUnavailable,
    Void,
    principles_for,
)
from mdxai.principles.motion.matter import Packing, matter_of
from mdxai.principles.motion.networks import covalent_network_of, network_of
from mdxai.principles.motion.structure import Bonds
from mdxai.serialization import restore, snapshot
from mdxai.stability.thresholds import THRESHOLDS
from mdxai.stability.verdict import VerdictBuilder

from .conftest import at, heated, langevin

SILICON = bulk("Si", cubic=True) * (2, 2, 2)
COPPER = bulk("Cu", cubic=True) * (2, 2, 2)


def polymer():
    """Polyethylene along x: carbons repeat through the cell, their hydrogens hang on."""
    return Atoms(
        "C2H4",
        [[0, 0, 0.4], [1.27, 0, -0.4], [0, 0.9, 1.0], [0, -0.9, 1.0], [1.27, 0.9, -1.0],
         [1.27, -0.9, -1.0]],
        cell=[2.54, 8, 8], pbc=[True, True, True],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("atoms", "inside"),
    [
        (SILICON, range(64)),
        (bulk("Si"), range(2)),
        (bulk("NaCl", "rocksalt", a=5.64), range(2)),
        (fcc111("Al", (2, 2, 3), vacuum=8.0), range(12)),
        (polymer(), range(2)),
        (molecule("C6H6", cell=[9, 9, 9], pbc=True), ()),
        (molecule("H2O", cell=[6, 6, 6], pbc=True), ()),
        (bulk("Ar", "fcc", 5.4, cubic=True), ()),
        (molecule("C60"), ()),
    ],
    ids=lambda given: str(given)[:40],
)
def test_a_network_repeats_through_the_cell(atoms, inside):
    if len(atoms) == 3:
        atoms.positions += [0, 5.8, 0]  # across the boundary of the cell
    assert np.flatnonzero(network_of(Frame.from_atoms(atoms))).tolist() == list(inside)


def flat_benzene():
    """Return benzene 2.1 Å above a copper slab, bound to it all round."""
    slab = fcc111("Cu", (4, 4, 2), vacuum=8.0)
    ring = molecule("C6H6")
    ring.translate([*slab.positions[21, :2], slab.positions[:, 2].max() + 2.1])
    return slab + ring


def test_molecules_that_metals_hold_are_no_network_but_oxides_and_silicides_are():
    atoms = flat_benzene()
    first = Frame.from_atoms(atoms)
    assert network_of(first)[32:38].all()
    assert not covalent_network_of(first)[32:].any()
    assert covalent_network_of(first)[:32].all()
    bonds = Bonds(first)
    assert len(bonds.i) == 12
    oxide = Frame.from_atoms(bulk("MgO", "rocksalt", a=4.21, cubic=True))
    assert covalent_network_of(oxide)[oxide.numbers == 12].all()
    with pytest.raises(PrincipleUnavailable, match="no covalent bonds"):
        Bonds(oxide)
    silicide = Frame.from_atoms(bulk("CoSi", "cesiumchloride", a=2.8) * (2, 2, 2))
    assert covalent_network_of(silicide).all()
    diamond = bulk("C", cubic=True)
    assert covalent_network_of(Frame.from_atoms(diamond)).all()


def test_matter_is_told_by_its_bonds():
    assert len(matter_of(Frame.from_atoms(bulk("Ar", "fcc", 5.4, cubic=True) * (2, 1, 1)))) == 8
    assert len(matter_of(Frame.from_atoms(Octahedron("Au", 3)))) == len(Octahedron("Au", 3))
    for few in (molecule("CH3CH2OH"), molecule("C60"), molecule("H2O", cell=[6] * 3, pbc=True)):
        with pytest.raises(PrincipleUnavailable, match="fewer than 8"):
            matter_of(Frame.from_atoms(few))


def frames(atoms, path):
    """Yield frames of positions, one in 10 fs."""
    first = Frame.from_atoms(atoms)
    for k, positions in enumerate(path):
        yield at(first, 10 * k, positions)


def last(principle, found):
    """Return the last deviation of a principle."""
    return [principle.deviate(frame, None) for frame in found][-1]


def shaken(atoms, sigma, n=60, seed=0):
    rng = np.random.default_rng(seed)
    return [atoms.positions + rng.normal(scale=sigma, size=(len(atoms), 3)) for _ in range(n)]


def test_lindemann_is_the_rms_displacement_over_the_spacing():
    principle = Lindemann(Frame.from_atoms(SILICON))
    found = last(principle, frames(SILICON, shaken(SILICON, 0.12, 160)))
    assert found.value == pytest.approx(np.sqrt(3) * 0.12 / 2.3517, rel=0.05)


def test_lindemann_does_not_see_motion_as_a_whole():
    """Drift through a crystal, wrapping, a barostat, rotation of a cluster, a mobile sublattice."""
    still = shaken(SILICON, 0.05, 70)
    drifting = [p + np.array([0.05 * k, 0, 0]) for k, p in enumerate(still)]
    lengths = SILICON.cell.lengths()
    for path in (drifting, [p % lengths for p in drifting]):
        value = last(Lindemann(Frame.from_atoms(SILICON)), frames(SILICON, path)).value
        assert value == pytest.approx(np.sqrt(3) * 0.05 / 2.35, rel=0.1)
    principle, first = Lindemann(Frame.from_atoms(SILICON)), Frame.from_atoms(SILICON)
    for k, positions in enumerate(still):
        scale = 1 + 0.002 * k
        frame = replace(at(first, 10 * k, positions * scale), cell=first.cell * scale)
        value = principle.deviate(frame)
    assert value.value < 0.05
    cluster = Octahedron("Au", 5, 1)
    path = []
    for k, positions in enumerate(shaken(cluster, 0.05, 70)):
        turned = Atoms(cluster.numbers, positions)
        turned.rotate(3.0 * k, (1, 2, 3), center=(5, 0, 0))
        path.append(turned.positions)
    assert last(Lindemann(Frame.from_atoms(cluster)), frames(cluster, path)).value < 0.05
    salt = bulk("NaCl", "rocksalt", a=5.64, cubic=True) * (2, 2, 2)
    mobile = np.where(salt.numbers == 11, 1.0, 0.05)
    rng = np.random.default_rng(2)
    path = [salt.positions + mobile[:, None] * rng.normal(size=(64, 3)) for _ in range(70)]
    assert last(Lindemann(Frame.from_atoms(salt)), frames(salt, path)).value < 0.1


def melting(atoms, start=20, n=300, step=0.12, seed=3):
    """Return a path on which the atoms vibrate and, from a frame on, diffuse."""
    rng = np.random.default_rng(seed)
    place, path = atoms.positions.copy(), []
    for k in range(n):
        if k >= start:
            place = place + rng.normal(scale=step, size=place.shape)
        path.append(place + rng.normal(scale=0.06, size=place.shape))
    return path


@pytest.mark.parametrize("atoms", [SILICON, COPPER, Octahedron("Au", 5, 1)], ids=len)
def test_a_crystal_that_melts_has_melted_and_is_not_unstable(atoms):
    first = Frame.from_atoms(atoms)
    principles, unavailable = principles_for(first)
    wanted = [p for p in principles if p.name in ("lindemann", "bond", "pair_distribution")]
    builder = VerdictBuilder(THRESHOLDS, unavailable, first.symbols)
    for frame in frames(atoms, melting(atoms)):
        builder.add(frame.time, {p.name: p.deviate(frame, None) for p in wanted})
    verdict = builder.verdict()
    assert verdict.stability == "melted", str(verdict)
    assert verdict.cause.time_fs < 2000


@pytest.mark.parametrize(
    "crystal",
    [
        bulk("Cu", cubic=True) * (2, 2, 2),
        bulk("Si", cubic=True),
        bulk("Fe", cubic=True) * (3, 3, 3),
        bulk("NaCl", "rocksalt", a=5.64, cubic=True),
        bulk("Mg") * (3, 3, 2),
        bulk("ZnO", "wurtzite", a=3.25, c=5.2) * (2, 2, 2),
    ],
    ids=lambda atoms: atoms.get_chemical_formula(),
)
def test_shaken_crystals_are_ordered(crystal):
    shaken = crystal.copy()
    shaken.rattle(0.15, seed=1)
    for atoms in (crystal, shaken):
        frame = Frame.from_atoms(atoms)
        assert Packing(frame).order(frame)[0] > 0.4
        Lindemann(frame)


def test_what_is_liquid_at_the_start_cannot_melt():
    rng = np.random.default_rng(0)
    liquid = COPPER.copy()
    for _ in range(200):  # atoms at random, none too close
        for k in range(len(liquid)):
            old = liquid.positions[k].copy()
            liquid.positions[k] += rng.normal(scale=0.3, size=3)
            if np.sort(liquid.get_distances(k, range(32), mic=True))[1] < 2.1:
                liquid.positions[k] = old
    with pytest.raises(PrincipleUnavailable, match="no crystal"):
        Lindemann(Frame.from_atoms(liquid))


@pytest.mark.parametrize(
    "atoms",
    [SILICON, bulk("Si", cubic=True), COPPER, bulk("Fe", cubic=True) * (2, 2, 2),
     bulk("NaCl", "rocksalt", a=5.64, cubic=True), bulk("Ar", "fcc", 5.3, cubic=True) * (2, 2, 2),
     fcc111("Al", (3, 3, 3), vacuum=8.0), Octahedron("Au", 5, 1)],
    ids=lambda atoms: str(atoms.symbols),
)  # fmt: skip
def test_a_hot_crystal_is_a_crystal(atoms):
    """At a Lindemann ratio of 0.1, as hot as it gets."""
    spacing = Packing(Frame.from_atoms(atoms)).spacing
    for seed in range(5):
        hot = atoms.copy()
        hot.rattle(0.1 * spacing / np.sqrt(3), seed=seed)
        assert Lindemann(Frame.from_atoms(hot)).name == "lindemann"


def test_a_solid_that_explodes_comes_apart_within_a_few_femtoseconds():
    for atoms in (fcc111("Al", (3, 3, 3), vacuum=40.0), Octahedron("Au", 5, 1)):
        centre = atoms.positions.mean(axis=0)
        path = [centre + (atoms.positions - centre) * (1 + 0.05 * k) for k in range(30)]
        principle = Detached(Frame.from_atoms(atoms))
        assert last(principle, frames(atoms, path)).value > 0.5
    assert last(Detached(Frame.from_atoms(atoms)), frames(atoms, shaken(atoms, 0.2))).value == 0


def test_one_atom_that_evaporates_is_named():
    atoms = Octahedron("Au", 5, 1)
    path = [atoms.positions.copy() for _ in range(20)]
    for k, positions in enumerate(path):
        positions[0] += 0.8 * k * (positions[0] - positions.mean(axis=0)) / 5
    found = last(Detached(Frame.from_atoms(atoms)), frames(atoms, path))
    assert found.value == pytest.approx(1 / len(atoms))
    assert found.atoms == (0,)


def test_atoms_that_pile_up_are_seen_and_a_melt_is_not():
    first = Frame.from_atoms(COPPER)
    assert last(Crowding(first), frames(COPPER, melting(COPPER, n=3))).value <= 3
    cluster = Octahedron("Au", 5, 1)
    centre = cluster.positions.mean(axis=0)
    path = [centre + (cluster.positions - centre) * (1 - 0.01 * k) for k in range(50)]
    found = last(Crowding(Frame.from_atoms(cluster)), frames(cluster, path))
    assert found.value > 10
    assert len(found.atoms) == 1


def opening_hole():
    """Return a crystal, and a path on which its atoms are pushed out of a sphere."""
    big = bulk("Cu", cubic=True) * (4, 4, 4)
    centre = big.positions[128] + np.array([1.805, 0, 0])  # between atoms
    apart = find_mic(big.positions - centre, big.cell)[0]
    r = np.linalg.norm(apart, axis=1)[:, None]
    path = []
    for k in range(12):
        path += [centre + apart / r * np.maximum(r, 0.5 * k)] * 10
    return big, path


def test_a_hole_is_seen():
    big, path = opening_hole()
    assert last(Void(Frame.from_atoms(big)), frames(big, path)).value > 0.75
    assert last(Void(Frame.from_atoms(big)), frames(big, shaken(big, 0.25, 20))).value < 0.3
    for vacuum, why in (
        (fcc111("Al", (2, 2, 3), vacuum=8.0), "fills its whole cell"),
        (Octahedron("Au", 5, 1), "fills its whole cell"),
    ):
        with pytest.raises(PrincipleUnavailable, match=why):
            Void(Frame.from_atoms(vacuum))


def test_density_follows_the_cell():
    first = Frame.from_atoms(COPPER)
    principle = Density(first)
    assert principle.deviate(first).value == 0
    for factor in (0.5, 1.2, 2.0):
        frame = replace(first, cell=first.cell * factor ** (1 / 3))
        assert principle.deviate(frame).value == pytest.approx(abs(np.log(factor)))
    trained = Density(first, (10.0, 11.0))  # Å³ per atom; this copper has 11.8
    start = np.log(COPPER.get_volume() / len(COPPER) / 11)
    for factor, expected in ((1.0, start), (1.2, np.log(1.2)), (0.7, -np.log(0.7))):
        frame = replace(first, cell=first.cell * factor ** (1 / 3))
        assert trained.deviate(frame).value == pytest.approx(expected)
    assert Density(first, (2.0, 3.0)).deviate(first).value == 0.5  # unlike training: a warning
    slab = Frame.from_atoms(fcc111("Cu", (2, 2, 3), vacuum=8.0, periodic=True))
    assert Density(slab, (10.0, 11.0)).deviate(slab).value == 0  # its volume is mostly vacuum
    with pytest.raises(PrincipleUnavailable, match="all directions"):
        Density(Frame.from_atoms(molecule("H2O")))


@pytest.mark.parametrize(
    "make", [Lindemann, Detached, Crowding, Void, Density, PairDistribution], ids=lambda c: c.name
)
def test_a_principle_goes_on_after_a_restart_as_if_never_stopped(make):
    first = Frame.from_atoms(COPPER)
    path = list(frames(COPPER, melting(COPPER, n=520)))
    whole, halted = make(first), make(first)
    for frame in path[:333]:
        whole.deviate(frame, None)
        halted.deviate(frame, None)
    again = restore(make(first), snapshot(halted))
    for frame in path[333:]:
        assert again.deviate(frame, None) == whole.deviate(frame, None)


@pytest.mark.parametrize("principle", [Lindemann, Detached, Crowding, Void], ids=lambda c: c.name)
def test_nan_never_passes(principle):
    first = Frame.from_atoms(COPPER)
    assert np.isnan(principle(first).deviate(at(first, 10, np.nan * first.positions)).value)


def emt_run(atoms, kelvin, steps, timestep=4.0):
    """Return the verdict of Langevin dynamics with EMT by all that is checked."""
    atoms = atoms.copy()
    atoms.calc = EMT()
    dynamics = langevin(heated(atoms, kelvin), kelvin, timestep=timestep)
    engine, principles = AseEngine(dynamics), []
    builder = VerdictBuilder()

    def see():
        frame = engine.frame()
        if not principles:
            principles.extend(principles_for(frame, None, engine.describe())[0])
        builder.add(frame.time, {p.name: p.deviate(frame, None) for p in principles})

    dynamics.attach(see, interval=1)
    dynamics.run(steps)
    return builder.verdict()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("atoms", "kelvin"), [(COPPER, 300), (COPPER, 1050), (Octahedron("Au", 4, 1), 300)], ids=str
)
def test_sound_crystals_of_emt_are_stable(atoms, kelvin):
    assert emt_run(atoms, kelvin, 800).stability == "stable"


@pytest.mark.slow
def test_a_slab_with_fixed_atoms_is_stable_and_a_crystal_far_too_hot_melts():
    slab = fcc111("Al", (2, 2, 4), vacuum=8.0)
    slab.set_constraint(FixAtoms(mask=[atom.tag >= 3 for atom in slab]))
    assert emt_run(slab, 500, 400).stability == "stable"
    melt = emt_run(COPPER, 6000, 800, timestep=3.0)
    assert melt.stability == "melted", str(melt)


def test_a_cell_that_shrinks_to_nothing_is_unstable():
    first = Frame.from_atoms(COPPER)
    principles, unavailable = principles_for(first, None, EngineDescription("NPT", 1.0, None))
    builder = VerdictBuilder(THRESHOLDS, unavailable)
    for k in range(60):
        scale = 0.985**k
        frame = replace(at(first, 10 * k, first.positions * scale), cell=first.cell * scale)
        builder.add(frame.time, {p.name: p.deviate(frame, None) for p in principles})
    verdict = builder.verdict()
    assert verdict.stability == "unstable"
    assert {"density", "crowding"} <= {
        f.principle for f in verdict.findings if f.outcome.is_failure
    }

"""Reference data: what a model was trained on, for any calculator."""

from __future__ import annotations

import json

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, fcc111, molecule
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.calculators.singlepoint import SinglePointCalculator
from ase.cluster import Octahedron
from ase.collections import g2
from ase.io import write
from ase.md.verlet import VelocityVerlet

from mdxai import Monitor, open_run
from mdxai.calculators.card import Card
from mdxai.calculators.reference_data import (
    ReferenceData,
    ReferenceDataError,
    composition,
    has_vacuum,
)
from mdxai.frame import Frame
from mdxai.monitoring.options import MonitorOptions, OptionError
from mdxai.monitoring.run import RunSettings, simulate
from mdxai.principles import ClosestContact, principles_for
from mdxai.principles.motion.distances import UnlikeTraining
from mdxai.stability import Verdict, judge

from .conftest import ethanol_with, heated, invoke, langevin


def hot_ethanols(n=40, seed=0):
    """Return ethanols shaken by 0.1 Å with forces of EMT, as a training set holds them."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(n):
        atoms = molecule("CH3CH2OH")
        atoms.positions += rng.normal(scale=0.1, size=(9, 3))
        atoms.calc = EMT()
        forces, energy = atoms.get_forces(), atoms.get_potential_energy()
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
        found.append(atoms)
    return found


@pytest.fixture
def data(tmp_path):
    write(tmp_path / "train.extxyz", hot_ethanols())
    return tmp_path / "train.extxyz"


def test_ranges_are_those_of_all_distances(data):
    found = ReferenceData.load(data)
    images = hot_ethanols()
    symbols = np.array(images[0].get_chemical_symbols())
    distances = np.array([atoms.get_all_distances() for atoms in images])
    carbon, hydrogen = symbols == "C", symbols == "H"
    ch = distances[:, carbon][:, :, hydrogen]
    assert found.distances["C-H"] == pytest.approx((ch.min(), ch.max()), abs=1e-6)
    assert found.elements == ("C", "H", "O")
    assert "O-O" not in found.distances
    largest = max(np.linalg.norm(atoms.get_forces(), axis=1).max() for atoms in images)
    assert found.forces_max == pytest.approx(largest, rel=1e-6)
    assert (found.n_frames, "40 structures" in found.source) == (40, True)


@pytest.mark.parametrize("suffix", ["traj", "db", "json", "npz"])
def test_formats(suffix, tmp_path, data):
    file, images = tmp_path / f"set.{suffix}", hot_ethanols()
    if suffix == "npz":
        positions = np.array([atoms.positions for atoms in images])
        np.savez(file, z=images[0].numbers, R=positions, F=positions)
    else:
        write(file, images)
    found, expected = ReferenceData.load(file), ReferenceData.load(data)
    assert found.distances.keys() == expected.distances.keys()
    for pair, span in found.distances.items():
        assert span == pytest.approx(expected.distances[pair], abs=1e-6)
    if suffix == "npz":  # its unit of forces is not stated
        assert found.forces_max is None
        assert "forces left out, as an npz states no unit" in found.source
    else:
        assert found.forces_max == pytest.approx(expected.forces_max, rel=1e-6)


def test_a_crystal_has_shortest_distances_and_no_longest(tmp_path):
    write(tmp_path / "cu.traj", [bulk("Cu", cubic=True, a=a) for a in (3.5, 3.7)])
    found = ReferenceData.load(tmp_path / "cu.traj")
    assert found.distances == {"Cu-Cu": (pytest.approx(3.5 / np.sqrt(2)), np.inf)}
    assert found.volumes == {"Cu": pytest.approx((3.5**3 / 4, 3.7**3 / 4))}


def test_a_cell_that_training_never_saw_is_a_finding(tmp_path):
    """Copper twice as dilute as the data: its volume at every step is that of the first frame."""
    write(tmp_path / "cu.traj", [bulk("Cu", cubic=True, a=a) for a in (3.5, 3.7)])
    for a, expected in ((3.6, set()), (4.6, {"density"})):
        atoms = bulk("Cu", cubic=True, a=a) * (2, 2, 2)
        atoms.calc = EMT()
        dynamics = VelocityVerlet(atoms, 2 * units.fs)
        with Monitor(dynamics, reference=tmp_path / "cu.traj", on_unstable="ignore") as monitor:
            dynamics.attach(monitor)
            dynamics.run(20)
        assert {f.principle for f in monitor.verdict.findings} & {"density"} == expected


def test_cells_with_vacuum_give_no_volume(tmp_path):
    slab = fcc111("Cu", (2, 2, 3), vacuum=8.0, periodic=True)
    box = molecule("H2O", cell=[9, 9, 9], pbc=True)
    cluster = Octahedron("Cu", 3)
    cluster.set_cell([20, 20, 20])
    cluster.pbc = True
    write(tmp_path / "all.traj", [slab, box, cluster, bulk("Cu", cubic=True)])
    assert ReferenceData.load(tmp_path / "all.traj").volumes == {
        "Cu": pytest.approx((11.76, 11.76), abs=0.01)
    }
    for solid in (bulk("Cu"), bulk("Si"), bulk("Cs", "bcc", a=6.1), bulk("Xe", "fcc", a=6.2)):
        for n in (1, 3):
            many = solid * (n, n, n)
            assert not has_vacuum(many.positions, many.cell.array)
    turned = bulk("Cu", cubic=True) * (2, 2, 2)
    turned.rotate(40, (1, 2, 3), rotate_cell=True)
    turned.positions += [31.0, -17.0, 5.0]
    assert not has_vacuum(turned.positions, turned.cell.array)


def test_compositions_do_not_depend_on_order_or_size():
    assert composition(bulk("Cu").numbers) == "Cu"
    assert composition(np.array([79, 29, 29, 29] * 2)) == composition(np.array([29, 29, 79, 29]))


def test_forces_under_the_name_that_training_sets_use(tmp_path):
    atoms = bulk("Cu", cubic=True)
    atoms.arrays["REF_forces"] = np.full((4, 3), 2.0)
    write(tmp_path / "mace.extxyz", atoms)
    assert ReferenceData.load(tmp_path / "mace.extxyz").forces_max == pytest.approx(np.sqrt(12))


@pytest.mark.parametrize("kind", ["molecules", "crystal"])
def test_a_summary_stands_for_the_data(kind, data, tmp_path):
    """Distances without an end and volumes of crystals come back, too."""
    if kind == "crystal":
        data = tmp_path / "copper.xyz"
        write(data, [bulk("Cu", cubic=True), bulk("Cu", a=3.7, cubic=True)])
    told = invoke("card", data, "--out", tmp_path / "ranges.toml")
    assert told.exit_code == 0, told.stderr
    found = ReferenceData.load(data)
    assert ReferenceData.load(tmp_path / "ranges.toml") == found
    for pair, (shortest, _) in found.distances.items():
        (row,) = (line for line in told.stdout.splitlines() if f" {pair} " in line)
        assert f"{shortest:.3f}" in row
    plain = json.loads(invoke("card", data, "--json").stdout)
    assert plain["elements"] == list(found.elements)
    assert plain["distances"].keys() == found.distances.keys()


def test_the_card_states_the_largest_force_where_the_data_hold_none(tmp_path):
    positions = np.array([atoms.positions for atoms in hot_ethanols()])
    np.savez(tmp_path / "set.npz", z=molecule("CH3CH2OH").numbers, R=positions)
    verdict = monitored(ethanol_with("schnet-ethanol"), reference=tmp_path / "set.npz").verdict
    assert "force_beyond_training" not in verdict.unavailable
    foreign = molecule("CH3CH2OH")
    foreign.calc = EMT()
    verdict = monitored(foreign, reference=tmp_path / "set.npz").verdict
    assert (
        "neither the calculator nor reference data" in verdict.unavailable["force_beyond_training"]
    )


def test_a_summary_that_cannot_be_is_refused(data, tmp_path):
    (tmp_path / "old.toml").write_text("schema = 'reference data 0'")
    (tmp_path / "odd.toml").write_text("schema = 'reference data 1'\ncolour = 'red'")
    for name in ("old.toml", "odd.toml", "none.toml"):
        with pytest.raises(ReferenceDataError, match="no summary of reference data"):
            ReferenceData.load(tmp_path / name)
    for name, message in (
        ("ranges.json", "ends in .toml"),
        ("old.toml", "exists already"),
        ("none/x.toml", "cannot be written"),
    ):
        refused = invoke("card", data, "--out", tmp_path / name)
        assert refused.exit_code == 2
        assert message in " ".join(refused.stderr.split())


def test_what_cannot_be_read_is_one_message(tmp_path):
    (tmp_path / "no.xyz").write_text("3\n\nrubbish\n")
    np.savez(tmp_path / "qm9.npz", z=np.ones((5, 3)), R=np.zeros((5, 3, 3)))
    write(tmp_path / "atom.xyz", Atoms("Ar"))
    flat = bulk("Cu", cubic=True)
    flat.set_cell(np.zeros((3, 3)))
    write(tmp_path / "flat.traj", [bulk("Cu", cubic=True), flat])
    for name, message in (
        ("missing.xyz", "there is no reference data"),
        ("no.xyz", "cannot be read as reference data"),
        ("flat.traj", "cannot be read as reference data, structure 1"),
        ("qm9.npz", "write it as extxyz"),
        ("atom.xyz", "no structure with two atoms"),
    ):
        with pytest.raises(ReferenceDataError, match=message):
            MonitorOptions(reference=tmp_path / name)
    with pytest.raises(OptionError, match="reference must be data or their file"):
        MonitorOptions(reference=3)


def monitored(atoms, path=None, **options):
    """Return the monitor of a run of two steps."""
    dynamics = langevin(heated(atoms))
    with Monitor(dynamics, path, on_unstable="ignore", attribute_every=0, **options) as monitor:
        dynamics.attach(monitor)
        dynamics.run(2)
    return monitor


def test_a_run_of_any_calculator_is_compared_with_it(data, tmp_path):
    atoms = ethanol_with(EMT())
    monitor = monitored(atoms, tmp_path / "run", reference=data)
    verdict = monitor.verdict
    for name in ("contact", "beyond_training", "force_beyond_training", "unlike_training"):
        assert name not in verdict.unavailable
    assert f"compared with {data} (40 structures)" in str(verdict)
    run = open_run(tmp_path / "run")
    assert run.header["parameters"]["reference"]["source"] == verdict.reference
    assert judge(run) == verdict
    assert Verdict.from_dict(verdict.as_dict()) == verdict


def test_a_resumed_run_needs_the_same_data(data, tmp_path):
    other = tmp_path / "other.extxyz"
    write(other, hot_ethanols(seed=5))

    def settings(file, steps):
        monitor = MonitorOptions(reference=file, attribute_every=0, report=False)
        return RunSettings(steps=steps, monitor=monitor)

    atoms, out = ethanol_with(None), tmp_path / "run"
    simulate(EMT(), atoms, settings(data, 4), out)
    simulate(EMT(), atoms, settings(data, 6), out, resume=True)
    with pytest.raises(ValueError, match=r"options\.reference"):
        simulate(EMT(), atoms, settings(other, 8), out, resume=True)


def test_another_molecule_or_element_is_a_finding(data):
    training = ReferenceData.load(data)
    for formula, atoms in (("C6H6", None), ("CH3SH", "S"), ("CH3CH2OH", "")):
        first = Frame.from_atoms(molecule(formula))
        value = UnlikeTraining(training.distances, first).deviate(first).value
        assert (value > 0.5) is (atoms != "")


def test_a_molecule_that_the_network_never_saw_is_suspect():
    verdict = monitored(ethanol_with("painn-ethanol")).verdict
    assert not verdict.findings
    atoms = molecule("C6H6")
    atoms.calc = ethanol_with("painn-ethanol").calc
    verdict = monitored(atoms).verdict
    found = {f.principle: f for f in verdict.findings}
    assert found["unlike_training"].severity == "warn"
    assert "ever tested" in found["unlike_training"].advice
    assert verdict.reference == "the training data of painn-ethanol"


def contact(atoms):
    first = Frame.from_atoms(atoms)
    return ClosestContact(ReferenceData.physical(first.numbers).distances, first)


def test_no_molecule_meets_a_physical_radius():
    """All of G2 squeezed by a tenth: stronger than any vibration."""
    for name in g2.names:
        atoms = g2[name]
        if len(atoms) > 1:
            atoms.positions *= 0.9
            first = Frame.from_atoms(atoms)
            assert contact(atoms).deviate(first).value <= 0.15, name


DENSE = {  # nearest neighbours, Å, of matter with short bonds for its radii
    "Cr2": ("Cr2", 1.68), "Mo2": ("Mo2", 1.94), "uranyl": ("UO", 1.76), "CeO": ("CeO", 1.81),
    "H2": ("H2", 0.74), "F2": ("F2", 1.41), "Be2": ("Be2", 2.45), "VO": ("VO", 1.59),
    "KrF+": ("KrF", 1.75), "HeH+": ("HeH", 0.77), "Na at 100 GPa": ("Na2", 2.5),
    "Cs at 10 GPa": ("Cs2", 3.6), "Fe in the core": ("Fe2", 2.1), "Cu at 200 GPa": ("Cu2", 2.2),
    "a shared proton": ("OH", 1.2), "MnO4-": ("MnO", 1.60), "OsO4": ("OsO", 1.70),
}  # fmt: skip


@pytest.mark.parametrize("case", DENSE)
def test_no_dense_matter_meets_a_physical_radius(case):
    formula, distance = DENSE[case]
    atoms = Atoms(formula, [[0, 0, 0], [0.95 * distance, 0, 0]])
    first = Frame.from_atoms(atoms)
    assert contact(atoms).deviate(first).value <= 0.15


def test_two_atoms_inside_each_other_break_a_physical_radius():
    atoms = molecule("CH3CH2OH")
    judged = contact(atoms)
    atoms.positions[3] = atoms.positions[2] + [0.3, 0, 0]
    found = judged.deviate(Frame.from_atoms(atoms))
    assert found.value > 0.3
    assert found.atoms == (2, 3)


def test_reduced_units_are_no_overlap():
    atoms = Atoms("Ar2", [[0, 0, 0], [1.1, 0, 0]])
    atoms.calc = LennardJones()
    verdict = monitored(atoms).verdict
    assert "reduced units" in verdict.unavailable["contact"]
    assert verdict.reference == ""
    assert not {f.principle for f in verdict.findings} & {"contact", "unlike_training"}


def test_physical_radii_are_named_and_cards_come_first():
    atoms = ethanol_with(EMT())
    verdict = monitored(atoms).verdict
    assert "compared with physical radii (0.55 of the covalent)" in str(verdict)
    assert "give reference data" in verdict.unavailable["beyond_training"]
    first = Frame.from_atoms(atoms)
    card = Card("mine", {"cutoff": 5.0}, distances={"H-H": (1.4, 4.5)}, forces_max=2.0)
    (partly,) = (name for name in principles_for(first, card)[1] if name.startswith("contact of "))
    assert set(partly.removeprefix("contact of ").split(", ")) == {"C-C", "C-H", "C-O", "H-O"}


@pytest.mark.parametrize("command", ["run", "replay", "check"])
def test_commands_take_reference_data(command, data, tmp_path):
    atoms = molecule("CH3CH2OH")
    atoms.calc = EMT()
    atoms.get_forces()
    write(tmp_path / "start.traj", [atoms, atoms])
    rest = {
        "run": ["--steps", 2, "--out", tmp_path / "run"],
        "replay": ["--timestep", 1, "--out", tmp_path / "run"],
    }.get(command, [])
    result = invoke(
        command, "emt", tmp_path / "start.traj", "--reference-data", data, "--json", *rest
    )
    content = json.loads(result.stdout)
    if command == "check":
        by_name = {entry["name"]: entry for entry in content["results"]}
        assert by_name["unlike_training"]["verdict"] == "pass"
        assert by_name["contact"]["verdict"] == "pass"
    else:
        assert content["reference"] == f"{data} (40 structures)"
    wrong = invoke(command, "emt", tmp_path / "start.traj", "--reference-data", tmp_path / "no")
    assert (wrong.exit_code, "there is no reference data" in wrong.stderr) == (2, True)

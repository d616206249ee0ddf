"""Guards: nothing inside the training domain, smooth and conservative outside, on real models."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.calculators.test import gradient_test
from ase.io import write
from ase.md.velocitydistribution import thermalize_momenta
from ase.md.verlet import VelocityVerlet

import mdxai
from mdxai.analysis import AnalysisOptions
from mdxai.attribution import attributor
from mdxai.calculators import CalculatorError, Guard, GuardError, guard_of, guarded, twin_of
from mdxai.calculators.batch import BatchPotential, Systems
from mdxai.calculators.bond_gaps import BondGaps
from mdxai.calculators.card import Card
from mdxai.calculators.guard_term import GuardTerm
from mdxai.calculators.guarded_calculator import without_guard
from mdxai.calculators.reference_data import ReferenceData
from mdxai.frame import Frame
from mdxai.mending import strengthen, write_guarded
from mdxai.principles.motion.guard_work import GuardWork
from mdxai.report import write_analysis_page
from mdxai.serialization import restore, snapshot
from mdxai.stability.verdict import Stability

from .conftest import ETHANOL, SOUND, invoke, shaken
from .test_weak_spots import WATER, Analytic, holed_water

CELL = np.zeros((3, 3))
FREE = np.zeros(3, dtype=bool)


def ethanol():
    return molecule(ETHANOL)


def outside():
    """Return ethanol with a C–H bond too long and two hydrogens too close."""
    atoms = ethanol()
    long = atoms.positions[4] - atoms.positions[1]
    atoms.positions[4] += 0.35 * long
    close = atoms.positions[7] - atoms.positions[8]
    atoms.positions[7] -= 0.2 * close
    atoms.positions[8] += 0.2 * close
    return atoms


def results(calculator, atoms):
    atoms = atoms.copy()
    atoms.calc = calculator
    return atoms.get_potential_energy(), atoms.get_forces()


def guard_energy(guard, atoms):
    action = term_of(guard, atoms).act(atoms.positions, atoms.cell.array, atoms.pbc)
    return 0.0 if action is None else action.energy


def term_of(guard, atoms):
    return GuardTerm(guard, atoms.numbers.astype(np.int64))


@pytest.mark.parametrize("name", SOUND)
def test_inside_the_training_domain_nothing_changes_by_a_bit(name, shared_data):
    with np.load(shared_data / "rmd17" / "rmd17_ethanol.npz") as data:
        numbers, frames = data["z"], data["R"].astype(float)[data["train_01"][:950]]
    plain = mdxai.load_calculator(name)
    kept = mdxai.guard(plain, Atoms(numbers, frames[0]))
    term = GuardTerm(guard_of(kept), numbers.astype(np.int64))
    assert all(action is None for action in term.act_on_all(frames))  # of all that it trained on
    for positions in frames[:5]:
        (e, f), (g, h) = (results(c, Atoms(numbers, positions)) for c in (plain, kept))
        assert e == g
        assert f.tobytes() == h.tobytes()


def test_outside_forces_are_the_gradient_of_the_energy():
    guard = guard_of(mdxai.guard(mdxai.load_calculator("schnet-ethanol"), ethanol()))
    atoms, step = outside(), 1e-5
    action = term_of(guard, atoms).act(atoms.positions, CELL, FREE)
    forces, shares = np.zeros((9, 3)), np.zeros(9)
    action.add_to(shares, forces)
    assert action.energy > 0.3
    assert shares.sum() == pytest.approx(action.energy, rel=1e-12)
    assert {1, 4, 7, 8} <= set(np.flatnonzero(shares).tolist())
    for a, x in itertools.product(range(9), range(3)):
        slopes = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions[a, x] += sign * step
            slopes.append(sign * guard_energy(guard, moved))
        assert forces[a, x] == pytest.approx(-sum(slopes) / (2 * step), abs=1e-6)
    np.testing.assert_allclose(action.partial_forces(9).sum(0), forces, atol=1e-12)


@pytest.mark.parametrize(
    "inner",
    [
        lambda: mdxai.load_calculator("schnet-ethanol", dtype="float64"),
        lambda: LennardJones(sigma=1.0, epsilon=0.01, rc=6.0),
    ],
    ids=["network", "wrapper"],
)
def test_forces_of_guarded_calculators_are_gradients(inner):
    atoms = outside()
    atoms.calc = mdxai.guard(inner(), ethanol())
    exact, numeric = gradient_test(atoms, indices=[4])
    np.testing.assert_allclose(exact, numeric, atol=2e-4)


@pytest.mark.parametrize("wall", [False, True])
def test_energy_slope_and_curvature_are_continuous_at_the_joint(wall):
    guard = Guard({"H-H": 0.7}, {}, {"H-H": 1.2}, (1, 1), ((0, 1),), ((0, 1),))
    joint, sign = (1.2, 1) if wall else (0.7, -1)

    def energy(beyond):
        return guard_energy(guard, Atoms("H2", [[0, 0, 0], [joint + sign * beyond, 0, 0]]))

    assert energy(-1e-9) == energy(-0.1) == 0.0
    for h in (1e-2, 1e-3, 1e-4):  # curvature falls to 0 linearly, so E ~ h³ at the joint
        curvature = (energy(2 * h) - 2 * energy(h) + energy(0)) / h**2
        assert 0 < curvature < 2e4 * h
        assert 0 < energy(h) < 1e4 * h**3
    far = [energy(d) for d in (0.3, 0.301, 0.302)]
    assert far[2] > far[1] > far[0] > 0.3


def test_periodic_images_are_those_of_brute_force():
    rng = np.random.default_rng(3)
    cell = np.array([[3.1, 0.0, 0.0], [0.9, 2.8, 0.0], [-0.4, 0.7, 3.3]])
    atoms = Atoms("HOC", rng.uniform(0, 3, (3, 3)), cell=cell, pbc=[True, True, False])
    guard = Guard({"H-H": 3.3, "C-O": 3.6, "H-O": 4.2, "C-C": 3.15, "C-H": 2.0, "O-O": 1.0})
    expected = 0.0
    for i, j in itertools.product(range(3), repeat=2):
        limit = guard.shortest["-".join(sorted((atoms.symbols[i], atoms.symbols[j])))]
        for u, v in itertools.product(range(-4, 5), repeat=2):
            if i == j and u == v == 0:
                continue
            r = np.linalg.norm(atoms.positions[j] - atoms.positions[i] + u * cell[0] + v * cell[1])
            x = max(limit / r - 1, 0.0)
            expected += 0.5 * 10.0 * x**3 / (x + 0.05)
    assert expected > 1
    assert guard_energy(guard, atoms) == pytest.approx(expected, rel=1e-12)
    atoms.calc = guarded(LennardJones(sigma=0.1, epsilon=1e-9), guard)
    exact, numeric = gradient_test(atoms)
    np.testing.assert_allclose(exact, numeric, atol=1e-4)


def test_a_molecule_across_the_border_of_its_cell_is_the_same():
    guard = guard_of(mdxai.guard(mdxai.load_calculator("schnet-ethanol"), ethanol()))
    free = outside()
    boxed = free.copy()
    boxed.set_cell([[9, 0, 0], [2, 10, 0], [1, 1, 8]])
    boxed.pbc = True
    boxed.positions += boxed.positions[1]
    boxed.wrap()
    assert guard_energy(guard, boxed) == pytest.approx(guard_energy(guard, free), rel=1e-9)
    boxed.set_cell([3.5, 9, 9])
    with pytest.raises(GuardError, match=r"the cell is 3\.50 Å high"):
        guard_energy(guard, boxed)


def test_stress_of_a_guarded_crystal_is_that_of_strains():
    copper = bulk("Cu", cubic=True)
    copper.positions[0] += 0.1
    copper.calc = guarded(EMT(), Guard({"Cu-Cu": 2.7}))
    assert guard_energy(copper.calc.guard, copper) > 0.01
    energies = []
    for strain in (1e-5, -1e-5):
        strained = copper.copy()
        strained.set_cell(copper.cell.array @ np.diag([1 + strain, 1, 1]), scale_atoms=True)
        energies.append(results(copper.calc, strained)[0])
    slope = (energies[0] - energies[1]) / 2e-5 / copper.get_volume()
    assert copper.get_stress()[0] == pytest.approx(slope, rel=1e-4)
    bare = copper.copy()
    bare.calc = EMT()
    assert copper.get_potential_energy() - bare.get_potential_energy() == pytest.approx(
        guard_energy(copper.calc.guard, copper)
    )


def test_a_batch_is_what_single_structures_are():
    calculator = mdxai.guard(mdxai.load_calculator("schnet-ethanol", dtype="float64"), ethanol())
    lost = outside()
    lost.positions[0] = np.nan
    frames = [shaken(amplitude=0.02), outside(), lost, ethanol()]
    many = Systems(
        np.tile(frames[0].numbers.astype(np.int64), 4), 9 * np.arange(5),
        np.concatenate([a.positions for a in frames]), np.zeros((4, 3, 3)),
        np.zeros((4, 3), dtype=bool),
    )  # fmt: skip
    energies, forces = BatchPotential(calculator.potential).predict(many)
    for k, atoms in enumerate(frames):
        if k == 2:
            assert np.isnan(energies[k])
            continue
        energy, force = results(calculator, atoms)
        assert energies[k] == pytest.approx(energy, abs=1e-8)
        np.testing.assert_allclose(forces[9 * k : 9 * k + 9], force, atol=1e-8)


def test_copies_of_the_molecule_have_its_walls_and_fragments_only_repel():
    guard = guard_of(mdxai.guard(mdxai.load_calculator("schnet-ethanol"), ethanol()))
    one = outside()
    two = one.copy()
    two.positions += 20
    assert guard_energy(guard, one + two) == pytest.approx(2 * guard_energy(guard, one))
    bond = one[[1, 4]]
    assert guard_energy(guard, bond) == 0.0  # a long bond of two atoms alone
    bond.set_distance(0, 1, 0.8)
    assert guard_energy(guard, bond) > 0.1


def test_energy_is_conserved_while_the_guard_acts():
    """Fluctuations of velocity Verlet fall with the square of the time step, as for smooth E(r)."""
    guard = Guard({"H-O": 0.94, "H-H": 1.5}, {}, {"H-O": 0.98}, (8, 1, 1), ((0, 1), (0, 2)))
    spread = []
    for timestep in (0.3, 0.15):
        atoms = WATER.copy()
        thermalize_momenta(atoms, temperature_K=600, rng=np.random.default_rng(0))
        atoms.calc = guarded(Analytic(holed_water), guard)
        dynamics, totals, held = VelocityVerlet(atoms, timestep * units.fs), [], []
        for _ in range(round(80 / timestep)):
            dynamics.run(1)
            totals.append(atoms.get_total_energy())
            held.append(guard_energy(guard, atoms))
        assert np.mean(np.array(held) > 1e-4) > 0.1  # it acts much of the time
        spread.append(np.std(totals))
    assert 3 < spread[0] / spread[1] < 5


def test_explanations_give_the_guard_to_its_pairs_and_the_network_its_own():
    plain = mdxai.load_calculator("schnet-ethanol", dtype="float64")
    kept = mdxai.guard(plain, ethanol())
    frame = Frame.from_atoms(outside())
    action = term_of(guard_of(kept), outside()).act(frame.positions, CELL, FREE)
    bare, whole = (attributor(c, body_order=3).attribute(frame) for c in (plain, kept))
    both = attributor(kept, body_order=3).attribute_many([frame, ethanol()])
    more = np.zeros(len(bare.pairs))
    for i, j, energy in zip(action.i, action.j, action.energies, strict=True):
        more[(bare.pairs.i == i) & (bare.pairs.j == j)] += energy
    assert np.count_nonzero(more) >= 2
    np.testing.assert_allclose(whole.two_body - bare.two_body, more, atol=1e-10)
    np.testing.assert_allclose(both[0].two_body, whole.two_body, atol=1e-9)
    assert whole.output - bare.output == pytest.approx(action.energy)
    assert whole.residual == pytest.approx(bare.residual)
    assert whole.by_body_order.sum() == pytest.approx(whole.atoms.sum())
    np.testing.assert_array_equal(whole.three_body, bare.three_body)
    inside = [attributor(c).attribute(ethanol()) for c in (plain, kept)]
    assert inside[0].two_body.tobytes() == inside[1].two_body.tobytes()


def test_a_bond_beyond_the_cutoff_has_its_energy_in_the_explanation_too():
    kept = mdxai.guard(mdxai.load_calculator("schnet-ethanol", dtype="float64"), ethanol())
    atoms = ethanol()
    atoms.positions[4] += 6.0 * (atoms.positions[4] - atoms.positions[1])
    found = attributor(kept).attribute(atoms)
    row = np.flatnonzero((found.pairs.i == 1) & (found.pairs.j == 4))
    assert found.pairs.distances[row] > 5.0
    assert found.two_body[row] > 100
    assert found.residual == pytest.approx(found.output - found.atoms.sum())


def test_twins_are_guarded_and_the_calculator_that_was_given_stays_without():
    for plain in (mdxai.load_calculator("schnet-ethanol"), LennardJones(sigma=1.0)):
        before = results(plain, outside())[0]
        kept = mdxai.guard(plain, ethanol())
        frame = Frame.from_atoms(outside())
        assert twin_of(kept).evaluate(frame)[0] == results(kept, outside())[0]
        extra = guard_energy(guard_of(kept), outside())
        assert twin_of(kept).evaluate(frame)[0] - before == pytest.approx(extra, rel=1e-4)
        assert results(plain, outside())[0] == before
        assert guard_of(plain) is None
        again = mdxai.guard(kept, ethanol(), repulsion=1.0, wall=0.0)
        assert guard_of(again).wall == 0.0
        assert guard_of(again).source == guard_of(kept).source


def test_the_guard_says_where_its_distances_come_from(tmp_path):
    atoms, network = ethanol(), mdxai.load_calculator("schnet-ethanol")
    card = guard_of(mdxai.guard(network, atoms))
    assert card.source == "the training data of schnet-ethanol"
    assert card.shortest["H-H"] == pytest.approx(1.4495)
    assert card.contacts["C-H"] == pytest.approx(1.7008)
    assert card.longest["C-H"] == pytest.approx(1.2903)
    assert len(card.bonds) == 8
    radii = guard_of(mdxai.guard(LennardJones(), atoms))
    assert radii.source == "physical radii"
    assert radii.contacts["H-H"] == pytest.approx(1.32, abs=1e-3)
    file = tmp_path / "data.extxyz"
    write(file, [shaken(seed=seed) for seed in range(3)])
    data = guard_of(mdxai.guard(network, atoms, reference=file))
    assert data.source.startswith(str(file))
    assert data.shortest["H-H"] > card.shortest["H-H"]
    assert not guard_of(mdxai.guard(network)).bonds  # without a structure no walls


def test_metals_and_crystals_have_no_walls():
    found = guard_of(mdxai.guard(EMT(), bulk("Cu", cubic=True)))
    assert not found.bonds
    assert not found.contacts
    assert guard_energy(found, bulk("Cu", cubic=True)) == 0.0


def test_another_order_of_atoms_is_refused():
    order = [1, 0, 2, 6, 7, 8, 4, 5, 3]
    for inner in (mdxai.load_calculator("schnet-ethanol"), LennardJones(sigma=1.0)):
        kept = mdxai.guard(inner, ethanol())
        results(mdxai.guard(inner, ethanol()[order]), ethanol()[order])
        with pytest.raises(GuardError, match="wall on the bond of atoms"):
            results(kept, ethanol()[order])


def test_a_structure_far_outside_and_impossible_strengths_are_refused():
    calculator = mdxai.load_calculator("schnet-ethanol")
    atoms = ethanol()
    atoms.positions *= 0.7
    with pytest.raises(GuardError, match="in the structure itself, where"):
        mdxai.guard(calculator, atoms)
    with pytest.raises(GuardError, match="wall must be 0 eV or more, got -1"):
        mdxai.guard(calculator, ethanol(), wall=-1)
    with pytest.raises(GuardError, match="expected a finite height above 0 eV"):
        strengthen(calculator, ethanol(), height=0)


def test_a_guard_is_written_on_the_card_and_read_again(tmp_path):
    kept = mdxai.guard(mdxai.load_calculator("painn-ethanol"), ethanol(), wall=123.0)
    write_guarded(kept, tmp_path / "kept")
    read = mdxai.load_calculator(tmp_path / "kept")
    assert guard_of(read) == guard_of(kept)
    assert read.name == "painn-ethanol-guarded"
    assert results(read, outside())[0] == results(kept, outside())[0]
    assert Card.load(tmp_path / "kept" / "card.toml").guard == guard_of(kept)
    with pytest.raises(CalculatorError, match="already holds a calculator"):
        write_guarded(kept, tmp_path / "kept")
    with pytest.raises(CalculatorError, match="only networks of mdxai can be written"):
        write_guarded(mdxai.guard(EMT()), tmp_path / "other")


def test_bonds_and_contacts_are_told_apart_only_where_nothing_reacts():
    carbon, hydrogen = np.array([6]), np.array([1])

    def found(lengths):
        gaps = BondGaps()
        for length in lengths:
            gaps.add(carbon, hydrogen, np.array([length]))
        return gaps.found.get("C-H")

    assert found([1.0, 1.1, 1.29, 1.72, 2.5]) == (1.29, 1.72)
    assert found([1.9, 2.5]) == (0.0, 1.9)
    assert found([1.0, 1.1]) == (1.1, np.inf)
    assert found(np.arange(1.0, 2.5, 0.05)) is None  # a bond that breaks


def test_the_guard_is_made_as_strong_as_its_weak_spots_ask():
    data = ReferenceData("water", distances={"H-O": (0.85, 1.2), "H-H": (1.0, 1.9)})
    found = strengthen(Analytic(holed_water), WATER, height=1.5, reference=data)
    assert found.before.spots[0].barrier < 1.5
    assert not found.left
    assert len(found.rounds) > 1
    weaker = replace(found.guard, repulsion=found.guard.repulsion / 2)
    again = mdxai.weak_spots(guarded(Analytic(holed_water), weaker), WATER)
    assert again.spots[0].barrier < 1.5  # half of it would not do


def test_a_guard_is_taken_off_before_another_is_made():
    data = ReferenceData("water", distances={"H-O": (0.85, 1.2), "H-H": (1.0, 1.9)})
    bare = Analytic(holed_water)
    once = mdxai.guard(bare, WATER, reference=data, repulsion=500.0)
    found = strengthen(once, WATER, height=1.5, reference=data)
    assert found.before.spots[0].barrier < 1.5  # those of the potential, not of its guard
    assert without_guard(once) is bare
    assert without_guard(bare) is bare


def test_a_network_without_its_guard_is_the_network_again():
    plain = mdxai.load_calculator("schnet-ethanol")
    again = without_guard(mdxai.guard(plain, ethanol()))
    assert (again.name, guard_of(again)) == (plain.name, None)
    assert np.array_equal(results(again, outside())[1], results(plain, outside())[1])


def test_a_guard_that_cannot_be_written_is_refused_first(tmp_path, monkeypatch):
    monkeypatch.setattr("mdxai.mending.strengthen", lambda *given, **how: pytest.fail("too late"))
    (tmp_path / "card.toml").write_text("")
    (tmp_path / "file").write_text("")
    for name, out, message in (
        ("schnet-ethanol", tmp_path, "already holds a calculator"),
        ("schnet-ethanol", tmp_path / "file", "is a file; expected a folder"),
        ("emt", tmp_path / "new", "only networks of mdxai can be written"),
    ):
        done = invoke("guard", name, "CH3CH2OH", "--out", out)
        assert done.exit_code == 2
        assert message in " ".join(done.stderr.split())
    with pytest.raises(GuardError, match="expected a finite height"):
        strengthen(Analytic(holed_water), WATER, height=np.inf)


def test_a_weak_spot_inside_the_domain_is_left_and_named():
    data = ReferenceData("too wide", distances={"H-O": (0.5, 9.0), "H-H": (0.3, 9.0)})
    found = strengthen(Analytic(holed_water), WATER, height=1.0, reference=data)
    assert len(found.rounds) == 2
    assert found.left
    assert "not closed" in str(found)


def test_guard_work_is_the_mean_energy_of_the_guard():
    guard = Guard({"H-H": 0.9})
    atoms = Atoms("H2", [[0, 0, 0], [0.95, 0, 0]])
    first = Frame.from_atoms(atoms)
    work, energies = GuardWork(guard, first), []
    for k, length in enumerate(np.random.default_rng(0).uniform(0.7, 1.0, 200), start=1):
        atoms.positions[1, 0] = length
        energies.append(guard_energy(guard, atoms))
        found = work.deviate(replace(Frame.from_atoms(atoms), time=2.0 * k))
    assert found.value == pytest.approx(np.mean(energies))
    assert not found.atoms or found.atoms == (0, 1)
    resumed = restore(GuardWork(guard, first), snapshot(work))
    later = replace(first, time=402.0)
    assert resumed.deviate(later) == restore(GuardWork(guard, first), snapshot(work)).deviate(later)
    assert resumed.deviate(later).value > 0
    for k in range(201, 6000):
        found = work.deviate(replace(first, time=2.0 * k))
    assert found.value < 1e-4  # forgotten


def test_a_monitor_tells_a_guard_that_works_all_the_time():
    verdicts = []
    plain = mdxai.load_calculator("schnet-ethanol")
    narrow = ReferenceData("half of the data", distances={"C-H": (1.15, 3.5)})
    for calculator in (mdxai.guard(plain, ethanol()), mdxai.guard(plain, reference=narrow), plain):
        atoms = ethanol()
        thermalize_momenta(atoms, temperature_K=300, rng=np.random.default_rng(0))
        atoms.calc = calculator
        dynamics = VelocityVerlet(atoms, 0.5 * units.fs)
        with mdxai.Monitor(dynamics, None, attribute_every=0) as monitor:
            dynamics.attach(monitor, interval=1)
            dynamics.run(30)
        verdicts.append(monitor.verdict)
    sound, leaning, without = verdicts
    assert "guard_work" not in {f.principle for f in sound.findings}
    assert leaning.stability is Stability.SUSPECT
    (found,) = (f for f in leaning.findings if f.principle == "guard_work")
    assert found.value > 0.05
    assert "guard_work" not in without.unavailable


@pytest.mark.slow
@pytest.mark.parametrize("name", SOUND)
def test_one_command_closes_the_weak_spots_of_a_model(name, tmp_path):
    done = invoke("guard", name, "--height", "1.5", "--out", tmp_path / "kept")
    assert done.exit_code == 0, done.output
    assert "no weak spot up to 1.65 eV" in done.output
    kept = mdxai.load_calculator(tmp_path / "kept")
    options = mdxai.forecast.ScanOptions(ceiling=1.5)
    assert not mdxai.weak_spots(kept, ethanol(), options=options).spots


def test_torch_is_not_loaded_to_guard_a_foreign_calculator():
    import subprocess
    import sys

    code = (
        "import sys, mdxai\n"
        "from ase.build import bulk\nfrom ase.calculators.emt import EMT\n"
        "atoms = bulk('Cu', cubic=True)\natoms.calc = mdxai.guard(EMT(), atoms)\n"
        "atoms.get_forces()\nassert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_guard_says_which_bonds_have_no_wall():
    network = mdxai.load_calculator("schnet-ethanol")
    known = guard_of(mdxai.guard(network, ethanol()))
    assert str(known).startswith("guard of 10 eV, 60 eV walls on 8 bonds, from")
    bare = replace(network.card, gaps={})
    data = replace(ReferenceData.of_card(bare), source="a card without gaps")
    lacking = guard_of(mdxai.guard(network, ethanol(), reference=data))
    assert str(lacking) == (
        "guard of 10 eV, no walls on 8 bonds whose longest length is not known, from a card "
        "without gaps"
    )


def test_a_guard_refuses_its_molecule_in_another_order_of_elements():
    kept = mdxai.guard(mdxai.load_calculator("schnet-ethanol"), ethanol())
    other = ethanol()[[7, 0, 2, 1, 4, 6, 5, 3, 8]]
    other.calc = kept
    with pytest.raises(GuardError, match="its atoms in that order, and the structure is HCOC"):
        other.get_potential_energy()


def test_reference_data_of_other_elements_and_no_calculator_are_refused(tmp_path):
    write(tmp_path / "copper.extxyz", [bulk("Cu", cubic=True) for _ in range(2)])
    network = mdxai.load_calculator("schnet-ethanol")
    with pytest.raises(GuardError, match="holds no C, H, O, but the structure does"):
        mdxai.guard(network, ethanol(), reference=tmp_path / "copper.extxyz")
    with pytest.raises(GuardError, match="expected an ASE calculator to guard, got 'schnet"):
        mdxai.guard("schnet-ethanol", ethanol())


def test_a_guard_is_kept_apart_from_the_network(tmp_path):
    """End to end, from a folder that `mdxai guard` writes; where it acts and where it does not."""
    plain = mdxai.load_calculator("schnet-ethanol")
    rng = np.random.default_rng(2)
    images = [ethanol() for _ in range(6)]
    for atoms in images[:3]:
        atoms.positions += rng.normal(0, 0.02, atoms.positions.shape)
    images[3:] = [outside() for _ in range(3)]
    for k, atoms in enumerate(images[3:]):
        atoms.positions[4] += 0.05 * k * (atoms.positions[4] - atoms.positions[1])
    swapped = ethanol()[[2, 0, 1, *range(3, 9)]]
    write(tmp_path / "frames.xyz", [*images, swapped])
    kept = mdxai.guard(plain, ethanol())
    folder = tmp_path / "schnet-guarded"
    write_guarded(kept, folder)
    options = AnalysisOptions(closely=2, block=4)
    data = tmp_path / "frames.xyz"
    both = mdxai.analyse([plain, str(folder)], data, options=options, path=tmp_path / "out")
    assert both.n_used == 6
    assert "guard of" in both.left_out[0].reason  # its atoms are in another order
    tables = both.tables()
    for name in ("bonds", "decay", "atoms", "groups", "body_orders", "copies", "laws"):
        mine, theirs = (
            group.drop(columns="model").reset_index(drop=True)
            for _, group in tables[name].groupby("model", sort=False)
        )
        assert mine.equals(theirs), name  # the network is the same, to the last bit
    actions = [term_of(guard_of(kept), a).act(a.positions, CELL, FREE) for a in images]
    held = {row.channel: row.mean for row in tables["guarded_molecules"].itertuples()}
    assert held["acts"] == 0.5 == np.mean([action is not None for action in actions])
    energies = [action.energy for action in actions if action is not None]
    assert held["energy"] == pytest.approx(sum(energies) / 6, rel=1e-4)
    guard = tables["guard"]
    assert guard["count"].sum() == sum(len(a.i) for a in actions if a is not None)
    assert (guard["count"] * guard["mean"]).sum() == pytest.approx(sum(energies), rel=1e-4)
    page = write_analysis_page(both, tmp_path / "out").read_text()
    assert "acts in 50.0% of the molecules" in page
    assert "Where guards act" in page
    again = mdxai.analyse([plain, str(folder)], data, options=options, path=tmp_path / "out")
    assert again.tables()["guard"].equals(guard)

"""What calculators of every kind hold, against ASE's own reading and without an evaluation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.lj import LennardJones
from ase.md.verlet import VelocityVerlet

import mdxai
from mdxai.engines import AseEngine
from mdxai.frame import Frame, FrameError
from mdxai.held_results import held_results, staleness
from mdxai.monitoring.options import OptionError
from tests.conftest import heated


class Spring(Calculator):
    """A pair on a spring that counts evaluations; `shaped` changes what it puts into results."""

    implemented_properties = ("energy", "forces")

    def __init__(self, shaped=lambda results: results):
        super().__init__()
        self.n_evaluations, self._shaped = 0, shaped

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.n_evaluations += 1
        self.results = self._shaped(values(atoms))


def values(atoms):
    vector = atoms.positions[1] - atoms.positions[0]
    length = np.linalg.norm(vector)
    force = -20.0 * (length - 1.0) * vector / length
    return {"energy": float(10.0 * (length - 1.0) ** 2), "forces": np.array([-force, force])}


class Always(Spring):
    def calculation_required(self, atoms, properties):
        return True


class WithoutResults:
    def __init__(self):
        self.n_evaluations = 0

    def get_potential_energy(self, atoms=None, force_consistent=False):
        self.n_evaluations += 1
        return values(atoms)["energy"]

    def get_forces(self, atoms=None):
        self.n_evaluations += 1
        return values(atoms)["forces"]


class Scaled(Spring):
    """Gives MD other forces than those in its results."""

    def get_forces(self, atoms=None):
        return 0.5 * super().get_forces(atoms)


class Growing(Spring):
    """A bias that grows whenever the forces are asked for."""

    hills = 0.0

    def get_forces(self, atoms=None):
        self.hills += 0.01
        return super().get_forces(atoms) + self.hills


def pair(calculator, length=1.3):
    atoms = Atoms("OH", [[0, 0, 0], [0, 0, length]], momenta=[[0, 0, 0.2], [0, 0, -0.2]])
    atoms.calc = calculator
    return atoms


def tensors(results, dtype=torch.float64, **options):
    return {name: torch.tensor(value, dtype=dtype, **options) for name, value in results.items()}


SHAPES = {
    "one": lambda r: r | {"energy": np.array([r["energy"]])},
    "one by one": lambda r: r | {"energy": np.array([[r["energy"]]])},
    "no dimension": lambda r: r | {"energy": np.array(r["energy"])},
    "list": lambda r: {"energy": [r["energy"]], "forces": r["forces"].tolist()},
    "single precision": lambda r: {name: np.float32(value) for name, value in r.items()},
    "tensors": tensors,
    "tensors with gradients": lambda r: tensors(r, requires_grad=True),
    "half precision": lambda r: tensors(r, dtype=torch.bfloat16),
    "masked": lambda r: r | {"forces": np.ma.masked_invalid(r["forces"])},
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", [Spring, Always])
def test_energy_and_forces_of_any_shape_and_container(kind, shape):
    atoms = pair(kind(SHAPES[shape]))
    atoms.calc.get_property("forces", atoms)
    expected = values(atoms)
    frame = Frame.from_atoms(atoms)
    tolerance = 0 if shape not in ("single precision", "half precision") else 1e-2
    assert isinstance(frame.energy, float)
    assert frame.energy == pytest.approx(expected["energy"], rel=tolerance, abs=0)
    assert frame.forces.dtype == np.float64
    np.testing.assert_allclose(frame.forces, expected["forces"], rtol=tolerance, atol=0)
    assert not frame.absent
    assert atoms.calc.n_evaluations == 1


@pytest.mark.parametrize(
    ("shaped", "words"),
    [
        (lambda r: r | {"energy": np.zeros(2)}, r"Spring holds an energy of shape \(2,\)"),
        (lambda r: r | {"forces": np.zeros(6)}, r"Spring holds forces of shape \(6,\) for 2 atoms"),
        (lambda r: r | {"forces": r["forces"] + 1j}, "Spring holds forces that are not numbers"),
        (lambda r: r | {"energy": "low"}, "Spring holds energy that are not numbers"),
    ],
)
def test_what_is_no_energy_or_no_forces_is_refused_by_name(shaped, words):
    atoms = pair(Spring(shaped))
    atoms.calc.get_property("forces", atoms)
    with pytest.raises(FrameError, match=words):
        Frame.from_atoms(atoms)


def test_none_is_absent():
    atoms = pair(Spring(lambda r: r | {"energy": None}))
    atoms.get_forces()
    assert Frame.from_atoms(atoms).absent == {"energy"}


def test_results_of_other_positions_are_absent_and_said():
    atoms = pair(Spring())
    assert staleness(atoms) == "the calculator was not evaluated yet"
    atoms.get_forces()
    assert staleness(atoms) is None
    atoms.positions[1, 2] += 0.25
    assert held_results(atoms) == (None, None)
    assert staleness(atoms) == (
        "since the last evaluation the positions of 1 atoms (by up to 0.25 Å) changed"
    )
    atoms.positions[1, 2] -= 0.25
    atoms.pbc = True
    assert staleness(atoms) == "since the last evaluation pbc changed"
    assert atoms.calc.n_evaluations == 1


def test_an_always_true_calculation_required_is_no_licence_to_take_old_results():
    atoms = pair(Always())
    atoms.get_forces()
    atoms.positions[1, 2] += 0.1
    assert held_results(atoms) == (None, None)
    atoms.positions[1, 2] -= 0.1
    atoms.info["charge"] = 1  # what many potentials read
    assert held_results(atoms) == (None, None)


def test_a_calculator_without_results_holds_nothing_that_one_can_know():
    atoms = pair(WithoutResults())
    atoms.get_forces()
    assert Frame.from_atoms(atoms).absent == {"energy", "forces"}
    assert atoms.calc.n_evaluations == 1
    assert staleness(atoms) is None


def test_getters_of_its_own_tell_what_md_used():
    atoms = pair(Scaled())
    used = atoms.get_forces(md=True)
    np.testing.assert_array_equal(Frame.from_atoms(atoms).forces, used)
    assert atoms.calc.n_evaluations == 1


def test_getters_that_change_the_calculator_are_not_asked():
    atoms = pair(Growing())
    atoms.get_forces()
    hills = atoms.calc.hills
    frame = Frame.from_atoms(atoms)
    assert "forces" in frame.absent
    assert atoms.calc.hills == hills


def argon():
    atoms = bulk("Ar", cubic=True, a=5.3).repeat(2)
    atoms.calc = LennardJones(sigma=3.4, epsilon=0.0103, rc=5.0, smooth=True)
    return heated(atoms, 400.0)


def test_wrapped_atoms_have_the_results_of_before():
    atoms = argon()
    atoms.positions -= 0.1  # over the edge
    forces, energy = atoms.get_forces(), atoms.get_potential_energy()
    atoms.wrap()
    assert atoms.calc.calculation_required(atoms, ["forces"])
    frame = Frame.from_atoms(atoms)
    assert frame.energy == energy
    np.testing.assert_array_equal(frame.forces, forces)
    atoms.set_cell(1.01 * atoms.cell)
    assert held_results(atoms) == (None, None)
    assert staleness(atoms) == "since the last evaluation cell changed"


@pytest.mark.parametrize("order", ["monitor first", "wrap first"])
@pytest.mark.parametrize("every", [1, 7])
def test_frames_of_a_wrapped_run_are_those_of_the_unwrapped_one(order, every):
    def frames(*, wraps):
        atoms = argon()
        atoms.positions += 0.001
        dynamics = VelocityVerlet(atoms, 4 * units.fs)
        engine, found = AseEngine(dynamics), []
        looks = [(lambda: found.append(engine.frame()), every)]
        if wraps:
            looks.insert(0 if order == "wrap first" else 1, (atoms.wrap, 1))
        for look, interval in looks:
            dynamics.attach(look, interval=interval)
        dynamics.run(84)
        return found

    wrapped, whole = frames(wraps=True), frames(wraps=False)
    assert [f.step for f in wrapped] == [f.step for f in whole]
    start = whole[0].positions
    for frame, other in zip(wrapped, whole, strict=True):
        assert not frame.absent
        moved = frame.positions - wrapped[0].positions
        np.testing.assert_allclose(moved, other.positions - start, atol=1e-6)
        assert frame.energy == pytest.approx(other.energy, abs=1e-6)


def test_images_outlive_a_restart():
    atoms = argon()
    dynamics = VelocityVerlet(atoms, 4 * units.fs)
    engine = AseEngine(dynamics)
    atoms.get_forces()
    before = engine.frame()
    atoms.positions += atoms.cell.array[0]
    assert np.abs(engine.frame().positions - before.positions).max() < 1e-9
    state = engine.state()
    again = AseEngine(VelocityVerlet(argon(), 4 * units.fs))
    again.restore(state)
    assert np.abs(again.frame().positions - before.positions).max() < 1e-9


def run(calculator, *observers, steps=12):
    atoms = pair(calculator)
    dynamics = VelocityVerlet(atoms, 0.5 * units.fs)
    for observer in observers:
        dynamics.attach(observer, 1, atoms)
    with mdxai.Monitor(dynamics, attribute_every=0, on_unstable="ignore") as monitor:
        dynamics.attach(monitor)
        dynamics.run(steps)
    return monitor.verdict, atoms


@pytest.mark.parametrize("kind", [WithoutResults, Always, Scaled, Growing])
def test_a_run_with_any_calculator_is_that_without_a_monitor(kind):
    bare = pair(kind())
    VelocityVerlet(bare, 0.5 * units.fs).run(12)
    verdict, atoms = run(kind())
    assert verdict.n_frames == 13
    np.testing.assert_array_equal(atoms.positions, bare.positions)
    np.testing.assert_array_equal(atoms.get_momenta(), bare.get_momenta())
    assert atoms.calc.n_evaluations == bare.calc.n_evaluations


def test_what_cannot_be_read_is_said_once_with_what_to_do():
    verdict, _ = run(WithoutResults())
    reasons = {verdict.unavailable[name] for name in ("energy", "energy_jump", "net_force")}
    assert len(reasons) == 1
    assert "keeps `results` and `atoms`" in reasons.pop()


def test_an_observer_that_moves_atoms_before_the_monitor_is_named():
    with pytest.raises(OptionError, match=r"positions of 2 atoms .*changed.*before any"):
        run(Spring(), lambda atoms: atoms.rattle(0.01))

"""What a calculator reads besides positions is in the record, in checkpoints and in replays."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms, units
from ase.constraints import Hookean
from ase.md.verlet import VelocityVerlet

import mdxai
from mdxai.engines import AseEngine
from mdxai.frame import CalculatorInputs, Frame
from mdxai.monitoring.check import check
from mdxai.monitoring.replay import replay
from mdxai.record import RecordError
from mdxai.record.recorded_inputs import inputs_of, inputs_text, plain_inputs
from mdxai.record.resume import checkpoint_of
from tests.test_frame import ReadsCharge


def hydroxide(charge=-1):
    atoms = Atoms("OH", [[0, 0, 0], [0, 0, 0.8]], momenta=[[0, 0, 0.1], [0, 0, -0.1]])
    atoms.info |= {"charge": charge, "spin": 1, "field": np.array([0.0, 0.1]), "model": object()}
    atoms.set_initial_charges([-0.9, -0.1])
    atoms.calc = ReadsCharge()
    return atoms


def dynamics_of(atoms):
    return VelocityVerlet(atoms, 0.5 * units.fs)


def test_inputs_survive_text():
    inputs = CalculatorInputs(
        {"charge": np.int64(-1), "spin": 1.0, "tags": ("a", 2), "field": np.eye(2, dtype="f4")},
        np.array([0.1, -0.1]), np.ones((2, 3)),
    )  # fmt: skip
    again = inputs_of(plain_inputs(inputs))
    assert inputs_text(again) == inputs_text(inputs)
    assert (again.info["charge"], again.info["tags"]) == (-1, ["a", 2])
    assert again.info["field"].dtype == np.float32
    np.testing.assert_array_equal(again.magnetic_moments, inputs.magnetic_moments)
    assert inputs_text(CalculatorInputs({"step": 3, "time_fs": 1.0})) is None


def recorded(path, atoms, *, change=None):
    dynamics = dynamics_of(atoms)
    if change is not None:
        dynamics.attach(change, 1, dynamics)
    with mdxai.Monitor(dynamics, path, attribute_every=0, on_unstable="ignore") as monitor:
        dynamics.attach(monitor)
        dynamics.run(6)
    return mdxai.open_run(path)


def test_a_record_and_its_replay_are_of_the_same_system(tmp_path):
    run = recorded(tmp_path / "run", hydroxide())
    assert run.header["system"]["inputs"]["info"]["charge"] == -1
    frames = list(run.frames())
    assert all(frame.inputs.info["charge"] == -1 for frame in frames)
    assert frames[0].inputs.charges.tolist() == [-0.9, -0.1]
    replay(ReadsCharge(), run, tmp_path / "again", recompute=True, attribute_every=0, report=False)
    again = list(mdxai.open_run(tmp_path / "again").frames())
    np.testing.assert_allclose([f.energy for f in again], [f.energy for f in frames], atol=1e-6)
    assert again[-1].inputs.info["spin"] == 1


def test_a_charge_that_changes_is_recorded_per_frame(tmp_path):
    def ramp(dynamics):
        if dynamics.nsteps == 4:
            dynamics.atoms.info["charge"] = 0

    run = recorded(tmp_path / "run", hydroxide(), change=ramp)
    assert [f.inputs.info["charge"] for f in run.frames()] == [-1] * 4 + [0] * 3
    atoms = hydroxide(charge=-1)
    state = checkpoint_of(run.path).state["engine"]
    AseEngine(dynamics_of(atoms)).restore(state)
    assert atoms.info["charge"] == 0


def test_another_charge_is_another_run(tmp_path):
    recorded(tmp_path / "run", hydroxide())
    with pytest.raises(RecordError, match=r"system\.inputs\.info\.charge: recorded -1, now 1"):
        mdxai.Monitor.resume(dynamics_of(hydroxide(1)), tmp_path / "run", attribute_every=0)


class Lazy(ReadsCharge):
    """Holds only what it was asked for last."""

    def calculate(self, atoms=None, properties=("energy",), system_changes=()):
        super().calculate(atoms, properties, system_changes)
        self.results = {name: self.results[name] for name in properties}


def test_what_is_absent_is_null_and_nan_is_nan(tmp_path):
    atoms = hydroxide()
    atoms.calc = Lazy()
    dynamics = dynamics_of(atoms)
    dynamics.attach(lambda: dynamics.nsteps % 2 or atoms.get_potential_energy())
    with mdxai.Monitor(dynamics, tmp_path / "run", attribute_every=0) as monitor:
        dynamics.attach(monitor)
        dynamics.run(5)
    run = mdxai.open_run(tmp_path / "run")
    table = run.frames_table()
    assert table["potential_energy_eV"].is_null().to_pylist() == [False, True] * 3
    assert table["absent"].to_pylist() == ["forces", "energy"] * 3
    assert run.trajectory_table()["forces"].is_null().to_pylist() == [True, False] * 3
    frames = list(run.frames())
    assert [frame.absent for frame in frames] == [{"forces"}, {"energy"}] * 3
    assert all(np.isfinite(frame.forces).all() for frame in frames[1::2])
    assert np.isnan(run.to_xarray()["forces"].values[0]).all()
    assert monitor.verdict.stability == "stable"
    assert str(mdxai.judge(run)) == str(monitor.verdict)


def test_a_record_without_any_velocities_can_be_read(tmp_path):
    frames = [Frame.from_atoms(hydroxide(), step=k, time=0.5 * k) for k in range(3)]
    moving = [frame.without("velocities") for frame in frames]
    replay(ReadsCharge(), moving, tmp_path / "run", recompute=True, attribute_every=0, report=False)
    (first, *_) = mdxai.open_run(tmp_path / "run").frames()
    assert first.absent == {"velocities"}
    assert np.isnan(first.velocities).all()


def test_restraints_are_recorded_apart_and_kept_in_replays(tmp_path):
    atoms = hydroxide()
    atoms.set_constraint(Hookean(0, (0.0, 0.0, 0.5), rt=0.1, k=2.0))
    run = recorded(tmp_path / "run", atoms)
    frames = list(run.frames())
    assert frames[0].outside.energy == pytest.approx(0.5 * 2.0 * 0.4**2)
    assert frames[0].outside.pushes == ("Hookean",)
    assert frames[0].model_energy == pytest.approx(10.0 * 0.0, abs=1e-5)
    monitor = replay(ReadsCharge(), run, recompute=True, attribute_every=0)
    assert "Hookean may push" in monitor.verdict.unavailable["momentum"]
    assert {f.principle for f in monitor.verdict.findings}.isdisjoint({"energy", "net_force"})


def test_probes_and_attributions_have_the_charge():
    atoms = hydroxide()
    results = {result.name: result for result in check(atoms.calc, atoms)}
    assert results["gradient"].verdict == "pass"
    hessian = mdxai.attributor(ReadsCharge(), method="hessian")
    live = hessian.attribute(atoms).strengths
    np.testing.assert_array_equal(hessian.attribute(Frame.from_atoms(atoms)).strengths, live)

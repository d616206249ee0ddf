"""A resumed run equals the uninterrupted one, bit for bit."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import warnings
from copy import deepcopy

import numpy as np
import pytest
from ase import units
from ase.build import bulk
from ase.constraints import FixAtoms, FixBondLengths, FixCartesian, FixCom, FixedPlane, Hookean
from ase.md.andersen import Andersen
from ase.md.bussi import Bussi
from ase.md.langevin import Langevin
from ase.md.langevinbaoab import LangevinBAOAB
from ase.md.melchionna import MelchionnaNPT
from ase.md.nose_hoover_chain import MTKNPT, IsotropicMTKNPT, MaskedMTKNPT, NoseHooverChainNVT
from ase.md.npt import NPT
from ase.md.nptberendsen import Inhomogeneous_NPTBerendsen, NPTBerendsen
from ase.md.nvtberendsen import NVTBerendsen
from ase.md.velocitydistribution import thermalize_momenta
from ase.md.verlet import VelocityVerlet

import mdxai
from mdxai.calculators.network_calculator import NetworkCalculator
from mdxai.engines import AseEngine, RestartWarning
from mdxai.engines.ase_restart_state import EXACT
from mdxai.monitoring.monitor import Monitor
from mdxai.record import RecordError, RecordSettings, RecordWarning, list_checkpoints
from mdxai.record.checkpoint import read_checkpoint
from mdxai.record.durable_files import FileSystem
from mdxai.serialization import StateError, decode, encode

from .conftest import copper, ethanol_with, heated, random_potential

T, DT = 600, 2 * units.fs
BATH = {"temperature_K": T, "tdamp": 50 * units.fs}
PISTON = {"temperature_K": T, "pressure_au": 0.0, "tdamp": 50 * units.fs, "pdamp": 500 * units.fs}
BERENDSEN = {"temperature_K": T, "taut": 50 * units.fs}


def rng():
    return np.random.default_rng(3)


ENGINES = {
    VelocityVerlet: VelocityVerlet,
    Langevin: lambda a, dt: Langevin(a, dt, temperature_K=T, friction=0.01, fixcm=False, rng=rng()),
    Bussi: lambda a, dt: Bussi(a, dt, temperature_K=T, taut=50 * units.fs, rng=rng()),
    NoseHooverChainNVT: lambda a, dt: NoseHooverChainNVT(a, dt, **BATH),
    Andersen: lambda a, dt: Andersen(a, dt, temperature_K=T, andersen_prob=0.01),  # np.random
    LangevinBAOAB: lambda a, dt: LangevinBAOAB(
        a, dt, temperature_K=T, T_tau=50 * units.fs, P_tau=500 * units.fs, externalstress=0.0,
        rng=rng(),
    ),
    NVTBerendsen: lambda a, dt: NVTBerendsen(a, dt, **BERENDSEN),
    NPTBerendsen: lambda a, dt: NPTBerendsen(
        a, dt, **BERENDSEN, pressure_au=0, compressibility_au=1
    ),
    Inhomogeneous_NPTBerendsen: lambda a, dt: Inhomogeneous_NPTBerendsen(
        a, dt, **BERENDSEN, pressure_au=0, compressibility_au=1
    ),
    IsotropicMTKNPT: lambda a, dt: IsotropicMTKNPT(a, dt, **PISTON),
    MTKNPT: lambda a, dt: MTKNPT(a, dt, **PISTON),
    MaskedMTKNPT: lambda a, dt: MaskedMTKNPT(a, dt, mask=np.array([True, False, True]), **PISTON),
    NPT: lambda a, dt: NPT(
        a, dt, temperature_K=T, externalstress=0, ttime=50 * units.fs, pfactor=1.0
    ),
    MelchionnaNPT: lambda a, dt: MelchionnaNPT(
        a, dt, temperature_K=T, externalstress=0, ttime=50 * units.fs, pfactor=1.0
    ),
}  # fmt: skip


def started(atoms, calculator):
    atoms.calc = calculator
    thermalize_momenta(atoms, temperature_K=T, rng=np.random.default_rng(0))
    return atoms


def warm_copper():
    atoms = copper()
    atoms.rattle(0.05, seed=2)
    return heated(atoms, T)


def ethanol():
    return heated(ethanol_with(amplitude=0.03), T)


def crystal():
    """More atoms than all pairs are formed of, periodic, and so hot that the list is renewed."""
    atoms = bulk("C", "diamond", a=4.2, cubic=True) * (2, 2, 2)
    atoms.rattle(0.2, seed=1)
    import torch

    potential = random_potential("SchNet", 3, dtype=torch.float32, cutoff=3.0)
    return started(atoms, NetworkCalculator(potential))


def test_every_exact_class_is_tested():
    assert set(ENGINES) == set(EXACT)


def continued(make, system, timestep, before, after):
    """Return positions and velocities of a run, and those of one that was resumed on the way."""
    np.random.seed(5)  # noqa: NPY002 (the one that Andersen draws from)
    whole = make(system(), timestep)
    whole.run(before)
    state = decode(encode(AseEngine(whole).state()))
    whole.run(after)
    np.random.seed(99)  # noqa: NPY002
    again = make(system(), timestep)
    AseEngine(again).restore(state)
    seen = []
    again.attach(lambda: seen.append(again.nsteps))
    again.run(after)
    assert seen == list(range(before + 1, before + after + 1))
    assert again.get_time() == whole.get_time()
    return [(d.atoms.positions, d.atoms.get_momenta(), d.atoms.cell.array) for d in (whole, again)]


@pytest.mark.filterwarnings("ignore::UserWarning:ase", "ignore::FutureWarning:ase")
@pytest.mark.filterwarnings("ignore:Using heuristic:UserWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("kind", EXACT, ids=lambda kind: kind.__name__)
def test_engines_continue_bit_by_bit(kind):
    whole, again = continued(ENGINES[kind], warm_copper, DT, 15, 12)
    for left, right in zip(whole, again, strict=True):
        np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize(
    "held",
    [FixAtoms([1]), FixCartesian([0, 1], mask=(True, False, True)), FixCom(),
     FixedPlane([2], (0, 0, 1)), Hookean(0, 1, 3.0, 2.0), FixBondLengths([[0, 1], [2, 3]])],
    ids=lambda held: type(held).__name__,
)  # fmt: skip
def test_constraints_continue_bit_by_bit(held):
    """A bond length that is held is that of the start, not of the checkpoint."""

    def system():
        atoms = warm_copper()
        atoms.set_constraint(deepcopy(held))
        return atoms

    whole, again = continued(VelocityVerlet, system, DT, 15, 12)
    for left, right in zip(whole, again, strict=True):
        np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize("kind", [VelocityVerlet, Langevin, Bussi, NoseHooverChainNVT])
@pytest.mark.parametrize("system", [ethanol, crystal])
def test_network_calculators_continue_bit_by_bit(kind, system):
    whole, again = continued(ENGINES[kind], system, 0.5 * units.fs, 40, 40)
    for left, right in zip(whole, again, strict=True):
        np.testing.assert_array_equal(left, right)


def test_neighbour_list_makes_a_difference_that_the_state_removes():
    """The list of the whole run was searched elsewhere than a fresh one would be."""
    dynamics = ENGINES[VelocityVerlet](crystal(), 0.5 * units.fs)
    dynamics.run(10)
    place = dynamics.atoms.calc.state()["positions"]
    assert not np.array_equal(place, dynamics.atoms.positions)


def test_a_state_of_other_dynamics_or_atoms_is_refused():
    state = AseEngine(ENGINES[Langevin](warm_copper(), DT)).state()
    with pytest.raises(StateError, match="is of Langevin, but these dynamics are VelocityVerlet"):
        AseEngine(VelocityVerlet(warm_copper(), DT)).restore(state)
    with pytest.raises(StateError, match="has other atoms"):
        AseEngine(ENGINES[Langevin](ethanol(), DT)).restore(state)


class Odd(VelocityVerlet):
    def __init__(self, *args):
        super().__init__(*args)
        self.socket = iter(())


def test_other_dynamics_warn_of_what_a_checkpoint_cannot_hold():
    engine = AseEngine(Odd(warm_copper(), DT))
    assert "not one of ASE's own classes" in engine.restart_caveat()
    with pytest.warns(RestartWarning, match="Odd has socket, which a checkpoint cannot store"):
        engine.state()
    assert AseEngine(VelocityVerlet(warm_copper(), DT)).restart_caveat() is None


def make_ethanol():
    return ENGINES[Langevin](ethanol(), 0.5 * units.fs)


def content(path):
    """Return everything in a record that must not depend on interruptions."""
    run = mdxai.open_run(path)
    tables = [run.frames_table(), run.trajectory_table(), run.explanations_table(),
              run.pairs_table(), run.events_table(), run.profile_table()]  # fmt: skip
    verdict = dict(run.verdict)
    verdict.pop("cost")
    return [*(repr(t.to_pydict()) for t in tables), verdict]


RECORD = {
    "record": RecordSettings(checkpoint_steps=10, rows_per_part=17, seconds_per_part=1e6)
}  # never by the clock, or a slow machine would write at other steps


def full_run(path, steps=60, **more):
    dynamics = make_ethanol()
    with Monitor(dynamics, path, attribute_every=5, **RECORD, **more) as monitor:
        dynamics.attach(monitor)
        dynamics.run(steps)
    return dynamics, monitor


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "run"
    return content(path) if path.exists() else (full_run(path), content(path))[1]


class Killed(BaseException):
    """Ends a run as a kill would, for nothing catches it."""


@pytest.mark.parametrize("at", [3, pytest.param(20, marks=pytest.mark.slow), 41, 60])
def test_a_resumed_record_is_the_uninterrupted_one(tmp_path, uninterrupted, at):
    path = tmp_path / "run"

    def killer(dynamics):
        if dynamics.nsteps == at:
            raise Killed("at a step")

    dynamics = make_ethanol()

    def run():
        with Monitor(dynamics, path, attribute_every=5, **RECORD) as monitor:
            dynamics.attach(monitor)
            dynamics.attach(killer, 1, dynamics)
            dynamics.run(60)

    with pytest.raises(Killed, match="at a step"):
        run()
    left = [read_checkpoint(p).step for p in list_checkpoints(path)]  # a slow disk leaves others
    assert bool(left) == (at >= 10)
    dynamics = make_ethanol()
    monitor = Monitor.resume(dynamics, path, attribute_every=5, **RECORD)
    with warnings.catch_warnings(), monitor:
        warnings.simplefilter("ignore", RecordWarning)  # before the first checkpoint
        dynamics.attach(monitor)
        dynamics.run(60 - dynamics.nsteps)
    assert content(path) == uninterrupted
    assert monitor.cost.resumed_at == left[-1:]


def ended_early(path, **options):
    """A run that an error ends before its first checkpoint; its parts are written."""

    def fail():
        raise KeyboardInterrupt("at step 4")

    def run():
        dynamics = make_ethanol()
        with Monitor(dynamics, path, **options) as monitor:
            dynamics.attach(monitor)
            dynamics.attach(fail, interval=-4)  # once, at step 4
            dynamics.run(20)

    with pytest.raises(KeyboardInterrupt, match="at step 4"):
        run()


def names(path):
    return sorted(entry.name for entry in path.iterdir())


def test_another_run_without_a_checkpoint_is_left_unchanged(tmp_path):
    path = tmp_path / "run"
    ended_early(path, attribute_every=0)
    before = names(path)
    dynamics = make_ethanol()
    with Monitor.resume(dynamics, path, attribute_every=0, gamma=0.2) as monitor:
        dynamics.attach(monitor)
        with pytest.raises(RecordError, match=r"another run.*\n  parameters.gamma: recorded 0.1"):
            dynamics.run(1)
    assert names(path) == before
    dynamics = make_ethanol()
    with Monitor.resume(dynamics, path, attribute_every=0) as monitor:
        dynamics.attach(monitor)
        with pytest.warns(RecordWarning, match="starts anew"):
            dynamics.run(1)
    assert {name.removesuffix(".orphan") for name in names(path)} > set(before)
    assert mdxai.open_run(path).frames_table().num_rows == 2


def test_a_directory_without_a_run_or_its_header_is_left_unchanged(tmp_path):
    path = tmp_path / "run"
    full_run(path, 12)
    (path / "run.toml").unlink()
    before = names(path)
    with pytest.raises(RecordError, match=r"no run.toml; `mdxai repair .*` restores it"):
        Monitor.resume(make_ethanol(), path, attribute_every=5, **RECORD)
    for checkpoint in list_checkpoints(path):
        checkpoint.unlink()
        before.remove(checkpoint.name)
    with pytest.raises(RecordError, match=r"neither run.toml nor a checkpoint"):
        Monitor.resume(make_ethanol(), path, attribute_every=5, **RECORD)
    assert names(path) == before
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.parquet").write_text("")
    with pytest.raises(RecordError, match=r"mine.parquet, which mdxai did not write"):
        Monitor.resume(make_ethanol(), tmp_path / "data")
    assert names(tmp_path / "data") == ["mine.parquet"]


def test_a_finished_run_can_be_resumed_without_harm(tmp_path, uninterrupted):
    path = tmp_path / "run"
    full_run(path, 40)
    dynamics = make_ethanol()
    with Monitor.resume(dynamics, path, attribute_every=5, **RECORD) as monitor:
        assert dynamics.nsteps == 40
        dynamics.attach(monitor)
        dynamics.run(20)
    assert content(path) == uninterrupted


def test_a_finished_sparse_run_goes_on_from_its_last_step(tmp_path):
    """Also between two monitored steps; the black box then misses none."""

    def run(path, *stops):
        for stop in stops:
            dynamics = make_ethanol()
            with Monitor.resume(dynamics, path, attribute_every=7) as monitor:
                dynamics.attach(monitor, interval=7)
                dynamics.run(stop - dynamics.nsteps)
        return content(path), read_checkpoint(list_checkpoints(path)[-1]).state["blackbox"]

    whole, box = run(tmp_path / "whole", 40)
    pieces, again = run(tmp_path / "pieces", 17, 40)
    assert pieces[:-1] == whole[:-1]
    assert pieces[-1]["findings"] == whole[-1]["findings"]
    assert again["steps"].tolist() == box["steps"].tolist()
    np.testing.assert_array_equal(again["positions"], box["positions"])


def test_a_finished_monitor_is_not_used_again(tmp_path):
    dynamics = make_ethanol()
    monitor = Monitor(dynamics, tmp_path / "run")
    with monitor:
        dynamics.attach(monitor)
        dynamics.run(1)
    with pytest.raises(ValueError, match=r"finished.*Monitor.resume"), monitor:
        pass


def test_a_changed_setting_is_named(tmp_path):
    path = tmp_path / "run"
    full_run(path, 12)
    with pytest.raises(RecordError, match=r"parameters.gamma: recorded 0.1, now 0.25"):
        Monitor.resume(make_ethanol(), path, attribute_every=5, gamma=0.25, **RECORD)
    atoms = heated(ethanol_with("painn-ethanol"), T)
    with pytest.raises(RecordError, match=r"calculator.weights_sha256: recorded '.*', now '.*'"):
        Monitor.resume(ENGINES[Langevin](atoms, 0.5 * units.fs), path, attribute_every=5)
    with pytest.raises(RecordError, match=r"engine.timestep: recorded 0.5, now 1"):
        Monitor.resume(ENGINES[Langevin](ethanol(), units.fs), path, attribute_every=5)
    double = heated(ethanol_with(dtype="float64"), T)
    with pytest.raises(RecordError, match=r"calculator.dtype: recorded 'float32', now 'float64'"):
        Monitor.resume(ENGINES[Langevin](double, 0.5 * units.fs), path, attribute_every=5)
    heavy = make_ethanol()
    heavy.atoms.set_masses([12.0] * 9)
    with pytest.raises(RecordError, match=r"system.masses_amu\[2\]: recorded 15.999, now 12.0"):
        Monitor.resume(heavy, path, attribute_every=5)
    held = make_ethanol()
    held.atoms.set_constraint(FixAtoms([1]))
    with pytest.raises(RecordError, match=r"constraints: recorded nothing, now \['FixAtoms"):
        Monitor.resume(held, path, attribute_every=5)
    assert len(list_checkpoints(path)) > 0
    (tmp_path / "file").write_text("")
    with pytest.raises(RecordError, match="is a file"):
        Monitor.resume(make_ethanol(), tmp_path / "file")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_signals_checkpoint_and_stop(tmp_path, uninterrupted, number):
    path, came = tmp_path / "run", []
    before = signal.signal(number, lambda *args: came.append(args[0]))
    try:
        dynamics = make_ethanol()
        with Monitor(dynamics, path, attribute_every=5, **RECORD) as monitor:
            dynamics.attach(lambda: dynamics.nsteps == 23 and os.kill(os.getpid(), number))
            dynamics.attach(monitor)
            dynamics.run(60)
            assert came == []
        assert came == [number]  # delivered to the previous handler
        assert (dynamics.nsteps, monitor.stopped_by) == (23, signal.Signals(number).name)
    finally:
        signal.signal(number, before)
    assert mdxai.open_run(path).verdict["interrupted_by"] == signal.Signals(number).name
    dynamics = make_ethanol()
    with Monitor.resume(dynamics, path, attribute_every=5, **RECORD) as monitor:
        assert dynamics.nsteps == 23
        dynamics.attach(monitor)
        dynamics.run(60 - dynamics.nsteps)
    assert content(path) == uninterrupted


def test_a_full_disk_stops_the_run_which_goes_on_once_there_is_room(tmp_path, uninterrupted):
    patched = pytest.MonkeyPatch()
    path = tmp_path / "run"

    def fill(dynamics):
        if dynamics.nsteps == 33:

            def full(self, descriptor, content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

            patched.setattr(FileSystem, "write", full)

    dynamics = make_ethanol()

    def run():
        with Monitor(dynamics, path, attribute_every=5, **RECORD) as monitor:
            dynamics.attach(fill, 1, dynamics)
            dynamics.attach(monitor)
            dynamics.run(60)

    with pytest.raises(RecordError, match=r"No space left on device.*is intact.*resume the run"):
        run()
    patched.undo()
    last = read_checkpoint(list_checkpoints(path)[-1]).step  # which one depends on the disk
    assert mdxai.open_run(path).frames_table()["step"].to_pylist()[-1] >= last >= 10
    dynamics = make_ethanol()
    with Monitor.resume(dynamics, path, attribute_every=5, **RECORD) as monitor:
        dynamics.attach(monitor)
        dynamics.run(60 - dynamics.nsteps)
    assert content(path) == uninterrupted


def test_other_threads_do_not_handle_signals(tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    seen = []

    def work():
        with Monitor(make_ethanol(), tmp_path / "run"):
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]


def test_a_script_without_a_with_block_loses_nothing(tmp_path):
    """The monitor finishes its record when the interpreter goes."""
    path = tmp_path / "run"
    script = f"""
import mdxai, numpy as np
from ase import units
from ase.build import molecule
from ase.calculators.emt import EMT
from ase.md.verlet import VelocityVerlet
atoms = molecule("CH3CH2OH")
atoms.calc = EMT()
dyn = VelocityVerlet(atoms, 0.5 * units.fs)
dyn.attach(mdxai.Monitor(dyn, {str(path)!r}, attribute_every=0))
dyn.run(30)
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    run = mdxai.open_run(path)
    assert run.n_frames == 31
    assert "before the monitor was finished" in run.verdict["interrupted_by"]

"""Fixtures: real models from the repository, real data where it lies beside it."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.md.langevin import Langevin
from ase.md.md import MolecularDynamics
from ase.md.velocitydistribution import thermalize_momenta
from typer.testing import CliRunner, Result

import mdxai
from mdxai.calculators.card import Card
from mdxai.calculators.network import build_network
from mdxai.calculators.potential import NetworkPotential
from mdxai.cli.main import app
from mdxai.engines import AseEngine
from mdxai.frame import Frame

SOUND = ("schnet-ethanol", "painn-ethanol")
ETHANOL = "CH3CH2OH"
KINDS = ("SchNet", "PaiNN", "SO3net")


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _no_pages(request, monkeypatch):
    """Hundreds of monitors finish in these tests: a page is made only where one asks for it."""
    if request.node.get_closest_marker("pages") is None:
        monkeypatch.setattr("mdxai.report.attempt_report", lambda folder: None)


def invoke(*arguments: Any) -> Result:
    """Run a command of mdxai as a shell would."""
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of public data sets: $MDXAI_DATA, or `shared/data` beside the repository."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("MDXAI_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no data folder at {folder}; set MDXAI_DATA to run this test")
    return folder


def shaken(formula: str = ETHANOL, amplitude: float = 0.03, seed: int = 1) -> Atoms:
    """Return a molecule off its symmetric structure, so that no force is zero by symmetry.

    amplitude: standard deviation of each coordinate's displacement, Å.
    """
    atoms = molecule(formula)
    atoms.rattle(amplitude, seed=seed)
    return atoms


def ethanol_with(
    calculator: Any = "schnet-ethanol", *, dtype: str = "float32", amplitude: float = 0.0
) -> Atoms:
    """Return ethanol with a calculator, given by name or ready-made, and shaken on request."""
    atoms = shaken(amplitude=amplitude) if amplitude else molecule(ETHANOL)
    named = isinstance(calculator, str)
    atoms.calc = mdxai.load_calculator(calculator, dtype=dtype) if named else calculator
    return atoms


def copper() -> Atoms:
    """Return a periodic crystal of 32 copper atoms with EMT."""
    atoms = bulk("Cu", cubic=True) * (2, 2, 2)
    atoms.calc = EMT()
    return atoms


Random = int | np.random.Generator


def heated(atoms: Atoms, temperature: float = 300.0, rng: Random = 0) -> Atoms:
    """Give atoms velocities at a temperature, K, in place; rng is a generator or its seed."""
    thermalize_momenta(atoms, temperature_K=temperature, rng=np.random.default_rng(rng))
    return atoms


def langevin(
    atoms: Atoms,
    temperature: float = 300.0,
    *,
    timestep: float = 0.5,
    friction: float = 0.01 / units.fs,
    rng: Random = 1,
    **options: Any,
) -> Langevin:
    """Return Langevin dynamics; K, fs, ASE's inverse time. rng is a generator or its seed."""
    return Langevin(
        atoms, timestep * units.fs, temperature_K=temperature, friction=friction, fixcm=False,
        rng=np.random.default_rng(rng), **options,
    )  # fmt: skip


def ethanol_dynamics(
    calculator: Any = "schnet-ethanol", temperature: float = 500.0, *, seed: int = 1, **options: Any
) -> Langevin:
    """Return Langevin dynamics of heated ethanol; one seed serves velocities and thermostat."""
    rng = np.random.default_rng(seed)
    atoms = heated(ethanol_with(calculator), temperature, rng)
    return langevin(atoms, temperature, rng=rng, **options)


O2, OH = 2, 3  # ethanol of the G2 set: its oxygen and the hydrogen there


def at(frame: Frame, time: float, positions: np.ndarray) -> Frame:
    """Return a frame at another time, fs, which is also its step, with other positions."""
    return replace(frame, time=float(time), step=int(time), positions=positions)


def stretched(frame: Frame, length: float) -> np.ndarray:
    """Return positions of ethanol with the O–H bond at this length, Å."""
    positions = frame.positions.copy()
    bond = positions[OH] - positions[O2]
    positions[OH] = positions[O2] + length * bond / np.linalg.norm(bond)
    return positions


def frames_of(dynamics: MolecularDynamics, n_steps: int) -> list[Frame]:
    """Run n_steps and return the frames of all steps, the first one included."""
    engine, frames = AseEngine(dynamics), []
    dynamics.attach(lambda: frames.append(engine.frame()))
    dynamics.run(n_steps)
    return frames


@pytest.fixture
def ethanol() -> Atoms:
    """Ethanol with schnet-ethanol, slightly shaken off its symmetric minimum."""
    return ethanol_with("schnet-ethanol", amplitude=0.05)


@pytest.fixture
def ethanol_frame() -> Frame:
    """Ethanol with velocities of 300 K, and with energy and forces of EMT."""
    atoms = heated(ethanol_with(EMT()))
    atoms.get_forces()
    return Frame.from_atoms(atoms)


@pytest.fixture(scope="session")
def labelled_runs():
    """96 runs of 8 models and 2 molecules, half of them unstable after a drift."""
    from .synthetic_outcomes import outcomes

    return outcomes()


@pytest.fixture(scope="session")
def lead_time_rows(labelled_runs):
    """First alarms in the labelled runs, held out by model, at 10 and 20 alarms per ns."""
    from mdxai.study.lead_time import lead_times

    from .synthetic_outcomes import GROUPS, RATE

    return lead_times(labelled_runs, (RATE, 2 * RATE), groups=GROUPS)


@pytest.fixture(scope="session")
def lead_time_table(lead_time_rows):
    """The summary of those, by rate, series and detector."""
    from mdxai.study.lead_time import Bootstrap, summarise

    table = summarise(lead_time_rows, Bootstrap(n_samples=300))
    return table.set_index(["alarms_per_ns", "series", "detector"])


def random_network(kind: str, seed: int, **changes):
    """Return an untrained double-precision potential with biases that matter."""
    description = {"type": kind, "n_atom_basis": 12, "n_interactions": 3, "n_rbf": 8, "cutoff": 4.0}
    description |= {"lmax": 2} if kind == "SO3net" else {}
    description |= changes
    torch.manual_seed(seed)
    network = build_network(description).double()
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.3)
        if "mixings" in name:  # else the atoms of an untrained SO3net hardly feel each other
            parameter.data.mul_(3)
    return network, description


def random_potential(kind: str, seed: int, dtype=torch.float64, **changes) -> NetworkPotential:
    network, description = random_network(kind, seed, **changes)
    return NetworkPotential(network, Card("random", description), dtype=dtype)


def random_positions(n_atoms: int, seed: int, spread: float = 1.5) -> np.ndarray:
    """Return positions with no two atoms closer than 0.7 Å."""
    rng = np.random.default_rng(seed)
    while True:
        positions = rng.normal(scale=spread, size=(n_atoms, 3))
        distances = np.linalg.norm(positions[:, None] - positions, axis=-1)
        if (distances + 10 * np.eye(n_atoms)).min() > 0.7:
            return positions


@pytest.fixture
def networks():
    """Potentials of two sound calculators."""
    return {
        name: mdxai.load_calculator(name, dtype=dtype).potential
        for name, dtype in (("schnet-ethanol", "float32"), ("painn-ethanol", "float64"))
    }

"""Simulations in several threads of a process give the bits of simulations one after the other."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import pytest
import torch
from ase.build import molecule
from ase.calculators.lj import LennardJones

import mdxai
from mdxai.frame import Frame, upper_triangle
from mdxai.principles.frame_quantities import frame_quantities

from .conftest import heated, langevin

JOBS = (
    ("CH3CH2OH", "painn-ethanol"), ("CH3CHO", "painn-ethanol"), ("CH4", "schnet-ethanol"),
    ("H2O", "lj"),
)  # fmt: skip


class Outcome(NamedTuple):
    positions: bytes
    deviations: str
    strengths: bytes
    verdict: str


@pytest.fixture
def switching_often():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def simulated(job: tuple[str, str], path, *, compiled: bool = False) -> Outcome:
    name, model = job
    atoms = molecule(name)
    atoms.calc = LennardJones() if model == "lj" else mdxai.load_calculator(model, compile=compiled)
    dynamics = langevin(heated(atoms, 300, rng=1), 300, rng=1)
    with mdxai.Monitor(dynamics, path, attribute_every=4, on_unstable="ignore") as monitor:
        dynamics.attach(monitor, interval=1)
        dynamics.run(20)
    run, found = mdxai.open_run(path), monitor.last_attribution
    return Outcome(
        atoms.positions.tobytes(), run.to_dataframe().drop(columns="wall_s", errors="ignore")
        .to_csv(), b"" if found is None else found.strengths.tobytes(), str(monitor.verdict),
    )  # fmt: skip


def _compare(jobs, tmp_path, *, compiled: bool) -> None:
    molecule("CH4")  # ASE reads its collection at the first call, and not for threads
    with ThreadPoolExecutor(len(jobs)) as pool:
        waiting = [
            pool.submit(simulated, job, tmp_path / f"thread-{k}", compiled=compiled)
            for k, job in enumerate(jobs)
        ]
        found = [result.result() for result in waiting]
    for k, job in enumerate(jobs):
        alone = simulated(job, tmp_path / f"alone-{k}", compiled=compiled)
        assert found[k] == alone, job


@pytest.mark.filterwarnings("ignore::mdxai.monitoring.reactions.InstabilityWarning")
def test_four_threads_give_the_bits_of_one(tmp_path, switching_often):
    _compare(JOBS, tmp_path, compiled=False)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::mdxai.monitoring.reactions.InstabilityWarning")
def test_two_threads_compile_to_the_bits_of_one(tmp_path):
    _compare(JOBS[1:3], tmp_path, compiled=True)


def test_systems_of_several_sizes_keep_their_pairs_apart(switching_often):
    def look(n_atoms: int) -> bool:
        expected = np.triu_indices(n_atoms, k=1)
        return all(np.array_equal(upper_triangle(n_atoms), expected) for _ in range(300))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(look, range(2, 18)))


def test_the_pairs_of_large_systems_are_not_all_kept():
    first = upper_triangle(100)
    assert upper_triangle(100) is first
    upper_triangle(101)
    assert upper_triangle(100) is not first


def test_each_thread_has_the_quantities_of_its_own_last_frame():
    frame, other = (Frame.from_atoms(molecule(name)) for name in ("H2O", "CH4"))
    seen = frame_quantities(frame)
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(frame_quantities, other).result().frame is other
    assert frame_quantities(frame) is seen


def test_torch_is_left_as_it_was(tmp_path):
    before = torch.get_num_threads()
    simulated(JOBS[2], tmp_path / "run")
    assert torch.get_num_threads() == before

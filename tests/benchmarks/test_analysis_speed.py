"""Explaining many molecules together, against their energies and forces and one by one."""

from __future__ import annotations

import time

import numpy as np
import pytest

from mdxai.analysis import entries_of
from mdxai.analysis.explained_model import ExplainedModel, batches
from mdxai.analysis.molecule_tally import MoleculeTally
from mdxai.calculators.batch import BatchPotential, Systems
from mdxai.calculators.card import Card
from mdxai.calculators.network import build_network
from mdxai.calculators.network_calculator import NetworkCalculator
from mdxai.calculators.potential import NetworkPotential
from mdxai.testing.speed_table import machine

pytestmark = pytest.mark.benchmark
MOLECULES = 1000


def best(work, repeats=3) -> float:
    """Return the least CPU time, s."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


@pytest.mark.parametrize(("kind", "width"), [("SchNet", 128), ("SchNet", 64), ("PaiNN", 64)])
def test_two_body_relevance_of_qm9(kind, width, shared_data):
    """1,000 molecules of QM9, three blocks, 5 Å; the time does not depend on the weights."""
    found = entries_of(shared_data / "qm9" / "qm9_sub20k.npz")
    entries = [e for k, e in enumerate(found) if k % 20 == 0 and e.frame is not None][:MOLECULES]
    entries.sort(key=lambda entry: entry.frame.n_atoms)
    frames = [entry.frame for entry in entries]
    description = {
        "type": kind, "n_atom_basis": width, "n_interactions": 3, "n_rbf": 20, "cutoff": 5.0,
    }  # fmt: skip
    potential = NetworkPotential(build_network(description), Card("timed", description))
    model = ExplainedModel(NetworkCalculator(potential))
    batch = BatchPotential(potential, traces=False)
    parts = batches(frames)

    def energies_and_forces():
        for part in parts:
            some = frames[part]
            starts = np.cumsum([0] + [frame.n_atoms for frame in some])
            batch.predict(Systems(
                np.concatenate([f.numbers for f in some]), starts,
                np.concatenate([f.positions for f in some]), np.zeros((len(some), 3, 3)),
                np.zeros((len(some), 3), dtype=bool),
            ))  # fmt: skip

    def together():
        for part in parts:
            model.explain(frames[part])

    def analysed():
        tally = MoleculeTally(model.cutoff)
        for part in parts:
            tally.add(model.explain(frames[part]), entries[part])

    explain = model.attributor(2)

    def one_by_one():
        for frame in frames:
            explain.attribute(frame)

    times = [best(work) for work in (energies_and_forces, together, analysed, one_by_one)]
    forces, batched, whole, single = times
    print(
        f"\n{kind}, {width} features, {len(frames)} molecules of QM9, {machine()['processor']}, "
        f"one thread: energies and forces {1e3 * forces / len(frames):.2f} ms a molecule; "
        f"two-body relevance {batched / forces:.2f} times that, with all sums "
        f"{whole / forces:.2f} times; one by one takes {single / batched:.1f} times as long"
    )

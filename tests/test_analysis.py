"""Analyses of data sets: batches against single molecules, hand-made networks, bad entries."""

from __future__ import annotations

import itertools

import ase.db
import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

import mdxai
from mdxai.analysis import AnalyseError, AnalysisOptions, entries_of
from mdxai.analysis.bond_kinds import KINDS, pair_kinds
from mdxai.analysis.clustered_means import ClusteredMeans
from mdxai.analysis.molecule_tally import WIDTH
from mdxai.attribution.attribution import side_by_side
from mdxai.calculators.network_calculator import NetworkCalculator
from mdxai.frame import Frame

from .conftest import KINDS as ARCHITECTURES
from .conftest import langevin, random_positions, random_potential
from .hand_made_network import filters, hand_made

MOLECULES = ("CH3CH2OH", "C6H6", "C2H4", "HCOOH", "CH3OCH3", "H2CO", "CH3COOH", "C2H2", "H2O",
             "CH3CHO", "C3H6_D3h", "CO2")  # fmt: skip
QUICK = AnalysisOptions(closely=0, block=5)


def written(path, structures):
    ase.io.write(path, structures, format="extxyz")
    return path


@pytest.fixture
def small_molecules(tmp_path):
    return written(tmp_path / "molecules.xyz", [molecule(name) for name in MOLECULES])


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_molecules_together_equal_one_by_one(kind):
    potential = random_potential(kind, 3)
    frames = [Frame.from_atoms(molecule(name)) for name in MOLECULES]
    explain = mdxai.attributor(NetworkCalculator(potential), method="walks")
    together = explain.attribute_together(frames)
    alone = [explain.attribute(frame) for frame in frames]
    for name in ("strengths", "atoms", "one_body", "numbers"):
        expected = np.concatenate([getattr(one, name) for one in alone])
        np.testing.assert_allclose(getattr(together.whole, name), expected, atol=1e-11)
    np.testing.assert_allclose(together.outputs, [one.output for one in alone], atol=1e-11)
    shifted = np.concatenate(
        [one.pairs.j + start for one, start in zip(alone, together.starts, strict=False)]
    )
    np.testing.assert_array_equal(together.whole.pairs.j, shifted)


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_single_explanations_side_by_side_are_those_of_a_batch(kind):
    """As networks with a guard are explained."""
    explain = mdxai.attributor(NetworkCalculator(random_potential(kind, 3)), method="walks")
    frames = [Frame.from_atoms(molecule(name)) for name in MOLECULES]
    together = explain.attribute_together(frames)
    joined = side_by_side(explain.attribute_many(frames))
    for name in ("strengths", "atoms", "one_body", "numbers", "by_body_order", "output"):
        expected = getattr(together.whole, name)
        np.testing.assert_allclose(getattr(joined.whole, name), expected, atol=1e-10)
    for name in ("i", "j", "distances", "vectors"):
        expected = getattr(together.whole.pairs, name)
        np.testing.assert_array_equal(getattr(joined.whole.pairs, name), expected)
    np.testing.assert_array_equal(joined.starts, together.starts)
    np.testing.assert_allclose(joined.outputs, together.outputs, atol=1e-10)


def brute_force(calculator, names):
    """Return per (element pair, bin) the mean strength and its standard error over molecules."""
    found: dict = {}
    for k, name in enumerate(names):
        atoms = molecule(name)
        explained = mdxai.attributor(calculator, method="walks").attribute(atoms)
        pairs = explained.pairs
        for i, j, r, s in zip(pairs.i, pairs.j, pairs.distances, explained.two_body, strict=True):
            pair = "-".join(sorted((atoms.symbols[i], atoms.symbols[j])))
            found.setdefault((pair, int(r / WIDTH)), {}).setdefault(k, []).append(abs(s))
    result = {}
    for key, by_molecule in found.items():
        everything = list(itertools.chain(*by_molecule.values()))
        mean, m = np.mean(everything), len(by_molecule)
        squares = sum((sum(v) - mean * len(v)) ** 2 for v in by_molecule.values())
        error = np.sqrt(m / (m - 1) * squares) / len(everything) if m > 1 else np.nan
        result[key] = len(everything), mean, error
    return result


@pytest.mark.parametrize("name", ["schnet-ethanol", "painn-ethanol"])
def test_the_stream_equals_brute_force(name, small_molecules):
    calculator = mdxai.load_calculator(name, dtype="float64")
    decay = mdxai.analyse(calculator, small_molecules, options=QUICK).models[0].tally.decay
    expected = brute_force(calculator, MOLECULES)
    for (pair, b), (count, mean, error) in expected.items():
        k = decay.row(pair)
        assert decay.count[k, b] == count
        assert decay.mean[k, b] == pytest.approx(mean, rel=1e-9)
        assert decay.error[k, b] == pytest.approx(error, rel=1e-6, abs=1e-12, nan_ok=True)
    assert decay.count.sum() == sum(count for count, *_ in expected.values())


def test_sums_of_parts_are_those_of_the_whole(small_molecules):
    whole = mdxai.analyse("painn-ethanol", small_molecules, options=AnalysisOptions(closely=4))
    parts = mdxai.analyse(
        "painn-ethanol", small_molecules, options=AnalysisOptions(closely=4, block=2)
    )
    for name, table in whole.tables().items():
        other = parts.tables()[name]
        assert len(other) == len(table), name
        keys = [c for c in table.columns if table[c].dtype.kind not in "fi"]
        numbers = [c for c in table.columns if table[c].dtype.kind in "fi"]
        order = [*keys, *(c for c in ("distance", "from", "rank", "n_atoms") if c in numbers)]
        if len(table) and order:
            a, b = table.sort_values(order), other.sort_values(order)
            # Batches of another make-up round differently in float32.
            np.testing.assert_allclose(a[numbers], b[numbers], rtol=2e-2, atol=1e-4, err_msg=name)


def clusters(n_structures, sizes=(4, 5, 6), spread=2.2):
    return [
        Atoms(f"C{n}", random_positions(n, 100 * n + k, spread))
        for k in range(n_structures) for n in sizes
        if np.linalg.norm(
            random_positions(n, 100 * n + k, spread)[:, None]
            - random_positions(n, 100 * n + k, spread) + 10 * np.eye(n)[:, :, None], axis=-1
        ).min() > 0.9
    ]  # fmt: skip


@pytest.mark.parametrize("n", [1.0, 3.0, 6.0])
def test_a_known_power_is_recovered(n, tmp_path):
    data = written(tmp_path / "clusters.xyz", clusters(80))
    (model,) = mdxai.analyse(hand_made(n), data, options=QUICK).models
    (decay,) = model.decays
    law = decay.law("power")
    assert law.value == pytest.approx(n, rel=0.02)
    assert law.low <= n * 1.01
    assert law.high >= n * 0.99
    assert law.prefactor == pytest.approx(2.0, rel=0.05)  # R_ij = 2 r⁻ⁿ
    assert decay.laws[0].kind == "power"
    assert law.holds == pytest.approx(decay.fitted)


def test_known_body_orders_are_recovered(tmp_path):
    structures = clusters(4, sizes=(5,))
    data = written(tmp_path / "clusters.xyz", structures)
    options = AnalysisOptions(closely=100)
    (one,) = mdxai.analyse(hand_made(3.0), data, options=options).models
    (two,) = mdxai.analyse(hand_made(3.0, n_interactions=2), data, options=options).models
    orders = one.close.orders
    for name in ("three-body", "four-body", "higher"):  # one block: two bodies at most
        assert abs(orders.signed[orders.row(name), 0]) < 1e-9
    orders, expected = two.close.orders, []
    for atoms in structures:
        a = filters(atoms.positions, 3.0)
        a2 = a @ a  # walks i–j–k; of three different atoms off the diagonal
        expected.append(a2.sum() - np.trace(a2))
    assert orders.signed[orders.row("three-body"), 0] == pytest.approx(np.mean(expected))
    assert abs(orders.signed[orders.row("four-body"), 0]) < 1e-9
    assert abs(orders.signed[orders.row("higher"), 0]) < 1e-9


def test_walks_through_other_atoms_add_what_is_known(tmp_path):
    """Two blocks: walks that visit i and j are i–j, i–j–i, and i–k–j, k–i–j, …"""
    (atoms,) = clusters(1, sizes=(4,))
    data = written(tmp_path / "cluster.xyz", [atoms])
    (model,) = mdxai.analyse(
        hand_made(2.0, n_interactions=2), data, options=AnalysisOptions()
    ).models
    a = filters(atoms.positions, 2.0)
    expected = np.zeros_like(a)
    for walk in itertools.product(range(4), repeat=3):
        steps = [1.0 if p == q else a[p, q] for p, q in itertools.pairwise(walk)]
        for i, j in itertools.combinations(sorted(set(walk)), 2):
            expected[i, j] += np.prod(steps)
    beyond = model.close.beyond
    k = beyond.row("all walks")
    total = np.nansum(beyond.mean[k] * beyond.count[k])
    assert total == pytest.approx(expected.sum())


def chains(spacing=3.0):
    return [
        Atoms(f"C{n}", [[spacing * k, 0, 0] for k in range(n)]) for n in range(2, 9)
        for _ in range(6)
    ]  # fmt: skip


@pytest.mark.parametrize(("mean", "exponent"), [(False, 1.0), (True, 0.0)])
def test_extensive_and_intensive_outputs_are_told_apart(mean, exponent, tmp_path):
    data = written(tmp_path / "chains.xyz", chains())
    network = hand_made(12.0, mean=mean)
    (model,) = mdxai.analyse(network, data, options=AnalysisOptions(closely=7)).models
    for name in ("output", "atoms"):
        assert model.growth[name].value == pytest.approx(exponent, abs=0.01)
    copies = model.close.copies
    assert copies.mean[copies.row("output"), 0] == pytest.approx(2.0 if not mean else 1.0)
    sizes = model.tally.sizes
    part = sizes.mean[sizes.row("atoms that take part")]
    np.testing.assert_allclose(part[2:9], np.arange(2, 9), rtol=1e-3)  # all atoms alike


def bad_entries():
    water = molecule("H2O")
    lost = molecule("H2O")
    lost.positions[1, 2] = np.nan
    crowded = Atoms("CO", [[0, 0, 0], [0, 0, 0.4]])
    periodic = molecule("H2O")
    periodic.set_cell([9, 9, 9])
    periodic.pbc = True
    return [water, Atoms("X2", [[0, 0, 0], [0, 0, 2]]), lost, crowded, Atoms("He"), periodic,
            molecule("SiH4"), molecule("CH3OH")]  # fmt: skip


REASONS = ("unknown element", "not finite", "overlapping", "single atom", "periodic",
           "not trained on")  # fmt: skip


@pytest.mark.parametrize("suffix", [".xyz", ".db"])
def test_bad_entries_are_left_out_each_with_its_reason(suffix, tmp_path):
    data = tmp_path / f"mixed{suffix}"
    if suffix == ".db":
        with ase.db.connect(data) as database:
            for atoms in bad_entries():
                database.write(atoms)
    else:
        written(data, bad_entries())
        text = data.read_text() + "0\nnothing here\n" + "2\nno element\nQq 0 0 0\nH 0 0 1\n"
        data.write_text(text)
    found = mdxai.analyse("painn-ethanol", data, options=QUICK)
    assert found.n_used == 2
    reasons = {one.first[0]: one.reason for one in found.left_out}
    for index, words in enumerate(REASONS, 1):
        assert words in reasons[index]
    if suffix == ".xyz":
        assert reasons[8] == "no atoms"
        assert "unknown element (Qq)" in reasons[9]
        assert found.n_read == 10


def test_a_file_that_ends_too_early_is_used_up_to_there(tmp_path):
    data = written(tmp_path / "cut.xyz", [molecule("H2O"), molecule("CH4")])
    data.write_text("\n".join(data.read_text().splitlines()[:-2]))
    found = mdxai.analyse("painn-ethanol", data, options=QUICK)
    assert found.n_used == 1
    assert "ends within a structure" in found.left_out[0].reason


def test_data_of_npz_are_read(tmp_path, shared_data):
    molecules = [molecule(name) for name in MOLECULES]
    np.savez(
        tmp_path / "ragged.npz", n_atoms=[len(a) for a in molecules],
        Z=np.concatenate([a.numbers for a in molecules]).astype(np.uint8),
        R=np.concatenate([a.positions for a in molecules]),
    )  # fmt: skip
    entries = list(entries_of(tmp_path / "ragged.npz"))
    for entry, atoms in zip(entries, molecules, strict=True):
        np.testing.assert_array_equal(entry.frame.numbers, atoms.numbers)
        np.testing.assert_allclose(entry.frame.positions, atoms.positions)
    first = next(entries_of(shared_data / "qm9" / "qm9_sub20k.npz"))
    assert first.frame is not None
    frames = list(itertools.islice(entries_of(shared_data / "rmd17" / "rmd17_ethanol.npz"), 3))
    assert [entry.frame.n_atoms for entry in frames] == [9, 9, 9]


class Stopped(Exception):
    """Stands for a kill: nothing after it runs."""


def test_a_stopped_analysis_goes_on_without_repeating_work(small_molecules, tmp_path):
    network, out = hand_made(3.0), tmp_path / "out"
    done = []

    def stop(n, count):
        done.append(n)
        if n >= 6:
            raise Stopped("killed")

    options = AnalysisOptions(closely=12, block=3)
    with pytest.raises(Stopped, match="killed"):
        mdxai.analyse(network, small_molecules, path=out, options=options, progress=stop)
    again = []
    resumed = mdxai.analyse(
        network, small_molecules, path=out, options=options,
        progress=lambda n, count: again.append((n, count)),
    )  # fmt: skip
    assert again == [(9, 12), (12, 12)]
    straight = mdxai.analyse(network, small_molecules, options=options)
    for name, table in straight.tables().items():
        assert table.equals(resumed.tables()[name]), name
    with pytest.raises(AnalyseError, match="other models"):
        mdxai.analyse(hand_made(3.0, cutoff=9.0), small_molecules, path=out, options=options)


def test_errors_of_a_mean_over_molecules_are_those_of_resampling():
    """Against drawing whole molecules with replacement."""
    rng = np.random.default_rng(5)
    sizes = rng.integers(1, 9, 60)
    levels = rng.normal(2.0, 0.5, 60)
    parts = [np.abs(rng.normal(level, 0.1, n)) for n, level in zip(sizes, levels, strict=True)]
    means = ClusteredMeans(1)
    whose = np.repeat(np.arange(60), sizes)
    zeros = np.zeros(len(whose), dtype=np.int64)
    means.add(["all"], zeros, zeros, np.concatenate(parts), whose)
    drawn = [
        np.concatenate([parts[k] for k in rng.integers(0, 60, 60)]).mean() for _ in range(4000)
    ]
    assert means.error[0, 0] == pytest.approx(np.std(drawn), rel=0.08)
    assert means.mean[0, 0] == pytest.approx(np.concatenate(parts).mean())


def kinds_of(name):
    atoms = molecule(name)
    i, j = np.triu_indices(len(atoms), k=1)
    distances = np.linalg.norm(atoms.positions[j] - atoms.positions[i], axis=1)
    kinds, _ = pair_kinds(atoms.numbers.astype(np.int64), atoms.positions, i, j, distances)
    symbols = atoms.get_chemical_symbols()
    return [
        ("-".join(sorted((symbols[a], symbols[b]))), KINDS[k])
        for a, b, k in zip(i, j, kinds, strict=True)
    ]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("C6H6", {("C-C", "aromatic"): 6, ("C-H", "single"): 6, ("C-C", "1-3"): 6,
                  ("C-C", "1-4"): 3}),
        ("C2H4", {("C-C", "double"): 1, ("C-H", "single"): 4, ("C-H", "1-3"): 4}),
        ("C2H2", {("C-C", "triple"): 1, ("H-H", "1-4"): 1}),
        ("C5H5N", {("C-C", "aromatic"): 4, ("C-N", "aromatic"): 2}),
        ("C4H4O", {("C-C", "aromatic"): 3}),
        ("CH3COOH", {("C-O", "double"): 1, ("C-O", "single"): 1, ("C-C", "single"): 1}),
        ("C3H6_D3h", {("C-C", "single"): 3}),
    ],
)  # fmt: skip
def test_bonds_of_known_molecules(name, expected):
    found = kinds_of(name)
    for key, count in expected.items():
        assert found.count(key) == count, key


def test_a_hydrogen_bond_is_found():
    """Water dimer of S22, O···O 2.91 Å, bond nearly straight."""
    dimer = Atoms(
        "OHHOHH",
        [[-1.551007, -0.114520, 0.0], [-1.934259, 0.762503, 0.0], [-0.599677, 0.040712, 0.0],
         [1.350625, 0.111469, 0.0], [1.680398, -0.373741, -0.758561],
         [1.680398, -0.373741, 0.758561]],
    )  # fmt: skip
    i, j = np.triu_indices(6, k=1)
    distances = np.linalg.norm(dimer.positions[j] - dimer.positions[i], axis=1)
    kinds, _ = pair_kinds(dimer.numbers.astype(np.int64), dimer.positions, i, j, distances)
    found = [(a, b) for a, b, k in zip(i, j, kinds, strict=True) if KINDS[k] == "hydrogen bond"]
    assert found == [(2, 3)]


def test_models_stand_side_by_side(small_molecules):
    found = mdxai.analyse(["painn-ethanol", "schnet-ethanol"], small_molecules, options=QUICK)
    alone = mdxai.analyse("schnet-ethanol", small_molecules, options=QUICK)
    both = found.tables()["bonds"]
    mine = both[both.model == "schnet-ethanol"].reset_index(drop=True)
    assert mine.equals(alone.tables()["bonds"])


def test_unusable_data_are_refused(tmp_path):
    with pytest.raises(AnalyseError, match="no data set"):
        mdxai.analyse("painn-ethanol", tmp_path / "nothing.xyz")
    data = written(tmp_path / "helium.xyz", [Atoms("He")])
    with pytest.raises(AnalyseError, match="no molecule that can be analysed: 1 a single atom"):
        mdxai.analyse("painn-ethanol", data)
    with pytest.raises(AnalyseError, match="block > 0"):
        AnalysisOptions(block=0)


def test_wiberg_orders_are_those_that_chemistry_knows(tmp_path):
    """Needs tblite, as in the group `potentials`."""
    pytest.importorskip("tblite")
    from mdxai.analysis.close_look import wiberg_orders

    for name, order in (("C2H6", 1.0), ("C2H4", 2.0), ("C2H2", 3.0)):
        orders = wiberg_orders(Frame.from_atoms(molecule(name)))
        assert orders[0, 1] == pytest.approx(order, abs=0.1)
        np.testing.assert_allclose(orders, orders.T, atol=1e-9)
    data = written(tmp_path / "few.xyz", [molecule(name) for name in ("C2H6", "C2H4", "C2H2")])
    (model,) = mdxai.analyse(hand_made(3.0), data).models
    # Strength 2 r⁻³ falls with length: orders of C–C bonds rank as strengths do.
    assert model.against_wiberg.n == 7 + 5 + 3
    carbon = [
        row for row in model.close.order_rows if row[2] > 1.5 or row[1] < 2 / 1.4**3
    ]  # all C–C bonds
    assert np.all(np.diff([row[2] for row in sorted(carbon, key=lambda row: row[1])]) > 0)


def test_a_part_of_the_data_is_spread_over_it(small_molecules):
    seen = mdxai.analyse(hand_made(3.0), small_molecules, options=AnalysisOptions(most=4, block=2))
    assert (seen.n_read, seen.n_used) == (4, 4)
    sizes = seen.models[0].tally.sizes
    expected = [len(molecule(name)) for name in MOLECULES[::3]]
    assert sizes.count[0].sum() == 4
    assert sorted(np.repeat(np.arange(sizes.n_bins), sizes.count[0])) == sorted(expected)


def test_a_run_is_a_data_set(tmp_path, ethanol):
    run = tmp_path / "run"
    dynamics = langevin(ethanol, 300.0, rng=1)
    with mdxai.Monitor(dynamics, run) as monitor:
        dynamics.attach(monitor, interval=1)
        dynamics.run(5)
    frames = list(mdxai.open_run(run).frames())
    found = mdxai.analyse("painn-ethanol", run, options=QUICK)
    data = written(tmp_path / "frames.xyz", [frame.to_atoms(results=False) for frame in frames])
    again = mdxai.analyse("painn-ethanol", data, options=QUICK)
    assert found.n_used == len(frames) == 6
    ours, theirs = (one.tables()["bonds"] for one in (found, again))
    np.testing.assert_allclose(ours["mean"], theirs["mean"], rtol=1e-4)


def test_sums_do_not_grow_with_the_data(tmp_path):
    structures = [molecule(name) for name in MOLECULES]
    sizes = []
    for times in (1, 4):
        data = written(tmp_path / f"{times}.xyz", structures * times)
        found = mdxai.analyse("painn-ethanol", data, options=AnalysisOptions(closely=4))
        parts = [part.state() for part in found.sums[0]]
        sizes.append(sum(
            array.nbytes for state in parts for name, array in state.items()
            # At most ten molecules of each principle, and the bonds of at most `closely`.
            if not name.startswith(("worst", "order_rows"))
        ))  # fmt: skip
    assert sizes[0] == sizes[1]

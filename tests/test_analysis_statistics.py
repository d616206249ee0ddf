"""Every statistic of an analysis, counted again molecule by molecule."""

from __future__ import annotations

import itertools
from collections import defaultdict

import numpy as np
import pytest
from ase.build import molecule
from ase.data import atomic_numbers, covalent_radii
from scipy.optimize import isotonic_regression
from scipy.stats import spearmanr

import mdxai
from mdxai.analysis import AnalysisOptions
from mdxai.analysis.decay_laws import fit_laws
from mdxai.analysis.histograms import Histograms
from mdxai.analysis.molecule_tally import WIDTH
from mdxai.principles.bond_enthalpies import SINGLE, bond_enthalpy

from .test_analysis import MOLECULES, kinds_of, written

NAMES = (*MOLECULES, "CH3OH", "C4H4O", "OCHCHO")
ORDER = {"single": 1.0, "aromatic": 1.5, "double": 2.0, "triple": 3.0}
CUTOFF = 5.0


@pytest.fixture(scope="module")
def calculator():
    return mdxai.load_calculator("painn-ethanol", dtype="float64")


@pytest.fixture(scope="module")
def found(calculator, tmp_path_factory):
    data = written(
        tmp_path_factory.mktemp("data") / "molecules.xyz", [molecule(name) for name in NAMES]
    )
    (model,) = mdxai.analyse(calculator, data, options=AnalysisOptions(closely=len(NAMES))).models
    return model


@pytest.fixture(scope="module")
def explained(calculator):
    attributor = mdxai.attributor(calculator, method="walks", body_order=3)
    return {name: attributor.attribute(molecule(name)) for name in NAMES}


def kinds_within_reach(name):
    """Return element pair and kind of each pair within the cutoff, in the order of pairs."""
    atoms = molecule(name)
    i, j = np.triu_indices(len(atoms), k=1)
    near = np.linalg.norm(atoms.positions[j] - atoms.positions[i], axis=1) < CUTOFF
    return [kind for kind, n in zip(kinds_of(name), near, strict=True) if n]


def means_of(by_molecule):
    """Return mean and standard error of {molecule: values}, the molecules being drawn."""
    n = sum(map(len, by_molecule.values()))
    mean = sum(map(sum, by_molecule.values())) / n
    m = len(by_molecule)
    squares = sum((sum(v) - mean * len(v)) ** 2 for v in by_molecule.values())
    return mean, np.sqrt(m / (m - 1) * squares) / n if m > 1 else np.nan


def test_strengths_of_kinds_of_pairs_and_of_single_atoms(found, explained):
    values = defaultdict(lambda: defaultdict(list))
    for name, one in explained.items():
        for (pair, kind), strength in zip(kinds_within_reach(name), one.two_body, strict=True):
            values[f"{pair} {kind}"][name].append(abs(strength))
        for symbol, own in zip(molecule(name).symbols, one.one_body, strict=True):
            values[f"{symbol} self"][name].append(abs(own))
    assert {bond.name for bond in found.bonds} == set(values)
    for bond in found.bonds:
        mean, error = means_of(values[bond.name])
        everything = list(itertools.chain(*values[bond.name].values()))
        assert bond.count == len(everything)
        assert bond.mean == pytest.approx(mean, rel=1e-8)
        assert bond.error == pytest.approx(error, rel=1e-5, abs=1e-9, nan_ok=True)
        # In bins of a tenth of a decade.
        assert np.log10(bond.median) == pytest.approx(np.log10(np.median(everything)), abs=0.6)
    assert [b.mean for b in found.bonds] == sorted((b.mean for b in found.bonds), reverse=True)


def test_rank_correlation_with_enthalpies(found):
    known = [b for b in found.bonds if b.reference is not None and b.molecules >= 5]
    expected = spearmanr([b.mean for b in known], [b.reference for b in known]).statistic
    assert found.against_enthalpies.n == len(known) >= 4
    assert found.against_enthalpies.value == pytest.approx(expected)
    assert found.against_enthalpies.low <= expected <= found.against_enthalpies.high
    assert {b.name for b in known} >= {"C-H single", "C-C single", "C-O single"}


def test_body_orders(found, explained):
    rows = [[one.by_body_order[0], one.by_body_order[1], one.by_body_order[2:].sum()]
            for one in explained.values()]  # fmt: skip
    shares = [np.abs(row) / np.abs(row).sum() for row in rows]
    orders = found.tally.orders
    for k, name in enumerate(("one-body", "two-body", "higher")):
        assert orders.signed[orders.row(name), 0] == pytest.approx(np.mean(rows, axis=0)[k])
        share = orders.row(f"share {name}")
        assert orders.mean[share, 0] == pytest.approx(np.mean(shares, axis=0)[k])
        expected = np.std(shares, axis=0, ddof=1)[k] / np.sqrt(len(shares))
        assert orders.error[share, 0] == pytest.approx(expected)


def test_atoms_by_kind_and_how_many_take_part(found, explained):
    values, part = defaultdict(lambda: defaultdict(list)), defaultdict(list)
    for name, one in explained.items():
        atoms = molecule(name)
        i, j = np.triu_indices(len(atoms), k=1)
        bonded = [kind in ORDER for _, kind in kinds_of(name)]
        neighbours = np.bincount(np.concatenate([i[bonded], j[bonded]]), minlength=len(atoms))
        for symbol, n, relevance in zip(atoms.symbols, neighbours, one.atoms, strict=True):
            values[f"{symbol}, {n} neighbour{'s' * int(n != 1)}"][name].append(abs(relevance))
        part[len(atoms)].append(np.abs(one.atoms).sum() ** 2 / (one.atoms**2).sum())
    means = found.tally.atoms
    assert set(means.names) == set(values)
    for name, some in values.items():
        assert means.mean[means.row(name), 0] == pytest.approx(means_of(some)[0])
    sizes = found.tally.sizes
    for n, some in part.items():
        assert sizes.mean[sizes.row("atoms that take part"), n] == pytest.approx(np.mean(some))


def misordered(name, one):
    kinds, strengths = kinds_within_reach(name), np.abs(one.two_body)
    wrong = total = 0
    for (a, b), (s, t) in zip(
        itertools.combinations(kinds, 2), itertools.combinations(strengths, 2), strict=True
    ):
        orders = [ORDER.get(kind, 0.0) for _, kind in (a, b)]
        if a[0] == b[0] and orders[0] != orders[1]:
            weak, strong = (s, t) if orders[0] < orders[1] else (t, s)
            wrong, total = wrong + (weak > strong + 0.01), total + 1
    return wrong / total if total else np.nan


def misranked(name, one):
    strengths = defaultdict(list)
    for (pair, kind), strength in zip(kinds_within_reach(name), one.two_body, strict=True):
        if kind == "single" and pair in SINGLE:
            strengths[pair].append(abs(strength))
    compared = [
        np.mean(strengths[a]) > np.mean(strengths[b])
        for a, b in itertools.permutations(strengths, 2) if SINGLE[b] > 1.1 * SINGLE[a]
    ]  # fmt: skip
    return np.mean(compared) if compared else np.nan


def excess(name, one):
    orders = np.abs([*one.by_body_order[:2], one.by_body_order[2:].sum()])
    return max(orders[2] - orders[1], 0) / max(orders.sum(), 0.1)


def residual(name, one):
    orders = np.abs([*one.by_body_order[:2], one.by_body_order[2:].sum()])
    return abs(one.residual) / max(orders.sum(), 0.1)


@pytest.mark.parametrize(
    ("principle", "deviation"),
    [("bond order", misordered), ("species ranking", misranked), ("body orders", excess),
     ("residual", residual)],
)  # fmt: skip
def test_deviations_from_principles(principle, deviation, found, explained):
    values = np.array([deviation(name, one) for name, one in explained.items()], dtype=float)
    histograms = found.tally.principles
    expected = Histograms(histograms.edges)
    expected.add("all", values)
    np.testing.assert_array_equal(histograms.counts[principle], expected.counts["all"])
    assert np.isfinite(values).sum() >= 4
    worst = [o.value for o in found.tally.worst.found.get(principle, [])]
    known = np.sort(values[np.isfinite(values) & (values > 0)])[::-1][:10]
    np.testing.assert_allclose(worst, known, atol=1e-9)


def test_three_body_strength_by_perimeter_and_angle(found, explained):
    perimeters, angles = defaultdict(list), defaultdict(list)
    for name, one in explained.items():
        atoms = molecule(name)
        i, j = np.triu_indices(len(atoms), k=1)
        bonds = {
            frozenset((int(a), int(b)))
            for a, b, (_, kind) in zip(i, j, kinds_of(name), strict=True) if kind in ORDER
        }  # fmt: skip
        for trio, three in zip(one.triples.tolist(), one.three_body, strict=True):
            sides = [atoms.get_distance(a, b) for a, b in itertools.combinations(trio, 2)]
            perimeters[int(sum(sides) / 0.25)].append(abs(three))
            for centre in trio:
                a, b = (x for x in trio if x != centre)
                if {frozenset((centre, a)), frozenset((centre, b))} <= bonds:
                    angle = atoms.get_angle(a, centre, b)
                    angles[min(int(angle / 10), 17)].append(abs(three))
    for means, expected in ((found.close.perimeters, perimeters), (found.close.angles, angles)):
        assert set(np.flatnonzero(means.count[0])) == set(expected)
        for b, some in expected.items():
            assert means.count[0, b] == len(some)
            assert means.mean[0, b] == pytest.approx(np.mean(some), rel=1e-8)


@pytest.mark.parametrize(
    ("kind", "value", "law"),
    [("power", 4.0, lambda r: 3 * r**-4.0),
     ("exponential", 0.7, lambda r: 3 * np.exp(-r / 0.7)),
     ("cutoff", 1.5, lambda r: 3 * (0.5 * (1 + np.cos(np.pi * r / CUTOFF))) ** 1.5)],
)  # fmt: skip
def test_the_right_law_is_found(kind, value, law):
    rng = np.random.default_rng(1)
    r = np.arange(0.05, 5, 0.1)
    mean = law(r) * (1 + 0.02 * rng.normal(size=len(r)))
    decay = fit_laws("C-C", (r, mean, 0.02 * law(r)), 1.25 * 2 * covalent_radii[6], CUTOFF)
    best = decay.laws[0]
    assert best.kind == kind
    assert best.value == pytest.approx(value, rel=0.02)
    assert best.low < value < best.high
    assert best.prefactor == pytest.approx(3.0, rel=0.1)
    assert decay.preference > 5
    assert best.holds == pytest.approx(decay.fitted)


def test_a_law_holds_where_it_does():
    """A power up to 3.5 Å and a plateau beyond."""
    r = np.arange(0.05, 5, 0.1)
    mean = np.where(r < 3.5, r**-5.0, 3.5**-5.0)
    decay = fit_laws("C-C", (r, mean, 0.01 * mean), 1.9, CUTOFF)
    low, high = decay.law("power").holds
    assert low == pytest.approx(1.95)
    assert 3.4 <= high <= 3.9


def test_intervals_hold_the_truth_as_often_as_they_say():
    r, inside = np.arange(0.05, 5, 0.1), 0
    rng = np.random.default_rng(2)
    for _ in range(80):
        mean = 2 * r**-3.0 * np.exp(0.05 * rng.normal(size=len(r)))
        law = fit_laws("C-C", (r, mean, 0.05 * 2 * r**-3.0), 1.9, CUTOFF).law("power")
        inside += law.low < 3.0 < law.high
    assert 0.87 <= inside / 80 <= 1.0


def test_enthalpies_of_multiple_bonds_exceed_those_of_single_ones():
    for pair in ("C-C", "C-N", "C-O", "N-N"):
        single, double = bond_enthalpy(pair), bond_enthalpy(pair, "double")
        assert single < double
    assert bond_enthalpy("C-C") < bond_enthalpy("C-C", "aromatic") < bond_enthalpy("C-C", "double")
    assert bond_enthalpy("C-C", "double") < bond_enthalpy("C-C", "triple")
    assert bond_enthalpy("C-Xe") is None


def test_decay_principles_are_those_of_a_run(calculator, tmp_path):
    """On the profile of the set as `StrengthProfile` makes it of frames, in the same bins."""
    structures = []
    for seed, name in itertools.product(range(5), NAMES):
        structures.append(molecule(name))
        structures[-1].rattle(0.05, seed=seed)
    data = written(tmp_path / "molecules.xyz", structures)
    (found,) = mdxai.analyse(calculator, data, options=AnalysisOptions(closely=0)).models
    decay = found.tally.decay
    assert {"C-H", "H-H"} <= set(found.decay_principles)
    for name, measured in found.decay_principles.items():
        k = decay.row(name)
        r = WIDTH * (np.arange(decay.n_bins) + 0.5)
        radii = sum(covalent_radii[atomic_numbers[s]] for s in name.split("-"))
        use = (decay.count[k] >= 20) & (r > 1.25 * radii)
        mean, count = decay.mean[k][use], decay.count[k][use].astype(float)
        falling = isotonic_regression(mean, weights=count, increasing=False).x
        moved = (count * np.abs(mean - falling)).sum() / (count * np.maximum(mean, 0.01)).sum()
        assert measured.rise == pytest.approx(moved)

"""Principles of what a model has learned: known profiles and rankings, real models, injected faults."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from ase.build import molecule
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau

import mdxai
from mdxai.attribution import Attribution
from mdxai.frame import Frame, find_pairs
from mdxai.principles import (
    BodyOrderDrift,
    BodyOrders,
    BondClasses,
    BondOrderRanking,
    DecayExponent,
    DecayForm,
    DecayRise,
    DecayTail,
    Equivalence,
    ExplanationPrecision,
    PrincipleUnavailable,
    Residual,
    SpeciesDrift,
    SpeciesRanking,
    StrengthProfile,
    fit_decay,
)
from mdxai.principles.explanation.health import equivalent_atoms
from mdxai.principles.explanation.ranking import discordance, pauling_orders

from .conftest import SOUND

R = np.arange(1.625, 5.0, 0.25)
EVENLY = np.full(len(R), 50.0)


def explained(frame, strength, orders=(1.0, -2.0, 0.1), atoms=None):
    """Return an explanation whose pairs carry strength(i, j, distance)."""
    pairs = find_pairs(frame.positions, frame.cell, frame.pbc, 5.0)
    values = [strength(*pair) for pair in zip(pairs.i, pairs.j, pairs.distances, strict=True)]
    n = frame.n_atoms
    relevance = np.zeros(n) if atoms is None else atoms
    return Attribution("walks", 0.1, 0.0, relevance, np.zeros(n), pairs, np.array(values),
                       np.array(orders))  # fmt: skip


def shaken(seed, atoms=None, amplitude=0.15):
    atoms = (atoms or molecule("CH3CH2OH")).copy()
    atoms.rattle(amplitude, seed=seed)
    return Frame.from_atoms(atoms, step=seed, time=float(seed))


def watch(principle, strength, n=60, **options):
    found = [principle.deviate(f, explained(f, strength, **options)) for f in map(shaken, range(n))]
    return [d for d in found if d is not None]


def test_a_power_law_is_recovered_with_its_interval():
    noise = np.exp(np.random.default_rng(0).normal(scale=0.05, size=len(R)))
    decay = fit_decay(R, 3.0 * R**-6 * noise, EVENLY, 5.0)
    assert decay.low < 6 < decay.high
    assert decay.high - decay.low < 1.0
    assert decay.prefers_exponential < 0


def test_an_exponential_is_told_from_a_power_law():
    assert fit_decay(R, np.exp(-R / 0.4), EVENLY, 5.0).prefers_exponential > 3


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0.01, 10), min_size=5, max_size=5))
def test_rise_is_the_distance_to_the_best_falling_profile(values):
    """Brute force: the least squares of all ways to pool neighbours."""
    strengths, counts = np.array(values), np.array([1.0, 2, 1, 3, 1])
    best, fit = np.inf, strengths
    for cuts in itertools.product([False, True], repeat=4):
        groups = np.split(np.arange(5), np.flatnonzero(cuts) + 1)
        means = np.concatenate(
            [np.full(len(g), np.average(strengths[g], weights=counts[g])) for g in groups]
        )
        loss = (counts * (means - strengths) ** 2).sum()
        if (np.diff(means) <= 1e-12).all() and loss < best - 1e-12:
            best, fit = loss, means
    rise = (counts * np.abs(strengths - fit)).sum() / (counts * strengths).sum()
    assert fit_decay(R[:5], strengths, counts, 5.0).rise == pytest.approx(rise, abs=1e-9)


def test_decay_principles_pass_a_falling_profile_and_catch_flat_or_rising_ones():
    def profile():
        return StrengthProfile(shaken(0), 5.0)

    def falling(i, j, r):
        return r**-6

    def flat(i, j, r):
        return 1.0

    def bumped(i, j, r):
        return r**-6 + (0.01 if r > 3.0 else 0.0)

    assert watch(DecayRise(profile()), falling)[-1].value == pytest.approx(0.0, abs=0.02)
    assert watch(DecayRise(profile()), bumped)[-1].value > 0.1
    assert watch(DecayExponent(profile()), falling)[-1].value == 0
    assert watch(DecayExponent(profile()), flat)[-1].value == pytest.approx(1.0)
    assert watch(DecayForm(profile()), lambda i, j, r: np.exp(-3 * r))[-1].value > 1
    assert watch(DecayForm(profile()), falling)[-1].value == 0
    long = watch(DecayTail(StrengthProfile(shaken(0), 4.0)), flat)
    assert long[-1].value == pytest.approx(1.0)
    assert watch(DecayTail(StrengthProfile(shaken(0), 4.0)), falling)[-1].value < 0.02


def test_pauling_orders_of_known_bonds():
    """Ethyne 3, ethene 2, benzene 1.5, ethane 1."""
    for name, order in (("C2H2", 3), ("C2H4", 2), ("C6H6", 1.5), ("C2H6", 1)):
        frame = Frame.from_atoms(molecule(name))
        i, j, orders = pauling_orders(frame)
        carbon = (frame.numbers[i] == 6) & (frame.numbers[j] == 6)
        np.testing.assert_allclose(orders[carbon], order, atol=0.35)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000))
def test_discordance_is_kendalls_tau(seed):
    rng = np.random.default_rng(seed)
    strengths, classes = rng.normal(size=20), rng.permutation(20).astype(float)
    wrong, total = discordance(strengths, classes)
    assert 1 - 2 * wrong / total == pytest.approx(kendalltau(strengths, classes).statistic)


def test_bonds_rank_before_the_rest():
    frame = shaken(1, amplitude=0.02)
    principle = BondOrderRanking(BondClasses(frame))
    assert principle.deviate(frame, explained(frame, lambda i, j, r: 1 / r)).value == 0
    upside_down = principle.deviate(frame, explained(frame, lambda i, j, r: r))
    assert upside_down.value == 1
    assert len(upside_down.atoms) == 2
    assert np.isnan(principle.deviate(frame, explained(frame, lambda i, j, r: np.nan)).value)


def test_given_bond_orders_come_before_paulings():
    frame = Frame.from_atoms(molecule("C2H6"))
    single, double = np.ones((8, 8)), np.full((8, 8), 2.0)
    assert set(BondClasses(frame, double).of(explained(frame, lambda *_: 1.0)).classes) == {
        0.0,
        2.0,
    }
    assert set(BondClasses(frame, single).of(explained(frame, lambda *_: 1.0)).classes) == {
        0.0,
        1.0,
    }


def test_species_are_ranked_against_their_reference():
    frame = shaken(2, amplitude=0.02)
    symbols, classes = frame.symbols, BondClasses(frame)
    enthalpy = {"CC": 347.0, "CH": 414.0, "CO": 358.0, "HO": 463.0, "HH": 436.0}

    def physical(i, j, r):
        return enthalpy["".join(sorted((symbols[i], symbols[j])))]

    principle = SpeciesRanking(classes, frame)
    assert principle.deviate(frame, explained(frame, physical)).value == 0
    assert principle.deviate(frame, explained(frame, lambda *p: 1 / physical(*p))).value == 1
    water = Frame.from_atoms(molecule("H2O"))
    with pytest.raises(PrincipleUnavailable, match="two kinds of bonds"):
        SpeciesRanking(BondClasses(water), water)


def test_drift_of_species_and_body_orders_is_measured_from_the_start():
    frame = shaken(3)
    steady = SpeciesDrift(BondClasses(frame))
    assert max(d.value for d in watch(steady, lambda *_: 1.0, n=40)) < 1e-12
    principle, orders = SpeciesDrift(BondClasses(frame)), BodyOrderDrift()
    for k in range(220):
        grown = 1.0 if k < 20 else 1.5
        now = explained(frame, lambda *_, grown=grown: grown, orders=(1, -2 * grown**9, 0))
        last, mixed = principle.deviate(frame, now), orders.deviate(frame, now)
    assert last.value == pytest.approx(0.5, abs=1e-3)
    assert mixed.value == pytest.approx(1 / 3 - 1 / (1 + 2 * 1.5**9), abs=1e-3)


def test_body_orders_may_not_grow():
    frame = shaken(4)
    falling = explained(frame, lambda *_: 1.0, orders=(0.1, -5.0, 4.0, 0.5))
    rising = explained(frame, lambda *_: 1.0, orders=(0.1, -4.0, 5.0, 0.5))
    assert BodyOrders().deviate(frame, falling).value == 0
    assert BodyOrders().deviate(frame, rising).value == pytest.approx(1 / 9.6)


def test_equivalent_atoms_of_ethanol_and_benzene():
    ethanol = equivalent_atoms(Frame.from_atoms(molecule("CH3CH2OH")))
    assert sorted(np.bincount(ethanol)) == [1, 1, 1, 1, 2, 3]
    benzene = equivalent_atoms(Frame.from_atoms(molecule("C6H6")))
    assert sorted(np.bincount(benzene)) == [6, 6]


def test_an_atom_treated_unlike_its_equivalents_is_found():
    frame = shaken(6, amplitude=0.02)
    kind = equivalent_atoms(frame)
    odd = int(np.flatnonzero(np.bincount(kind)[kind] == 3)[0])
    rng = np.random.default_rng(0)
    fair, unfair = Equivalence(frame), Equivalence(frame)
    alike, apart = [], []
    for _ in range(400):
        relevance = rng.normal(scale=0.1, size=9)
        alike.append(fair.deviate(frame, explained(frame, lambda *_: 1.0, atoms=relevance)))
        relevance[odd] += 0.3
        apart.append(unfair.deviate(frame, explained(frame, lambda *_: 1.0, atoms=relevance)))
    assert max(d.value for d in alike if d is not None) < 0.01
    assert apart[-1].atoms == (odd,)
    assert 0.1 < apart[-1].value < 0.2


@pytest.mark.parametrize("name", SOUND)
def test_real_models_explain_well_enough(name):
    calculator = mdxai.load_calculator(name)
    explain = mdxai.attributor(calculator)
    frame = shaken(7, amplitude=0.05)
    attribution = explain.attribute(frame)
    assert 0 < ExplanationPrecision(calculator.potential).deviate(frame).value < 1e-4
    coarse = calculator.potential
    for parameter in coarse.network.parameters():  # as if stored in half precision
        parameter.copy_(parameter.half().float())
    principle = ExplanationPrecision(coarse)
    principle._exact = mdxai.attributor(calculator, method="walks", dtype="float64")
    assert principle.deviate(frame).value > 1e-4
    assert Residual().deviate(frame, attribution).value < 0.2
    assert BondOrderRanking(BondClasses(frame)).deviate(frame, attribution).value < 0.1
    assert BodyOrders().deviate(frame, attribution).value < 0.1


def test_bonds_out_of_reach_are_no_nan():
    """A broken bond is not in the explanation any more; only a NaN in it may give one."""
    frame = shaken(8)
    principle, apart = SpeciesDrift(BondClasses(frame)), molecule("CH3CH2OH")
    apart.positions[3] += 20  # the only O-H bond
    broken = Frame.from_atoms(apart)
    for _ in range(25):
        principle.deviate(frame, explained(frame, lambda *_: 1.0))
    for _ in range(25):
        last = principle.deviate(broken, explained(broken, lambda *_: 1.0))
    assert last.value == pytest.approx(0.0)

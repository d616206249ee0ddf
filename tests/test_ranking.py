"""Bond orders and rankings of bonds by relevance against chemistry."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import molecule
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau

from mdxai.frame import Frame
from mdxai.principles import (
    BodyOrderDrift,
    BondClasses,
    BondOrderRanking,
    PrincipleUnavailable,
    SpeciesDrift,
    SpeciesRanking,
)
from mdxai.principles.explanation.ranking import discordance, pauling_orders
from tests.conftest import ethanol_with

from .explained_frames import deviations, explained, shaken


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
    with pytest.raises(PrincipleUnavailable, match="no two kinds of bonds have known enthalpies"):
        SpeciesRanking(BondClasses(water), water)


def test_drift_of_species_and_body_orders_is_measured_from_the_start():
    frame = shaken(3)
    steady = SpeciesDrift(BondClasses(frame))
    assert max(d.value for d in deviations(steady, lambda *_: 1.0, n=40)) < 1e-12
    principle, orders = SpeciesDrift(BondClasses(frame)), BodyOrderDrift()
    for k in range(220):
        grown = 1.0 if k < 20 else 1.5
        now = explained(frame, lambda *_, grown=grown: grown, orders=(1, -2 * grown**9, 0))
        last, mixed = principle.deviate(frame, now), orders.deviate(frame, now)
    assert last.value == pytest.approx(0.5, abs=1e-3)
    assert mixed.value == pytest.approx(1 / 3 - 1 / (1 + 2 * 1.5**9), abs=1e-3)


def test_a_third_of_nothing_is_nothing_and_the_bond_that_drifts_is_named():
    frame = shaken(3)
    for bond, grave in ((0.03, 0.0), (3.0, 1 / 3)):
        principle = SpeciesDrift(BondClasses(frame))
        for k in range(300):
            factor = 1.0 if k < 20 else 4 / 3

            def strength(i, j, r, factor=factor, bond=bond):
                return bond * (factor if {i, j} == {2, 3} else 1.0)  # the O–H bond

            last = principle.deviate(frame, explained(frame, strength))
        assert last.value == pytest.approx(grave or 0.1, abs=1e-3)
        assert set(last.atoms) == {2, 3}


def test_a_drift_is_more_than_what_varies_from_frame_to_frame():
    frame, rng = shaken(3), np.random.default_rng(1)
    principle, found = SpeciesDrift(BondClasses(frame)), []
    for _ in range(2000):
        now = float(rng.lognormal(0.0, 0.5))
        found.append(principle.deviate(frame, explained(frame, lambda *_, now=now: now)))
    assert max(d.value for d in found if d is not None) < 0.1
    for _ in range(100):
        last = principle.deviate(frame, explained(frame, lambda *_: 3.0))
    assert last.value > 0.5


def test_strengths_that_hardly_differ_are_not_wrongly_ordered():
    frame = shaken(1, amplitude=0.02)
    principle = BondOrderRanking(BondClasses(frame))
    assert principle.deviate(frame, explained(frame, lambda i, j, r: 0.001 * r)).value == 0
    assert principle.deviate(frame, explained(frame, lambda i, j, r: 0.1 * r)).value > 0.9
    assert discordance(np.array([2.0, 1.0]), np.array([0.0, 1.0]), tie=1.0) == (0, 1)


def test_bonds_out_of_reach_are_no_nan():
    """A broken bond is not in the explanation any more; only a NaN in it may give one."""
    frame = shaken(8)
    principle, apart = SpeciesDrift(BondClasses(frame)), ethanol_with(None)
    apart.positions[3] += 20  # the only O-H bond
    broken = Frame.from_atoms(apart)
    for _ in range(25):
        principle.deviate(frame, explained(frame, lambda *_: 1.0))
    for _ in range(25):
        last = principle.deviate(broken, explained(broken, lambda *_: 1.0))
    assert last.value == pytest.approx(0.0)

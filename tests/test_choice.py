"""The choice of a method, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.calculators.emt import EMT

import mdxai
from mdxai.attribution import (
    AttributionError,
    AttributionUnavailable,
    FlowAttributor,
    all_walks,
    difference,
)
from mdxai.calculators import CalculatorError

from .conftest import ethanol_with, random_positions, random_potential


def test_unknown_models_get_a_clear_error():
    with pytest.raises(AttributionUnavailable, match="'emt' is not a SchNet, PaiNN or SO3net"):
        mdxai.attributor(EMT())


def test_negative_gamma_is_refused(ethanol):
    with pytest.raises(ValueError, match="gamma must be from 0 to 1000, got -1"):
        mdxai.attributor(ethanol.calc, gamma=-1)


def test_auto_takes_walks_for_small_and_flow_for_large_systems():
    potential = random_potential("SchNet", 1)
    calculator = mdxai.load_calculator("schnet-ethanol")
    grid = 3.0 * np.indices((7, 7, 7)).reshape(3, -1).T
    assert mdxai.attributor(calculator).attribute(Atoms("H343", grid)).method == "flow"
    assert mdxai.attributor(calculator).attribute(ethanol_with(None)).method == "walks"
    flow = FlowAttributor(potential).attribute(Atoms("COH", random_positions(3, 1)))
    with pytest.raises(AttributionUnavailable, match="'flow' gives no two-body relevance"):
        _ = flow.two_body


def test_impossible_sets_orders_and_methods_are_refused(ethanol):
    explain = mdxai.attributor(ethanol.calc, method="walks")
    with pytest.raises(ValueError, match="has atoms 0 to 8"):
        explain.relevance_of_sets(ethanol, [[0, 9]])
    with pytest.raises(ValueError, match="names an atom twice"):
        explain.relevance_of_sets(ethanol, [[1, 1]])
    with pytest.raises(ValueError, match="body_order must be one of"):
        mdxai.attributor(ethanol.calc, body_order=4)
    with pytest.raises(ValueError, match="method must be one of auto"):
        mdxai.attributor(ethanol.calc, method="guess")
    with pytest.raises(AttributionUnavailable, match="walks, more than"):
        all_walks(explain, Atoms("H60", 3.0 * np.indices((4, 4, 4)).reshape(3, -1).T[:60]))


def test_automatic_and_flow_take_batches_and_single_walks_need_walks(ethanol):
    for method in ("auto", "flow"):
        explain = mdxai.attributor(ethanol.calc, method=method)
        (found,) = explain.attribute_many([ethanol])
        np.testing.assert_allclose(found.strengths, explain.attribute(ethanol).strengths, atol=1e-5)
    with pytest.raises(AttributionError, match='need an attributor of method="walks"'):
        all_walks(mdxai.attributor(ethanol.calc), ethanol)


def test_impossible_requests_are_refused(ethanol):
    explain = mdxai.attributor(ethanol.calc, method="walks")
    with pytest.raises(AttributionError, match="made of atom indices"):
        explain.relevance_of_sets(ethanol, [[0.5, 1.0]])
    with pytest.raises(AttributionError, match="must be of one size"):
        explain.relevance_of_sets(ethanol, [[0], [1, 2]])
    with pytest.raises(AttributionError, match="expected ASE Atoms or a Frame, got NoneType"):
        explain.attribute(None)
    for gamma in (np.inf, np.nan, "0.1", 1e30):
        with pytest.raises(AttributionError, match="gamma must be from 0 to 1000"):
            mdxai.attributor(ethanol.calc, gamma=gamma)
    with pytest.raises(AttributionError, match="dtype must be"):
        mdxai.attributor(ethanol.calc, method="hessian", dtype="float16")
    with pytest.raises(AttributionError, match="one molecule, its atoms in the same order"):
        difference(explain.attribute(molecule("CH3OCH3")), explain.attribute(ethanol))
    other_rule = mdxai.attributor(ethanol.calc, method="walks", max_bias=True)
    with pytest.raises(AttributionError, match="with the same rule"):
        difference(other_rule.attribute(ethanol), explain.attribute(ethanol))
    with pytest.raises(CalculatorError, match="device 'nowhere' cannot be used here"):
        mdxai.load_calculator("painn-ethanol", device="nowhere")

"""Calculators are called by their models."""

from __future__ import annotations

from pathlib import Path

import pytest
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.calculators.mixing import SumCalculator

import mdxai
from mdxai.calculators.model_name import model_name
from mdxai.testing import FaultyCalculator, ScaledForces


class Network:
    """As networks of others look from outside."""

    def __init__(self, **known):
        self.__dict__.update(known)


class Versioned(EMT):
    def __init__(self, **known):
        super().__init__()
        self.__dict__.update(known)


class Named(EMT):
    name = "my potential, epoch 12"


@pytest.mark.parametrize(
    ("calculator", "name"),
    [
        (EMT(), "EMT"),
        (LennardJones(sigma=3.4), "LennardJones"),
        (Versioned(model=Network(version="0.3.0")), "Versioned (version=0.3.0)"),
        (Versioned(model_path=Path("/scratch/run 7/best.pt")), "Versioned (model_path=best.pt)"),
        (Versioned(model_paths=["a/b/mace.model"]), "Versioned (model_paths=mace.model)"),
        (Versioned(model=Network(version=3, name=None)), "Versioned"),
        (Named(), "my potential, epoch 12"),
        (SumCalculator([EMT(), LennardJones()]), "EMT + LennardJones"),
    ],
)
def test_names(calculator, name):
    assert model_name(calculator) == name


def test_parameters_of_ase_name_a_method():
    calculator = Versioned()
    calculator.parameters["method"] = "GFN2-xTB"
    calculator.parameters["accuracy"] = 1.0
    assert model_name(calculator) == "Versioned (method=GFN2-xTB)"


def test_cards_name_networks_and_faults_name_themselves():
    network = mdxai.load_calculator("schnet-ethanol")
    assert model_name(network) == "schnet-ethanol"
    faulty = FaultyCalculator(network, ScaledForces(2.0))
    assert model_name(faulty) == f"schnet-ethanol with {ScaledForces(2.0)}"
    assert "with ScaledForces" in model_name(FaultyCalculator(EMT(), ScaledForces(2.0)))

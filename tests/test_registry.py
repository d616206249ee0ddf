"""Which principles are checked in a run, of which kind they are, and why others are not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms

from mdxai.calculators import Guard
from mdxai.calculators.card import Card
from mdxai.engines import AseEngine, EngineDescription
from mdxai.frame import Frame, Thermostat
from mdxai.principles import (
    WeakSpotProgress,
    explanation_principles,
    kind_of,
    principles_for,
    probe_principles,
)
from mdxai.principles.registry import guard_principles
from mdxai.stability.outcomes import Stability
from mdxai.stability.thresholds import PROBE_THRESHOLDS, THRESHOLDS, WITHOUT_LIMITS
from mdxai.stability.verdict import VerdictBuilder

from .conftest import ethanol_with
from .crystal_baths import BATHS, hot_crystal, watch

RANGES = {"H-H": (1.4, 4.5), "C-H": (0.95, 3.5), "H-O": (0.9, 3.6), "C-C": (1.4, 1.7),
          "C-O": (1.3, 2.7)}  # fmt: skip

MATTER = {"lindemann", "detached", "crowding", "void", "density", "pair_distribution"}
NVE = EngineDescription("VelocityVerlet", 0.5, None, conserves_energy=True)
NVT = EngineDescription("Langevin", 0.5, 300.0, conserves_energy=False, random_bath=True)


@pytest.fixture
def frame(ethanol_frame):
    return ethanol_frame


def test_every_threshold_is_for_a_principle_of_known_kind():
    assert {kind_of(t.principle) for t in THRESHOLDS} == {"motion", "explanation"}
    assert {kind_of(t.principle) for t in PROBE_THRESHOLDS} == {"probe"}


def test_every_probe_that_is_made_is_called_a_probe(ethanol):
    first = Frame.from_atoms(ethanol)
    made, unavailable = probe_principles(ethanol.calc.potential, first)
    assert {kind_of(principle.name) for principle in made} == {"probe"}
    assert {kind_of(name) for name in unavailable} <= {"probe"}


def test_the_kind_follows_from_the_name():
    assert [kind_of(name) for name in ("bond", "decay_rise", "species_ranking", "rotation")] == [
        "motion", "explanation", "explanation", "probe"
    ]  # fmt: skip
    assert kind_of("kinetic_temperature") is None


def test_what_cannot_be_checked_says_why(frame):
    principles, unavailable = principles_for(frame)
    no_bath = {"temperature", "kinetic_spread", "flying_ice_cube", "mode_temperature",
               "element_temperature"}  # fmt: skip
    untrained = {"beyond_training", "unlike_training", "force_beyond_training"}
    moved = {"momentum", "angular_momentum", "momentum_kicks"}
    assert set(unavailable) == no_bath | untrained | MATTER | moved
    assert "does not state which distances" in unavailable["beyond_training"]
    assert {p.name for p in principles} == {
        "non_finite", "bond", "broken_bonds", "reaction", "formed_bonds", "fragments",
        "lone_hydrogen", "contact", "distance_drift", "force_spike", "repeated_forces",
        "net_force", "net_torque", "energy", "energy_drift", "energy_jump", "work", "work_slope",
        "work_scatter",
    }  # fmt: skip
    card = Card("x", {"cutoff": 5.0}, ("C", "H", "O"), distances=RANGES, forces_max=8.0)
    heated = replace(frame, thermostat=Thermostat(300.0))
    assert set(principles_for(heated, card, NVT)[1]) == MATTER | moved
    less = {pair: span for pair, span in RANGES.items() if pair != "H-O"}
    partly = principles_for(frame, Card("x", {"cutoff": 5.0}, distances=less))[1]
    assert {"contact of H-O", "elements"} <= set(partly)
    silent = principles_for(frame.without("energy"))[1]  # it may come with a later frame
    assert silent.keys().isdisjoint({"energy", "energy_drift", "energy_jump", "work"})


def test_every_principle_has_a_threshold_and_a_unit(frame):
    card = Card("x", {"cutoff": 5.0}, ("C", "H", "O"), distances=RANGES, forces_max=8.0)
    nve = principles_for(frame, card, NVE)[0]
    nvt = principles_for(replace(frame, thermostat=Thermostat(300.0)), card, NVT)[0]
    crystal = principles_for(Frame.from_atoms(bulk("Cu", cubic=True) * (2, 2, 2)))[0]
    learned, kept = explanation_principles(frame, 5.0)[0], guard_principles(frame, Guard())
    assert all(p.unit and p.cost == "free" for p in nve + nvt + crystal + kept)
    assert all(p.unit and p.cost == "attribution" for p in learned)
    judged = {p.name for p in nve + nvt + crystal + learned + kept} - WITHOUT_LIMITS
    assert judged | {WeakSpotProgress.name} == {t.principle for t in THRESHOLDS}  # given its paths


def test_a_single_atom_and_a_fixed_crystal_are_no_false_alarm():
    """Principles without a meaning for them are left out with a reason; the others are obeyed."""
    atom = Frame.from_atoms(Atoms("Ar", velocities=[[0.01, 0, 0]]))
    atom = atom.with_results(0.0, np.zeros((1, 3)))
    crystal = bulk("Cu", cubic=True)
    crystal.set_constraint(FixAtoms([0]))
    crystal.calc = EMT()
    crystal.get_forces()
    for first in (atom, Frame.from_atoms(crystal)):
        heated = replace(first, thermostat=Thermostat(300.0))
        for start, dynamics in ((heated, NVT), (first, NVE)):
            principles, unavailable = principles_for(start, None, dynamics)
            assert all(unavailable.values())
            for step in range(3):
                frame = replace(start, step=step, time=float(step))
                found = [p.deviate(frame, None) for p in principles]
                assert all(d is None or d.value < 1e-6 for d in found)


@pytest.mark.parametrize("bath", BATHS)
def test_a_sound_crystal_raises_no_alarm(bath):
    """Every principle together, from the lattice at 600 K of velocities into the bath."""
    dynamics = BATHS[bath](hot_crystal())
    engine = AseEngine(dynamics)
    principles = []
    builder = VerdictBuilder(THRESHOLDS)

    def see(frame):
        if not principles:
            principles.extend(principles_for(frame, None, engine.describe())[0])
        builder.add(frame.time, {p.name: p.deviate(frame, None) for p in principles})

    watch(dynamics, 150, see)
    assert builder.verdict().stability is Stability.STABLE, str(builder.verdict())


def test_a_run_that_starts_broken_can_be_judged():
    atoms = ethanol_with(None)
    atoms.positions[3, 1] = np.nan
    frame = Frame.from_atoms(atoms)
    principles, _ = principles_for(frame)
    deviations = {p.name: p.deviate(frame, None) for p in principles}
    assert not deviations["non_finite"].value <= 0

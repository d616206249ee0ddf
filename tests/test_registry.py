"""Every principle has one kind: motion, explanation or probe."""

from __future__ import annotations

from mdxai.frame import Frame
from mdxai.principles import kind_of, probe_principles
from mdxai.stability.thresholds import PROBE_THRESHOLDS, THRESHOLDS


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

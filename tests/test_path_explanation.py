"""What the energy is made of along a path: against single frames, sums and a broken network."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ase.calculators.emt import EMT

import mdxai
from mdxai.attribution import AttributionUnavailable, difference
from mdxai.forecast import WeakPath, WeakSpot, WeakSpots, explain_weak_spots
from mdxai.frame import Frame
from mdxai.report.weak_spot_pictures import draw_explanation
from mdxai.serialization import as_plain, from_plain

from .conftest import ethanol_with

LENGTHS = np.array([1.79, 1.5, 1.3, 1.1, 0.9])  # Å, of H7–H8
TOP = 3


def closing(calculator, barrier=0.7):
    """Return a path that closes H7–C0–H8, as a search would."""
    atoms, images = ethanol_with(calculator), []
    for length in LENGTHS:
        one = atoms.copy()
        one.set_distance(7, 8, length, fix=0.5)
        images.append(one.positions)
    energies = np.array([energy_of(calculator, positions) for positions in images])
    path = WeakPath(np.array(images), LENGTHS, energies - energies[0], TOP)
    minimum = atoms.copy()
    minimum.positions = images[0]
    spot = WeakSpot("angle", (7, 0, 8), "H7–C0–H8", "too close", barrier, 10.0, 1.0, 3, path)
    return WeakSpots((spot,), 1000.0, Frame.from_atoms(minimum), 1, 3.0)


def energy_of(calculator, positions):
    atoms = ethanol_with(calculator)
    atoms.positions = positions
    return atoms.get_potential_energy()


@pytest.fixture(scope="module", params=["schnet-ethanol", "painn-ethanol"])
def calculator(request):
    return mdxai.load_calculator(request.param, dtype="float64")


@pytest.fixture(scope="module")
def found(calculator):
    return explain_weak_spots(closing(calculator), calculator)


def test_the_parts_add_up_to_the_energy(found):
    spot, explained = found.worst, found.worst.explanation
    total = sum(getattr(explained, part) for part in explained.at_top)
    assert total == pytest.approx(spot.path.energies, abs=1e-6)
    assert sum(explained.at_top.values()) == pytest.approx(spot.path.energies[TOP], abs=1e-6)


def test_they_are_those_of_the_frames_one_by_one(calculator, found):
    explained = found.worst.explanation
    one = mdxai.attributor(calculator, method="walks", body_order=3)
    start, top = (
        one.attribute(replace(found.minimum, positions=found.worst.path.positions[k]))
        for k in (0, TOP)
    )
    change = difference(top, start)
    pair = change.two_body[(change.pairs.i == 7) & (change.pairs.j == 8)]
    assert explained.at_top["pair"] == pytest.approx(float(pair[0]))
    assert explained.at_top["one_body"] == pytest.approx(change.one_body.sum())
    assert explained.at_top["three_body"] == pytest.approx(change.three_body.sum())
    largest = explained.changes[0]
    assert largest.change == pytest.approx(change.two_body[np.argmax(np.abs(change.two_body))])
    assert abs(largest.change) >= abs(explained.changes[-1].change) > 0


def test_a_pair_beyond_the_cutoff_has_no_part_in_it(calculator):
    held = closing(calculator)
    spot = held.worst
    apart = spot.path.positions.copy()
    apart[1:, 8] += [0.0, 0.0, 50.0]  # the hydrogen is gone
    gone = replace(spot, path=replace(spot.path, positions=apart))
    explained = explain_weak_spots(replace(held, spots=(gone,)), calculator).worst.explanation
    before = mdxai.attributor(calculator, method="walks").attribute(held.minimum)
    pair = before.two_body[(before.pairs.i == 7) & (before.pairs.j == 8)]
    assert explained.pair[1:] == pytest.approx(-float(pair[0]))


def test_only_the_worst_are_explained(calculator):
    held = closing(calculator)
    higher = replace(held.worst, barrier=0.9)
    both = explain_weak_spots(replace(held, spots=(held.worst, higher)), calculator, worst=1)
    assert [s.explanation is not None for s in both.spots] == [True, False]
    assert both.worst is both.spots[0]


def test_an_explanation_is_kept_and_told(found):
    again = from_plain(WeakSpots, as_plain(found))
    assert again.worst.explanation.at_top == found.worst.explanation.at_top
    told = found.as_dict()["weak_spots"][0]["explanation"]
    assert told["at_top_eV"].keys() >= {"pair", "other_pairs", "three_body"}
    assert told["pairs"][0]["atoms"] == [found.worst.explanation.changes[0].i,
                                         found.worst.explanation.changes[0].j]  # fmt: skip
    assert "this pair " in found.worst.explanation.sentence


def test_it_is_drawn_from_the_minimum_on_the_left(found):
    from matplotlib.figure import Figure

    ax = Figure().subplots()
    draw_explanation(ax, found.worst, found.worst.explanation)
    assert ax.get_xlim()[0] > ax.get_xlim()[1]
    names = [text.get_text() for text in ax.get_legend().get_texts()]
    drawn = dict(zip(names, ax.get_lines(), strict=False))["this pair"].get_ydata()
    assert drawn == pytest.approx(found.worst.explanation.pair)


def test_other_calculators_are_refused(calculator):
    with pytest.raises(AttributionUnavailable, match="relevance needs access to the network"):
        explain_weak_spots(closing(calculator), EMT())

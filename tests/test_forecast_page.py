"""The page of a forecast: it says what the forecast holds, and needs nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mdxai.report import write_forecast_page

from .holed_pair import HoledPair
from .test_foretell import QUICK, TESTING, forecast_of
from .test_page import HOSTILE, Page


@pytest.fixture(scope="module")
def found():
    options = replace(QUICK, testing=replace(TESTING, most=0.5, replicas=2))
    return forecast_of(options=options, reference=lambda: HoledPair(hole=0.0))


def test_the_page_says_what_the_forecast_says(found, tmp_path):
    page = Page(write_forecast_page(found, tmp_path))
    spot, survival = found.weakest, found.survival
    assert f"probability that a run of 100 ps at 600 K survives ({survival.low:.2f}" in page.text
    assert f"barrier {spot.barrier:.2f} eV" in page.text
    assert spot.forbidden in page.text
    rows = page.table("coordinate")
    assert [cell["text"] for cell in rows[0]] == found.weak_spots.headings
    assert [cell["text"] for cell in rows[1]] == found.weak_spots.rows[0]
    seen = page.table("watched / ps")
    assert [[cell["text"] for cell in row] for row in seen[1:]] == [
        list(row) for row in found.life_rows
    ]
    for note in found.notes():
        assert note in page.text
    assert page.tags.count("svg") == 3 + 2  # curves; the path and the molecule of one weak spot


def test_the_page_needs_nothing_else_and_runs_nothing(found, tmp_path):
    path = write_forecast_page(replace(found, model=HOSTILE), tmp_path / ".")
    page = Page(path)
    assert HOSTILE in page.text
    assert not {"script", "link", "img", "iframe", "object", "image"} & set(page.tags)
    assert not [link for link in page.links if not link.startswith("#")]
    assert "http" not in path.read_text()
    assert page.size < 200_000


@pytest.mark.parametrize(
    ("duration", "mark"), [(1e-6, "stable"), (1.0, "suspect"), (1e9, "unstable")]
)
def test_the_colour_follows_estimate_and_interval(found, duration, mark, tmp_path):
    one = replace(found, duration=duration, at_least=0.9)
    if mark == "suspect":  # the estimate is good enough, the lower end is not
        survival = one.survival
        one = replace(one, at_least=0.5 * (survival.low + survival.value))
    text = write_forecast_page(one, tmp_path).read_text()
    assert f'<div class="verdict {mark}">' in text


def test_pages_without_one_half_are_whole_too(found, tmp_path):
    alone = Page(write_forecast_page(replace(found, life_test=None), tmp_path))
    assert not alone.table("watched / ps")
    assert "no life test" in alone.text
    unknown = replace(found, weak_spots=None, without="weak spots not known: it relaxes")
    other = Page(write_forecast_page(unknown, tmp_path))
    assert not other.table("coordinate")
    assert "weak spots not known: it relaxes" in other.text
    none = replace(found, weak_spots=replace(found.weak_spots, spots=()), life_test=None)
    empty = write_forecast_page(none, tmp_path)
    assert "No weak spot below 3 eV." in Page(empty).text

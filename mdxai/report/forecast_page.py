"""A forecast as one HTML file that needs no network and runs no script."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from markupsafe import Markup

from mdxai.forecast import Forecast, WeakSpot
from mdxai.forecast.forecast_result import LIFE_HEADINGS
from mdxai.forecast.group_names import in_its_group
from mdxai.forecast.quantity_text import share_interval_text, time_interval_text, time_text
from mdxai.report.forecast_figures import (
    explanation_plot,
    hazard_curve,
    hazard_plot,
    limit_plot,
    path_plot,
    survival_plot,
    top_picture,
)
from mdxai.report.page import formula_pieces, now_text, write_view

DRAWN, LISTED = 4, 30  # weak spots with a picture, and in the table


@dataclass(frozen=True, slots=True)
class SpotPicture:
    """One of the worst weak spots. heading: its name and group. text: what happens there.

    made_of: what the barrier is made of. path, top, explanation: plots; None if not explained.
    """

    heading: str
    text: str
    made_of: str
    path: Markup
    top: Markup
    explanation: Markup | None


@dataclass(frozen=True, slots=True)
class ForecastView:
    """All that the page of a forecast says; the template lays it out.

    formula: pieces, letters and numbers in turn. mark: of the verdict's box, as in page.css. word:
    the survival. facts: term and text. pictures: of the worst spots. Plots may be None.
    """

    model: str
    formula: tuple[str, ...]
    path: str
    mark: str
    word: str
    lead: str
    facts: tuple[tuple[str, str], ...]
    survival: Markup
    limits: Markup | None
    hazard: Markup | None
    at_least: float
    spot_headings: tuple[str, ...]
    spot_rows: tuple[tuple[str, ...], ...]
    n_more: int
    no_spots: str
    pictures: tuple[SpotPicture, ...]
    life_headings: tuple[str, ...]
    life_rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]
    written: str


def write_forecast_page(found: Forecast, folder: str | os.PathLike[str]) -> Path:
    """Write the page of a forecast into its directory, `report.html`, and return its path.

    Raises:
        RecordError: where it cannot be written.
    """
    return write_view("forecast.html", forecast_view(found, Path(folder)), folder)


def forecast_view(found: Forecast, folder: Path) -> ForecastView:
    """Return what the page says; `folder` is where it lies."""
    spots = found.weak_spots
    ordered = [] if spots is None else spots.worst_first
    run = f"a run of {time_text(found.duration)} at {found.temperature:g} K"
    known = found.is_known
    survival, curve = found.survival, hazard_curve(found)
    return ForecastView(
        found.model or "unnamed calculator",
        formula_pieces(found.formula),
        str(folder), mark_of(found),
        share_interval_text(survival).partition(" ")[0] if known else "not known",
        f"probability that {run} survives "
        + (f"({share_interval_text(survival).partition('(')[2]}" if known
           else f"(at least {survival.low:.2g})"),
        tuple(_facts(found)), survival_plot(found), limit_plot(found, curve),
        hazard_plot(found, curve),
        found.at_least,
        () if spots is None else tuple(spots.headings),
        () if spots is None else tuple(tuple(row) for row in spots.rows[:LISTED]),
        0 if spots is None else max(0, len(spots) - LISTED),
        "" if ordered else f"{found.weakest_text[0].upper()}{found.weakest_text[1:]}.",
        tuple(_picture(found, spot) for spot in ordered[:DRAWN]),
        LIFE_HEADINGS, tuple(found.life_rows), tuple(found.notes()),
        f"Foretold by mdxai {version('mdxai')}, written "
        f"{now_text()}.",
    )  # fmt: skip


def mark_of(found: Forecast) -> str:
    """Return which verdict's colour a forecast has."""
    if not found.is_known:
        return "inconclusive"
    if found.survival.low >= found.at_least:
        return "stable"
    return "suspect" if found.is_good_enough else "unstable"


def _facts(found: Forecast) -> list[tuple[str, str]]:
    facts = [("Mean time to failure", time_interval_text(found.mean_time_to_failure))]
    spot = found.weakest
    if spot is None:
        facts.append(("Weakest spot", found.weakest_text))
    else:
        text = found.weakest_text.removeprefix("weakest: ")
        facts += [("Weakest spot", text), ("What happens there", spot.forbidden)]
    facts.append(("Runs can be trusted", found.limits_text.removeprefix("trustworthy ")))
    return facts


def _picture(found: Forecast, spot: WeakSpot) -> SpotPicture:
    spots = found.weak_spots
    assert spots is not None  # it is one of them
    equal = f", {spot.multiplicity} alike" if spot.multiplicity > 1 else ""
    rate = spot.rate_of_all_per_ps(found.temperature)
    reference = spot.reference_barrier
    compared = "" if reference is None else f"; {spots.reference}: {reference:.2f} eV"
    return SpotPicture(
        f"{in_its_group(spot.label, spots.minimum, spot.atoms)} ({spot.kind}{equal})",
        f"{spot.barrier:.2f} eV{compared}; {rate:.1e} per ps at "
        f"{found.temperature:g} K. Beyond the top: {spot.forbidden}.",
        "" if spot.explanation is None else f"What the barrier is made of: "
        f"{spot.explanation.sentence}.",
        path_plot(spot, spots.reference), top_picture(spots, spot), explanation_plot(spot),
    )  # fmt: skip

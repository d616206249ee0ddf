"""What the page of a run hands to its scripts: the film, all curves, the findings."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase.data import atomic_numbers
from ase.data.colors import jmol_colors
from markupsafe import Markup

from mdxai.frame import Floats
from mdxai.report.envelopes import Curve
from mdxai.report.figures import ALARM, CAUTION, ELEMENT_PAIR_COLOURS, PHYSICAL
from mdxai.report.film import MOST_ATOMS, Film, Shot, read_film
from mdxai.report.judgement_view import Judgement, principle_text
from mdxai.report.molecule_pictures import HOLDS, OPPOSES, order_names
from mdxai.report.number_text import time_text
from mdxai.report.page_figures import CUT, usual_range
from mdxai.report.page_scripts import packed_data
from mdxai.report.run_summary import RunSummary
from mdxai.report.run_view import STATE
from mdxai.report.weak_spot_view import PROGRESS
from mdxai.stability.outcomes import Stability
from mdxai.stability.thresholds import Threshold
from mdxai.stability.verdict import recorded_thresholds

DIGITS = 4  # of a curve's values
STEPS = 65_535  # of a coordinate between its least and its largest value in a frame
CHIPS = 8  # findings that can be chosen beside the molecule


@dataclass(frozen=True, slots=True)
class Explorer:
    """The part of the page to look into. data: for the scripts. no_film: why the molecule cannot
    be shown; empty where it can. film: what is played, in words.
    """

    data: Markup
    no_film: str
    film: str
    has_relevance: bool
    periodic: bool


def explorer_view(summary: RunSummary, judgement: Judgement) -> Explorer | None:
    """Return the part to look into; None without recorded frames."""
    if not summary.series.n_frames:
        return None
    film = read_film(summary)
    axis = summary.time_axis
    content = {
        "name": str(summary.header["calculator"].get("name", "run")),
        "unit": list(axis.unit), "start": axis.start, "end": axis.end, "onset": axis.onset,
        "symbols": summary.symbols if film is not None else [],
        "film": None if film is None else _film(film, summary),
        "principles": _principles(summary, judgement),
        "curves": _curves(summary),
        "findings": _findings(judgement),
        "colours": {"holds": HOLDS, "opposes": OPPOSES, "alarm": ALARM, "caution": CAUTION,
                    "physical": PHYSICAL},
    }  # fmt: skip
    return Explorer(
        packed_data(content), _why_no_film(summary) if film is None else "",
        "" if film is None else _in_words(film),
        film is not None and bool(film.relevances), summary.periodic,
    )  # fmt: skip


def _why_no_film(summary: RunSummary) -> str:
    if len(summary.symbols) > MOST_ATOMS:
        return f"there are {len(summary.symbols):,} atoms; up to {MOST_ATOMS:,} are shown"
    return "no positions are recorded that could be shown"


def _in_words(film: Film) -> str:
    evenly = len(film.shots) - film.n_in_box
    box = f", and the last {film.n_in_box} steps before the violation in full"
    return (
        f"{evenly:,} of {film.n_recorded:,} recorded frames, evenly spaced and where findings begin"
        f"{box if film.n_in_box else ''}"
    )


def _film(film: Film, summary: RunSummary) -> dict[str, Any]:
    shots = film.shots
    elements = sorted(set(summary.symbols))
    return {
        "times": [round(shot.time, 3) for shot in shots],
        "steps": [shot.step for shot in shots],
        "box": [int(shot.in_box) for shot in shots],
        "positions": _packed_positions(shots),
        "cells": [_short(shot.cell.ravel()) for shot in shots] if summary.periodic else [],
        "broken": [shot.broken for shot in shots],
        "stretched": [shot.stretched for shot in shots],
        "formed": [shot.formed for shot in shots],
        "bonds": film.bonds,
        "relevances": [
            [round(one.time, 3), _valued(one.strongest), _valued(one.changed)]
            for one in film.relevances
        ],
        "measure": "" if summary.interactions is None
        else summary.interactions.measure.replace("_", "-"),
        "elements": {symbol: _colour(symbol) for symbol in elements},
    }  # fmt: skip


def _colour(symbol: str) -> str:
    red, green, blue = (round(255 * c) for c in jmol_colors[atomic_numbers[symbol]])
    return f"#{red:02x}{green:02x}{blue:02x}"


def _valued(pairs: tuple[tuple[int, int, float], ...]) -> list[list[Any]]:
    return [[i, j, float(f"{value:.3g}")] for i, j, value in pairs]


def _packed_positions(shots: tuple[Shot, ...]) -> dict[str, Any]:
    """Return positions as 16-bit steps from the least coordinate of each frame, in base64."""
    low = np.array([shot.positions.min() for shot in shots])
    span = np.array([np.ptp(shot.positions) for shot in shots])
    span = np.where(span > 0, span, 1.0)
    scaled = [
        np.rint((shot.positions - a) / b * STEPS).astype("<u2")
        for shot, a, b in zip(shots, low, span, strict=True)
    ]
    text = base64.b64encode(np.stack(scaled).tobytes()).decode()
    return {"low": low.tolist(), "step": (span / STEPS).tolist(), "base64": text}


def _principles(summary: RunSummary, judgement: Judgement) -> list[dict[str, Any]]:
    """Return what was measured and is judged: first what was broken, then by share of the limit."""
    thresholds = {t.principle: t for t in recorded_thresholds(summary.run)}
    findings = sorted(
        (row.finding for row in judgement.findings), key=lambda f: (-f.outcome.rank, f.time_fs)
    )
    order = {finding.principle: k for k, finding in enumerate(findings)}
    rows = []
    for name, unit in summary.run.deviations.items():
        curve = summary.series.curves[name]
        if curve.n_measured and name in thresholds:
            limit = thresholds[name]
            share = np.nan_to_num(curve.largest) / (limit.warn or 1.0)
            rows.append((order.get(name, len(order)), -share, _principle(name, unit, curve, limit)))
    rows.sort(key=lambda row: row[:2])
    return [row[2] for row in rows]


def _principle(name: str, unit: str, curve: Curve, threshold: Threshold) -> dict[str, Any]:
    limits = [x for x in (threshold.unstable, threshold.warn) if 0 < x < np.inf]
    largest = float(np.nan_to_num(curve.largest))
    top = min(largest, CUT * limits[0]) if limits else largest
    drawn = next((x for x in (threshold.unstable, threshold.warn) if np.isfinite(x)), 0.0)
    grave = PHYSICAL if not Stability(threshold.outcome).is_failure else ALARM
    return {
        "key": name, "name": name.replace("_", " "), "measure": principle_text(name).measure,
        "unit": "" if unit == "1" else unit, "warn": _finite(threshold.warn),
        "grave": _finite(threshold.unstable), "outcome": threshold.outcome, "colour": grave,
        "range": np.nan_to_num([0.0, 1.08 * max(top, 1.05 * drawn, 1e-9)]).tolist(),
        **_points(curve),
    }  # fmt: skip


def _finite(limit: float) -> float | None:
    return limit if np.isfinite(limit) else None


def _curves(summary: RunSummary) -> dict[str, Any]:
    """Return the other curves by the name of their figure: label, range, series."""
    found = {}
    for column, (name, unit) in STATE.items():
        curve = summary.series.curves.get(column)
        if curve is not None and len(curve.times):
            found[column] = _figure(f"{name.lower()} / {unit}", {name: curve},
                                    usual_range(curve.values))  # fmt: skip
    progress = summary.series.curves.get(PROGRESS)
    if progress is not None and len(progress.times):
        found["progress"] = _figure("share of the path", {"progress": progress},
                                    (0.0, max(1.15, 1.05 * progress.largest)))  # fmt: skip
    orders = {n: c for n, c in summary.body_orders.curves.items() if len(c.times)}
    residual = orders.pop("residual", None)
    if orders:
        names = order_names(len(orders) - 1)
        shares = dict(zip(names, orders.values(), strict=True))
        found["orders"] = _figure("share of relevance", shares, (0.0, 1.0))
    if residual is not None:
        low, high = usual_range(np.append(residual.values, 0.0))
        found["residual"] = _figure("share of relevance", {"residual": residual}, (low, high))
    return found


def _figure(label: str, curves: dict[str, Curve], limits: tuple[float, float]) -> dict[str, Any]:
    series = [
        {"name": name, "colour": ELEMENT_PAIR_COLOURS[k], **_points(curve)}
        for k, (name, curve) in enumerate(curves.items())
    ]
    return {"label": label, "range": np.nan_to_num(limits).tolist(), "series": series}


def _points(curve: Curve) -> dict[str, Any]:
    return {
        "times": np.round(curve.times, 3).tolist(), "values": _short(curve.values),
        "wrong": np.round(curve.not_finite, 3).tolist(),
    }  # fmt: skip


def _short(values: Floats) -> list[float]:
    """Return values to a few digits beyond what they have in common, which is kept exactly."""
    if not len(values):
        return []
    spread = float(np.ptp(values)) or float(np.abs(values).max()) or 1.0
    decimals = DIGITS - int(np.floor(np.log10(spread)))
    return [float(v) for v in np.round(values, int(np.clip(decimals, -30, 30)))]


def _findings(judgement: Judgement) -> list[dict[str, Any]]:
    """Return findings in the order of the page's table; the gravest few are chips."""
    ranked = sorted(judgement.findings, key=lambda r: (-r.finding.outcome.rank, r.finding.time_fs))
    chips = {id(row) for row in ranked[:CHIPS]}
    cause = None if judgement.cause is None else judgement.cause.finding
    return [
        {
            "principle": row.finding.principle, "severity": row.finding.severity,
            "time": row.finding.time_fs, "atoms": list(row.finding.atoms), "chip": id(row) in chips,
            "cause": row.finding == cause,
            "text": f"{row.principle.name} at {time_text(row.finding.time_fs)}"
            + (f", {row.atoms}" if row.atoms else ""),
        }
        for row in judgement.findings
    ]  # fmt: skip

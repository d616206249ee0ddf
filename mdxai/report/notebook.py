"""How runs, verdicts, attributions, forecasts and analyses show themselves in a notebook."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import singledispatch
from typing import TYPE_CHECKING, Any

import numpy as np
from ase.data import chemical_symbols

from mdxai.analysis import Analysis
from mdxai.attribution import Attribution
from mdxai.forecast.forecast_result import Forecast
from mdxai.frame import named_atoms
from mdxai.record import RecordError, Run
from mdxai.report.analysis_figures import draw_bonds
from mdxai.report.envelopes import read_series
from mdxai.report.figures import ALARM, CAUTION, ELEMENT_PAIR_COLOURS, INK, PHYSICAL, tidy
from mdxai.report.forecast_figures import draw_survival
from mdxai.report.forecast_page import mark_of
from mdxai.report.molecule_pictures import HOLDS, OPPOSES, order_names
from mdxai.report.number_text import rounded, signed, time_text
from mdxai.report.page import templates
from mdxai.report.run_summary import TimeAxis
from mdxai.stability.outcomes import Stability
from mdxai.stability.verdict import Finding, Verdict, recorded_thresholds

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from mdxai.analysis.analysis_result import BondStrength

PAIRS, CURVES, SPOTS = 10, 5, 5  # that are shown
TOP = 3.0  # shares of thresholds above this are cut off
GREY = "#9aa0a6"
COLOURS = {"warn": CAUTION, "reacted": PHYSICAL, "melted": PHYSICAL}
Rows = Sequence[tuple[str, ...]]


@singledispatch
def html_of(value: Any) -> str:
    """Return a value as HTML that needs nothing else.

    Raises:
        TypeError: for a value that nothing is known of.
    """
    raise TypeError(f"a {type(value).__name__} cannot be shown")


@singledispatch
def plot_of(value: Any, ax: Axes | None) -> Axes:
    """Plot a value into axes, or a new figure, and return the axes.

    Raises:
        TypeError: for a value that nothing is known of.
    """
    raise TypeError(f"a {type(value).__name__} cannot be plotted")


@html_of.register(Verdict)
def _verdict_html(verdict: Verdict) -> str:
    return _judged_html(verdict, f"Verdict: {verdict.stability}", "")


def _judged_html(verdict: Verdict, heading: str, above: str, symbols: Sequence[str] = ()) -> str:
    onset = "" if verdict.onset_fs is None else f"from {time_text(verdict.onset_fs)} on, "
    lead = f"{onset}in {time_text(verdict.duration_fs)} of motion ({verdict.n_frames:,} frames)"
    rows = [_finding_row(finding, symbols) for finding in verdict.findings]
    notes = [f"not checked: {len(verdict.unavailable)}"] if verdict.unavailable else []
    headings = ("principle", "severity", "since", "at first", "worst", "allowed", "atoms", "advice")
    return _html(str(verdict.stability), heading, (above, lead), headings if rows else (), rows,
                 [*filter(None, (verdict.closest,)), *notes])  # fmt: skip


def _finding_row(finding: Finding, symbols: Sequence[str]) -> tuple[str, ...]:
    unit = "" if finding.unit == "1" else f"\N{NO-BREAK SPACE}{finding.unit}"
    values = (f"{rounded(v)}{unit}" for v in (finding.value, finding.worst))
    atoms = finding.what or (
        named_atoms(symbols, finding.atoms) if symbols else ", ".join(map(str, finding.atoms))
    )
    return (
        finding.principle.replace("_", " "), finding.severity, time_text(finding.time_fs), *values,
        rounded(finding.threshold), atoms, finding.advice,
    )  # fmt: skip


@html_of.register(Run)
def _run_html(run: Run) -> str:
    symbols = [chemical_symbols[z] for z in run.header["system"]["numbers"]]
    name = str(run.header["calculator"].get("name", "run"))
    where = f"{run.path}, {len(symbols):,} atoms"
    try:
        verdict = Verdict.from_dict(run.verdict)
    except RecordError:  # a long run is not judged only to be shown
        lead = f"not finished; {run.n_frames:,} frames in the trajectory by now"
        return _html("inconclusive", name, (where, lead), (), [], [])
    return _judged_html(verdict, f"{name}: {verdict.stability}", where, symbols)


@html_of.register(Attribution)
def _attribution_html(attribution: Attribution) -> str:
    unit = attribution.unit
    lead = (
        f"output {rounded(attribution.output, 5)} {unit}, residual "
        f"{rounded(attribution.residual)} {unit}, {len(attribution.pairs):,} pairs"
    )
    strengths = "eV/Å²" if attribution.method == "hessian" else unit
    rows = [
        (label, f"{distance:.3f}", signed(value))
        for label, distance, value in _strongest(attribution)
    ]
    headings = (
        "strongest pairs",
        "distance / Å",
        f"{attribution.measure.replace('_', '-')} / {strengths}",
    )
    return _html("inconclusive", f"Attribution by {attribution.method}", (lead,),
                 headings if rows else (), rows, _body_orders(attribution))  # fmt: skip


def _strongest(attribution: Attribution) -> list[tuple[str, float, float]]:
    """Return names, distances (Å) and strengths of the strongest pairs."""
    strengths, pairs = attribution.strengths, attribution.pairs
    order = np.argsort(-np.nan_to_num(np.abs(strengths), nan=-1.0), kind="stable")[:PAIRS]
    symbols = [chemical_symbols[z] for z in attribution.numbers]
    return [
        (
            named_atoms(symbols, (int(pairs.i[k]), int(pairs.j[k]))) if symbols
            else f"{pairs.i[k]}–{pairs.j[k]}",
            float(pairs.distances[k]), float(strengths[k]),
        )
        for k in order
    ]  # fmt: skip


def _body_orders(attribution: Attribution) -> list[str]:
    orders = attribution.by_body_order
    if not len(orders) or not np.isfinite(orders).all():
        return []
    named = zip(order_names(len(orders) - 1), orders, strict=True)
    return ["; ".join(f"{name} {rounded(float(v))} {attribution.unit}" for name, v in named)]


@html_of.register(Forecast)
def _forecast_html(forecast: Forecast) -> str:
    spots = () if forecast.weak_spots is None else forecast.weak_spots.worst_first[:SPOTS]
    rows = [(spot.label, spot.kind, f"{spot.barrier:.2f}", str(spot.multiplicity))
            for spot in spots]  # fmt: skip
    headings = ("weak spot", "kind", "barrier / eV", "equal ones")
    heading, lead = f"Forecast of {forecast.model or 'a model'}", (forecast.sentence,)
    return _html(mark_of(forecast), heading, lead, headings if rows else (), rows, forecast.notes())


@html_of.register(Analysis)
def _analysis_html(found: Analysis) -> str:
    models = found.models
    lead = f"{found.n_used:,} of {found.n_read:,} entries of {found.data}"
    known = [{bond.name: bond for bond in model.bonds} for model in models]
    rows = [
        (bond.name, f"{bond.count:,}", *(_strength(some, bond.name) for some in known))
        for bond in models[0].common_bonds[:PAIRS]
    ]
    headings = ("strongest kinds", "pairs", *(f"{m.name} / {m.unit}" for m in models))
    notes = [f"left out: {one.count:,}, {one.reason}" for one in found.left_out]
    return _html("inconclusive", f"Analysis of {len(models)} "
                 f"{'model' if len(models) == 1 else 'models'}", (lead,),
                 headings if rows else (), rows, notes)  # fmt: skip


def _strength(known: Mapping[str, BondStrength], name: str) -> str:
    return f"{known[name].mean:.3g} ± {1.96 * known[name].error:.1g}" if name in known else "–"


def _html(
    mark: str, heading: str, lead: Sequence[str], headings: Sequence[str], rows: Rows,
    notes: Sequence[str],
) -> str:  # fmt: skip
    return templates().get_template("notebook.html").render(
        mark=mark, heading=heading, lead=[text for text in lead if text], headings=headings,
        rows=rows, notes=notes,
    )  # fmt: skip


def _axes(ax: Axes | None) -> Axes:
    if ax is not None:
        return ax
    from matplotlib import pyplot as plt

    found: Axes = plt.subplots(figsize=(7, 3.2), layout="constrained")[1]
    return found


@plot_of.register(Run)
def _plot_run(run: Run, ax: Axes | None) -> Axes:
    limits = {t.principle: t.unstable if 0 < t.unstable < np.inf else t.warn
              for t in recorded_thresholds(run)}  # fmt: skip
    names = [name for name in run.deviations if limits.get(name, 0.0) > 0]
    series = read_series(run, names)
    if not series.n_frames:
        raise RecordError(f"{run.path} holds no recorded frames that could be plotted")
    shares = {name: series.curves[name].largest / limits[name] for name in names}
    worst = sorted((n for n in names if np.isfinite(shares[n])), key=lambda n: -shares[n])[:CURVES]
    onset = _onset(run)
    axis, ax = TimeAxis(series.start_fs, series.end_fs, onset), _axes(ax)
    unit, size = axis.unit
    for name, colour in zip(worst, ELEMENT_PAIR_COLOURS, strict=False):
        curve = series.curves[name]
        ax.plot(curve.times / size, curve.values / limits[name], color=colour, lw=0.9,
                label=name.replace("_", " "))  # fmt: skip
    ax.axhline(1.0, color=ALARM, lw=0.8)
    if onset is not None:
        ax.axvline(onset / size, color=ALARM, lw=1.1)
    ax.set_ylim(0, min(TOP, max(1.15, 1.05 * max((shares[n] for n in worst), default=1.0))))
    ax.set_xlabel(f"time / {unit}", color=INK)
    ax.set_ylabel("share of the threshold", color=INK)
    if worst:
        ax.legend(frameon=False, fontsize=8, ncols=2, loc="upper left")
    tidy(ax)
    return ax


def _onset(run: Run) -> float | None:
    try:
        return Verdict.from_dict(run.verdict).onset_fs
    except RecordError:
        return None


@plot_of.register(Verdict)
def _plot_verdict(verdict: Verdict, ax: Axes | None) -> Axes:
    ax, end = _axes(ax), verdict.start_fs + verdict.duration_fs
    unit, size = TimeAxis(verdict.start_fs, end, verdict.onset_fs).unit
    for k, finding in enumerate(verdict.findings):
        until = end if finding.until_fs is None else finding.until_fs
        colour = COLOURS.get(finding.severity, ALARM)
        ax.barh(k, (until - finding.time_fs) / size, left=finding.time_fs / size, color=colour,
                height=0.6)  # fmt: skip
        ax.plot(finding.time_fs / size, k, "|", color=INK, ms=9)  # seen, however short it is
    ax.set_yticks(range(len(verdict.findings)), [f.principle.replace("_", " ")
                                                 for f in verdict.findings])  # fmt: skip
    if verdict.onset_fs is not None:
        ax.axvline(verdict.onset_fs / size, color=ALARM, lw=1.1)
    if not verdict.findings:
        ax.text(0.5, 0.5, "nothing was found", transform=ax.transAxes, ha="center", color=INK)
    ax.set_ylim(max(len(verdict.findings), 1) - 0.4, -0.6)
    ax.set_xlim(verdict.start_fs / size, max(end, verdict.start_fs + 1e-3) / size)
    ax.set_xlabel(f"time / {unit}", color=INK)
    outcome = Stability(verdict.stability)
    ax.set_title(str(outcome), loc="left", fontsize=10,
                 color=ALARM if outcome.is_failure else INK)  # fmt: skip
    tidy(ax)
    return ax


@plot_of.register(Attribution)
def _plot_attribution(attribution: Attribution, ax: Axes | None) -> Axes:
    ax, found = _axes(ax), _strongest(attribution)
    values = [value for _, _, value in found]
    signed_measure = attribution.method != "hessian"
    colours = [OPPOSES if signed_measure and value > 0 else HOLDS for value in values]
    ax.barh(range(len(found)), values, color=colours)
    labels = [f"{label}  {distance:.2f} Å" for label, distance, _ in found]
    ax.set_yticks(range(len(found)), labels)
    ax.invert_yaxis()
    ax.axvline(0, color=INK, lw=0.8)
    unit = attribution.unit if signed_measure else "eV/Å²"
    ax.set_xlabel(f"{attribution.measure.replace('_', '-')} / {unit}", color=INK)
    tidy(ax)
    return ax


@plot_of.register(Forecast)
def _plot_forecast(forecast: Forecast, ax: Axes | None) -> Axes:
    ax = _axes(ax)
    draw_survival(forecast, ax)
    return ax


@plot_of.register(Analysis)
def _plot_analysis(found: Analysis, ax: Axes | None) -> Axes:
    ax = _axes(ax)
    draw_bonds(ax, found.models)
    return ax

"""The sections of a run's page that say what happened."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np

from mdxai import principles
from mdxai.report.envelopes import Curve
from mdxai.report.figures import most_telling, why_not_explained
from mdxai.report.html import Html, definitions, element, joined, number, table
from mdxai.report.interactions import Interactions, PairMeans, strongest_pairs
from mdxai.report.page_figures import (
    DRAWN,
    curve_plot,
    deviation_plot,
    molecule_picture,
    relevance_plot,
)
from mdxai.report.run_summary import RunSummary
from mdxai.stability.verdict import Finding, Stability, Verdict, recorded_thresholds
from mdxai.statistics import BondClassChannels

PANELS, STRONGEST, CHANGED, NAMED = 6, 12, 6, 4
WORDS = {"two_body": "two-body relevance", "flow": "flow of relevance"}


def section(title: str, *content: str) -> Html:
    """Return a section with its heading."""
    return element("section", element("h2", title), *content)


def remark(text: str) -> Html:
    """Return one line that says what is missing, or how to read what is there."""
    return element("p", text, class_="remark")


def figure(picture: Html, *caption: str) -> Html:
    """Return a figure with its caption."""
    return element("figure", picture, element("figcaption", *caption))


def moment(fs: float) -> Html:
    """Return a time, in the unit that reads well."""
    for unit, size, until in (("fs", 1.0, 1e4), ("ps", 1e3, 1e7)):
        if not abs(fs) > until:
            return element("data", number_text(fs / size, unit), value=repr(float(fs)))
    return element("data", number_text(fs / 1e6, "ns"), value=repr(float(fs)))


def number_text(value: float, unit: str) -> str:
    """Return a time with its unit, to six digits."""
    return f"{value:,.6g}\N{NO-BREAK SPACE}{unit}"


@cache
def measures() -> dict[str, str]:
    """Return what each principle measures, by its name, in one sentence."""
    found = {}
    for _, principle in inspect.getmembers(principles, inspect.isclass):
        name = getattr(principle, "name", None)
        if isinstance(name, str) and principle.__doc__:
            first = inspect.cleandoc(principle.__doc__).partition("\n\n")[0]
            found[name] = " ".join(first.split())
    return found


def principle(name: str) -> Html:
    """Return the name of a principle with what it measures."""
    told = measures().get(name, "")
    return joined([element("b", name.replace("_", " ")), element("small", told)])


def headline(summary: RunSummary) -> Html:
    """Return the verdict, when, why and what to do, to be read in ten seconds."""
    verdict = summary.verdict
    if verdict is None:
        return element("div", element("p", "Nothing recorded yet", class_="word"),
                       class_="verdict inconclusive")  # fmt: skip
    lead = element("p", *_lead(verdict), class_="lead")
    return element(
        "div", element("p", str(verdict.stability), class_="word"), lead,
        definitions(_why(summary, verdict), "advice"), class_=f"verdict {verdict.stability}",
    )  # fmt: skip


def _lead(verdict: Verdict) -> Iterator[str]:
    n_frames = f"{verdict.n_frames:,} frames" if verdict.n_frames != 1 else "one frame"
    if verdict.onset_fs is not None:
        yield from ("from ", moment(verdict.onset_fs), " on, in ")
    elif verdict.findings:
        n = len(verdict.findings)
        yield f"nothing broke, but {n} {'principle' if n == 1 else 'principles'} gave a warning, in "
    elif verdict.stability == Stability.STABLE:
        yield "nothing broke in "
    else:
        yield "too little to judge in "
    yield from (moment(verdict.duration_fs), f" of motion ({n_frames})")


def _why(summary: RunSummary, verdict: Verdict) -> Iterator[tuple[str, str]]:
    cause = verdict.cause
    if cause is None:
        return
    first = "Broken first" if cause.severity == "unstable" else "First warning"
    yield first, principle(cause.principle)
    yield "When", moment(cause.time_fs)
    yield "How far", joined([number(cause.value, cause.unit), ", allowed ", _allowed(cause)])
    yield "By atoms", atoms(summary, cause) or "the system as a whole"
    yield "What to do", cause.advice


def _allowed(finding: Finding) -> Html:
    return Html("any finite value") if np.isinf(finding.threshold) else number(finding.threshold)


def atoms(summary: RunSummary, finding: Finding) -> Html:
    """Return its atoms, the first of many."""
    rest = len(finding.atoms) - NAMED
    name = element("span", summary.label(*finding.atoms[:NAMED]), class_="atoms")
    return joined([name, f" and {rest:,} more"] if rest > 0 else [name] if finding.atoms else [])


def findings(summary: RunSummary) -> Html:
    """Return the table of all that was broken or warned of."""
    verdict = summary.verdict
    if verdict is None or verdict.stability == Stability.INCONCLUSIVE:
        return section("Findings", remark("There are too few frames to judge."))
    if not verdict.findings:
        return section("Findings", remark("Every principle that was checked was obeyed."))
    headings = {"principle": "text", "": "text", "since": "number", "at first": "number",
                "worst": "number", "allowed": "number", "unit": "text", "atoms": "text",
                "what to do": "text prose"}  # fmt: skip
    rows = [
        (principle(f.principle), element("span", f.severity, class_=f"tag {f.severity}"),
         moment(f.time_fs), number(f.value), number(f.worst), _allowed(f), f.unit,
         atoms(summary, f), f.advice)
        for f in verdict.findings
    ]  # fmt: skip
    return section("Findings", table(headings, rows))


def deviations(summary: RunSummary) -> Html:
    """Return the most telling deviations over time."""
    title = "Departures from physics (0 = obeyed)"
    if summary.verdict is None or not summary.series.n_frames:
        return section(title, remark("No frame is recorded, so there is nothing to draw."))
    thresholds = {t.principle: t for t in recorded_thresholds(summary.run)}
    names = most_telling(summary.run, summary.verdict, PANELS)
    plots = [
        figure(
            deviation_plot(name, summary.run.deviations[name], summary.series.curves[name],
                           thresholds.get(name), summary.clock),
            principle(name), _not_measured(summary.series.curves[name]),
        )
        for name in names
    ]  # fmt: skip
    return section(title, element("div", *plots, class_="grid"), remark(
        "Yellow: suspect. Red: unstable. Red line: onset. Of a long run, the lowest and the "
        "highest value in each stretch of time are drawn."
    ))  # fmt: skip


def _not_measured(curve: Curve) -> str:
    return "" if curve.n_measured else "It could not be measured."


def energy_and_temperature(summary: RunSummary) -> Html:
    """Return both over time."""
    labels = {"potential_energy_eV": "potential energy / eV", "temperature_K": "temperature / K"}
    curves = summary.series.curves
    plots = [
        figure(
            curve_plot(label, curves[name], summary.clock), label.partition(" /")[0].capitalize()
        )
        for name, label in labels.items()
        if name in curves and (len(curves[name].times) or len(curves[name].not_finite))
    ]
    content = element("div", *plots, class_="grid") if plots else remark("None is recorded.")
    return section("Energy and temperature", content)


def interactions(summary: RunSummary) -> Html:
    """Return what the model's energy comes from: against distance, and pair by pair."""
    title, found = "What the model's energy comes from", summary.interactions
    if found is None:
        return section(title, remark(f"Not explained: {why_not_explained(summary.run)}."),
                       *_picture(summary, None))  # fmt: skip
    word = WORDS[found.measure]
    plots = [
        figure(relevance_plot(found.profile, word), "Mean strength of pairs against distance")
    ] if found.profile.num_rows else []  # fmt: skip
    plots += _picture(summary, found)
    about = remark(f"The {word} of a pair: negative lowers the energy, positive raises it. It is "
                   "what the network computes with, not an energy of bonding.")  # fmt: skip
    return section(title, about, element("div", *plots, class_="grid"), *_pairs(summary, found))


def _picture(summary: RunSummary, found: Interactions | None) -> list[Html]:
    if summary.scene is None or summary.first is None:
        return [remark(_why_no_picture(summary))]
    explained, cause = None if found is None else found.frame, None
    if summary.verdict is not None and summary.verdict.onset_fs is not None:
        cause = summary.verdict.cause
    marked = [] if cause is None else [a for a in cause.atoms if a < len(summary.symbols)]
    caption: list[str] = ["The molecule at ", moment(summary.scene.time)]
    caption.append(", the onset" if cause is not None else ", the last frame")
    if marked:
        caption.append(f"; ringed: {summary.label(*marked)}")
    if explained is not None and len(explained.i):
        caption += ["; its strongest pairs as explained at ", moment(explained.time)]
    return [figure(molecule_picture(summary.scene, explained, summary.first, marked), *caption)]


def _why_no_picture(summary: RunSummary) -> str:
    if summary.periodic or len(summary.symbols) > DRAWN:
        kind = "a periodic system" if summary.periodic else "a molecule"
        return (f"No picture: this is {kind} of {len(summary.symbols):,} atoms; molecules of up to "
                f"{DRAWN} are drawn.")  # fmt: skip
    return "No picture: no positions are recorded that could be drawn."


def _pairs(summary: RunSummary, found: Interactions) -> Iterator[Html]:
    if found.means is None:
        yield from _pairs_of_one_frame(summary, found)
        return
    means = found.means
    until = "" if summary.clock.onset is None else " before the onset"
    yield element("h3", "Strongest pairs")
    yield _means_table(summary, means.first(STRONGEST), changed=False)
    yield remark(f"Means over the explained frames{until} ({means.n_frames:,}), ± their standard "
                 "deviation, strongest by mean absolute relevance.")  # fmt: skip
    if means.n_late:
        yield element("h3", "Most changed before the onset")
        yield _means_table(summary, means.most_changed(CHANGED), changed=True)
        yield joined([element(
            "p", "Late: the explained frames of the last ", moment(summary.late_fs),
            f" before the onset ({means.n_late:,}), against those before ({means.n_frames:,}).",
            class_="remark",
        )])  # fmt: skip


def _means_table(summary: RunSummary, means: PairMeans, *, changed: bool) -> Html:
    kinds = _bond_kinds(summary, means)
    headings = {"pair": "text", "": "text", "distance / Å": "number", "relevance / eV": "number",
                "± / eV": "number"}  # fmt: skip
    headings |= {"late / eV": "number", "change / eV": "number"} if changed else {" ": "bar"}
    largest = np.abs(means.mean).max(initial=0.0)
    rows = []
    for k, (i, j) in enumerate(zip(means.i, means.j, strict=True)):
        cells = [summary.label(int(i), int(j)), kinds[k], number(means.distance[k]),
                 signed(means.mean[k]), number(means.spread[k], digits=2)]  # fmt: skip
        if changed:
            cells += [signed(means.late[k]), signed(means.late[k] - means.mean[k])]
        else:
            cells.append(_bar(means.mean[k], largest))
        rows.append(cells)
    return table(headings, rows)


def signed(value: float) -> Html:
    """Return a relevance with its sign, to 0.0001 eV."""
    shown = f"{value:+.4f}".replace("-", "−")
    return element("data", shown, value=repr(float(value)))


def _bar(value: float, largest: float) -> Html:
    width = 100 * abs(value) / largest if largest else 0.0
    return element("i", style=f"width:{width:.0f}%", class_="holds" if value < 0 else "opposes")


def _bond_kinds(summary: RunSummary, means: PairMeans) -> Sequence[str]:
    """Return "bonded", "1-3" and so on, by the bonds of the first frame."""
    if summary.first is None:
        return [""] * len(means.i)
    classes = BondClassChannels(len(summary.symbols), *principles.bonds_of(summary.first))
    return [classes.names[k].replace("-", "–") for k in classes.of(means.i, means.j)]


def _pairs_of_one_frame(summary: RunSummary, found: Interactions) -> Iterator[Html]:
    if found.frame is None or not len(found.frame.i):
        yield remark("No pair was within reach, or none was finite.")
        return
    yield element("h3", "Strongest pairs")
    rows = [
        (summary.label(i, j), number(distance), signed(strength))
        for i, j, distance, strength in strongest_pairs(found.frame, STRONGEST)
    ]
    yield table({"pair": "text", "distance / Å": "number", "relevance / eV": "number"}, rows)
    yield element("p", "Of the explained frame at ", moment(found.frame.time),
                  "; of so many atoms no means are taken.", class_="remark")  # fmt: skip

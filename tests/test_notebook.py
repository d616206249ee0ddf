"""Values in a notebook: what they show and plot is what they hold."""

from __future__ import annotations

import dataclasses
from html.parser import HTMLParser

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

import mdxai
from mdxai.analysis import AnalysisOptions
from mdxai.frame import Frame
from mdxai.record import RecordError
from mdxai.report.notebook import html_of, plot_of
from mdxai.stability.verdict import Verdict

from .conftest import ethanol_with
from .holed_pair import HoledPair
from .synthetic_run import write_judged_run, write_run
from .test_foretell import QUICK, TESTING, forecast_of

FINDING = {"principle": "principle1", "severity": "unstable", "time_fs": 20.0, "value": 9.0,
           "worst": 9.5, "threshold": 1.0, "unit": "eV", "atoms": [0, 2],
           "advice": "stop <b>it</b>"}  # fmt: skip
BROKEN = {"stability": "unstable", "onset_fs": 20.0, "findings": [FINDING], "n_frames": 60,
          "unavailable": {"net_force": "no forces"}}  # fmt: skip
THRESHOLD = {"warn": 1000.0, "unstable": 3000.0, "patience": 0.0, "advice": "stop"}


@pytest.fixture(autouse=True)
def _no_windows():
    mpl.use("Agg")
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def found():
    """A forecast of an analytic potential with a hole."""
    options = dataclasses.replace(QUICK, testing=dataclasses.replace(TESTING, most=0.5, replicas=2))
    return forecast_of(options=options, reference=lambda: HoledPair(hole=0.0))


class Table(HTMLParser):
    def __init__(self, html):
        super().__init__()
        self.rows, self.text, self.open = [], "", []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("notebook") / "run"
    names = ("principle0", "principle1")
    limits = {name: {"principle": name, **THRESHOLD} for name in names}
    write_judged_run(path, BROKEN, header={"thresholds": limits})
    return mdxai.open_run(path)


@pytest.fixture(scope="module")
def attribution():
    atoms = ethanol_with("schnet-ethanol", amplitude=0.02)
    return mdxai.attributor(atoms.calc).attribute(Frame.from_atoms(atoms))


def test_a_run_and_its_verdict_show_their_findings(run):
    verdict = Verdict.from_dict(run.verdict)
    for value, atoms in ((verdict, "0, 2"), (run, "C0–O2")):
        shown = Table(html_of(value))
        assert len(shown.rows) == 2
        assert shown.rows[1] == ["principle1", "unstable", "20\xa0fs", "9\xa0eV",
                                 "9.5\xa0eV", "1", atoms, "stop <b>it</b>"]  # fmt: skip
        assert "unstable" in shown.text
        assert "from 20\xa0fs on" in shown.text
        assert "not checked: 1" in shown.text
    assert str(run.path) in Table(html_of(run)).text


def test_a_run_that_goes_on_is_shown_without_reading_its_frames(tmp_path, monkeypatch):
    write_run(tmp_path / "run", steps=20, finish=False)
    run = mdxai.open_run(tmp_path / "run")
    monkeypatch.setattr(type(run), "frames_table", None)
    assert "not finished; 20 frames" in Table(html_of(run)).text


def test_a_run_plots_its_worst_principles_as_shares_of_their_thresholds(run):
    ax = run.plot()
    lines = {line.get_label(): line for line in ax.get_lines()}
    frames = run.frames_table(["time_fs", "principle0"]).to_pydict()
    x, y = lines["principle0"].get_data()
    known = {t: v / 3000 for t, v in zip(frames["time_fs"], frames["principle0"], strict=True)
             if v is not None and np.isfinite(v)}  # fmt: skip
    assert len(x) > 40
    np.testing.assert_allclose(y, [known[round(t, 6)] for t in x])
    assert ax.get_xlabel() == "time / fs"
    assert 20.0 in [line.get_xdata()[0] for line in ax.get_lines()]  # the onset


def test_nothing_recorded_cannot_be_plotted(tmp_path):
    write_judged_run(tmp_path / "run", steps=0)
    with pytest.raises(RecordError, match="no recorded frames"):
        mdxai.open_run(tmp_path / "run").plot()


def test_a_verdict_plots_when_each_finding_lasted(run):
    late = FINDING | {"principle": "other", "severity": "warn", "time_fs": 5.0, "until_fs": 10.0}
    verdict = Verdict.from_dict({**run.verdict, "findings": [FINDING, late]})
    ax = verdict.plot()
    spans = [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in ax.patches]
    assert spans == [(20.0, 29.5), (5.0, 10.0)]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["principle1", "other"]
    nothing = dataclasses.replace(verdict, findings=(), onset_fs=None)
    assert "nothing was found" in [text.get_text() for text in nothing.plot().texts]


def test_an_attribution_shows_and_plots_its_strongest_pairs(attribution):
    order = np.argsort(-np.abs(attribution.strengths))[:10]
    shown = Table(html_of(attribution))
    assert len(shown.rows) == 11
    symbols = ethanol_with(None).get_chemical_symbols()
    bars = attribution.plot().patches
    for row, bar, k in zip(shown.rows[1:], bars, order, strict=True):
        i, j = attribution.pairs.i[k], attribution.pairs.j[k]
        assert row[0] == f"{symbols[i]}{i}–{symbols[j]}{j}"
        assert float(row[2].replace("−", "-")) == pytest.approx(attribution.strengths[k], abs=1e-4)
        assert bar.get_width() == pytest.approx(attribution.strengths[k])
    assert "one-body" in shown.text
    assert f"{len(attribution.pairs)} pairs" in shown.text


def test_a_forecast_shows_its_weak_spots_and_plots_its_survival(found):
    shown = Table(html_of(found))
    assert found.sentence in shown.text
    spots = found.weak_spots.worst_first
    assert [row[0] for row in shown.rows[1:]] == [spot.label for spot in spots[:5]]
    ax = found.plot()
    x, y = ax.get_lines()[0].get_data()
    np.testing.assert_allclose(y, found.survival_after(x)[0])


def test_they_plot_into_given_axes_of_any_figure(run, attribution, found):
    for value in (run, Verdict.from_dict(run.verdict), attribution, found):
        ax = Figure().add_subplot()
        assert value.plot(ax) is ax
        assert value.plot(ax=ax) is ax
    assert plt.get_fignums() == []  # no figure of their own


def test_a_notebook_finds_their_html(run, attribution, found):
    shell = pytest.importorskip("IPython.core.interactiveshell")
    formatter = shell.DisplayFormatter()
    for value in (run, Verdict.from_dict(run.verdict), attribution, found):
        data, _ = formatter.format(value)
        assert data["text/html"] == html_of(value)
        assert "text/plain" in data


def test_an_unknown_value_is_refused():
    with pytest.raises(TypeError, match="int cannot be shown"):
        html_of(3)
    with pytest.raises(TypeError, match="int cannot be plotted"):
        plot_of(3, None)


def test_an_analysis_shows_and_plots_its_strongest_kinds_of_pairs(tmp_path):
    rng = np.random.default_rng(1)
    atoms = ethanol_with(None)
    images = [atoms.positions + rng.normal(0, 0.03, atoms.positions.shape) for _ in range(4)]
    images.append(np.zeros_like(images[0]))
    np.savez(tmp_path / "frames.npz", z=atoms.numbers, R=images)
    names = ["schnet-ethanol", "painn-ethanol"]
    found = mdxai.analyse(names, tmp_path / "frames.npz", options=AnalysisOptions(closely=0))
    shown = Table(html_of(found))
    first, second = found.models
    strongest = first.common_bonds[0]
    other = {bond.name: bond for bond in second.bonds}[strongest.name]
    assert len(shown.rows) == 11
    assert shown.rows[1][:2] == [strongest.name, str(strongest.count)]
    assert shown.rows[1][2].startswith(f"{strongest.mean:.3g} ± ")
    assert shown.rows[1][3].startswith(f"{other.mean:.3g} ± ")
    assert "4 of 5 entries" in shown.text
    assert "left out: 1, overlapping" in shown.text
    ax = found.plot()
    assert ax.get_yticklabels()[0].get_text() == strongest.name
    dots = [line.get_xdata()[0] for line in ax.get_lines() if line.get_marker() == "o"]
    assert dots[0] == strongest.mean
    other_axes = plt.subplots()[1]
    assert found.plot(other_axes) is other_axes

"""The page of a run: what it says is what the record holds, and it needs nothing else."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from ase import units
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.md.verlet import VelocityVerlet
from typer.testing import CliRunner

import mdxai
from mdxai.cli.main import app
from mdxai.monitoring.monitor import Monitor
from mdxai.principles import Deviation
from mdxai.record import RecordError, RecordSettings, RecordWarning, RunWriter
from mdxai.record.header import write_verdict
from mdxai.report import write_report
from mdxai.report.envelopes import BUCKETS, Envelope, read_series
from mdxai.report.html import element, joined
from mdxai.report.interactions import Window, read_interactions
from mdxai.stability.verdict import Verdict, judge
from mdxai.testing import FaultyCalculator, NanForces

from .synthetic_run import HEADER, LAWS, Measure, attribution_of, frame_at, write_run

HOSTILE = '<script>alert("x")</script>&"$_{\\'


class OutOfLuck(Exception):
    pass


class Page(HTMLParser):
    """Tables, text, links and numbers of a page; refuses one whose tags do not match."""

    def __init__(self, path):
        super().__init__()
        self.tables, self.links, self.tags, self.open = [], [], [], []
        self.text, self.sources, self.titles = "", [], []
        self.size = path.stat().st_size
        self.feed(path.read_text(encoding="utf-8"))
        assert self.open == []

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self._links(attrs)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self._links(attrs)
        given = dict(attrs)
        if tag not in ("meta", "br"):
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append({"text": "", "values": []})
        elif tag == "data" and "td" in self.open:
            self.tables[-1][-1][-1]["values"].append(float(given["value"]))

    def _links(self, attrs):
        for name, value in attrs:
            if name in ("href", "src", "xlink:href", "srcset", "action"):
                self.links.append(value)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text += data
        if {"td", "th"} & set(self.open):
            self.tables[-1][-1][-1]["text"] += data

    def table(self, heading):
        """Rows of the table that has a column of this heading."""
        found = [t for t in self.tables if heading in [cell["text"] for cell in t[0]]]
        return found[0] if found else []


def page_of(path) -> Page:
    return Page(write_report(path))


def ethanol_run(path, calculator=None, steps=12, **options):
    atoms = molecule("CH3CH2OH")
    atoms.rattle(0.02, seed=1)
    atoms.calc = calculator or mdxai.load_calculator("schnet-ethanol")
    dynamics = VelocityVerlet(atoms, 0.5 * units.fs)
    options = {"attribute_every": 4, "on_unstable": "ignore"} | options
    with Monitor(dynamics, path, **options) as monitor:
        dynamics.attach(monitor)
        dynamics.run(steps)
    return monitor


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    """A run in which forces become NaN, with all that follows."""
    path = tmp_path_factory.mktemp("report") / "broken"
    network = mdxai.load_calculator("schnet-ethanol")
    ethanol_run(path, FaultyCalculator(network, NanForces(30)), 60, report=False)
    return path


def test_the_findings_are_those_of_verdict_json(broken):
    page, verdict = page_of(broken), json.loads((broken / "verdict.json").read_text())
    rows = page.table("what to do")[1:]
    assert len(rows) == len(verdict["findings"]) > 3
    symbols = molecule("CH3CH2OH").get_chemical_symbols()
    for row, finding in zip(rows, verdict["findings"], strict=True):
        principle, severity, since, value, worst, allowed, unit, atoms, advice = row
        assert principle["text"].startswith(finding["principle"].replace("_", " "))
        assert severity["text"] == finding["severity"]
        assert since["values"] == [finding["time_fs"]]
        for cell, key in ((value, "value"), (worst, "worst"), (allowed, "threshold")):
            expected = [] if finding[key] is None else [finding[key]]
            assert cell["values"] == expected
            assert finding[key] is not None or "finite" in cell["text"]
        assert (unit["text"], advice["text"]) == (finding["unit"], finding["advice"])
        named = [f"{symbols[a]}{a}" for a in finding["atoms"][:4]]
        assert atoms["text"].startswith("–".join(named))
    cause = Verdict.from_dict(verdict).cause
    assert cause.advice in page.text
    assert f"{verdict['onset_fs']:g}\N{NO-BREAK SPACE}fs" in page.text


def test_reasons_cost_and_the_black_box_stand_there(broken):
    page, verdict = page_of(broken), json.loads((broken / "verdict.json").read_text())
    reasons = {row[1]["text"] for row in page.table("why")[1:]}
    assert reasons == set(verdict["unavailable"].values())
    listed = [name for row in page.table("why")[1:] for name in row[0]["text"].split(", ")]
    assert sorted(listed) == sorted(name.replace("_", " ") for name in verdict["unavailable"])
    assert f"{verdict['cost']['share']:.1%}" in page.text
    assert mdxai.open_run(broken).header["calculator"]["weights_sha256"] in page.text
    files = [link for link in page.links if "blackbox" in link]
    assert len(files) == 1
    assert all((broken / unquote(link)).exists() for link in files)


def test_it_needs_nothing_else_and_runs_nothing(broken):
    page = page_of(broken)
    assert not {"script", "link", "img", "iframe", "object", "image"} & set(page.tags)
    assert page.tags.count("svg") >= 9
    text = (broken / "report.html").read_text()
    assert "http" not in text
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)
    inside = [link for link in page.links if not link.startswith("#")]
    assert all((broken / unquote(link)).exists() for link in inside)
    assert page.size < 1_000_000


def test_links_start_from_where_the_page_lies(broken, tmp_path):
    other = tmp_path / "deep" / "er"
    other.mkdir(parents=True)
    path = write_report(broken, other / "ethanol.html")
    links = [link for link in Page(path).links if not link.startswith("#")]
    assert links
    assert all((other / unquote(link)).exists() for link in links)


def test_what_users_name_is_escaped(tmp_path):
    class Named(LennardJones):
        name = HOSTILE

    path = tmp_path / "a <b> & 'c'"
    ethanol_run(path, Named(), context={"note": HOSTILE, HOSTILE: {"x": [HOSTILE]}}, report=False)
    page = page_of(path)
    assert "script" not in page.tags
    assert "b" in page.tags  # ours, in tables
    assert page.text.count(HOSTILE) >= 4  # title, heading, reasons, context
    assert "a <b> & 'c'" in page.text


def test_names_and_reasons_of_a_foreign_record_are_escaped(tmp_path):
    header = HEADER | {"unavailable": {HOSTILE: HOSTILE}, "versions": {"x": HOSTILE}}
    writer = RunWriter(tmp_path / "run")
    writer.start(header, [Measure(HOSTILE, HOSTILE)])
    for step in range(3):
        value = Deviation(HOSTILE, HOSTILE, float(step), (1, 77))
        writer.add_frame(frame_at(step), {HOSTILE: value})
        writer.add_event(step, 0.0, HOSTILE, {HOSTILE: HOSTILE})
    finding = {"principle": HOSTILE, "severity": "unstable", "time_fs": 0.5, "value": 1.0,
               "worst": None, "threshold": None, "unit": HOSTILE, "atoms": [1, 77],
               "advice": HOSTILE}  # fmt: skip
    verdict = {"stability": "unstable", "onset_fs": 0.5, "duration_fs": 1.0, "n_frames": 3,
               "findings": [finding], "unavailable": {HOSTILE: HOSTILE}, "start_fs": 0.0,
               "halted_by": HOSTILE, "interrupted_by": HOSTILE}  # fmt: skip
    writer.finish(verdict, None)
    page = page_of(tmp_path / "run")
    assert "script" not in page.tags
    assert page.text.count(HOSTILE) >= 12
    assert "C1–?77" in page.text


def test_text_is_escaped_and_markup_is_not():
    assert element("p", "a < b", element("b", "&"), title='"') == (
        '<p title="&quot;">a &lt; b<b>&amp;</b></p>'
    )
    assert joined(["<", element("br")]) == "&lt;<br>"


def brute_force(steps, times, values, first, last):
    """Extremes of each bucket, row by row."""
    found = {}
    for step, time, value in zip(steps, times, values, strict=True):
        if np.isfinite(value):
            found.setdefault((step - first) * BUCKETS // (last - first + 1), []).append(
                (value, time)
            )
    points = {p for inside in found.values() for p in (min(inside), max(inside))}
    return sorted(value for value, _ in points), sorted(time for _, time in points)


@pytest.mark.parametrize("n", [1, 2, 749, 750, 751, 5000])
def test_the_envelope_equals_brute_force(n):
    rng = np.random.default_rng(n)
    steps = np.sort(rng.choice(10 * n + 3, n, replace=False))
    times, values = 0.5 * steps, rng.normal(size=(n, 2))
    values[rng.random((n, 2)) < 0.1] = np.nan
    values[rng.random((n, 2)) < 0.01] = np.inf
    measured = rng.random((n, 2)) < 0.8
    envelope = Envelope(2, int(steps[0]), int(steps[-1]))
    for cut in np.array_split(np.arange(n), 7):  # as row groups come
        if len(cut):
            envelope.update(steps[cut], times[cut], values[cut], measured[cut])
    for k in range(2):
        curve, there = envelope.curve(k), measured[:, k]
        expected = brute_force(steps[there], times[there], values[there, k], steps[0], steps[-1])
        assert sorted(curve.values) == expected[0]
        assert sorted(curve.times) == expected[1]
        assert (np.diff(curve.times) > 0).all()
        assert len(curve.times) <= 2 * BUCKETS
        assert curve.n_measured == there.sum()
        wrong = times[there & ~np.isfinite(values[:, k])]
        assert (len(curve.not_finite) > 0) == (len(wrong) > 0)
        assert set(curve.not_finite) <= set(wrong)
        if n <= BUCKETS // 20:  # every row has a bucket of its own
            assert set(curve.not_finite) == set(wrong)


def test_a_spike_of_one_frame_in_a_hundred_thousand_is_drawn(tmp_path):
    n, at = 100_000, 61_803
    writer = RunWriter(tmp_path / "run", RecordSettings(rows_per_part=20_000, trajectory_every=n))
    writer.start(HEADER | {"thresholds": {}}, [Measure("bond", "Å")])
    frame = frame_at(0)
    calm, spike = ({"bond": Deviation("bond", "Å", v)} for v in (0.1, 7.25))
    for step in range(n):
        object.__setattr__(frame, "step", step)
        object.__setattr__(frame, "time", 0.5 * step)
        writer.add_frame(frame, spike if step == at else calm)
        if writer.due(step):
            writer.commit(step)
    writer.finish({"stability": "stable"}, None)
    run = mdxai.open_run(tmp_path / "run")
    curve = read_series(run, ["bond"]).curves["bond"]
    assert curve.largest == 7.25
    assert curve.times[curve.values == 7.25] == [0.5 * at]
    assert len(curve.times) <= 2 * BUCKETS


def test_means_of_pairs_equal_a_data_frame(tmp_path):
    write_run(tmp_path / "run", steps=60)
    run = mdxai.open_run(tmp_path / "run")
    end, late = 20.3, 6.0  # fs
    found = read_interactions(run, Window(end, late, shown=15.9))
    pairs = run.pairs_table().to_pandas().astype({"two_body_eV": float, "distance_ang": float})
    usual = pairs[pairs.time_fs < end - late].groupby(["i", "j"])
    last = pairs[(pairs.time_fs >= end - late) & (pairs.time_fs < end)].groupby(["i", "j"])
    means = found.means
    keys = list(zip(means.i, means.j, strict=True))
    assert means.n_frames == pairs[pairs.time_fs < end - late].step.nunique()
    assert means.n_late == 3
    np.testing.assert_allclose(means.mean, usual.two_body_eV.mean()[keys], rtol=1e-6)
    np.testing.assert_allclose(means.spread, usual.two_body_eV.std(ddof=0)[keys], rtol=1e-4)
    np.testing.assert_allclose(means.distance, usual.distance_ang.mean()[keys], rtol=1e-6)
    np.testing.assert_allclose(means.late, last.two_body_eV.mean()[keys], rtol=1e-6)
    strength = usual.two_body_eV.apply(lambda x: x.abs().mean())
    assert (np.diff(strength[keys]) <= 1e-9).all()
    assert found.frame.step == 30
    changed = means.most_changed(3)
    assert np.abs(changed.late - changed.mean)[0] == np.abs(means.late - means.mean).max()


def test_how_pairs_changed_before_the_onset_is_told(tmp_path):
    writer = write_run(tmp_path / "run", steps=60, finish=False)
    finding = {
        "principle": "principle1", "severity": "unstable", "time_fs": 20.0, "value": 9.0, "worst": 9.0,
        "threshold": 1.0, "unit": "eV", "atoms": [0, 2], "advice": "stop",
    }  # fmt: skip
    write_verdict(writer.path, {
        "stability": "unstable", "onset_fs": 20.0, "duration_fs": 29.5, "n_frames": 60,
        "findings": [finding], "unavailable": {}, "start_fs": 0.0,
    })  # fmt: skip
    page = page_of(tmp_path / "run")
    window = Window(20.0, 10.0, shown=20.0)  # half of what there was before the onset
    means = read_interactions(mdxai.open_run(tmp_path / "run"), window).means
    rows, expected = page.table("late / eV")[1:], means.most_changed(6)
    assert len(rows) == 6
    for k, row in enumerate(rows):
        values = [cell["values"][0] for cell in row[2:]]
        change = expected.late[k] - expected.mean[k]
        shown = (expected.distance, expected.mean, expected.spread, expected.late)
        assert values == [*(float(column[k]) for column in shown), change]
    assert "ringed: C0–O2" in page.text
    first = page.table("± / eV")[1:]
    assert [row[3]["values"][0] for row in first] == means.first(12).mean.tolist()


def test_images_of_a_pair_add_up(tmp_path):
    """Flow holds every image of a pair within the cutoff."""
    writer = RunWriter(tmp_path / "run")
    writer.start(HEADER, LAWS)
    frame, one = frame_at(0), attribution_of(frame_at(0))
    images = one.pairs.select(np.array([0, 0, 1]))
    parts = {"method": "flow", "pairs": images, "strengths": np.array([0.25, 0.5, -1.0])}
    for name, value in parts.items():
        object.__setattr__(one, name, value)
    writer.add_frame(frame, {})
    writer.add_attribution(frame, one)
    writer.finish({}, None)
    means = read_interactions(mdxai.open_run(tmp_path / "run"), Window()).means
    assert means.mean.tolist() == [-1.0, 0.75]


def test_a_run_that_goes_on_is_judged_by_its_frames(tmp_path):
    atoms = molecule("CH3CH2OH")
    atoms.calc = mdxai.load_calculator("schnet-ethanol")
    dynamics = VelocityVerlet(atoms, 0.5 * units.fs)
    path = tmp_path / "run"
    with Monitor(dynamics, path, attribute_every=2, report=False) as monitor:
        dynamics.attach(monitor)
        dynamics.run(10)
        empty = page_of(path)
        assert "Nothing recorded yet" in empty.text
        monitor.checkpoint()
        monitor._writer._wait()
        page = page_of(path)
        assert "The run is not finished" in page.text
        assert "up to step 10" in page.text
        assert "It is known once the run is finished" in page.text
        assert f"{judge(mdxai.open_run(path)).n_frames} frames" in page.text
        whole = mdxai.open_run(path)
        profile = read_interactions(whole, Window()).profile.to_pandas()
    written = mdxai.open_run(path).profile_table().to_pandas()
    assert profile["count"].equals(written["count"])
    np.testing.assert_allclose(profile.mean_eV, written.mean_eV, rtol=1e-5)  # pairs are float32
    assert "The run is not finished" not in page_of(path).text


def test_no_trajectory_one_frame_and_no_atoms_to_name(tmp_path):
    ethanol_run(tmp_path / "one", steps=0, report=False)
    assert "too little to judge" in page_of(tmp_path / "one").text
    for part in (tmp_path / "one").glob("trajectory-*"):
        part.unlink()
    with pytest.raises(RecordError, match="is missing, which the finished run had"):
        page_of(tmp_path / "one")
    (tmp_path / "one" / "verdict.json").unlink()  # as if it had just begun
    assert "No picture: no positions are recorded" in page_of(tmp_path / "one").text


def test_many_atoms_in_a_cell(tmp_path):
    atoms = bulk("Cu", cubic=True).repeat(6)
    atoms.calc = EMT()
    dynamics = VelocityVerlet(atoms, 2 * units.fs)
    with Monitor(dynamics, tmp_path / "run", report=False) as monitor:
        dynamics.attach(monitor)
        dynamics.run(3)
    page = page_of(tmp_path / "run")
    assert "No picture: this is a periodic system of 864 atoms" in page.text
    assert "Not explained: relevance needs the inside of the network" in page.text
    assert page.size < 300_000


def test_what_was_rolled_back_halted_and_resumed_is_told(tmp_path):
    write_run(tmp_path / "run", steps=20, finish=False)
    (tmp_path / "run" / "rollbacks.json").write_text(json.dumps([
        {"reason": "bond 0.6 Å", "onset_fs": 4.0, "from_step": 9, "to_step": 4, "to_time_fs": 2.0,
         "changes": {"seed": 2}}
    ]))  # fmt: skip
    (tmp_path / "run" / "rolled-back-1").mkdir()
    page = page_of(tmp_path / "run")
    assert "Rollback 1: unstable by bond 0.6 Å; taken back to 2\N{NO-BREAK SPACE}fs" in page.text
    assert "went on with seed 2" in page.text
    assert "rolled-back-1" in page.links


@pytest.mark.pages
def test_a_script_gets_its_page_when_it_ends_well(tmp_path):
    ethanol_run(tmp_path / "run")
    page = Page(tmp_path / "run" / "report.html")
    assert "schnet-ethanol" in page.text
    ethanol_run(tmp_path / "none", report=False)
    assert not (tmp_path / "none" / "report.html").exists()


@pytest.mark.pages
@pytest.mark.parametrize("how", ["signal", "exception", "late"])
def test_no_page_where_time_is_short(tmp_path, how):
    atoms = molecule("CH3CH2OH")
    atoms.calc = LennardJones()
    dynamics = VelocityVerlet(atoms, 0.1 * units.fs)
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    monitor = Monitor(dynamics, tmp_path / "run", on_unstable="ignore")

    def stop():
        if dynamics.nsteps == 3 and how == "signal":
            os.kill(os.getpid(), signal.SIGTERM)
        if dynamics.nsteps == 3 and how == "exception":
            raise OutOfLuck

    dynamics.attach(monitor)
    dynamics.attach(stop)
    try:
        if how == "late":
            dynamics.run(5)
            monitor._finish_late()
        else:
            with monitor:
                dynamics.run(5)
    except OutOfLuck:
        assert how == "exception"
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (tmp_path / "run" / "verdict.json").exists()
    assert not (tmp_path / "run" / "report.html").exists()


@pytest.mark.pages
def test_a_page_that_cannot_be_written_is_a_warning(tmp_path):
    path = tmp_path / "run"
    (path / "report.html").mkdir(parents=True)
    with pytest.warns(RecordWarning, match=r"is complete, but not its page: .*Is a directory"):
        ethanol_run(path)
    assert mdxai.open_run(path).verdict["n_frames"] == 13
    assert not list(path.glob(".*.tmp"))
    with pytest.raises(RecordError, match="cannot be written: Is a directory"):
        write_report(path)


@pytest.mark.pages
def test_a_page_that_cannot_be_drawn_is_a_warning(tmp_path, monkeypatch):
    def fail(*_):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("mdxai.report.page.report_page", fail)
    with pytest.warns(RecordWarning, match="is complete, but not its page: a bug"):
        ethanol_run(tmp_path / "run")
    assert mdxai.open_run(tmp_path / "run").verdict["stability"] == "stable"


@pytest.mark.pages
def test_the_command_line_writes_it(tmp_path):
    cli, out = CliRunner(), tmp_path / "run"
    command = ["run", "schnet-ethanol", "CH3CH2OH", "--steps", "5", "--out", str(out), "-q"]
    assert cli.invoke(app, command).exit_code == 0
    page = Page(out / "report.html")
    assert "figure.png" in page.links
    assert " ".join(sys.argv[1:2]) in page.text  # the command
    again = cli.invoke(app, ["report", str(out), str(out)])
    assert again.stdout.split() == [str(out / "report.html")] * 2
    elsewhere = cli.invoke(app, ["report", str(out), "--out", str(tmp_path / "page.html")])
    assert (elsewhere.exit_code, (tmp_path / "page.html").exists()) == (0, True)
    assert cli.invoke(app, ["report", str(out), str(out), "--out", "x"]).exit_code == 2
    none = cli.invoke(app, ["report", str(tmp_path)])
    assert (none.exit_code, "holds no run" in none.stderr) == (2, True)


@pytest.mark.pages
def test_the_exit_code_is_that_of_the_run(tmp_path):
    (tmp_path / "run" / "report.html").mkdir(parents=True)
    command = ["run", "schnet-ethanol", "CH3CH2OH", "--steps", "5", "--out", str(tmp_path / "run")]
    result = CliRunner().invoke(app, [*command, "-q"])
    assert result.exit_code == 0
    assert "is complete, but not its page" in result.stderr


def test_a_page_of_many_frames_takes_no_more_memory(tmp_path):
    """The peak after a page of 30 times as many frames, beyond one row group of each kind."""
    few, many = tmp_path / "few", tmp_path / "many"
    write_run(few, steps=100, commit_every=50)
    write_run(many, steps=3000, commit_every=500)
    sizes = [write_report(path).stat().st_size for path in (few, many)]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    sizes.append(write_report(many).stat().st_size)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 8_000  # kB
    assert sizes[2] < 3 * sizes[0]


def test_parts_that_are_damaged_are_an_error(broken, tmp_path):
    part = next(broken.glob("frames-*.parquet"))
    copy = tmp_path / "run"
    copy.mkdir()
    for path in broken.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    content = bytearray(part.read_bytes())
    content[len(content) // 2] ^= 1
    (copy / part.name).write_bytes(content)
    with pytest.raises(RecordError, match="is damaged"):
        write_report(copy)


def test_drawing_is_imported_only_to_draw():
    """Importing takes long, so it is looked at in the source."""
    root = Path(mdxai.__file__).parent
    for path in (root / "report").glob("*.py"):
        assert not re.search(r"^(from|import) matplotlib", path.read_text(), re.MULTILINE)
    assert not re.search(
        r"^from mdxai.report", (root / "monitoring" / "monitor.py").read_text(), re.MULTILINE
    )

"""The page of a run: what it says is what the record holds, and it needs nothing else."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import sys
import time
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.md.verlet import VelocityVerlet
from typer.testing import CliRunner

import mdxai
from mdxai.cli.main import app
from mdxai.monitoring.monitor import Monitor
from mdxai.principles import Deviation, kind_of
from mdxai.record import RecordError, RecordWarning, RunWriter
from mdxai.record.header import write_verdict
from mdxai.report import write_report
from mdxai.report.interactions import Window, read_interactions
from mdxai.stability.verdict import Verdict, judge
from mdxai.testing import FaultyCalculator, NanForces

from .conftest import ETHANOL, ethanol_with
from .synthetic_run import HEADER, Measure, frame_at, write_run

HOSTILE = '<script>alert("x")</script>&"$_{\\'


class Interruption(Exception):
    """Raised by a test in the middle of a run."""


class Page(HTMLParser):
    """Tables, text, links and numbers of a page; refuses one whose tags do not match."""

    def __init__(self, path):
        super().__init__()
        self.tables, self.links, self.tags, self.open = [], [], [], []
        self.text, self.attributes = "", set()
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
        if tag not in ("meta", "br", "input"):
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
            self.attributes.add(name)
            if name in ("href", "src", "xlink:href", "srcset", "action"):
                self.links.append(value)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"style", "script"} & set(self.open):
            self.text += data
        if {"td", "th"} & set(self.open):
            self.tables[-1][-1][-1]["text"] += data

    def table(self, heading):
        """Rows of the table that has a column of this heading."""
        found = [t for t in self.tables if heading in [cell["text"] for cell in t[0]]]
        return found[0] if found else []


def page_of(path) -> Page:
    return Page(write_report(path))


def verlet(atoms: Atoms, timestep: float = 0.5) -> VelocityVerlet:
    return VelocityVerlet(atoms, timestep * units.fs)


def ethanol_run(path, calculator="schnet-ethanol", steps=12, **options):
    dynamics = verlet(ethanol_with(calculator, amplitude=0.02))
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
    assert len(rows) == len(verdict["findings"]) > 0
    symbols = ethanol_with().get_chemical_symbols()
    for row, finding in zip(rows, verdict["findings"], strict=True):
        principle, kind, severity, since, _, value, worst, allowed, unit, atoms, advice = row
        assert principle["text"].startswith(finding["principle"].replace("_", " "))
        assert kind["text"] == kind_of(finding["principle"])
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
    reasons = {row[2]["text"] for row in page.table("why")[1:]}
    assert reasons == set(verdict["unavailable"].values())
    listed = [name for row in page.table("why")[1:] for name in row[0]["text"].split(", ")]
    assert sorted(listed) == sorted(name.replace("_", " ") for name in verdict["unavailable"])
    assert f"{verdict['cost']['share']:.1%}" in page.text
    assert mdxai.open_run(broken).header["calculator"]["weights_sha256"] in page.text
    files = [link for link in page.links if "blackbox" in link]
    assert len(files) == 1
    assert all((broken / unquote(link)).exists() for link in files)


OURS = ["script"] * 3  # data, libraries, and what unpacks them


def scripts(page):
    return [tag for tag in page.tags if tag == "script"]


def test_it_needs_nothing_else(broken):
    page = page_of(broken)
    assert not {"link", "img", "iframe", "object", "image"} & set(page.tags)
    assert scripts(page) == OURS
    assert "src" not in page.attributes
    assert page.tags.count("svg") >= 7
    text = (broken / "report.html").read_text()
    assert "http" not in text
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)
    inside = [link for link in page.links if not link.startswith("#")]
    assert all((broken / unquote(link)).exists() for link in inside)
    assert page.size < 1_000_000


def test_rows_that_list_principles_say_their_kind(broken, tmp_path):
    ethanol_run(tmp_path / "sound", report=False)
    page, sound = page_of(broken), page_of(tmp_path / "sound")
    for header, *rows in (page.table("what to do"), page.table("why"), sound.table("frames")):
        assert header[1]["text"] == "kind"
        for row in rows:
            name = row[0]["text"].split(", ")[0].replace(" ", "_")
            kinds = {row[1]["text"]} - {""}
            if kind_of(name):
                assert kinds == {kind_of(name)}
    kinds = [row[1]["text"] for row in page.table("why")[1:]]
    assert kinds == sorted(kinds, key=["motion", "explanation", "probe", ""].index)


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
    assert scripts(page) == OURS
    assert "b" in page.tags  # ours, in tables
    assert page.text.count(HOSTILE) >= 4  # title, heading, reasons, context
    assert "a <b> & 'c'" in page.text


@pytest.mark.parametrize("name", [
    HOSTILE, "{{ 7 * 7 }}{% raw %}", "</style></title><img src=x onerror=alert(1)>",
    "ünïcode \u202e \N{GREEK SMALL LETTER GAMMA} 分子", "'\"><svg onload=alert(1)>", "a&lt;b&amp;c",
])  # fmt: skip
def test_a_hostile_name_is_shown_as_it_is(tmp_path, name):
    calculator = HEADER["calculator"] | {"name": name}
    header = HEADER | {"calculator": calculator, "context": {name: [name]}}
    writer = RunWriter(tmp_path / "run")
    writer.start(header, [Measure("bond")])
    for step in range(3):
        writer.add_frame(frame_at(step), {"bond": Deviation("bond", "Å", 0.1)})
    writer.finish({"stability": "stable"}, None)
    page = page_of(tmp_path / "run")
    assert page.text.count(name) >= 4  # title, heading, and both sides of the context
    assert scripts(page) == OURS
    assert "img" not in page.tags
    assert not any(name.startswith("on") for name in page.attributes)


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
    assert scripts(page) == OURS
    assert page.text.count(HOSTILE) >= 12
    assert "C1–?77" in page.text


def test_how_pairs_changed_before_the_onset_is_told(tmp_path):
    writer = write_run(tmp_path / "run", steps=60, finish=False)
    finding = {
        "principle": "principle1", "severity": "unstable", "time_fs": 20.0, "value": 9.0,
        "worst": 9.0, "threshold": 1.0, "unit": "eV", "atoms": [0, 2], "advice": "stop",
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


def wait_until(condition, seconds=30.0):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_a_run_that_goes_on_is_judged_by_its_frames(tmp_path):
    dynamics, path = verlet(ethanol_with()), tmp_path / "run"
    with Monitor(dynamics, path, attribute_every=2, report=False) as monitor:
        dynamics.attach(monitor)
        dynamics.run(10)
        empty = page_of(path)
        assert "Nothing recorded yet" in empty.text
        monitor.checkpoint()
        wait_until(lambda: mdxai.open_run(path).n_frames == 11)  # written in the background
        page = page_of(path)
        assert "The run is not finished" in page.text
        assert "up to step 10" in page.text
        assert "Known once the run is finished" in page.text
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
    with pytest.raises(RecordError, match=r"is missing, which verdict\.json lists"):
        page_of(tmp_path / "one")
    (tmp_path / "one" / "verdict.json").unlink()  # as if it had just begun
    assert "No picture: no positions are recorded" in page_of(tmp_path / "one").text


def test_many_atoms_in_a_cell(tmp_path):
    atoms = bulk("Cu", cubic=True).repeat(6)
    atoms.calc = EMT()
    dynamics = verlet(atoms, 2.0)
    with Monitor(dynamics, tmp_path / "run", report=False) as monitor:
        dynamics.attach(monitor)
        dynamics.run(3)
    page = page_of(tmp_path / "run")
    assert "No picture: this is a periodic system of 864 atoms" in page.text
    assert "Not explained: relevance needs access to the network" in page.text
    assert page.size < 600_000


def test_what_was_rolled_back_halted_and_resumed_is_told(tmp_path):
    write_run(tmp_path / "run", steps=20, finish=False)
    (tmp_path / "run" / "rollbacks.json").write_text(json.dumps([
        {"reason": "bond 0.6 Å", "onset_fs": 4.0, "from_step": 9, "to_step": 4, "to_time_fs": 2.0,
         "changes": {"seed": 2}}
    ]))  # fmt: skip
    (tmp_path / "run" / "rolled-back-1").mkdir()
    page = page_of(tmp_path / "run")
    assert (
        "Rollback 1: taken back because of bond 0.6 Å; returned to 2\N{NO-BREAK SPACE}fs"
        in page.text
    )
    assert "went on with seed 2" in page.text
    assert "rolled-back-1" in page.links


def test_body_orders_and_residual_are_drawn_where_frames_are_explained(broken, tmp_path):
    write_run(tmp_path / "run", steps=20)
    for word in ("Body orders", "Residual", "one-body", "all higher"):
        assert word in page_of(tmp_path / "run").text
        assert word not in page_of(broken).text  # its calculator could not be explained


@pytest.mark.pages
def test_a_script_gets_its_page_when_it_ends_well(tmp_path):
    ethanol_run(tmp_path / "run")
    page = Page(tmp_path / "run" / "report.html")
    assert "schnet-ethanol" in page.text
    ethanol_run(tmp_path / "none", report=False)
    assert not (tmp_path / "none" / "report.html").exists()


@pytest.mark.pages
@pytest.mark.parametrize("how", ["signal", "exception", "exit"])
def test_no_page_where_time_is_short(tmp_path, monkeypatch, how):
    dynamics, at_exit = verlet(ethanol_with(LennardJones()), 0.1), []
    monkeypatch.setattr("atexit.register", at_exit.append)
    monkeypatch.setattr("atexit.unregister", at_exit.remove)
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    monitor = Monitor(dynamics, tmp_path / "run", on_unstable="ignore")

    def stop():
        if dynamics.nsteps == 3 and how == "signal":
            os.kill(os.getpid(), signal.SIGTERM)
        if dynamics.nsteps == 3 and how == "exception":
            raise Interruption

    dynamics.attach(monitor)
    dynamics.attach(stop)
    try:
        if how == "exit":
            dynamics.run(5)
            for finish in at_exit:  # as if the script ended without closing the monitor
                finish()
        else:
            with monitor:
                dynamics.run(5)
    except Interruption:
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
    command = ["run", "schnet-ethanol", ETHANOL, "--steps", "5", "--out", str(out), "-q"]
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
    command = ["run", "schnet-ethanol", ETHANOL, "--steps", "5", "--out", str(tmp_path / "run")]
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
    with pytest.raises(RecordError, match=f"{part.name} is damaged"):
        write_report(copy)


def test_drawing_is_imported_only_to_draw():
    """Importing takes long, so it is looked at in the source."""
    root = Path(mdxai.__file__).parent
    for path in (root / "report").glob("*.py"):
        assert not re.search(r"^(from|import) matplotlib", path.read_text(), re.MULTILINE)
    for path in (root / "monitoring").glob("*.py"):
        assert not re.search(r"^from mdxai.report", path.read_text(), re.MULTILINE)

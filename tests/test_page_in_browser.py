"""The page of a run in a real browser: what is seen, what a click does, what needs no script."""

from __future__ import annotations

import base64
import gzip
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from ase import units
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.data import covalent_radii
from ase.md.verlet import VelocityVerlet

import mdxai
from mdxai.monitoring.monitor import Monitor
from mdxai.principles import Deviation
from mdxai.record import RunWriter
from mdxai.report import write_report
from mdxai.report.film import read_film
from mdxai.report.run_summary import read_run_summary

from .browser import OpenPage, browser
from .conftest import ETHANOL, invoke
from .synthetic_run import HEADER, Measure, frame_at, write_run


@pytest.fixture(scope="module")
def chromium():
    with browser() as found:
        yield found


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    """A hot run of a weak model: atoms come too close, then bonds break."""
    path = tmp_path_factory.mktemp("page") / "run"
    result = invoke("run", "schnet-ethanol-weak", ETHANOL, "--temperature", 3000, "--steps", 260,
                    "--seed", 4, "--out", path, "-q")  # fmt: skip
    assert result.exit_code == 3
    write_report(path)
    return path


@pytest.fixture(scope="module")
def opened(chromium, broken):
    """The page of that run, which the tests use one after the other."""
    return OpenPage(chromium, broken / "report.html").is_ready()


def time_shown(page) -> float:
    return float(page.locator("#when").inner_text().removesuffix(" fs"))


@pytest.fixture(scope="module")
def crystal(tmp_path_factory):
    """Four copper atoms in a cell, one of them at its edge."""
    path = tmp_path_factory.mktemp("page") / "crystal"
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.05, seed=1)
    atoms.calc = EMT()
    dynamics = VelocityVerlet(atoms, 2 * units.fs)
    with Monitor(dynamics, path, report=False) as monitor:
        dynamics.attach(monitor)
        dynamics.run(5)
    write_report(path)
    return path


def unpacked(path):
    text = (path / "report.html").read_text()
    packed = re.search(r'id="packed-data">([^<]*)<', text)[1]
    return json.loads(gzip.decompress(base64.b64decode(packed)))


def positions_of(data, frame):
    """Decode what the page holds, as its script does."""
    packed = data["film"]["positions"]
    raw = np.frombuffer(base64.b64decode(packed["base64"]), "<u2")
    raw = raw.reshape(len(packed["low"]), len(data["symbols"]), 3)
    return packed["low"][frame] + packed["step"][frame] * raw[frame]


def distances(positions):
    return np.linalg.norm(positions[:, None] - positions, axis=-1)


def test_the_film_holds_the_recorded_geometries(broken):
    data, run = unpacked(broken), mdxai.open_run(broken)
    by_step = {frame.step: frame.positions for frame in run.frames()}
    film = data["film"]
    assert len(film["steps"]) > 130
    assert sum(film["box"]) == 50
    for k, step in enumerate(film["steps"]):
        expected = distances(by_step[step])
        np.testing.assert_allclose(distances(positions_of(data, k)), expected, atol=1e-3)


def test_a_molecule_in_the_film_is_no_mirror_image_and_does_not_turn(broken):
    data, run = unpacked(broken), mdxai.open_run(broken)
    by_step = {frame.step: frame.positions for frame in run.frames()}

    def handedness(positions):
        a, b, c = positions[[4, 5, 2]] - positions[1]
        return np.sign(np.dot(a, np.cross(b, c)))

    film = data["film"]
    first = positions_of(data, 0)
    for k in range(0, len(film["steps"]), 10):
        here = positions_of(data, k)
        assert handedness(here) == handedness(by_step[film["steps"][k]])
        if film["times"][k] < data["onset"]:
            assert np.abs(here - first)[[0, 1, 2]].max() < 1.0


def test_molecules_that_the_border_cuts_are_whole(tmp_path):
    one = molecule("CH3CH2OH")
    one.set_cell([7, 7, 7])
    one.pbc = True
    box = one.repeat((2, 1, 1))
    box.translate([3.2, 0.5, 0.0])
    box.wrap()
    box.calc = LennardJones(epsilon=1e-6)
    dynamics = VelocityVerlet(box, 0.1 * units.fs)
    with Monitor(dynamics, tmp_path / "run", report=False) as monitor:
        dynamics.attach(monitor)
        dynamics.run(3)
    film = read_film(read_run_summary(mdxai.open_run(tmp_path / "run")))
    for shot, frame in zip(film.shots, mdxai.open_run(tmp_path / "run").frames(), strict=True):
        lengths = [np.linalg.norm(shot.positions[i] - shot.positions[j]) for i, j in film.bonds]
        assert len(lengths) == 16
        assert max(lengths) < 1.6
        cut = [np.linalg.norm(frame.positions[i] - frame.positions[j]) for i, j in film.bonds]
        assert max(cut) > 5  # as recorded, the border does cut them
        moved = (shot.positions - frame.positions) @ np.linalg.inv(frame.cell)
        np.testing.assert_allclose(moved, moved.round(), atol=1e-9)  # by whole cells


def test_broken_bonds_and_relevances_are_those_of_the_record(broken):
    run = mdxai.open_run(broken)
    film = read_film(read_run_summary(run))
    frames = {frame.step: frame for frame in run.frames()}
    radii = covalent_radii[frames[0].numbers]
    for shot in film.shots:
        lengths = distances(frames[shot.step].positions) / (radii[:, None] + radii)
        assert shot.broken == tuple((i, j) for i, j in film.bonds if lengths[i, j] > 1.6)
        close = {(i, j) for i, j in zip(*np.nonzero(np.triu(lengths < 1.15, 1)), strict=True)}
        assert set(shot.formed) == close - set(film.bonds)
    assert any(shot.broken for shot in film.shots)
    assert any(shot.formed for shot in film.shots)
    times = dict(_explained(run))
    shown = [one for one in film.relevances if one.time in times]
    assert len(shown) > 20
    for one in shown[::5]:
        attribution = times[one.time]
        order = np.argsort(-np.abs(attribution.strengths))[:8]
        np.testing.assert_allclose([p[2] for p in one.strongest], attribution.strengths[order])


def _explained(run):
    table = run.explanations_table(["step", "time_fs"]).to_pydict()
    for step, time in zip(table["step"], table["time_fs"], strict=True):
        yield time, run.attribution(step)


def test_the_molecule_is_seen_without_an_error_or_a_request(opened, broken):
    seen = opened.pixels("#molecule")
    ground = seen[3, 3]
    assert 0.02 < (np.abs(seen - ground).max(-1) > 30).mean() < 0.7
    red = (seen[..., 0] > 150) & (seen[..., 1] < 60) & (seen[..., 2] < 60)
    assert red.sum() > 100  # the oxygen
    assert opened.complaints == []
    assert opened.requests == [(broken / "report.html").as_uri()]


def test_a_click_on_a_time_shows_that_frame(opened, broken):
    page, data = opened.page, unpacked(broken)
    page.locator("#onset").click()
    before = opened.pixels("#molecule")
    assert time_shown(page) == data["onset"]
    over = page.locator("#map .u-over")
    box = over.bounding_box()
    over.click(position={"x": 0.25 * box["width"], "y": 8})
    wanted = data["start"] + 0.25 * (data["end"] - data["start"])
    shown = time_shown(page)
    assert abs(shown - wanted) <= min(abs(t - wanted) for t in data["film"]["times"]) + 1
    assert (np.abs(opened.pixels("#molecule") - before).max(-1) > 30).any()
    page.keyboard.press("ArrowRight")
    k = data["film"]["times"].index(shown)
    assert time_shown(page) == data["film"]["times"][k + 1]
    curve = page.locator("figure[data-principle=bond] .u-over")
    curve.click(position={"x": 5, "y": 20})
    assert time_shown(page) < 10
    assert opened.complaints == []


def test_a_click_on_a_finding_shows_its_atoms_and_its_time(opened, broken):
    page, findings = opened.page, unpacked(broken)["findings"]
    k = next(n for n, f in enumerate(findings) if f["principle"] == "force_beyond_training")
    page.locator(f'tr[data-finding="{k}"]').click()
    assert time_shown(page) == findings[k]["time"]
    assert page.evaluate("mdxai.explorer.molecule.highlighted") == findings[k]["atoms"]
    assert page.locator("#chosen figcaption").inner_text() == "force beyond training"
    page.locator(f'[data-chip="{k}"]').click()  # again: no atoms
    assert page.evaluate("mdxai.explorer.molecule.highlighted") == []


def test_zoom_is_shared_and_values_are_read_out(opened):
    page = opened.page
    over = page.locator("figure[data-principle=bond] .u-over")
    over.scroll_into_view_if_needed()
    box = over.bounding_box()
    y = box["y"] + 40
    page.mouse.move(box["x"] + 0.5 * box["width"], y)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.75 * box["width"], y, steps=4)
    page.mouse.up()
    page.wait_for_timeout(300)
    ranges = page.evaluate(
        "[...mdxai.explorer.charts.all].map(c => [c.scales.x.min, c.scales.x.max])"
    )
    assert len(ranges) >= 10
    np.testing.assert_allclose(ranges, [ranges[0]] * len(ranges))
    length = 130.0
    np.testing.assert_allclose(ranges[0], [0.5 * length, 0.75 * length], atol=1)
    page.mouse.move(box["x"] + 0.5 * box["width"], y)
    legend = page.locator("figure[data-principle=bond] .u-legend").inner_text()
    assert re.search(r"bond:?\s*\d", legend)
    over.dblclick(position={"x": 30, "y": 30})
    page.wait_for_timeout(300)
    whole = page.evaluate("[...mdxai.explorer.charts.all].map(c => c.scales.x.max)")
    np.testing.assert_allclose(whole, length)


def test_playing_moves_on_and_stops(opened, broken):
    page = opened.page
    page.locator("#onset").click()
    page.locator("#play").click()
    page.wait_for_timeout(700)
    page.locator("#play").click()
    moved = page.locator("#frame").input_value()
    assert time_shown(page) != unpacked(broken)["onset"]
    page.wait_for_timeout(300)
    assert page.locator("#frame").input_value() == moved


@pytest.mark.parametrize(
    "selector", ["#picture", "#map-picture", "figure[data-principle=bond] .save"]
)
def test_figures_can_be_saved(opened, tmp_path, selector):
    page = opened.page
    with page.expect_download() as download:
        page.locator(selector).dispatch_event("click")
    saved = tmp_path / download.value.suggested_filename
    download.value.save_as(saved)
    content = saved.read_bytes()
    if saved.suffix == ".svg":
        assert b"var(" not in content
        assert content.startswith(b"<svg")
    else:
        assert content.startswith(b"\x89PNG")


@pytest.mark.slow
def test_it_fits_a_phone_and_a_dark_screen(chromium, broken):
    opened = OpenPage(chromium, broken / "report.html", viewport={"width": 400, "height": 800},
                      color_scheme="dark").is_ready()  # fmt: skip
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= 400
    assert opened.pixels("#molecule")[3, 3].max() < 60
    assert opened.page.locator("#map").bounding_box()["width"] <= 400
    assert opened.complaints == []


def test_in_print_and_without_scripts_the_still_figures_are_there(chromium, broken):
    for options in ({"java_script_enabled": False}, {}):
        opened = OpenPage(chromium, broken / "report.html", **options)
        page = opened.page
        if not options:
            opened.is_ready()
            assert not page.locator("figure[data-principle=bond] > svg").is_visible()
            page.emulate_media(media="print")
            page.wait_for_timeout(300)
        assert page.locator("figure[data-principle=bond] > svg").is_visible()
        assert not page.locator("#explorer").is_visible()
        assert not page.locator(".uplot >> visible=true").count()
        assert opened.complaints == []


@pytest.mark.slow
def test_paper_takes_the_frame_and_the_map_as_they_are_seen(chromium, broken, tmp_path):
    opened = OpenPage(chromium, broken / "report.html").is_ready()
    assert not opened.page.locator("#stills img").count()
    opened.page.pdf(path=tmp_path / "page.pdf")
    stills = opened.page.locator("#stills img")
    assert stills.evaluate_all("all => all.map((one) => one.naturalWidth > 200)") == [True, True]
    assert not stills.first.is_visible()
    opened.page.emulate_media(media="print")
    assert stills.first.is_visible()
    assert opened.complaints == []


@pytest.mark.slow
def test_without_webgl_the_rest_works(chromium, broken):
    context = chromium.new_context()
    context.add_init_script(
        "for (const kind of [HTMLCanvasElement, OffscreenCanvas]) {"
        "  const get = kind.prototype.getContext;"
        "  kind.prototype.getContext = function (name, ...rest) {"
        "    return name.includes('webgl') ? null : get.call(this, name, ...rest); }; }"
    )
    opened = OpenPage(context, broken / "report.html").is_ready()
    assert "no WebGL" in opened.page.locator("#scene").inner_text()
    assert opened.page.evaluate("mdxai.explorer.charts.all.size") >= 10
    opened.page.locator("[data-chip]").first.click()
    assert opened.complaints == []


@pytest.mark.slow
def test_a_crystal_stands_in_its_cell(chromium, crystal):
    opened = OpenPage(chromium, crystal / "report.html").is_ready()
    data = unpacked(crystal)
    cells = np.array(data["film"]["cells"])
    assert cells.shape == (6, 9)
    np.testing.assert_allclose(cells[0].reshape(3, 3), 3.61 * np.eye(3), atol=1e-3)
    seen = opened.pixels("#molecule")
    opened.page.locator("#cell").click()
    assert (np.abs(opened.pixels("#molecule") - seen).max(-1) > 20).sum() > 100
    assert opened.complaints == []


@pytest.mark.slow
def test_pairs_are_drawn_to_the_nearest_image(chromium, crystal):
    page = OpenPage(chromium, crystal / "report.html").is_ready().page
    shift = "mdxai.imageShift([0.1, 0, 0], [9.8, 4, 0], [10, 0, 0, 2, 10, 0, 0, 0, 10])"
    np.testing.assert_allclose(page.evaluate(shift), [-10, 0, 0])
    assert page.evaluate("mdxai.imageShift([0, 0, 0], [9, 0, 0], undefined)") == [0, 0, 0]


def test_hostile_names_run_nothing(chromium, tmp_path):
    hostile = '</script><script>window.stolen = 1</script><img src=x onerror="window.stolen = 1">'
    writer = RunWriter(tmp_path / "run")
    thresholds = {hostile: {"principle": hostile, "warn": 0.1, "unstable": 0.2, "patience": 0.0,
                            "advice": hostile}}  # fmt: skip
    header = HEADER | {"calculator": {"name": hostile}, "thresholds": thresholds}
    writer.start(header, [Measure(hostile, hostile)])
    for step in range(5):
        value = Deviation(hostile, hostile, float(step), (1, 7))
        writer.add_frame(frame_at(step), {hostile: value})
    finding = {"principle": hostile, "severity": "unstable", "time_fs": 0.5, "value": 1.0,
               "worst": 1.0, "threshold": 0.2, "unit": hostile, "atoms": [1, 77],
               "advice": hostile}  # fmt: skip
    writer.finish({"stability": "unstable", "onset_fs": 0.5, "duration_fs": 2.0, "n_frames": 5,
                   "findings": [finding], "unavailable": {}, "start_fs": 0.0}, None)  # fmt: skip
    write_report(tmp_path / "run")
    opened = OpenPage(chromium, tmp_path / "run" / "report.html").is_ready()
    opened.page.locator("[data-chip]").first.click()
    opened.page.locator("#map .u-over").hover(position={"x": 40, "y": 5})
    assert opened.page.evaluate("window.stolen") is None
    assert not opened.page.locator("img").count()
    assert hostile in opened.page.locator("#readout").inner_text()
    assert opened.complaints == []


@pytest.mark.slow
def test_positions_that_are_lost_or_wild_do_not_break_the_page(chromium, tmp_path):
    writer = RunWriter(tmp_path / "run")
    writer.start(HEADER, [Measure("bond")])
    for step in range(8):
        frame = frame_at(step)
        positions = frame.positions * np.where(np.arange(9) == 0, 10.0**step, 1.0)[:, None]
        frame = replace(frame, positions=positions if step < 7 else np.nan * positions)
        writer.add_frame(frame, {"bond": Deviation("bond", "Å", 10.0 ** (40 * step))})
    writer.finish({"stability": "stable", "onset_fs": None, "duration_fs": 3.5, "n_frames": 8,
                   "findings": [], "unavailable": {}, "start_fs": 0.0}, None)  # fmt: skip
    write_report(tmp_path / "run")
    opened = OpenPage(chromium, tmp_path / "run" / "report.html").is_ready()
    assert len(unpacked(tmp_path / "run")["film"]["times"]) == 7
    assert opened.complaints == []


def test_a_page_grows_little_with_the_run(tmp_path):
    write_run(tmp_path / "few", steps=100, commit_every=50)
    write_run(tmp_path / "many", steps=3000, commit_every=500)
    few, many = (write_report(tmp_path / name).stat().st_size for name in ("few", "many"))
    assert many < 2 * few
    assert len(unpacked(tmp_path / "many")["film"]["times"]) <= 180

"""`mdxai demo`: a sound and a weak model side by side."""

from __future__ import annotations

import json

import pytest

from .conftest import invoke


@pytest.mark.pages
def test_demo_with_few_steps(tmp_path):
    result = invoke("demo", "--steps", 20, "--out", tmp_path / "demo")
    assert result.exit_code == 0
    for word in ("verdict", "onset", "broken first", "by atoms", "cost of the monitor"):
        assert word in result.stdout
    figures = list((tmp_path / "demo").glob("*/figure.png"))
    assert len(figures) == len(list((tmp_path / "demo").glob("*/report.html"))) == 2
    assert invoke("demo", "--steps", 20, "--out", tmp_path / "demo").exit_code == 2
    assert invoke("demo", "--steps", 0, "--out", tmp_path / "none").exit_code == 2


@pytest.mark.slow
def test_demo_tells_the_sound_from_the_weak(tmp_path):
    result = invoke("demo", "--json", "--out", tmp_path / "demo")
    sound, weak = json.loads(result.stdout).values()
    assert sound["stability"] == "stable"
    assert weak["stability"] == "unstable"
    assert weak["findings"][0]["principle"] in ("bond", "contact")
    assert weak["broken_by"]

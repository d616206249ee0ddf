"""A model developer's test suite: what passes, what fails, and what it says."""

from __future__ import annotations

from importlib.metadata import entry_points

import pytest

SUITE = """
from ase.build import bulk
from ase.calculators.emt import EMT
from mdxai.testing import assert_stable

def test_copper(monitored_md, assert_not_worse):
    calculator = EMT()
    runs = monitored_md(calculator, bulk("Cu", cubic=True) * (2, 1, 1), temperature=300, steps=40)
    assert_stable(runs[0])
    assert_not_worse(runs, "baselines/copper.toml")
"""
PUSHED = """
class Pushed(EMT):
    def calculate(self, *arguments):
        super().calculate(*arguments)
        self.results["forces"][0, 0] += 0.1

"""
WORSE = SUITE.replace("def test", PUSHED + "def test").replace("= EMT()", "= Pushed()")
WORSE = WORSE.replace("    assert_stable(runs[0])\n", "")  # which would see it first


def run(pytester, *arguments):
    known = entry_points(group="pytest11", name="mdxai")
    named = () if known else ("-p", "mdxai.testing.pytest_plugin")
    # torch cannot be imported twice in a process, which pytester's own process would do.
    return pytester.runpytest_subprocess(*named, *arguments)


def output(result):
    return "\n".join(result.outlines)


def test_a_baseline_is_made_kept_and_judged_by(pytester):
    pytester.makepyfile(SUITE)
    run(pytester, "--mdxai-update").assert_outcomes(passed=1)
    baseline = (pytester.path / "baselines" / "copper.toml").read_text()
    assert 'formula = "Cu8"' in baseline
    assert "stable = 4" in baseline

    again = run(pytester)
    again.assert_outcomes(passed=1)
    again.stdout.fnmatch_lines(["*= mdxai =*", "*4 runs no worse than copper.toml in *principles"])

    pytester.makepyfile(WORSE)
    worse = run(pytester)
    worse.assert_outcomes(failed=1)
    assert "net_force: " in output(worse)
    assert "eV/Å now (a monitor warns above" in output(worse)


@pytest.mark.slow
def test_another_kind_of_run_is_refused(pytester):
    pytester.makepyfile(SUITE)
    run(pytester, "--mdxai-update").assert_outcomes(passed=1)
    pytester.makepyfile(SUITE.replace("temperature=300", "temperature=400"))
    other = run(pytester)
    other.assert_outcomes(failed=1)
    assert "temperature 300 and 400" in output(other)


@pytest.mark.slow
def test_workers_of_xdist_send_the_summary(pytester):
    pytester.makepyfile(SUITE)
    result = run(pytester, "-n", "2", "--mdxai-update")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*baseline copper.toml written from 4 runs"])

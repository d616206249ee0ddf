"""Assertions for a user's own test suite."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mdxai.monitoring.monitor import Monitor
from mdxai.record import Run
from mdxai.stability.outcomes import PHYSICS, Stability
from mdxai.stability.verdict import Verdict, judge
from mdxai.testing.baseline import Baseline, Change, broke_more, changes


def assert_stable(
    judged: Monitor | Run | Verdict,
    *,
    warnings_allowed: bool = False,
    reactions_allowed: bool = False,
) -> None:
    """Pass only when a run was stable.

    Args:
        judged: a monitor, a run that `mdxai.open_run` has opened, or a verdict.
        warnings_allowed: whether a run with warnings passes too. An inconclusive one never does.
        reactions_allowed: whether a run that reacted or melted passes too.

    Raises:
        AssertionError: otherwise, with the verdict in words.
        TypeError: for anything else, such as a path.
    """
    __tracebackhide__ = True
    if not isinstance(judged, Monitor | Run | Verdict):
        raise TypeError(
            f"expected a Monitor, an opened run or a Verdict, got {judged!r}; mdxai.open_run opens "
            "a run directory"
        )
    if isinstance(judged, Run):
        judged = judge(judged)
    verdict = judged.verdict if isinstance(judged, Monitor) else judged
    passing = {Stability.SUSPECT} if warnings_allowed else set()
    passing |= set(PHYSICS) if reactions_allowed else set()
    judgeable = verdict.stability is not Stability.INCONCLUSIVE
    if not (judgeable and all(finding.outcome in passing for finding in verdict.findings)):
        raise AssertionError(str(verdict))


def assert_not_worse(runs: Sequence[Run], baseline: str | Path, *, update: bool = False) -> str:
    """Pass only where runs of a potential are no worse than those that a baseline keeps.

    Worse is a principle whose mean deviation has risen beyond chance and by more than a twentieth
    of its limit, or that more runs fail than before, beyond chance.

    Args:
        runs: three or more, alike but for their seeds, such as the fixture `monitored_md` returns.
        baseline: a TOML file, kept with the tests.
        update: write the file from these runs instead of comparing.

    Returns:
        What was compared, in a line.

    Raises:
        AssertionError: with a table of what got worse, and where the runs are.
        BaselineError: where there is no baseline, or it is of other runs.
    """
    __tracebackhide__ = True
    path, now = Path(baseline), Baseline.of(runs)
    if update:
        now.save(path)
        return f"baseline {path.name} written from {now.runs} runs"
    before = Baseline.load(path)
    found = changes(now, before)
    worse = [change for change in found if change.worse]
    more = broke_more(now, before)
    if worse or more:
        raise AssertionError(_worse_text(path, now, before, worse, runs[0].path.parent))
    return f"{now.runs} runs no worse than {path.name} in {len(found)} principles"


def _worse_text(
    path: Path, now: Baseline, before: Baseline, worse: Sequence[Change], folder: Path
) -> str:
    lines = [f"worse than {path}:"]
    if now.outcomes != before.outcomes:
        lines.append(f"  runs: {_outcomes(before)} before, {_outcomes(now)} now")
    lines += [
        f"  {c.principle}: {c.before.mean:.3g} ± {c.before.spread:.2g} before, {c.now.mean:.3g} ± "
        f"{c.now.spread:.2g} {c.now.unit} now (a monitor warns above {c.limit:g}; "
        f"p = {c.p:.1g})"
        for c in worse
    ]
    lines.append(f"the runs are in {folder}; `mdxai report` draws one")
    return "\n".join(lines)


def _outcomes(found: Baseline) -> str:
    return ", ".join(f"{n} {name}" for name, n in sorted(found.outcomes.items()))

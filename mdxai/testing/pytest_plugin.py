"""The plugin that pytest finds where mdxai is installed: short monitored runs, and baselines.

Nothing of mdxai's is imported until a test asks for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from ase import Atoms

    from mdxai.record import Run

PROPERTY = "mdxai"  # of a test's report, which pytest-xdist's workers send on


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --mdxai-update."""
    parser.getgroup("mdxai").addoption(
        "--mdxai-update", action="store_true",
        help="write the baselines of assert_not_worse anew from these runs",
    )  # fmt: skip


@pytest.fixture
def monitored_md(tmp_path: Path, request: pytest.FixtureRequest) -> Callable[..., list[Run]]:
    """Short monitored runs: `monitored_md(calculator, "CH3CH2OH", temperature=500, steps=1000)`.

    Further arguments: seeds (a number of runs, 4 by default, or the seeds themselves), monitor (a
    MonitorOptions), and what else `mdxai.monitoring.run.RunSettings` takes, such as timestep or
    ensemble. The structure is an Atoms, a file that ASE reads, or a molecule of ASE's G2 set.
    Returns the runs, opened; their directories lie in the test's tmp_path.
    """

    def run(
        calculator: Any, structure: Atoms | str, *, seeds: int | Sequence[int] = 4, **settings: Any
    ) -> list[Run]:
        from mdxai.testing.short_runs import short_runs

        found = short_runs(
            calculator, structure, tmp_path / f"runs-{next(numbers)}", seeds, **settings
        )
        _note(request, ", ".join(str(r.verdict["stability"]) for r in found))
        return found

    numbers = iter(range(1, 10**6))
    return run


@pytest.fixture
def assert_not_worse(request: pytest.FixtureRequest) -> Callable[[Any, str | Path], None]:
    """Compare runs with a baseline: `assert_not_worse(runs, "baselines/my-model.toml")`.

    The path is relative to the test's file. See `mdxai.testing.assert_not_worse`.
    """

    def compare(runs: Any, baseline: str | Path) -> None:
        __tracebackhide__ = True
        from mdxai.testing import BaselineError
        from mdxai.testing import assert_not_worse as compared

        path = request.path.parent / baseline
        renew = bool(request.config.getoption("--mdxai-update"))
        try:
            text = compared(runs, path, update=renew)
        except BaselineError as error:
            pytest.fail(str(error), pytrace=False)
        _note(request, text)

    return compare


def _note(request: pytest.FixtureRequest, text: str) -> None:
    request.node.user_properties.append((PROPERTY, text))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say what each test's runs came to."""
    notes = list(_notes(terminalreporter.stats))
    if notes:
        terminalreporter.section("mdxai")
        for test, text in notes:
            terminalreporter.write_line(f"{test}: {text}")


def _notes(stats: dict[str, list[Any]]) -> Iterator[tuple[str, str]]:
    for reports in stats.values():
        for report in reports:
            if getattr(report, "when", "") == "call":
                for name, text in report.user_properties:
                    if name == PROPERTY:
                        yield report.nodeid, text

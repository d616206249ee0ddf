"""What runs of a potential measured, kept in a small file, and whether newer runs are worse."""

from __future__ import annotations

import math
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w
from ase import Atoms
from scipy.stats import fisher_exact
from scipy.stats import t as student

from mdxai.errors import MdxaiError
from mdxai.record import Run
from mdxai.record.durable_files import write_file
from mdxai.stability.outcomes import Stability
from mdxai.stability.thresholds import THRESHOLDS
from mdxai.stability.verdict import judge

FEWEST = 3  # runs from which a spread is known
SURE = 0.01  # chance that any of the principles is called worse though none is
MATTERS = 0.05  # of a principle's limit: smaller rises are not called worse
HEAD = "# Made by mdxai's pytest plugin; `pytest --mdxai-update` renews it.\n"


class BaselineError(MdxaiError, ValueError):
    """Runs or a file from which no baseline follows."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A principle's deviation in runs of one kind.

    mean: over runs, of each run's average over time. spread: standard deviation between runs.
    unit: of both.
    """

    mean: float
    spread: float
    unit: str


@dataclass(frozen=True, slots=True)
class Baseline:
    """What several runs of one potential measured.

    Attributes:
        runs: number of them, each with another seed.
        what: formula, temperature and other settings, which runs that are compared must share.
        outcomes: how many runs ended how.
        principles: what each principle measured.
    """

    runs: int
    what: Mapping[str, Any]
    outcomes: Mapping[str, int]
    principles: Mapping[str, Figure]

    @classmethod
    def of(cls, runs: Sequence[Run]) -> Baseline:
        """Measure runs.

        Raises:
            BaselineError: for fewer than three, or runs of different kinds.
        """
        if len(runs) < FEWEST:
            raise BaselineError(
                f"a baseline needs at least {FEWEST} runs, with different seeds, to know how much "
                f"chance does; got {len(runs)}"
            )
        kinds = [_what(run) for run in runs]
        if any(kind != kinds[0] for kind in kinds):
            raise BaselineError(f"the runs differ: {_difference(kinds)}")
        units: dict[str, str] = {}
        for run in runs:
            units |= run.deviations
        measured = [_means(run) for run in runs]
        means = {
            name: np.array([m[name] for m in measured])
            for name in units if all(name in m for m in measured)
        }  # fmt: skip
        return cls(
            len(runs), kinds[0], dict(Counter(str(judge(run).stability) for run in runs)),
            {name: Figure(float(m.mean()), float(m.std(ddof=1)), units[name])
             for name, m in means.items()},
        )  # fmt: skip

    @property
    def failures(self) -> int:
        """How many runs cannot be used."""
        return sum(n for name, n in self.outcomes.items() if Stability(name).is_failure)

    def save(self, path: Path) -> None:
        """Write the baseline as TOML."""
        plain = {
            "runs": self.runs, "what": dict(self.what), "outcomes": dict(self.outcomes),
            "principles": {
                name: {"mean": _short(f.mean), "spread": _short(f.spread), "unit": f.unit}
                for name, f in sorted(self.principles.items())
            },
        }  # fmt: skip
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, (HEAD + tomli_w.dumps(plain)).encode())

    @classmethod
    def load(cls, path: Path) -> Baseline:
        """Read a baseline.

        Raises:
            BaselineError: where there is none, or the file holds something else.
        """
        try:
            plain = tomllib.loads(path.read_text(encoding="utf-8"))
            figures = {name: Figure(**entry) for name, entry in plain["principles"].items()}
            outcomes = {str(Stability(k)): int(n) for k, n in plain["outcomes"].items()}
            return cls(int(plain["runs"]), plain["what"], outcomes, figures)
        except FileNotFoundError as error:
            raise BaselineError(
                f"there is no baseline {path}; `pytest --mdxai-update` makes it from these runs"
            ) from error
        except (OSError, UnicodeDecodeError, ValueError, KeyError, TypeError) as error:
            raise BaselineError(
                f"{path} is no baseline ({error!r}); delete it, or restore it from version control"
            ) from error


@dataclass(frozen=True, slots=True)
class Change:
    """A principle in newer runs against the baseline.

    limit: above which a monitor warns; NaN if it does not. p: of so large a rise by chance.
    """

    principle: str
    before: Figure
    now: Figure
    limit: float
    p: float
    worse: bool


def changes(now: Baseline, before: Baseline) -> list[Change]:
    """Compare each principle with a limit that both have measured, the most certain rises first.

    What has none, such as `work_slope`, is no deviation from 0: neither of its directions is worse.

    One is worse where its mean has risen beyond chance (Welch's one-sided t test at 0.01, divided
    by the number of principles) and by more than a twentieth of its limit.

    Raises:
        BaselineError: for runs of different kinds.
    """
    if dict(now.what) != dict(before.what):
        raise BaselineError(
            f"the baseline is of other runs: {_difference([before.what, now.what])}; "
            "`pytest --mdxai-update` renews it"
        )
    limits = {t.principle: min(t.warn, t.unstable) for t in THRESHOLDS}
    common = sorted(set(now.principles) & set(before.principles) & set(limits))
    found = [_change(name, before, now, limits[name], SURE / len(common)) for name in common]
    return sorted(found, key=lambda change: (not change.worse, change.p))


def broke_more(now: Baseline, before: Baseline) -> bool:
    """Return whether more runs fail than before, beyond chance (Fisher's exact test at 0.05)."""
    table = [[now.failures, now.runs - now.failures],
             [before.failures, before.runs - before.failures]]  # fmt: skip
    return bool(fisher_exact(table, alternative="greater").pvalue < 0.05)


def _change(name: str, before: Baseline, now: Baseline, limit: float, sure: float) -> Change:
    a, b = before.principles[name], now.principles[name]
    rise = b.mean - a.mean
    # Runs that repeat each other to the bit have no spread, and rounding is no change.
    parts = [max(f.spread, 1e-9 * abs(f.mean)) ** 2 / n
             for f, n in ((a, before.runs), (b, now.runs))]  # fmt: skip
    p = _welch(rise, parts, (before.runs, now.runs))
    return Change(name, a, b, limit, p, bool(p < sure and rise > MATTERS * limit))


def _welch(rise: float, parts: Sequence[float], runs: Sequence[int]) -> float:
    total = sum(parts)
    if not total > 0:
        return 0.0 if rise > 0 else 1.0
    freedom = total**2 / sum(v**2 / (n - 1) for v, n in zip(parts, runs, strict=True))
    return float(student.sf(rise / math.sqrt(total), freedom))


def _means(run: Run) -> dict[str, float]:
    """Return the average over time of each deviation that a run measured."""
    table = run.frames_table([*run.deviations])
    found = {}
    for name in run.deviations:
        values = table[name].to_numpy(zero_copy_only=False).astype(float)
        values = values[np.isfinite(values)]
        if len(values):
            found[name] = values.mean()
    return found


def _what(run: Run) -> dict[str, Any]:
    """Return what runs must share to be compared: not the model, which may be a newer one."""
    settings = run.header.get("context", {}).get("settings", {})
    known = ("temperature", "timestep", "steps", "ensemble", "friction", "interval")
    formula = Atoms(run.header["system"]["numbers"]).get_chemical_formula("hill")
    return {"formula": formula} | {k: settings[k] for k in known if k in settings}


def _difference(kinds: Sequence[Mapping[str, Any]]) -> str:
    names = dict.fromkeys(k for kind in kinds for k in kind)
    texts = []
    for name in names:
        values = list(dict.fromkeys(str(kind.get(name, "not stated")) for kind in kinds))
        if len(values) > 1:
            texts.append(f"{name} {' and '.join(values)}")
    return ", ".join(texts)


def _short(value: float) -> float:
    return float(f"{value:.6g}")

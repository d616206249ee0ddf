"""Draw each principle with the fault that it is for: python -m tests.principle_figures (10 minutes)

Writes a picture for each page of docs/principles into docs/pictures/faults/. A page holds the
principles that docs/principles/README.md says it does.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import matplotlib.pyplot as plt
import numpy as np

import mdxai
from mdxai.monitoring.check import check
from mdxai.principles import EXPLANATION
from mdxai.principles.principle import Deviation
from mdxai.stability.thresholds import THRESHOLDS
from mdxai.stability.verdict import VerdictBuilder
from mdxai.testing import (
    Curl,
    CutoffJump,
    FaultyCalculator,
    HalfPrecision,
    Hole,
    OrderDependence,
    PreferredDirection,
    ScaledForces,
    SlowDecay,
)

from .test_detection import ethanol, learned_verdict
from .test_detection_by_principle import (
    EXPLAINED,
    INTENDED,
    NVE,
    REPLACED,
    RUNS,
    argon,
    aspirin,
    frames_of,
    lennard_jones,
    living,
)

DOCS = Path(__file__).parents[1] / "docs"
SOUND, FAULTY = "#2b6cb0", "#c53030"
Seen = list[tuple[float, dict[str, Deviation]]]  # fs, deviations by principle


@contextmanager
def noted() -> Iterator[Seen]:
    """Yield a list to which the deviations of every frame that is judged are added."""
    seen: Seen = []
    add = VerdictBuilder.add

    def note(self, time, deviations, **more):
        seen.append((time, {name: d for name, d in deviations.items() if d is not None}))
        return add(self, time, deviations, **more)

    with patch.object(VerdictBuilder, "add", note):
        yield seen


def seen_in(run: Callable[[], object]) -> Seen:
    with noted() as seen:
        run()
    return seen


def explained_by(fault: str, model: str, frames) -> Seen:
    """Return what a network with a fault says of the frames of a sound run."""
    calculator = mdxai.load_calculator(model)
    if fault in REPLACED:
        later = REPLACED[fault](calculator)
        return seen_in(lambda: learned_verdict(calculator, frames, later=later))
    return seen_in(lambda: learned_verdict(EXPLAINED[fault](calculator), frames))


def motion() -> dict[str, tuple[Seen, Seen]]:
    """Return the faulty and the sound run of each motion principle."""
    faults = {case: fault for case, fault in INTENDED.items() if fault in RUNS}
    faulty = {fault: seen_in(RUNS[fault]) for fault in sorted(set(faults.values()))}
    same = {"alter": lambda calculator: calculator, "timestep": 1.0, "explain": 20}
    warm = seen_in(lambda: living("schnet-ethanol", steps=3700, **same))
    free = seen_in(lambda: living("schnet-ethanol", steps=1500, **same, **NVE))
    solid = seen_in(lambda: argon(lennard_jones()))

    def sound(fault: str) -> Seen:
        if "by hand" in fault:
            return []  # they begin sound
        return solid if "argon" in fault else free if "NVE" in fault else warm

    return {case: (faulty[fault], sound(fault)) for case, fault in faults.items()}


def explanation() -> dict[str, tuple[Seen, Seen]]:
    """Return what a faulty and a sound network say, for each explanation principle."""
    molecules = {"schnet-ethanol": ethanol(), "painn-ethanol": ethanol()}
    if "MDXAI_DATA" in os.environ:
        molecules["schnet-aspirin"] = aspirin(Path(os.environ["MDXAI_DATA"]))
    frames = {name: frames_of(atoms, name, 1200) for name, atoms in molecules.items()}
    sound = {name: explained_by("sound", name, frames[name]) for name in molecules}
    others = {"decay_form": "painn-ethanol", "decay_tail": "schnet-aspirin"}
    found = {}
    for case, fault in INTENDED.items():
        model = others.get(case, "schnet-ethanol")
        if fault not in RUNS and model in molecules:
            found[case] = explained_by(fault, model, frames[model]), sound[model]
    return found


def pages() -> dict[str, list[str]]:
    """Return the principles of each page, by its name."""
    text = (DOCS / "principles" / "README.md").read_text(encoding="utf-8")
    found: dict[str, list[str]] = defaultdict(list)
    for names, page in re.findall(r"^\| (`[^|]*) \|.*\((?:\.\./)?(\w+)\.md[^)]*\) \|$", text, re.M):
        found[page] += re.findall(r"`(\w+)`", names)
    found["explanation"] = [name for name in INTENDED if name in EXPLANATION]
    return found


def curve(seen: Seen, case: str) -> tuple[np.ndarray, np.ndarray]:
    points = [(time - seen[0][0], given[case].value) for time, given in seen if case in given]
    times, values = np.array(points).T if points else np.empty((2, 0))
    return times, values


def top_of(values: np.ndarray, bounds: list[float]) -> float:
    """Return the end of an axis: not far beyond the thresholds, unless all values are."""
    highest, bound = np.max(values, initial=0.0), max(bounds, default=0.0)
    if bound <= 0 or not len(values) or np.median(values) > 3 * bound:
        return max(highest, bound) or 1.0
    return min(max(highest, bound), 3 * bound)


def draw(ax: plt.Axes, case: str, faulty: Seen, sound: Seen) -> None:
    """Draw one principle: sound and faulty, and its thresholds."""
    (limit,) = (threshold for threshold in THRESHOLDS if threshold.principle == case)
    times, values = curve(faulty, case)
    ax.plot(times, values, color=FAULTY, lw=1, marker="." if len(times) < 40 else "", ms=3)
    beside, still = curve(sound, case)
    within = beside <= (times.max() if len(times) else 0)
    ax.plot(beside[within], still[within], color=SOUND, lw=1)
    bounds = [b for b in (limit.warn, limit.unstable) if np.isfinite(b)]
    for bound in bounds:
        ax.axhline(bound, color="#4a5568", ls="--", lw=0.7)
    ax.set_ylim(0, 1.15 * top_of(values[np.isfinite(values)], bounds))
    ax.set_title(f"{case}\n{INTENDED[case]}", fontsize=8)
    unit = next((given[case].unit for _, given in faulty if case in given), "")
    ax.set_ylabel(unit, fontsize=7)
    ax.tick_params(labelsize=7)
    ax.spines[["top", "right"]].set_visible(False)


def draw_page(name: str, cases: list[str], found: dict[str, tuple[Seen, Seen]]) -> None:
    columns = min(3, len(cases))
    rows = -(-len(cases) // columns)
    size = 3 * columns, 2.1 * rows + 0.3
    figure, axes = plt.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False)
    for ax, case in zip(axes.flat, cases, strict=False):
        draw(ax, case, *found[case])
    for ax in axes.flat[len(cases) :]:
        ax.set_axis_off()
    figure.supxlabel("time / fs", fontsize=8)
    figure.savefig(DOCS / "pictures" / "faults" / f"{name}.png", dpi=100)
    plt.close(figure)


FAULTS = (
    ScaledForces, Curl, PreferredDirection, OrderDependence, HalfPrecision, CutoffJump, SlowDecay,
    Hole,
)  # fmt: skip
PROBED = {
    "sound": lambda calculator: calculator,
    **{
        fault.__name__: lambda calculator, fault=fault: FaultyCalculator(calculator, fault())
        for fault in FAULTS
    },
}
VERDICTS = {"not checked": "#e2e8f0", "pass": "#c6e0c9", "warn": "#f2c078", "fail": "#e07a73"}
VERDICTS["error"] = VERDICTS["fail"]


def draw_probes() -> None:
    """Draw what each probe says of a sound calculator, and of faulty ones."""
    model = mdxai.load_calculator("schnet-ethanol")
    results = {name: check(make(model), ethanol()) for name, make in PROBED.items()}
    names = [result.name for result in results["sound"]]
    figure, ax = plt.subplots(figsize=(9, 0.3 * len(names) + 1.2), layout="constrained")
    for x, column in enumerate(results.values()):
        for result in column:
            if result.name not in names:
                continue
            y = names.index(result.name)
            ax.add_patch(plt.Rectangle((x - 0.5, y - 0.5), 1, 1, color=VERDICTS[result.verdict]))
            text = f"{result.value:.2g}" if np.isfinite(result.value) else "–"
            ax.text(x, y, text, ha="center", va="center", fontsize=7)
    units = {result.name: result.unit for result in results["sound"]}
    labels = [f"{name} / {units[name]}" if units[name] else name for name in names]
    ax.set_yticks(range(len(names)), labels, fontsize=7)
    ax.set_xticks(range(len(results)), results, fontsize=7, rotation=20, ha="right")
    ax.set(xlim=(-0.5, len(results) - 0.5), ylim=(len(names) - 0.5, -0.5))
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    figure.savefig(DOCS / "pictures" / "faults" / "probes.png", dpi=100)


def main() -> None:
    (DOCS / "pictures" / "faults").mkdir(exist_ok=True)
    draw_probes()
    found = motion() | explanation()
    for name, cases in pages().items():
        drawn = [case for case in cases if case in found]
        if drawn:
            draw_page(name, drawn, found)


if __name__ == "__main__":
    main()

"""The figure of a recorded run: deviations over time, relevance against distance."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from ase.data import chemical_symbols

from mdxai.frame import Floats, Ints
from mdxai.record import Run
from mdxai.stability.outcomes import Stability
from mdxai.stability.thresholds import Threshold
from mdxai.stability.verdict import Verdict, judge, recorded_thresholds

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LABELS = {
    "non_finite": "non-finite\nvalues",
    "bond": "bond length\nchange / Å",
    "contact": "contact below\ntraining / Å",
    "temperature": "temperature\nexcess / σ",
    "energy": "energy from\nnowhere / meV per atom",
    "net_force": "net force\n/ eV/Å",
}
ELEMENT_PAIR_COLOURS = (
    "#1b6ca8", "#c8553d", "#3a7d44", "#8e5ea2", "#d4a017", "#4a4e69",
    "#00a6a6", "#b5179e", "#7f5539", "#6c757d",
)  # fmt: skip
INK, ALARM, CAUTION, PHYSICAL = "#222831", "#c1121f", "#e09f3e", "#1b6ca8"
SHOWN = ("bond", "contact", "temperature", "energy")
PANELS = 4
SURE = 5  # pairs in a bin of distances that make its mean worth a line
GAP = 0.15  # Å between bin centres, beyond which the line is interrupted


def run_figure(run: Run, title: str | None = None) -> Figure:
    """Return the figure of one run: deviations over time, and relevance against distance.

    Args:
        run: a finished run.
        title: heading; the calculator and the verdict by default.
    """
    from matplotlib.figure import Figure

    verdict = judge(run)
    shown = most_telling(run, verdict)
    figure = Figure(figsize=(11, 6.2), layout="constrained")
    grid = figure.add_gridspec(len(shown), 2, width_ratios=(1.15, 1))
    axes = [figure.add_subplot(grid[row, 0]) for row in range(len(shown))]
    _plot_deviations(axes, shown, run, verdict)
    _plot_relevance(figure.add_subplot(grid[:, 1]), run)
    figure.suptitle(title or _title(run, verdict), color=INK)
    return figure


def most_telling(run: Run, verdict: Verdict, n: int = PANELS) -> list[str]:
    """Return the n principles to plot: the gravest findings first, then the usual ones."""
    findings = sorted(verdict.findings, key=lambda f: (-f.outcome.rank, f.time_fs))
    wanted = dict.fromkeys([f.principle for f in findings[:n]] + list(SHOWN))
    return [name for name in wanted if name in run.deviations][:n]


def _title(run: Run, verdict: Verdict) -> str:
    heading = f"{run.header['calculator']['name']}: {verdict.stability}"
    cause = verdict.cause
    if cause is None:
        return heading
    when = "" if verdict.onset_fs is None else f" at {verdict.onset_fs / 1000:.2f} ps"
    symbols = [chemical_symbols[z] for z in run.header["system"]["numbers"]]
    return f"{heading}{when}, {cause.principle} {cause.label(symbols)}".rstrip()


def _plot_deviations(axes: list[Axes], names: list[str], run: Run, verdict: Verdict) -> None:
    onset, unavailable = verdict.onset_fs, verdict.unavailable
    table = run.frames_table(["time_fs", *names])
    thresholds = {t.principle: t for t in recorded_thresholds(run)}
    time = table["time_fs"].to_numpy() / 1000
    for ax, name in zip(axes, names, strict=True):
        values = table[name].to_numpy(zero_copy_only=False)
        measured = ~table[name].is_null().to_numpy()
        ax.plot(time[measured], values[measured], color=INK, lw=0.8)
        if name in unavailable:
            ax.text(
                0.01, 0.9, "not measured throughout", transform=ax.transAxes, fontsize=7, va="top"
            )
        if name in thresholds:
            finite = values[np.isfinite(values)]
            mark_thresholds(ax, thresholds[name], float(finite.max(initial=0.0)))
        label = LABELS.get(name, f"{name.replace('_', ' ')}\n/ {run.deviations[name]}")
        ax.set_ylabel(label, fontsize=8, color=INK)
        if onset is not None:
            ax.axvline(onset / 1000, color=ALARM, lw=1.2)
        if ax is not axes[-1]:
            ax.tick_params(labelbottom=False)
        tidy(ax)
        ax.set_xlim(time[0], max(time[-1], time[0] + 1e-3))
    if onset is not None:
        axes[0].annotate(
            "onset ", (onset / 1000, 1), xycoords=("data", "axes fraction"), ha="right", va="top",
            fontsize=8, color=ALARM,
        )  # fmt: skip
    axes[0].set_title("Deviations from physics (0 = obeyed)", fontsize=10, loc="left", color=INK)
    axes[-1].set_xlabel("time / ps", color=INK)


def mark_thresholds(ax: Axes, threshold: Threshold, largest: float) -> None:
    """Shade the ranges beyond the limits, and scale the axis from 0 to the largest value."""
    grave = threshold.unstable if np.isfinite(threshold.unstable) else 1e9  # warns only
    drawn = threshold.warn if grave == 1e9 else grave
    top = max(largest, 1.05 * drawn, 1e-9)
    colour = ALARM if Stability(threshold.outcome).is_failure else PHYSICAL
    ax.axhspan(grave, 1e9, color=colour, alpha=0.10, lw=0)
    ax.axhspan(threshold.warn, grave, color=CAUTION, alpha=0.13, lw=0)
    ax.set_ylim(0, 1.08 * top)
    words = [(threshold.outcome, grave, colour)] if grave < 1e9 else []
    if not words or grave - threshold.warn > 0.1 * top:  # otherwise the words overlap
        words.append(("suspect", threshold.warn, CAUTION))
    for word, limit, ink in words:
        ax.annotate(
            f"{word} above {limit:g}", (0.995, limit), xycoords=("axes fraction", "data"),
            ha="right", va="bottom", fontsize=6.5, color=ink,
        )  # fmt: skip


def _plot_relevance(ax: Axes, run: Run) -> None:
    profile = run.profile_table()
    ax.set_title("What the model's energy comes from", fontsize=10, loc="left", color=INK)
    ax.set_xlabel("distance / Å", color=INK)
    ax.set_ylabel("mean strength of the pair, |two-body relevance| / eV", color=INK)
    tidy(ax)
    if not profile.num_rows:
        ax.set_axis_off()
        why = textwrap.fill(f"Not explained: {why_not_explained(run)}", 50)
        ax.text(0.5, 0.5, why, ha="center", va="center", transform=ax.transAxes, fontsize=9)
        return
    for profile_of, colour in decays(profile):
        _plot_decay(ax, profile_of, colour)
    ax.set_yscale("log")
    ax.legend(frameon=False, fontsize=9, title="element pair")


@dataclass(frozen=True, slots=True)
class DecayOfPair:
    """Mean strength of an element pair against distance. name: "C–H". centre: (n,) Å, ascending.
    mean: (n,) eV. count: (n,).
    """

    name: str
    centre: Floats
    mean: Floats
    count: Ints

    def line(self) -> tuple[Floats, Floats]:
        """Return distances (Å) and strengths (eV) of the well-filled bins, with NaN in gaps."""
        filled = self.count >= SURE
        centre, mean = self.centre[filled], self.mean[filled]
        gaps = np.flatnonzero(np.diff(centre) > GAP) + 1
        return np.insert(centre, gaps, np.nan), np.insert(mean, gaps, np.nan)


def decays(profile: pa.Table, most: int | None = None) -> list[tuple[DecayOfPair, str]]:
    """Return the element pairs of a profile in alphabetical order, each with its colour.

    Args:
        profile: as `Run.profile_table` gives it.
        most: keep this many, those that occurred most often; None keeps all.
    """
    channel = np.array(profile["channel"].to_pylist())
    centre = (profile["bin_left_ang"].to_numpy() + profile["bin_right_ang"].to_numpy()) / 2
    mean, count = profile["mean_eV"].to_numpy(), profile["count"].to_numpy()
    by_count = sorted(set(channel), key=lambda name: -count[channel == name].sum())
    found = []
    for k, name in enumerate(sorted(by_count[:most])):
        here = np.flatnonzero(channel == name)
        here = here[np.argsort(centre[here])]
        one = DecayOfPair(name.replace("-", "–"), centre[here], mean[here], count[here])
        found.append((one, ELEMENT_PAIR_COLOURS[k % len(ELEMENT_PAIR_COLOURS)]))
    return found


def _plot_decay(ax: Axes, one: DecayOfPair, colour: str) -> None:
    """Draw points sized by how often the distance occurred, and a line through filled bins."""
    size = 3 + 22 * np.sqrt(one.count / one.count.max())
    ax.scatter(one.centre, one.mean, s=size, color=colour, alpha=0.35, lw=0)
    ax.plot(*one.line(), color=colour, lw=1.3, label=one.name)


def why_not_explained(run: Run) -> str:
    """Return why no frame of a run was explained."""
    return str(run.header.get("unavailable", {}).get("attribution", "no frame was explained"))


def tidy(ax: Axes) -> None:
    """Remove what a figure does not need."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(colors=INK, labelsize=8)

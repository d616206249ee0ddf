"""Runs that go on as a page that renews itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from mdxai.report.number_text import rounded, time_text
from mdxai.report.page import now_text, templates
from mdxai.report.watched_run import Disk, PrincipleNow, Progress, RunState

WIDTH, HEIGHT = 128, 22  # of a small curve
BYTES = ("B", "kB", "MB", "GB", "TB")


@dataclass(frozen=True, slots=True)
class WatchView:
    """All that the page says. seconds: after which it renews itself. token: that links carry."""

    states: tuple[RunState, ...]
    seconds: float
    token: str
    written_at: str


def watch_page(states: Sequence[RunState], seconds: float, token: str = "") -> str:
    """Return the page of runs, those in trouble first, as HTML."""
    template = templates().get_template("watch.html")
    view = WatchView(tuple(states), seconds, token, now_text())
    return template.render(
        page=view, small_curve=small_curve, progress_text=progress_text, left_text=left_text,
        share_text=share_text, disk_text=disk_text, verdict_text=verdict_text,
    )  # fmt: skip


def small_curve(principle: PrincipleNow) -> Markup:
    """Return a principle's past as a curve without axes; the line is its limit."""
    values = np.array(principle.past)
    known = np.flatnonzero(~np.isnan(values))
    top = max(1.2, float(np.clip(np.nanmax(values, initial=0.0), 0, 4)))
    x = known / max(1, len(values) - 1) * WIDTH
    y = HEIGHT * (1 - np.clip(values[known], 0, top) / top)
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
    limit = HEIGHT * (1 - 1 / top)
    return Markup(
        f'<svg class="small" role="img" aria-label="share of the limit over time" '
        f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}">'
        f'<line x1="0" x2="{WIDTH}" y1="{limit:.1f}" y2="{limit:.1f}" class="limit"/>'
        f'<polyline points="{points}"/></svg>'
    )


def verdict_text(state: RunState) -> str:
    """Return the verdict so far in a few words."""
    if state.verdict is None:
        return "nothing recorded yet" if not state.complaint else ""
    onset = state.verdict.onset_fs
    return str(state.verdict.stability) + ("" if onset is None else f" since {time_text(onset)}")


def progress_text(progress: Progress) -> str:
    """Return how far a run is."""
    if progress.step < 0:
        return ""
    of = "" if progress.steps is None else f" of {progress.steps:,}"
    return f"step {progress.step:,}{of}, {time_text(progress.time)}"


def short_text(state: RunState) -> str:
    """Return whether a run goes on, how far it is, and the time left: "running, 5 %, 3 min"."""
    progress, said = state.progress, [str(state.activity)]
    if progress.step >= 0:
        share = progress.steps and f"{100 * progress.step // progress.steps} %"
        said.append(share or f"step {progress.step:,}")
    if progress.left is not None:
        said.append(f"{seconds_text(progress.left)} left")
    return ", ".join(said)


def left_text(progress: Progress) -> str:
    """Return the time left, or the speed where no end is known; empty where neither is."""
    if not progress.per_second:
        return ""
    speed = f"{rounded(progress.per_second)} steps/s"
    return speed if progress.left is None else f"{seconds_text(progress.left)} left, {speed}"


def seconds_text(seconds: float) -> str:
    """Return a wall time: "12 s", "5 min", "2 h 10 min", "3 d 4 h"."""
    minutes, hours = int(seconds // 60), int(seconds // 3600)
    if minutes < 2:
        return f"{seconds:.0f} s"
    if hours < 2:
        return f"{minutes} min"
    if hours < 48:
        return f"{hours} h {minutes % 60} min"
    return f"{hours // 24} d {hours % 24} h"


def share_text(principle: PrincipleNow) -> str:
    """Return the share of a limit: "43 %"."""
    return f"{100 * principle.share:,.0f} %" if np.isfinite(principle.share) else "not finite"


def disk_text(disk: Disk) -> str:
    """Return what a run takes, what is left, and what it can be resumed from."""
    checkpoint = "no checkpoint" if disk.checkpoint is None else (
        f"checkpoint at step {disk.checkpoint:,}, {seconds_text(disk.checkpoint_age)} ago"
    )  # fmt: skip
    commit = "" if disk.since_commit is None else (
        f"; last written {seconds_text(disk.since_commit)} ago"
    )  # fmt: skip
    return f"{bytes_text(disk.used)}, {bytes_text(disk.free)} free; {checkpoint}{commit}"


def bytes_text(n: float) -> str:
    """Return a number of bytes: "1.2 MB"."""
    unit = 0
    while n >= 1000 and unit < len(BYTES) - 1:
        n, unit = n / 1000, unit + 1
    return f"{n:.3g} {BYTES[unit]}"

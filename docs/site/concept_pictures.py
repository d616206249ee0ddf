"""Write the pictures of docs/concepts.md, from shipped models (a minute)."""

from __future__ import annotations

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
from ase.build import molecule

import mdxai
from mdxai.frame import Frame
from mdxai.monitoring.options import MonitorOptions
from mdxai.monitoring.run import RunSettings, simulate
from mdxai.principles.motion.structure import bonds_of
from mdxai.report import draw_body_orders, draw_decay, draw_molecule
from mdxai.stability.thresholds import THRESHOLDS

PICTURES = Path(__file__).parents[1] / "pictures"
ETHANOL = molecule("CH3CH2OH")


def save(axes: plt.Axes, name: str) -> None:
    axes.figure.tight_layout()
    axes.figure.savefig(PICTURES / f"{name}.png", dpi=110)
    plt.close(axes.figure)


def explanations() -> None:
    """Draw relevance of pairs, and body orders, of ethanol by PaiNN."""
    explain = mdxai.attributor(mdxai.load_calculator("painn-ethanol"), body_order=3)
    found = explain.attribute(ETHANOL)
    i, j = bonds_of(Frame.from_atoms(ETHANOL))
    bonds = list(zip(i.tolist(), j.tolist(), strict=True))
    save(draw_molecule(ETHANOL, found, bonds=bonds), "relevance")
    save(draw_body_orders(found), "body_orders")


def decay() -> None:
    """Draw strength against distance, over frames of a run."""
    with tempfile.TemporaryDirectory() as scratch:
        settings = RunSettings(
            temperature=500, steps=400, monitor=MonitorOptions(attribute_every=20)
        )
        simulate(mdxai.load_calculator("painn-ethanol"), ETHANOL, settings, scratch + "/run")
        run = mdxai.open_run(scratch + "/run")
        save(draw_decay(ETHANOL, (found for _, found in run.attributions())), "decay")


def principle() -> None:
    """Draw one deviation of a sound and a weak model over time, with its thresholds."""
    _, axes = plt.subplots(figsize=(6.4, 3.6))
    with tempfile.TemporaryDirectory() as scratch:
        for name, colour in (("schnet-ethanol", "#2b6cb0"), ("schnet-ethanol-weak", "#c53030")):
            settings = RunSettings(
                temperature=1000, steps=1200, seed=7, monitor=MonitorOptions(attribute_every=0)
            )
            simulate(mdxai.load_calculator(name), ETHANOL, settings, Path(scratch) / name)
            table = mdxai.open_run(Path(scratch) / name).to_dataframe()
            axes.plot(table["time_fs"], table["bond"], color=colour, lw=1, label=name)
    (limit,) = (t for t in THRESHOLDS if t.principle == "bond")
    for value, word in ((limit.warn, "warning"), (limit.unstable, "unstable")):
        axes.axhline(value, color="#4a5568", ls="--", lw=0.8)
        axes.annotate(word, (0, value), (2, 2), textcoords="offset points", fontsize=8)
    axes.set(xlabel="time / fs", ylabel="bond / Å", ylim=(0, 1.5))
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    save(axes, "principle")


if __name__ == "__main__":
    explanations()
    decay()
    principle()

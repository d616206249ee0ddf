"""Shipped and published models of rMD17, over frames that none of them was trained on.

Writes the frames, analyses the models page by page, and prints what runs/rmd17/ANALYSIS.md asks
for. An analysis that was stopped goes on.
"""

from __future__ import annotations

import argparse
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from mdxai.analysis import Analysis, AnalysisOptions, analyse
from mdxai.analysis.analysis_files import write_tables
from mdxai.report import write_analysis_page

FRAMES, OFTEN = 1000, 500
SPLITS = tuple(f"train_{k:02d}" for k in range(1, 6))
PAGES = {
    "ethanol-shipped": ("ethanol", ("schnet-ethanol", "schnet-ethanol-weak", "painn-ethanol",
                                    "painn-ethanol-weak", "so3net-ethanol")),
    "ethanol-published": ("ethanol", (*(f"painn_rmd17_ethanol_{k}.pt" for k in range(1, 6)),
                                      "painn_md17_ethanol.pt")),
    "aspirin": ("aspirin", ("schnet-aspirin", "schnet-aspirin-weak", "painn-aspirin",
                            "painn-aspirin-weak", "painn_md17_aspirin.pt")),
}  # fmt: skip


def write_frames(data: Path, molecule: str, file: Path) -> None:
    """Write frames of no training split, evenly spread in time."""
    with np.load(data / "rmd17" / f"rmd17_{molecule}.npz") as held:
        seen = np.unique(np.concatenate([held[name] for name in SPLITS]))
        order, positions, numbers = held["old_index"], held["R"], held["z"]
    unseen = np.setdiff1d(np.arange(len(order)), seen)
    unseen = unseen[np.argsort(order[unseen])]
    rows = unseen[np.linspace(0, len(unseen) - 1, FRAMES).round().astype(int)]
    file.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(file, z=numbers, R=positions[rows], row=rows, old_index=order[rows])


def analyse_page(name: str, data: Path, out: Path) -> Analysis:
    """Analyse the models of one page over the frames of their molecule."""
    molecule, models = PAGES[name]
    frames = out / f"{molecule}.npz"
    if not frames.is_file():
        write_frames(data, molecule, frames)
    given = [str(data / "models" / m) if m.endswith(".pt") else m for m in models]
    found = analyse(given, frames, path=out / name, options=AnalysisOptions())
    write_tables(found, out / name)
    write_analysis_page(found, out / name)
    return found


def agreement(found: Analysis) -> pd.DataFrame:
    """Return Spearman's ρ between the mean strengths of kinds of pairs, for all pairs of models."""
    bonds = found.tables()["bonds"]
    bonds = bonds[(bonds["molecules"] >= OFTEN) & ~bonds["name"].str.endswith("self")]
    means = bonds.pivot_table(index="name", columns="model", values="mean").dropna()
    return pd.DataFrame(
        {"a": a, "b": b, "rho": spearmanr(means[a], means[b]).statistic, "kinds": len(means)}
        for a, b in combinations([model.name for model in found.models], 2)
    )


def main() -> None:
    """Analyse every page, or one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder that holds rmd17/ and models/")
    parser.add_argument("--out", type=Path, default=Path("runs/rmd17"))
    parser.add_argument("--only", choices=PAGES)
    given = parser.parse_args()
    for name in PAGES if given.only is None else [given.only]:
        found = analyse_page(name, given.data, given.out)
        print(name)
        print(agreement(found).to_string(index=False))


if __name__ == "__main__":
    main()

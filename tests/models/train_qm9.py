"""Train the small property networks of this folder on QM9: `python -m tests.models.train_qm9`.

They are here so that outputs other than the energy are tested on trained networks: the HOMO–LUMO
gap as a mean over atoms, the dipole magnitude, and the energy U0 as a sum. 32 features, minutes.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import numpy as np
import torch
from schnetpack import properties

from mdxai.calculators.network import all_pairs, build_network

DATA = Path(os.environ.get("MDXAI_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
HERE = Path(__file__).parent
N_TRAIN, N_TEST, BATCH, EPOCHS = 4000, 500, 50, 20

MODELS = {
    "schnet-gap": ("SchNet", "gap_eV", "mean", "eV"),
    "painn-dipole": ("PaiNN", "mu_D", "dipole", "D"),
    "painn-u0": ("PaiNN", "U0_eV", "sum", "eV"),
}


def molecules(column: str) -> list[dict[str, np.ndarray]]:
    data = np.load(DATA / "qm9" / "qm9_sub20k.npz", allow_pickle=False)
    splits = np.cumsum(data["n_atoms"])[:-1]
    numbers, positions = np.split(data["Z"], splits), np.split(data["R"], splits)
    chosen = np.random.default_rng(0).permutation(len(numbers))[: N_TRAIN + N_TEST]
    return [{"Z": numbers[k], "R": positions[k], "y": data[column][k]} for k in chosen]


def as_batch(parts: list[dict[str, np.ndarray]]) -> dict[str, torch.Tensor]:
    counts = torch.tensor([len(part["Z"]) for part in parts])
    starts = torch.cumsum(counts, 0) - counts
    pairs = [all_pairs(int(n)) for n in counts]
    i = torch.cat([p[0] + s for p, s in zip(pairs, starts, strict=True)])
    j = torch.cat([p[1] + s for p, s in zip(pairs, starts, strict=True)])
    positions = torch.cat([torch.tensor(part["R"], dtype=torch.float32) for part in parts])
    return {
        properties.Z: torch.cat([torch.tensor(part["Z"], dtype=torch.int64) for part in parts]),
        properties.R: positions,
        properties.idx_i: i,
        properties.idx_j: j,
        properties.offsets: torch.zeros(len(i), 3),
        properties.idx_m: torch.repeat_interleave(torch.arange(len(parts)), counts),
        properties.n_atoms: counts,
    }


def constants(column: str, train: list[dict[str, np.ndarray]]) -> tuple[dict[int, float], float]:
    """Return single-atom references by least squares (U0) and an intensive offset (gap)."""
    target = np.array([part["y"] for part in train])
    if column == "U0_eV":
        elements = [1, 6, 7, 8, 9]
        counts = np.array([[(part["Z"] == z).sum() for z in elements] for part in train])
        fitted = np.linalg.lstsq(counts.astype(float), target, rcond=None)[0]
        return dict(zip(elements, fitted.tolist(), strict=True)), 0.0
    return {}, float(target.mean()) if column == "gap_eV" else 0.0


def train(name: str) -> None:
    kind, column, pooling, unit = MODELS[name]
    data = molecules(column)
    references, offset = constants(column, data[:N_TRAIN])
    for part in data:
        atoms = sum(references.get(int(z), 0.0) for z in part["Z"])
        part["y"] = np.float32(part["y"] - atoms - offset)
    torch.manual_seed(0)
    description = {
        "type": kind, "n_atom_basis": 32, "n_interactions": 3, "n_rbf": 20, "cutoff": 5.0,
        "output": {"property": column.split("_")[0], "pooling": pooling},
    }  # fmt: skip
    network = build_network(description)
    optimiser = torch.optim.AdamW(network.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, 4e-3, total_steps=EPOCHS * (N_TRAIN // BATCH)
    )
    key, started = description["output"]["property"], time.time()
    rng = np.random.default_rng(1)
    for epoch in range(EPOCHS):
        total = 0.0
        for rows in np.split(rng.permutation(N_TRAIN), N_TRAIN // BATCH):
            parts = [data[k] for k in rows]
            target = torch.tensor([float(part["y"]) for part in parts])
            loss = torch.nn.functional.smooth_l1_loss(network(as_batch(parts))[key], target)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            total += loss.item()
        print(
            name, epoch, round(total * BATCH / N_TRAIN, 4), int(time.time() - started), flush=True
        )
    tested = data[N_TRAIN:]
    with torch.no_grad():
        found = network.eval()(as_batch(tested))[key].numpy()
    mae = float(np.abs(found - [part["y"] for part in tested]).mean())
    spread = float(np.std([part["y"] for part in tested]))
    print(name, "test MAE", mae, unit, "spread", spread, flush=True)
    config = description | {
        "units": f"{unit}, Ang",
        "atomrefs": {str(z): value for z, value in references.items()},
        "offset": offset,
        "test_mae": mae,
        "data": f"QM9 {column}, {N_TRAIN} molecules, {EPOCHS} epochs",
    }
    torch.save({"config": config, "state_dict": network.state_dict()}, HERE / f"{name}.pt")


if __name__ == "__main__":
    torch.set_num_threads(1)
    for chosen in sys.argv[1:] or MODELS:
        train(chosen)

"""Train a network of another property than the energy and forces, from molecules of all sizes.

The data are an npz of molecules one after the other, as QM9: `n_atoms` (n,), `Z` and `R` (Å) of all
atoms, and a target (n,). The result is a folder with `NAME.pt`, which `load_property` and `mdxai
analyse` take, `recipe.toml` and `errors.toml`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as lightning
import tomli_w
import torch
from numpy.typing import NDArray
from schnetpack import properties
from schnetpack.data import AtomsLoader

from mdxai.calculators.card import CalculatorError, sha256
from mdxai.calculators.network import build_network
from mdxai.calculators.training import Batch, recipe_from, run_training, versions_used, write_recipe
from mdxai.frame import find_pairs

ARRAYS = ("n_atoms", "Z", "R")
SPLIT_SEED = 1  # so that models of all seeds are tested on the same molecules


@dataclass(frozen=True, slots=True)
class PropertyRecipe:
    """How one property is trained. `network` is what `build_network` takes, with its `output`.

    target: array of the data file. unit: of it. The molecules are shuffled the same way for every
    seed: the first `n_train` train, the next `n_validation` choose the best epoch, the next
    `n_test` are tested. batch_size: molecules.
    """

    name: str
    summary: str
    data_file: str
    level_of_theory: str
    source: str
    data_licence: str
    network: Mapping[str, Any]
    target: str
    unit: str
    n_train: int
    n_validation: int
    n_test: int
    seed: int = 1
    batch_size: int = 32
    max_epochs: int = 100
    patience: int = 30
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    ema_decay: float = 0.99

    @classmethod
    def load(cls, path: Path) -> PropertyRecipe:
        """Read a recipe from TOML.

        Raises:
            CalculatorError: when the file is missing or its entries are not those of a recipe.
        """
        counts = ("n_train", "n_validation", "n_test", "batch_size", "max_epochs", "patience")
        recipe = recipe_from(cls, path, counts, "is no recipe of a property")
        if not isinstance(recipe.network.get("output"), Mapping):
            raise CalculatorError(f"{path}: network.output must name a property and a pooling")
        return recipe

    @property
    def output(self) -> str:
        """Name of the property in the network."""
        return str(self.network["output"]["property"])

    @property
    def pooling(self) -> str:
        """How the atoms' outputs combine: "sum", "mean" or "dipole"."""
        return str(self.network["output"]["pooling"])


@dataclass(frozen=True, slots=True)
class Molecules:
    """Molecules with a target: numbers (n_atoms,) and positions (n_atoms, 3), Å, of each, and
    targets (n,).
    """

    numbers: list[NDArray[np.int64]]
    positions: list[NDArray[np.float64]]
    targets: NDArray[np.float64]

    def take(self, rows: NDArray[np.int64]) -> Molecules:
        """Return some of them."""
        return Molecules(
            [self.numbers[k] for k in rows], [self.positions[k] for k in rows], self.targets[rows]
        )


def load_molecules(path: Path, target: str) -> Molecules:
    """Read molecules of different sizes from an npz.

    Raises:
        CalculatorError: when the file is missing or lacks an array.
    """
    if not path.is_file():
        raise CalculatorError(f"there is no data file at {path}; pass --data FILE or its folder")
    with np.load(path, allow_pickle=False) as file:
        missing = [key for key in (*ARRAYS, target) if key not in file]
        if missing:
            raise CalculatorError(f"{path} lacks the arrays {', '.join(missing)}")
        ends = np.cumsum(file["n_atoms"].astype(np.int64))[:-1]
        return Molecules(
            np.split(file["Z"].astype(np.int64), ends),
            np.split(file["R"].astype(np.float64), ends),
            file[target].astype(np.float64),
        )


def train_property(
    recipe: PropertyRecipe, data: Path, out: Path, *, progress: bool = True
) -> dict[str, Any]:
    """Train the recipe's network on `data` (a file, or the folder that holds it), write `out` and
    return the errors on the test molecules.

    A sum is trained on what single atoms, fitted by least squares to the training molecules, leave;
    a mean on the difference from the mean of these; a dipole as it is.

    Raises:
        CalculatorError: for unusable data, or an output folder that already holds a network.
    """
    file = out / f"{recipe.name}.pt"
    if file.exists():
        raise CalculatorError(f"{file} exists already; choose another folder")
    place = data / recipe.data_file if data.is_dir() else data
    parts = _split(load_molecules(place, recipe.target), recipe)
    lightning.seed_everything(recipe.seed, verbose=False)
    network = build_network(recipe.network)
    write_recipe(recipe, out)
    references, offset = _offsets(parts[0], recipe.pooling)
    sets = [_PropertyDataset(part, recipe, references, offset) for part in parts]
    start = time.perf_counter()
    loaders = (
        AtomsLoader(sets[0], batch_size=recipe.batch_size, shuffle=True),
        AtomsLoader(sets[1], batch_size=100),
    )
    epochs = run_training(
        network, recipe, [(recipe.output, 1.0)], loaders, torch.nn.MSELoss(), progress
    )
    minutes = (time.perf_counter() - start) / 60
    config = dict(recipe.network) | {
        "units": f"{recipe.unit}, Ang", "offset": offset,
        "atomrefs": {str(z): value for z, value in references.items()},
    }  # fmt: skip
    torch.save({"config": config, "state_dict": network.state_dict()}, file)
    errors = _errors(network, sets[2], recipe)
    content = {
        "name": recipe.name, "unit": recipe.unit, "errors": errors, "epochs": epochs,
        "training_minutes": round(minutes, 1), "weights_sha256": sha256(file),
        "versions": versions_used(),
    }  # fmt: skip
    (out / "errors.toml").write_text(tomli_w.dumps(content), encoding="utf-8")
    return errors


def _split(molecules: Molecules, recipe: PropertyRecipe) -> list[Molecules]:
    counts = (recipe.n_train, recipe.n_validation, recipe.n_test)
    n = len(molecules.targets)
    if sum(counts) > n:
        raise CalculatorError(f"the recipe needs {sum(counts)} molecules, but the data have {n}")
    rows = np.random.default_rng(SPLIT_SEED).permutation(n)
    ends = np.cumsum(counts)
    return [
        molecules.take(rows[end - count : end]) for end, count in zip(ends, counts, strict=True)
    ]


def _offsets(training: Molecules, pooling: str) -> tuple[dict[int, float], float]:
    """Return single-atom references and a constant; either is empty or 0."""
    if pooling == "dipole":
        return {}, 0.0
    if pooling == "mean":
        return {}, float(training.targets.mean())
    elements = np.unique(np.concatenate(training.numbers))
    counts = np.array([[(numbers == z).sum() for z in elements] for numbers in training.numbers])
    values = np.linalg.lstsq(counts.astype(np.float64), training.targets, rcond=None)[0]
    return {int(z): float(value) for z, value in zip(elements, values, strict=True)}, 0.0


class _PropertyDataset(torch.utils.data.Dataset[Batch]):
    """Molecules as schnetpack batches of one, with neighbour lists computed once."""

    def __init__(
        self,
        molecules: Molecules,
        recipe: PropertyRecipe,
        references: Mapping[int, float],
        offset: float,
    ) -> None:
        cutoff = float(recipe.network["cutoff"])
        rest = [
            target - offset - sum(references.get(int(z), 0.0) for z in numbers)
            for numbers, target in zip(molecules.numbers, molecules.targets, strict=True)
        ]
        self._examples = [
            _example(k, numbers, positions, cutoff) | {recipe.output: torch.tensor([value]).float()}
            for k, (numbers, positions, value) in enumerate(
                zip(molecules.numbers, molecules.positions, rest, strict=True)
            )
        ]

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, index: int) -> Batch:
        return self._examples[index]


def _example(
    index: int, numbers: NDArray[np.int64], positions: NDArray[np.float64], cutoff: float
) -> Batch:
    pairs = find_pairs(positions, np.zeros((3, 3)), np.zeros(3, dtype=bool), cutoff)
    ends = np.concatenate([pairs.i, pairs.j]), np.concatenate([pairs.j, pairs.i])
    order = np.argsort(ends[0], kind="stable")
    i, j = (torch.from_numpy(end[order]) for end in ends)
    return {
        properties.idx: torch.tensor([index]),
        properties.n_atoms: torch.tensor([len(numbers)]),
        properties.Z: torch.from_numpy(numbers),
        properties.R: torch.from_numpy(positions).float(),
        properties.cell: torch.zeros(1, 3, 3),
        properties.pbc: torch.zeros(1, 3, dtype=torch.bool),
        properties.idx_i: i,
        properties.idx_j: j,
        properties.offsets: torch.zeros(len(i), 3),
    }


def _errors(
    network: torch.nn.Module, molecules: _PropertyDataset, recipe: PropertyRecipe
) -> dict[str, float]:
    """Return mean absolute and root mean squared error, and the mean absolute deviation of what
    was trained on, the target less single atoms or mean; in the unit of the target.
    """
    found, known = [], []
    with torch.no_grad():
        for batch in AtomsLoader(molecules, batch_size=100):
            wanted = batch[recipe.output].clone()  # the network writes under the same name
            found.append(network(batch)[recipe.output] - wanted)
            known.append(wanted)
    off, rest = torch.cat(found).double(), torch.cat(known).double()
    deviation = float((rest - rest.mean()).abs().mean())
    return {"mae": float(off.abs().mean()), "rmse": float((off**2).mean().sqrt()),
            "target_mad": deviation}  # fmt: skip

"""Train a calculator from a recipe, with schnetpack's own training code.

A recipe names a network, the rows of a data file and the settings of the optimiser; the result is a
folder `card.toml`, `weights.pt`, `recipe.toml` that `load_calculator` takes.
"""

from __future__ import annotations

import platform
import tempfile
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pytorch_lightning as lightning
import schnetpack
import tomli_w
import torch
import torchmetrics
from ase.data import chemical_symbols
from numpy.typing import NDArray
from schnetpack import properties
from schnetpack.data import AtomsLoader

from mdxai.calculators.bond_gaps import BondGaps
from mdxai.calculators.card import CalculatorError, Card, pair_key, sha256
from mdxai.calculators.library import refuse_other_calculator
from mdxai.calculators.network import all_pairs, build_network

Batch = dict[str, torch.Tensor]


def recipe_from[Kind](kind: type[Kind], path: Path, counts: Sequence[str], complaint: str) -> Kind:
    """Read a recipe of a kind from TOML; `counts` name its entries that are positive numbers.

    Raises:
        CalculatorError: when the file is missing or its entries are not those of a recipe.
    """
    try:
        recipe = kind(**tomllib.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise CalculatorError(f"there is no recipe at {path}") from error
    except (tomllib.TOMLDecodeError, TypeError) as error:
        raise CalculatorError(f"{path} {complaint}: {error}") from error
    for name in counts:
        value = getattr(recipe, name)
        if not (isinstance(value, int) and value > 0):
            raise CalculatorError(f"{path}: {name} must be a positive number, got {value!r}")
    return recipe


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one calculator is trained. `network` is what `build_network` takes.

    Rows come from the split `split` of the data file: the first `n_train` for training, the next
    `n_validation` for choosing the best epoch. Errors are measured on all rows of `test_split`.
    """

    name: str
    summary: str
    data_file: str
    level_of_theory: str
    source: str
    data_licence: str
    network: Mapping[str, Any]
    split: str = "train_01"
    n_train: int = 950
    n_validation: int = 50
    test_split: str = "test_01"
    seed: int = 1
    batch_size: int = 10
    max_epochs: int = 300
    patience: int = 100
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    energy_weight: float = 0.01
    force_weight: float = 0.99
    ema_decay: float = 0.99

    @classmethod
    def load(cls, path: Path) -> Recipe:
        """Read a recipe from TOML.

        Raises:
            CalculatorError: when the file is missing or its entries are not those of a recipe.
        """
        counts = ("n_train", "n_validation", "batch_size", "max_epochs", "patience")
        return recipe_from(cls, path, counts, "is not a training recipe")


@dataclass(frozen=True, slots=True)
class Labelled:
    """Frames of one molecule with labels: numbers (n_atoms,), positions (n, n_atoms, 3) in Å,
    energies (n,) in eV, forces (n, n_atoms, 3) in eV/Å.
    """

    numbers: NDArray[np.int64]
    positions: NDArray[np.float64]
    energies: NDArray[np.float64]
    forces: NDArray[np.float64]

    def take(self, rows: NDArray[np.int64]) -> Labelled:
        return Labelled(self.numbers, self.positions[rows], self.energies[rows], self.forces[rows])


class FrameDataset(torch.utils.data.Dataset[Batch]):
    """Frames as schnetpack batches of one, with neighbour lists computed once."""

    def __init__(self, frames: Labelled, cutoff: float, offset: float) -> None:
        self._examples = list(_examples(frames, cutoff, offset))

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, index: int) -> Batch:
        return self._examples[index]


def _examples(frames: Labelled, cutoff: float, offset: float) -> Iterator[Batch]:
    n_atoms = len(frames.numbers)
    numbers = torch.tensor(frames.numbers, dtype=torch.int64)
    i, j = all_pairs(n_atoms)
    for index in range(len(frames.energies)):
        positions = torch.tensor(frames.positions[index], dtype=torch.float64)
        near = (positions[j] - positions[i]).norm(dim=1) < cutoff
        # In float64, because the offset is thousands of eV.
        energy = frames.energies[index] - n_atoms * offset
        yield {
            properties.idx: torch.tensor([index]),
            properties.n_atoms: torch.tensor([n_atoms]),
            properties.Z: numbers,
            properties.R: positions.float(),
            properties.cell: torch.zeros(1, 3, 3),
            properties.pbc: torch.zeros(1, 3, dtype=torch.bool),
            properties.idx_i: i[near],
            properties.idx_j: j[near],
            properties.offsets: torch.zeros(int(near.sum()), 3),
            properties.energy: torch.tensor([energy], dtype=torch.float32),
            properties.forces: torch.tensor(frames.forces[index], dtype=torch.float32),
        }


def load_labelled(path: Path) -> tuple[Labelled, dict[str, NDArray[np.int64]]]:
    """Read an rMD17-style npz (`z`, `R`, `E`, `F` in Å and eV) and its splits by name.

    Raises:
        CalculatorError: when the file is missing or lacks an array.
    """
    if not path.is_file():
        raise CalculatorError(f"there is no data file at {path}; pass --data FILE or its folder")
    with np.load(path, allow_pickle=False) as file:
        missing = [key for key in ("z", "R", "E", "F") if key not in file]
        if missing:
            raise CalculatorError(f"{path} lacks the arrays {', '.join(missing)}")
        frames = Labelled(
            file["z"].astype(np.int64),
            file["R"].astype(np.float64),
            file["E"].astype(np.float64),
            file["F"].astype(np.float64),
        )
        splits = {
            key: file[key].astype(np.int64) for key in file if key.startswith(("train_", "test_"))
        }
    return frames, splits


def train(recipe: Recipe, data: Path, out: Path, *, progress: bool = True) -> Card:
    """Train the recipe's network on `data` (a file, or the folder that holds it) and write `out`.

    Deterministic on one machine with one number of threads; between machines errors agree within
    the spread over seeds. Uses a GPU if torch finds one.

    Raises:
        CalculatorError: for unusable data, or an output folder that already holds a calculator.
    """
    refuse_other_calculator(out)
    frames, splits = load_labelled(data / recipe.data_file if data.is_dir() else data)
    train_frames, validation, test = select_frames(frames, splits, recipe)
    network = _start(recipe, out)
    offset = float(np.mean(train_frames.energies) / len(frames.numbers))
    start = time.perf_counter()
    epochs = fit(network, recipe, ([train_frames], [validation]), offset, progress)
    seconds = time.perf_counter() - start
    errors = {
        "split": recipe.test_split,
        **measure_errors(network, test, float(recipe.network["cutoff"]), offset),
    }
    torch.save(network.state_dict(), out / "weights.pt")
    card = Card(
        name=recipe.name,
        network=dict(recipe.network),
        elements=tuple(sorted({chemical_symbols[z] for z in frames.numbers})),
        offset_per_atom=offset,
        distances=distance_ranges(train_frames),
        gaps=bond_gaps(train_frames),
        forces_max=largest_force(train_frames),
        errors=errors,
        provenance=_provenance(recipe, epochs, seconds),
        weights_sha256=sha256(out / "weights.pt"),
    )
    card.dump(out / "card.toml")  # last: without a card the folder is not a calculator
    return card


def _start(recipe: Recipe, out: Path) -> torch.nn.Module:
    """Return the untrained network and write the recipe."""
    lightning.seed_everything(recipe.seed, verbose=False)
    network: torch.nn.Module = build_network(recipe.network)
    write_recipe(recipe, out)
    return network


def write_recipe(recipe: Any, out: Path) -> None:
    """Write recipe.toml, so that a folder that cannot be written fails before any training.

    Raises:
        CalculatorError: for such a folder.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "recipe.toml").write_text(tomli_w.dumps(asdict(recipe)), encoding="utf-8")
    except OSError as error:
        raise CalculatorError(f"cannot write to {out}: {error}") from error


def select_frames(
    frames: Labelled, splits: Mapping[str, NDArray[np.int64]], recipe: Recipe
) -> tuple[Labelled, Labelled, Labelled]:
    """Return the frames that a recipe trains on, chooses the best epoch by, and is tested on.

    Raises:
        CalculatorError: for a split that is not there or too small.
    """
    for name in (recipe.split, recipe.test_split):
        if name not in splits:
            raise CalculatorError(f"the data has no split {name!r}; it has {sorted(splits)}")
    rows = splits[recipe.split]
    wanted = recipe.n_train + recipe.n_validation
    if wanted > len(rows):
        raise CalculatorError(
            f"the recipe needs {wanted} frames, but {recipe.split} has {len(rows)}"
        )
    return (
        frames.take(rows[: recipe.n_train]),
        frames.take(rows[recipe.n_train : wanted]),
        frames.take(splits[recipe.test_split]),
    )


def _output(name: str, weight: float, loss: torch.nn.Module) -> schnetpack.task.ModelOutput:
    return schnetpack.task.ModelOutput(
        name=name,
        loss_fn=loss,
        loss_weight=weight,
        metrics={"MAE": torchmetrics.MeanAbsoluteError()},
    )


class TrainingSettings(Protocol):
    """What `run_training` reads of a recipe."""

    @property
    def max_epochs(self) -> int: ...
    @property
    def patience(self) -> int: ...
    @property
    def learning_rate(self) -> float: ...
    @property
    def weight_decay(self) -> float: ...
    @property
    def ema_decay(self) -> float: ...


def _task(
    network: torch.nn.Module,
    settings: TrainingSettings,
    outputs: Sequence[tuple[str, float]],
    loss: torch.nn.Module,
) -> schnetpack.task.AtomisticTask:
    return schnetpack.task.AtomisticTask(
        model=network,
        outputs=[_output(name, weight, loss) for name, weight in outputs],
        optimizer_cls=torch.optim.AdamW,
        optimizer_args={"lr": settings.learning_rate, "weight_decay": settings.weight_decay},
        scheduler_cls=torch.optim.lr_scheduler.CosineAnnealingLR,
        scheduler_args={"T_max": settings.max_epochs},
    )


def fit(
    network: torch.nn.Module,
    recipe: Recipe,
    frames: tuple[Sequence[Labelled], Sequence[Labelled]],
    offset: float,
    progress: bool,
    loss: torch.nn.Module | None = None,
) -> int:
    """Train in place, load the averaged weights of the best epoch and return the epochs run.

    frames: to train on, and to choose the best epoch by; each part is of one molecule.
    loss: of errors in eV and eV/Å; None for their squares.
    """
    cutoff = float(recipe.network["cutoff"])
    training, validation = (_together(parts, cutoff, offset) for parts in frames)
    loaders = (
        AtomsLoader(training, batch_size=recipe.batch_size, shuffle=True),
        AtomsLoader(validation, batch_size=50),
    )
    outputs = [
        (properties.energy, recipe.energy_weight), (properties.forces, recipe.force_weight)
    ]  # fmt: skip
    return run_training(network, recipe, outputs, loaders, loss or torch.nn.MSELoss(), progress)


def run_training(
    network: torch.nn.Module,
    settings: TrainingSettings,
    outputs: Sequence[tuple[str, float]],
    loaders: tuple[Any, Any],
    loss: torch.nn.Module,
    progress: bool,
) -> int:
    """Train in place, load the averaged weights of the best epoch and return the epochs run.

    Args:
        network: to train.
        settings: epochs, optimiser, averaging.
        outputs: names and weights of the loss's parts.
        loaders: of what is trained on, and of what the best epoch is chosen by.
        loss: of each output.
        progress: show a bar.
    """
    with tempfile.TemporaryDirectory() as scratch:
        best = lightning.callbacks.ModelCheckpoint(
            dirpath=scratch, monitor="val_loss", save_weights_only=True
        )
        callbacks: list[lightning.Callback] = [
            schnetpack.train.ExponentialMovingAverage(decay=settings.ema_decay),
            best,
            lightning.callbacks.EarlyStopping("val_loss", patience=settings.patience),
        ]
        trainer = lightning.Trainer(
            max_epochs=settings.max_epochs,
            callbacks=callbacks,
            accelerator="auto",
            devices=1,
            logger=False,
            enable_progress_bar=progress,
            enable_model_summary=False,
            inference_mode=False,
            log_every_n_steps=1,
        )
        trainer.fit(_task(network, settings, outputs, loss), *loaders)
        # weights_only=False: lightning wrote this file itself a moment ago.
        state = torch.load(best.best_model_path, map_location="cpu", weights_only=False)
    network.load_state_dict(
        {
            k.removeprefix("model."): v
            for k, v in state["state_dict"].items()
            if k.startswith("model.")
        }
    )
    network.cpu().eval()
    return int(trainer.current_epoch)


def _together(parts: Sequence[Labelled], cutoff: float, offset: float) -> Any:
    return torch.utils.data.ConcatDataset([FrameDataset(part, cutoff, offset) for part in parts])


def measure_errors(
    network: torch.nn.Module, frames: Labelled, cutoff: float, offset: float
) -> dict[str, float]:
    """Return mean absolute errors: energy in meV per molecule, forces in meV/Å per component."""
    energy_errors, force_errors = [], []
    for batch in AtomsLoader(FrameDataset(frames, cutoff, offset), batch_size=50):
        energy, forces = batch[properties.energy], batch[properties.forces]
        results = network(batch)
        energy_errors.append((results[properties.energy] - energy).abs().detach())
        force_errors.append((results[properties.forces] - forces).abs().detach().flatten())
    return {
        "energy_mae_mev": 1e3 * float(torch.cat(energy_errors).mean()),
        "force_mae_mev_per_ang": 1e3 * float(torch.cat(force_errors).mean()),
    }


def distance_ranges(frames: Labelled) -> dict[str, tuple[float, float]]:
    """Return the shortest and the longest distance (Å) per element pair over all frames."""
    i, j = np.triu_indices(len(frames.numbers), k=1)
    distances = np.linalg.norm(frames.positions[:, j] - frames.positions[:, i], axis=-1)
    symbols = [chemical_symbols[z] for z in frames.numbers]
    keys = np.array([pair_key(symbols[a], symbols[b]) for a, b in zip(i, j, strict=True)])
    return {
        str(key): (
            round(float(distances[:, keys == key].min()), 4),
            round(float(distances[:, keys == key].max()), 4),
        )
        for key in np.unique(keys)
    }


def bond_gaps(frames: Labelled) -> dict[str, tuple[float, float]]:
    """Return the longest bond and the closest contact (Å) per element pair that has a gap between
    the two in all frames.
    """
    i, j = np.triu_indices(len(frames.numbers), k=1)
    gaps = BondGaps()
    for positions in frames.positions:
        distances = np.linalg.norm(positions[j] - positions[i], axis=1)
        gaps.add(frames.numbers[i], frames.numbers[j], distances)
    return {pair: (round(a, 4), round(b, 4)) for pair, (a, b) in gaps.found.items()}


def largest_force(frames: Labelled) -> float:
    """Return the largest norm of a force on an atom over all frames, eV/Å."""
    return round(float(np.linalg.norm(frames.forces, axis=-1).max()), 4)


def _provenance(recipe: Recipe, epochs: int, seconds: float) -> dict[str, Any]:
    return {
        "summary": recipe.summary,
        "level_of_theory": recipe.level_of_theory,
        "data": f"{recipe.source}: {recipe.data_file}",
        "data_licence": recipe.data_licence,
        "rows": f"{recipe.split}: {recipe.n_train} to train on, {recipe.n_validation} to validate",
        "seed": recipe.seed,
        "epochs": epochs,
        "training_minutes": round(seconds / 60, 1),
        "licence": "MIT",
        "versions": versions_used(),
    }


def versions_used() -> dict[str, str]:
    """Return the versions that a training depends on."""
    names = ("mdxai", "schnetpack", "torch", "numpy")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}

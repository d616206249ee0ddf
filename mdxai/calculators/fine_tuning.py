"""Train a calculator further, on the frames of its recipe and on new ones."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as lightning
import torch

from mdxai.calculators.card import CalculatorError, Card, sha256
from mdxai.calculators.network import build_network
from mdxai.calculators.training import (
    Labelled,
    Recipe,
    distance_ranges,
    fit,
    load_labelled,
    measure_errors,
    select_frames,
    write_recipe,
)

REACHED = 1.5  # eV above the data, 8 k_B T at 2200 K: hot replicas of a sound model get there


@dataclass(frozen=True, slots=True)
class FineTuning:
    """How a calculator is trained further.

    Attributes:
        epochs: in which the learning rate falls to nothing.
        learning_rate: in the beginning.
        repeats: how often a new frame comes in an epoch; one of the recipe comes once.
        bend: times the model's test error of forces, in eV/Å, and in eV of energies: beyond it
            errors count linearly instead of by their squares (Huber, Ann. Math. Stat. 35, 73
            (1964)). The errors of new frames are a hundred times those of others, and would rule.
        held_out: of so many new frames one is not trained on, but helps to choose the best epoch.

    Raises:
        CalculatorError: for values that cannot be.
    """

    epochs: int = 70
    learning_rate: float = 5e-4
    repeats: int = 1
    bend: float = 1.5
    held_out: int = 10

    def __post_init__(self) -> None:
        for name in ("epochs", "learning_rate", "repeats", "bend", "held_out"):
            if not getattr(self, name) > 0:
                raise CalculatorError(f"{name} must be positive, got {getattr(self, name)!r}")


class FineTuner:
    """Trains a calculator of a folder further, with the data that it was trained on.

    Args:
        start: folder of the calculator, with the recipe that it was trained by.
        data: the recipe's data file, or the folder that holds it.
        options: how it is trained.

    Attributes:
        card: of the calculator.
        frames: that it was trained on.

    Raises:
        CalculatorError: for a folder without recipe, or unusable data.
    """

    def __init__(
        self, start: Path | str, data: Path | str, options: FineTuning | None = None
    ) -> None:
        start, data = Path(start), Path(data)
        self.options = options or FineTuning()
        if not (start / "recipe.toml").is_file():
            raise CalculatorError(
                f"{start} has no recipe.toml; expected a calculator that `mdxai train` wrote, "
                "whose recipe says what it was trained on"
            )
        self.card, self._recipe = Card.load(start / "card.toml"), Recipe.load(start / "recipe.toml")
        frames, splits = load_labelled(data / self._recipe.data_file if data.is_dir() else data)
        self.frames, self._validation, self._test = select_frames(frames, splits, self._recipe)

    def __call__(
        self, start: Path, new: Labelled, out: Path, provenance: Mapping[str, Any]
    ) -> Card:
        """Train further and write `out`: card.toml, weights.pt and the recipe, which is as it was.

        The card's distances, by which contacts are judged, include those of new frames up to 1.5 eV
        above the data: hot runs of a sound model get there. What lies higher, and bonds, do not
        count: runs that get there are to be noticed.

        Args:
            start: folder of the weights to begin with: of the calculator, or of an earlier round.
            new: frames with labels.
            out: a new folder.
            provenance: entries for the card, beside those of the first training.

        Raises:
            CalculatorError: for a folder that cannot be written.
        """
        options, offset = self.options, self.card.offset_per_atom
        lightning.seed_everything(self._recipe.seed, verbose=False)
        network = self._network(start)
        write_recipe(self._recipe, out)
        rows = np.arange(len(new.energies))
        aside = rows % options.held_out == options.held_out // 2
        held, taught = new.take(rows[aside]), new.take(rows[~aside])
        changed = replace(
            self._recipe, max_epochs=options.epochs, patience=options.epochs,
            learning_rate=options.learning_rate,
        )  # fmt: skip
        frames = [self.frames, *([taught] * options.repeats)], [self._validation, held]
        begin = time.perf_counter()
        error = 1e-3 * float(self.card.errors["force_mae_mev_per_ang"])
        loss = torch.nn.HuberLoss(delta=options.bend * error)
        fit(network, changed, frames, offset, False, loss)
        minutes = (time.perf_counter() - begin) / 60
        torch.save(network.state_dict(), out / "weights.pt")
        card = replace(
            self.card, name=out.name, forecast={}, weights_sha256=sha256(out / "weights.pt"),
            errors=self._errors(network, held), distances=self._distances(new),
            provenance={
                **self.card.provenance, **provenance, "fine_tuning_epochs": options.epochs,
                "fine_tuning_minutes": round(minutes, 1),
            },
        )  # fmt: skip
        card.dump(out / "card.toml")  # last: without a card the folder is not a calculator
        return card

    def _distances(self, new: Labelled) -> dict[str, tuple[float, float]]:
        """Return the card's distances, Å, where new frames of low energy have shorter ones."""
        low = np.flatnonzero(new.energies - self.frames.energies.min() < REACHED)
        stated = dict(self.card.distances)
        if len(low):
            for pair, (shortest, _) in distance_ranges(new.take(low)).items():
                stated[pair] = min(shortest, stated[pair][0]), stated[pair][1]
        return stated

    def _network(self, start: Path) -> torch.nn.Module:
        network: torch.nn.Module = build_network(self._recipe.network)
        network.load_state_dict(torch.load(start / "weights.pt", weights_only=True))
        return network

    def _errors(self, network: torch.nn.Module, held: Labelled) -> dict[str, Any]:
        """Return errors on the test split, and on new frames that were held out."""
        cutoff, offset = self.card.cutoff, self.card.offset_per_atom
        found: dict[str, Any] = {"split": self._recipe.test_split}
        found |= measure_errors(network, self._test, cutoff, offset)
        if len(held.energies):
            seen = measure_errors(network, held, cutoff, offset)
            found |= {f"labels_{key}": value for key, value in seen.items()}
        return found

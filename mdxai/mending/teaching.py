"""Teach a model what it gets wrong: frames of its weak spots, labels, training, a new forecast."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from ase import Atoms

from mdxai.calculators import Card, load_calculator
from mdxai.calculators.card import sha256
from mdxai.calculators.library import refuse_other_calculator
from mdxai.calculators.training import Labelled
from mdxai.forecast import CardForecast, Forecast, LifeTestOptions, foretell, life_test
from mdxai.forecast.card_forecast import refuse_for_card
from mdxai.forecast.kept_evaluations import another_held, structure_sha256
from mdxai.forecast.make_forecast import FORECAST
from mdxai.frame import Frame, formula_in_order
from mdxai.mending.label_rounds import ASKED, LabelRounds
from mdxai.mending.teach_options import LabelSource, TeachError, TeachOptions
from mdxai.mending.teaching_result import Teaching, TeachingRound, best_of
from mdxai.record.durable_files import make_folder, write_file

STATE = "teaching.json"
CARD, WEIGHTS, RECIPE = "card.toml", "weights.pt", "recipe.toml"
REPLICAS = 20  # that are watched at the temperature of the run
Progress = Callable[[str], None]  # what is being done, in words
Seen = Callable[[Teaching], None]  # what is known after each forecast


class Trainer(Protocol):
    """What makes a better model of a calculator and labels, such as `FineTuner`."""

    card: Card
    frames: Labelled  # that the calculator was trained on

    def __call__(
        self, start: Path, new: Labelled, out: Path, provenance: Mapping[str, Any]
    ) -> Card:
        """Train what is in the folder `start` further, write the folder `out`, its card last, and
        return the card.
        """
        ...


def teach(  # noqa: PLR0913 (one argument per choice)
    start: Path | str,
    trainer: Trainer,
    source: LabelSource,
    out: Path | str,
    *,
    structure: Atoms | None = None,
    options: TeachOptions | None = None,
    progress: Progress | None = None,
    seen: Seen | None = None,
) -> Teaching:
    """Improve a model until a run survives, by labels of structures in which it goes wrong.

    Each round foretells how long the run lasts (`foretell`), takes frames along the paths into the
    weak spots (`frames_of_weak_spots`), has them labelled, and trains the model further, on its own
    data and all labels. Where no weak spot is left but the test error has grown beyond the
    tolerance, it is trained further without new labels. It ends when the forecast reaches the
    survival that was asked for, or the budget is spent. The model that lasts longest, of those
    within the tolerance, becomes the calculator in `out`.

    Everything is kept in `out`; the same call continues what was killed, or goes on with a larger
    budget.

    Args:
        start: folder of the calculator that is taught.
        trainer: makes a better model: `FineTuner(start, data)`.
        source: of the labels.
        out: folder of the calculator that comes of it, of its labels and rounds.
        structure: the molecule; by default the first frame that the calculator was trained on.
        options: when it ends.
        progress: called with what is being done.
        seen: called with what is known after each forecast.

    Raises:
        TeachError: for a structure of other atoms than the data, a folder with other teaching,
            labels that disagree with the data, or too few that can be used.
        LabelError: for files of labels that cannot be used.
        CalculatorError, ForecastError, WeakSpotError, LifeTestError, RecordError: as `foretell`.
    """
    begun = time.perf_counter()
    atoms, options = _molecule(structure, trainer.frames), options or TeachOptions()
    refuse_for_card(Frame.from_atoms(atoms), options.forecast.scans.ceiling)
    folder = Path(out)
    if not (folder / STATE).exists():
        refuse_other_calculator(folder)
    labels = LabelRounds(
        folder, source, trainer.frames, float(trainer.card.errors["force_mae_mev_per_ang"]), options
    )
    given = labels.given()  # an error there leaves nothing behind
    make_folder(folder)
    state = _State(folder, begun, {
        "calculator": sha256(Path(start) / WEIGHTS), "labels": labels.name,
        "structure": structure_sha256(Frame.from_atoms(atoms)),
        "temperature": options.temperature,
    })  # fmt: skip
    labels.take_in(given)
    work = _Teaching(Path(start), trainer, labels, state, options)
    return work.to_its_end(atoms, progress or (lambda what: None), seen or (lambda found: None))


def _molecule(structure: Atoms | None, data: Labelled) -> Atoms:
    if structure is None:
        return Atoms(data.numbers, data.positions[0])
    if structure.pbc.any():
        raise TeachError("only molecules can be taught so far, got a periodic structure")
    if not np.array_equal(structure.numbers, data.numbers):
        raise TeachError(
            "expected a structure with the atoms of the data in their order, "
            f"{formula_in_order(data.numbers)}, got "
            f"{formula_in_order(structure.numbers)}"
        )
    return structure


class _State:
    """What tells one teaching from another, and how long it has taken, in a file of its folder."""

    def __init__(self, folder: Path, begun: float, identity: Mapping[str, Any]) -> None:
        self.folder, self._begun, self._identity, self._spent = folder, begun, identity, 0.0
        file = folder / STATE
        if not file.exists():
            self.save()
            return
        try:
            held = json.loads(file.read_text(encoding="utf-8"))
            theirs, self._spent = dict(held["identity"]), float(held["seconds"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise TeachError(f"{file} cannot be read: {error}; choose another folder") from error
        if theirs != identity:
            raise TeachError(another_held(folder, "teaching", theirs, identity))

    @property
    def minutes(self) -> float:
        """Time spent, that of earlier calls included."""
        return (self._spent + time.perf_counter() - self._begun) / 60

    def save(self) -> None:
        held = {"schema": 1, "identity": self._identity, "seconds": 60 * self.minutes}
        write_file(self.folder / STATE, json.dumps(held, indent=1).encode())

    def round(self, number: int) -> Path:
        """Return the folder of a round."""
        return self.folder / "rounds" / str(number)


class _Teaching:
    """Teaching under way. What was done is told by the files of its folder."""

    def __init__(
        self, start: Path, trainer: Trainer, labels: LabelRounds, state: _State,
        options: TeachOptions,
    ) -> None:  # fmt: skip
        self._start, self._trainer, self._labels = start, trainer, labels
        self._state, self._options = state, options
        self._rounds: list[TeachingRound] = []

    def to_its_end(self, atoms: Atoms, tell: Progress, seen: Seen) -> Teaching:
        """Go round by round until the model is good enough, or nothing is left to spend."""
        while True:
            number = len(self._rounds)
            self._rounds.append(self._judged(number, atoms, tell))
            self._state.save()
            seen(self._result("under way"))
            stopped = self._reason()
            if stopped:
                return self._finished(stopped)
            asked = self._labels.frames(number, self._rounds[-1].forecast.weak_spots)
            if not asked and not self._grows_accurate():
                return self._finished("no weak spot has a frame left that is worth a label")
            if asked and not self._labels.label(asked, tell, self._has_time):
                file = self._state.round(number) / ASKED
                return replace(self._result(f"{file} waits for labels"), asked=file)
            self._train(number + 1, tell)

    def _grows_accurate(self) -> bool:
        """Return whether more training on the same labels may bring back the test error."""
        errors = [one.force_error for one in self._rounds]
        too_large = errors[-1] > (1 + self._options.tolerance) * errors[0]
        return too_large and (len(errors) == 2 or errors[-1] < errors[-2])

    def _has_time(self) -> bool:
        return self._state.minutes < self._options.minutes

    def _reason(self) -> str:
        """Return why teaching is over; "" while it is not."""
        last, options = self._rounds[-1], self._options
        if best_of(self._rounds, options.tolerance).forecast.is_good_enough:
            return "the survival that was asked for is reached"
        if (self._state.round(last.number) / ASKED).exists():
            return ""  # what was begun is finished
        if self._labels.asked >= options.frames:
            return f"{self._labels.asked} labels, all of the budget, are spent"
        return "" if self._has_time() else f"{options.minutes:g} minutes are spent"

    def _judged(self, number: int, atoms: Atoms, tell: Progress) -> TeachingRound:
        """Return what is foretold, and where asked for seen, of a round's model."""
        options, kept = self._options, self._state.round(number) / "forecast"
        folder = self._state.round(number) if number else self._start
        card, calculator = Card.load(folder / CARD), load_calculator(folder)
        where = f"round {number}" if number else "as given"
        if (kept / FORECAST).exists():
            found = Forecast.read(kept / FORECAST)
        else:
            found = foretell(
                calculator, atoms, temperature=options.temperature, duration=options.duration,
                options=options.forecast, path=kept,
                progress=lambda what: tell(f"{where}: {what}"),
            )  # fmt: skip
        found = replace(found, duration=options.duration, at_least=options.at_least)
        seen = None
        if options.observed:
            tell(f"{where}: watching replicas at {options.temperature:g} K")
            seen = life_test(
                calculator, atoms, temperature=options.temperature, duration=options.duration,
                path=kept.parent / "observed",
                options=LifeTestOptions(
                    most=options.observed, hottest=options.temperature, width=1e-6,
                    replicas=REPLICAS,
                ),
            )  # fmt: skip
        labels = int(card.provenance.get("labels", 0)) if number else 0
        return TeachingRound(number, folder, labels, dict(card.errors), found, seen)

    def _train(self, number: int, tell: Progress) -> None:
        out = self._state.round(number)
        if (out / CARD).exists():
            return
        new = self._labels.taught()
        tell(f"round {number}: training on {len(new.energies)} labels")
        card = self._trainer.card
        self._trainer(self._rounds[-1].folder, new, out, {
            "summary": f"{card.provenance.get('summary', card.name)}, and labels of weak spots",
            "taught_from": f"{card.name} ({card.weights_sha256[:12]}…)", "rounds": number,
            "labels": len(new.energies), "labels_by": self._labels.name,
        })  # fmt: skip

    def _result(self, stopped: str) -> Teaching:
        tolerance = self._options.tolerance
        return Teaching(
            tuple(self._rounds), tolerance, self._labels.name, self._labels.asked,
            self._state.minutes, stopped,
        )  # fmt: skip

    def _finished(self, stopped: str) -> Teaching:
        """Make the calculator of the best model, where that is not the one given."""
        self._state.save()
        best, out = best_of(self._rounds, self._options.tolerance), self._state.folder
        if not best.number:
            return self._result(f"{stopped}; no round made a better model")
        for name in (WEIGHTS, RECIPE):
            shutil.copyfile(best.folder / name, out / name)
        card = Card.load(best.folder / CARD)
        known = best.forecast.weak_spots is not None
        held = CardForecast.of(best.forecast, card.weights_sha256).as_dict() if known else {}
        replace(card, name=out.name, forecast=held).dump(out / CARD)
        return replace(self._result(stopped), folder=out)

"""How a run ended and what was measured until then, read from its directory."""

from __future__ import annotations

import os
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mdxai.calculators.card import CalculatorError, Card
from mdxai.calculators.library import find_calculator
from mdxai.errors import MdxaiError
from mdxai.frame import Floats
from mdxai.record import RecordError, Run, open_run
from mdxai.stability.outcomes import Stability
from mdxai.stability.thresholds import THRESHOLDS
from mdxai.stability.verdict import judge, recorded_thresholds
from mdxai.study.run_series import series_of

BIN_WIDTH = 0.25  # Å
KELVIN_STEP = 50.0  # measured temperatures are rounded to it, so that like runs fall together
SET_ASIDE = ".interrupted-"  # in names of folders whose runs were made again
Folder = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class Outcome:
    """One run: until when it was followed, whether it broke then, and the series before.

    Attributes:
        run: name, unique among the runs that are compared.
        model: name of the potential; runs of one model are not independent of each other.
        molecule: chemical formula in Hill order, such as "C2H6O".
        temperature: target temperature, K.
        end: fs from the first frame to the onset of instability, or to the end of the run
            (censored).
        unstable: whether it ended by instability.
        times: (n_frames,) fs from the first frame on, all before `end` where it is unstable.
        series: (n_frames,) values per name, NaN where not measured at that frame: deviations by
            principle; relevance by element pair and distance bin, such as "C-H 1.125 Å", the bin's
            centre; plain predictors such as "kinetic_temperature" and "force_norm".
        traits: numbers that belong to the whole run, such as the model's test errors.
        network: type of the model's network, such as "PaiNN"; empty where not known.
    """

    run: str
    model: str
    molecule: str
    temperature: float
    end: float
    unstable: bool
    times: NDArray[np.float64]
    series: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    traits: Mapping[str, float] = field(default_factory=dict)
    network: str = ""


class AssociationError(MdxaiError, ValueError):
    """Runs that cannot be compared as asked."""


class AssociationWarning(UserWarning):
    """Some runs are left out."""


def load_outcomes(
    paths: Folder | Iterable[Folder], *, onset: str = "verdict", bin_width: float = BIN_WIDTH
) -> list[Outcome]:
    """Read how runs ended and what was measured until then; see `read_outcomes`.

    Warns of runs that are left out, each with its reason.

    Raises:
        AssociationError: where there is no run, none that can be used, or no such onset.
    """
    found, left_out = read_outcomes(paths, onset=onset, bin_width=bin_width)
    if left_out:
        lines = "".join(f"\n  {run}: {why}" for run, why in left_out.items())
        warnings.warn(f"{len(left_out)} runs are left out:{lines}", AssociationWarning,
                      stacklevel=2)  # fmt: skip
    return found


def read_outcomes(
    paths: Folder | Iterable[Folder], *, onset: str = "verdict", bin_width: float = BIN_WIDTH
) -> tuple[list[Outcome], dict[str, str]]:
    """Return outcomes in the order of their folders, and the runs left out with reasons.

    - `end` is the verdict's onset for unstable runs. All others, suspect and interrupted ones too,
      are censored at their last frame. A run without verdict.json is judged by its recorded
      frames. Runs are left out that cannot be read or judged (fewer than two frames), or that are
      unstable in their first frame.
    - `temperature` is that of the thermostat, else what the settings or the context of the run
      state, else the mean kinetic temperature rounded to 50 K.
    - `model` is the calculator's name; where two sets of weights share it, with the first eight
      digits of their hash.
    - `series` are those of `mdxai.study.run_series.series_of`.
    - `traits` are the numbers in the context's `traits`, else those of the calculator's card,
      where one with the same weights is found: force_mae_mev_per_ang, energy_mae_mev, n_train,
      cutoff, n_interactions.

    Args:
        paths: run directories, or folders that hold run directories at any depth. Runs that a
            study has set aside, as in `1000K.interrupted-1`, are skipped: it repeated them.
        onset: "verdict", or the one principle whose `unstable` threshold counts, such as "bond". A
            run that another cause ended earlier is then censored at its end.
        bin_width: of distance bins of relevance, Å.

    Raises:
        AssociationError: where there is no run, none that can be used, or no such onset.
    """
    if not (0 < bin_width < np.inf):
        raise AssociationError(f"bin_width must be positive and finite, in Å; got {bin_width}")
    known = {t.principle for t in THRESHOLDS}
    if onset != "verdict" and onset not in known:
        raise AssociationError(
            f"there is no onset {onset!r}; expected verdict, or one of {', '.join(sorted(known))}"
        )
    given = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    folders = list(dict.fromkeys(folder for path in given for folder in _runs_below(Path(path))))
    found: list[tuple[Outcome, str]] = []
    left_out: dict[str, str] = {}
    names = _names(folders)
    for folder in folders:
        try:
            found.append(_outcome(folder, names[folder], onset, bin_width))
        except (RecordError, AssociationError) as error:
            left_out[names[folder]] = str(error)
    if not found:
        lines = "".join(f"\n  {run}: {why}" for run, why in left_out.items())
        raise AssociationError(f"none of {len(folders)} runs can be used:{lines}")
    return _tell_apart(found), left_out


def _runs_below(path: Path) -> list[Path]:
    """Return the run directories at or below a path, sorted.

    Raises:
        AssociationError: where there is none.
    """
    if (path / "run.toml").is_file():
        return [path]
    headers = sorted(path.rglob("run.toml")) if path.is_dir() else []
    folders = [header.parent for header in headers]
    runs = [
        f
        for f in folders
        if SET_ASIDE not in str(f.relative_to(path))
        and not any(parent in folders for parent in f.parents)  # given up by a rollback
    ]
    if not runs:
        raise AssociationError(
            f"{path} holds no run: expected a run directory (with run.toml), or a folder of them"
        )
    return runs


def _names(folders: list[Path]) -> dict[Path, str]:
    """Return short unique names: paths without the part that all have in common."""
    absolute = [Path(os.path.abspath(folder)) for folder in folders]
    common = os.path.commonpath([folder.parent for folder in absolute]) if absolute else ""
    return {f: str(a.relative_to(common)) for f, a in zip(folders, absolute, strict=True)}


def _outcome(folder: Path, name: str, onset: str, width: float) -> tuple[Outcome, str]:
    """Return the outcome of one run, and the hash of its calculator's weights."""
    run = open_run(folder)
    header = run.header
    start, end, unstable = _ending(run, onset)
    if not (end > start):
        raise AssociationError("it is unstable in its first frame, or has only one")
    times, series = series_of(run, width)
    kelvin = _temperature(header, series["kinetic_temperature"])
    before = times < end if unstable else times <= end
    system, calculator = header["system"], header["calculator"]
    outcome = Outcome(
        run=name,
        model=str(calculator["name"]),
        molecule=Atoms(system["numbers"]).get_chemical_formula("hill"),
        temperature=kelvin,
        end=end - start,
        unstable=unstable,
        times=times[before] - start,
        series={key: values[before] for key, values in series.items()},
        traits=_traits(header),
        network=str(calculator.get("network", {}).get("type", "")),
    )
    return outcome, str(calculator.get("weights_sha256", ""))


def _ending(run: Run, onset: str) -> tuple[float, float, bool]:
    """Return first and last instant that were followed, fs, and whether the last is an onset."""
    verdict = _verdict(run)
    if verdict["stability"] == Stability.INCONCLUSIVE:
        raise AssociationError("its verdict is inconclusive: fewer than two frames")
    start = float(verdict["start_fs"])
    last = start + float(verdict["duration_fs"])
    if onset == "verdict":
        when = verdict["onset_fs"]
    else:
        when = next(
            (f["time_fs"] for f in verdict["findings"]
             if f["principle"] == onset and Stability.of_finding(f["severity"]).is_failure), None
        )  # fmt: skip
        if onset not in run.deviations:
            raise AssociationError(f"{onset} was not recorded, so its onset is not known")
    return (start, last, False) if when is None else (start, float(when), True)


def _verdict(run: Run) -> Mapping[str, Any]:
    """Return the recorded verdict, which saw every step; else judge the recorded frames."""
    try:
        return run.verdict
    except RecordError:
        thresholds = recorded_thresholds(run) or THRESHOLDS
        return judge(run, thresholds).as_dict()


def _temperature(header: Mapping[str, Any], kinetic: Floats) -> float:
    context = header.get("context", {})
    for stated in (
        header.get("engine", {}).get("temperature"),
        context.get("temperature"),
        context.get("settings", {}).get("temperature"),
    ):
        if stated is not None and np.isfinite(stated):
            return float(stated)
    if not np.isfinite(kinetic).any():
        raise AssociationError("its temperature is neither stated nor measured")
    return KELVIN_STEP * round(float(np.nanmean(kinetic)) / KELVIN_STEP)


def _traits(header: Mapping[str, Any]) -> dict[str, float]:
    stated = header.get("context", {}).get("traits")
    if stated:
        return {name: float(value) for name, value in stated.items()}
    calculator = header["calculator"]
    network = calculator.get("network", {})
    found = {k: float(network[k]) for k in ("cutoff", "n_interactions") if k in network}
    with suppress(CalculatorError):
        path = find_calculator(str(calculator["name"]))
        if path.is_dir():
            card = Card.load(path / "card.toml")
            if card.weights_sha256 == calculator.get("weights_sha256"):
                found |= {"cutoff": card.cutoff, "n_interactions": float(card.n_layers)}
                found |= dict(_of_training(card))
    return found


def _of_training(card: Card) -> Iterator[tuple[str, float]]:
    for name in ("force_mae_mev_per_ang", "energy_mae_mev"):
        if name in card.errors:
            yield name, float(card.errors[name])
    # Cards of `mdxai train` state "train_01: 50 to train on, 50 to validate".
    for word in str(card.provenance.get("rows", "")).split(":")[-1].split()[:1]:
        if word.isdigit():
            yield "n_train", float(word)


def _tell_apart(found: list[tuple[Outcome, str]]) -> list[Outcome]:
    """Add a short hash to the name of a model that several sets of weights share."""
    weights = defaultdict(set)
    for outcome, digest in found:
        weights[outcome.model].add(digest)
    return [
        replace(outcome, model=f"{outcome.model} {digest[:8]}".rstrip())
        if len(weights[outcome.model]) > 1
        else outcome
        for outcome, digest in found
    ]

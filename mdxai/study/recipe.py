"""What a study compares: models to train or load, and the runs that each of them drives."""

from __future__ import annotations

import itertools
import math
import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from mdxai.errors import MdxaiError
from mdxai.monitoring.options import MonitorOptions
from mdxai.record import RecordSettings

TRAINED_BY = ("type", "n_train", "cutoff", "n_interactions", "seed")  # what a name is made of
BUILT_WITH = {"radial": "gaussian", "repulsion": "none"}  # and what else, where it is not this


class StudyError(MdxaiError, ValueError):
    """A study that cannot be made as asked."""


@dataclass(frozen=True, slots=True)
class Simulation:
    """How every model is run.

    Attributes:
        temperatures: K, of initial velocities and of the Langevin thermostat.
        replicas: runs per model and temperature, in one batch, each from its own start.
        duration_ps: ps, of a run that does not break.
        timestep: fs.
        time_constant: fs, of the thermostat.
        record_every: steps between recorded frames; every step is checked.
        attribute_every: steps between explained frames.
        seed: of starts, velocities and thermostat.
        compile: whether to compile the networks.
        guard: whether models run with a guard, from the distances of their training data.
    """

    temperatures: tuple[float, ...]
    replicas: int = 4
    duration_ps: float = 10.0
    timestep: float = 0.5
    time_constant: float = 100.0
    record_every: int = 10
    attribute_every: int = 20
    seed: int = 1
    compile: bool = True
    guard: bool = False

    @property
    def steps(self) -> int:
        """MD steps of a run that does not break."""
        return round(1e3 * self.duration_ps / self.timestep)

    def monitor_options(self, context: Mapping[str, Any]) -> MonitorOptions:
        """Return the options of the monitor: an unstable replica is dropped, the others go on.

        Args:
            context: entries for run.toml.
        """
        record = RecordSettings(
            frame_every=self.record_every, trajectory_every=self.attribute_every
        )
        return MonitorOptions(
            attribute_every=self.attribute_every,
            on_unstable="drop",
            record=record,
            context=context,
        )


@dataclass(frozen=True, slots=True)
class Molecule:
    """A molecule of a study, and the geometries that its runs start from.

    Attributes:
        name: as the recipe calls it.
        data: labelled frames (npz as of rMD17), relative to the data folder: runs start from rows
            of its split `starts`, and errors are measured on its split `test`.
        structure: instead of data: a file that ASE reads, or a molecule of the G2 set.
        starts, test: names of splits.
    """

    name: str
    data: str | None = None
    structure: str | None = None
    starts: str = "test_01"
    test: str = "test_01"


@dataclass(frozen=True, slots=True)
class Candidate:
    """One model of a study.

    Attributes:
        name: unique in the study.
        molecule: of the recipe.
        training: settings of `mdxai.calculators.training.Recipe` for a model that is trained here.
        source: name, folder or file (relative to the data folder) of one that is loaded.
        committee: name of the ensemble it belongs to, whose spread is measured; "" for none.
    """

    name: str
    molecule: str
    training: Mapping[str, Any] | None = None
    source: str | None = None
    committee: str = ""


@dataclass(frozen=True, slots=True)
class StudyRecipe:
    """A study as its TOML file describes it; see docs/study.md.

    Attributes:
        name, summary: what it is called, and what it asks.
        molecules: by name.
        candidates: the models.
        simulation: how each is run.
        analysis: keyword arguments of `mdxai.associate` and of the comparison of detectors.
    """

    name: str
    summary: str
    molecules: Mapping[str, Molecule]
    candidates: tuple[Candidate, ...]
    simulation: Simulation
    analysis: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> StudyRecipe:
        """Read a recipe from TOML.

        Raises:
            StudyError: naming the entry that is missing or invalid.
        """
        try:
            content = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise StudyError(f"there is no study recipe at {path}") from error
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise StudyError(f"{path} is not a study recipe: {error}") from error
        try:
            return _recipe(content, Path(path).stem)
        except StudyError as error:
            raise StudyError(f"{path}: {error}") from error


def _recipe(content: dict[str, Any], stem: str) -> StudyRecipe:
    known = {"name", "summary", "simulation", "molecules", "training", "train", "load", "analysis"}
    _refuse_unknown("the recipe", content, known)
    molecules = {
        name: _of(Molecule, f"[molecules.{name}]", {"name": name, **_table(entry, name)})
        for name, entry in _table(content.get("molecules", {}), "molecules").items()
    }
    common = _table(content.get("training", {}), "training")
    candidates = [c for e in content.get("load", []) for c in _loaded(e)]  # first: they are there
    candidates += [c for e in content.get("train", []) for c in _trained(e, common)]
    simulation = dict(_table(content.get("simulation", {}), "simulation"))
    temperatures = simulation.get("temperatures")
    if isinstance(temperatures, list):
        simulation["temperatures"] = tuple(temperatures)
    recipe = StudyRecipe(
        str(content.get("name", stem)), str(content.get("summary", "")), molecules,
        tuple(candidates), _of(Simulation, "[simulation]", simulation),
        _table(content.get("analysis", {}), "analysis"),
    )  # fmt: skip
    _check(recipe)
    return recipe


def _table(entry: Any, name: str) -> dict[str, Any]:
    if not isinstance(entry, dict):
        raise StudyError(f"[{name}] must be a table, got {entry!r}")
    return entry


def _refuse_unknown(where: str, entry: Mapping[str, Any], known: set[str]) -> None:
    unknown = sorted(set(entry) - known)
    if unknown:
        raise StudyError(f"{where} has no {unknown[0]!r}; it takes {', '.join(sorted(known))}")


def _of[T](kind: type[T], where: str, entry: dict[str, Any]) -> T:
    _refuse_unknown(where, entry, {f.name for f in fields(kind)})  # type: ignore[arg-type]
    try:
        return kind(**entry)
    except TypeError as error:
        raise StudyError(f"{where} is incomplete: {error}") from error


def _trained(entry: Any, common: Mapping[str, Any]) -> list[Candidate]:
    """Return one candidate per combination of the lists in a [[train]] entry."""
    usual = {key: common.get(key, value) for key, value in BUILT_WITH.items()}
    entry = {"seed": 1, **usual, **_table(entry, "[train]")}
    missing = [key for key in ("molecule", *TRAINED_BY) if key not in entry]
    if missing:
        raise StudyError(f"a [[train]] entry lacks {', '.join(missing)}")
    varied = (*TRAINED_BY, *BUILT_WITH)
    lists = [entry[k] if isinstance(entry[k], list) else [entry[k]] for k in varied]
    rest = {k: v for k, v in entry.items() if k not in (*varied, "molecule")}
    settings = [dict(zip(varied, values, strict=True)) for values in itertools.product(*lists)]
    return [
        Candidate(_name(entry["molecule"], one), entry["molecule"], {**common, **rest, **one})
        for one in settings
    ]


def _name(molecule: str, one: Mapping[str, Any]) -> str:
    parts = [str(one["type"]).lower(), molecule, str(one["n_train"]), f"c{one['cutoff']:g}"]
    parts += [f"b{one['n_interactions']}", f"s{one['seed']}"]
    parts += [str(one[key]).lower() for key, plain in BUILT_WITH.items() if one[key] != plain]
    return "-".join(parts)


def _loaded(entry: Any) -> list[Candidate]:
    entry = _table(entry, "[load]")
    _refuse_unknown("a [[load]] entry", entry, {"molecule", "calculators", "committee"})
    sources = entry.get("calculators")
    if not (isinstance(sources, list) and sources and "molecule" in entry):
        raise StudyError("a [[load]] entry needs a molecule and a list of calculators")
    return [
        Candidate(
            Path(source).stem, entry["molecule"], source=source,
            committee=str(entry.get("committee", "")),
        )
        for source in sources
    ]  # fmt: skip


def _check(recipe: StudyRecipe) -> None:
    _check_simulation(recipe.simulation)
    if not recipe.candidates:
        raise StudyError("it names no model: add [[train]] or [[load]] entries")
    names = [c.name for c in recipe.candidates]
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise StudyError(f"two models are called {twice[0]!r}")
    for candidate in recipe.candidates:
        molecule = recipe.molecules.get(candidate.molecule)
        if molecule is None:
            raise StudyError(
                f"{candidate.name} is for {candidate.molecule!r}, which is none of the molecules "
                f"{', '.join(recipe.molecules) or '(none given)'}"
            )
        if candidate.training is not None and molecule.data is None:
            raise StudyError(f"{candidate.name} is to be trained, but {molecule.name} has no data")
    for molecule in recipe.molecules.values():
        if (molecule.data is None) == (molecule.structure is None):
            raise StudyError(f"[molecules.{molecule.name}] needs either data or a structure")


def _check_simulation(simulation: Simulation) -> None:
    if not (_positive(simulation.temperatures) and simulation.temperatures):
        raise StudyError(
            f"temperatures must be a list of positive numbers, got {simulation.temperatures!r}"
        )
    for name in ("duration_ps", "timestep", "time_constant"):
        if not _positive([getattr(simulation, name)]):
            raise StudyError(
                f"{name} must be positive and finite, got {getattr(simulation, name)!r}"
            )
    for name in ("replicas", "record_every", "attribute_every", "seed"):
        value = getattr(simulation, name)
        if not (_positive([value]) and isinstance(value, int)):
            raise StudyError(f"{name} must be a whole number above 0, got {value!r}")
    if simulation.attribute_every % simulation.record_every:
        raise StudyError(
            f"attribute_every ({simulation.attribute_every}) must be a multiple of record_every "
            f"({simulation.record_every}): deviations of explanations are recorded with their frame"
        )


def _positive(values: Sequence[Any]) -> bool:
    return isinstance(values, list | tuple) and all(
        isinstance(v, int | float) and not isinstance(v, bool) and 0 < v < math.inf for v in values
    )

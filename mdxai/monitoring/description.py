"""What run.toml says of a run: the same where a run may be resumed."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from mdxai.calculators import card_of
from mdxai.calculators.model_name import model_name
from mdxai.engines import Engine, Restartable, Seeded
from mdxai.frame import Frame
from mdxai.monitoring.options import MonitorOptions
from mdxai.monitoring.setup import MonitorSetup
from mdxai.record.recorded_inputs import plain_inputs

# Of every number in a run directory whose name does not say it.
UNITS = {
    "length": "Å", "time": "fs", "energy": "eV", "force": "eV/Å", "velocity": "Å/fs", "mass": "amu",
    "temperature": "K", "engine.parameters": "those of the engine itself",
}  # fmt: skip


def describe_run(engine: Engine, setup: MonitorSetup, options: MonitorOptions) -> dict[str, Any]:
    """Return what run.toml says of a run."""
    first = setup.first
    caveat = engine.restart_caveat() if isinstance(engine, Restartable) else None
    card = card_of(engine.calculator)
    seed = engine.seed() if isinstance(engine, Seeded) else None
    return {
        "units": UNITS,
        "calculator": describe_calculator(engine.calculator),
        "card": None if card is None else asdict(card),
        "seed": None if seed is None else str(seed),  # of up to 128 bits
        "engine": asdict(engine.describe()),
        "system": describe_system(first) | {"cell_ang": first.cell.tolist()},
        "parameters": describe_options(options),
        "thresholds": {t.principle: asdict(t) for t in setup.thresholds},
        "unavailable": dict(setup.unavailable),
        "reference": setup.reference,
        "restart": caveat or "exact",
        "context": {"command": shlex.join(sys.argv), **options.context},
    }


def describe_options(options: MonitorOptions) -> dict[str, Any]:
    """Return what run.toml says of the options that decide what is recorded."""
    calibration, reference = options.calibration, options.reference_data
    return {
        "attribute_every": options.attribute_every,
        "gamma": options.gamma,
        "probe_every": options.probe_every,
        "allowed_reactions": list(options.allowed_reactions),
        "reactions": options.reactions,
        "external_forces": options.external_forces,
        "max_overhead": options.max_overhead,
        "reference": None if reference is None else reference.summary(),
        "forecast": options.forecast is not False,
        "early_warning": None if calibration is None else calibration.summary(),
    }


def describe_system(frame: Frame) -> dict[str, Any]:
    """Return what run.toml says of a system and stays the same throughout a run."""
    outside = frame.outside
    restraints = {} if outside is None else {
        "pushed_by": list(outside.pushes), "foreign_restraints": list(outside.foreign),
    }  # fmt: skip
    inputs = plain_inputs(frame.inputs)
    return {
        "numbers": frame.numbers.tolist(),
        "masses_amu": frame.masses.tolist(),
        "pbc": frame.pbc.tolist(),
        "n_constrained": frame.n_constrained,
        **restraints,
        **({"inputs": inputs} if inputs else {}),
    }


def describe_calculator(calculator: Any) -> dict[str, Any]:
    """Return what run.toml says of a calculator: what must be the same when a run is resumed."""
    card = card_of(calculator)
    if card is None:
        stated = getattr(calculator, "parameters", None)
        known = dict(stated) if isinstance(stated, Mapping) else {}  # a method in torch modules
        plain = {k: v for k, v in known.items() if isinstance(v, bool | int | float | str)}
        return {"name": model_name(calculator)} | ({"parameters": plain} if plain else {})
    return {
        "name": card.name,
        "weights_sha256": card.weights_sha256,
        **_evaluation(calculator),
        "network": dict(card.network),
        "distances": {pair: list(span) for pair, span in card.distances.items()},
    }


def _evaluation(calculator: Any) -> dict[str, Any]:
    """Return what the rounding of a network's sums depends on."""
    potential = getattr(calculator, "potential", None)
    if potential is None:
        return {}
    return {
        "dtype": str(potential.dtype).removeprefix("torch."),
        "device": str(potential.device.type),
        "compiled": bool(potential.compile),
    }

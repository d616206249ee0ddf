"""Load calculators; foreign code runs only on request."""

from __future__ import annotations

import os
import pickle
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from ase import units
from ase.data import chemical_symbols

from mdxai.calculators.architectures import atom_energies_of
from mdxai.calculators.card import CalculatorError, Card, sha256
from mdxai.calculators.library import find_calculator
from mdxai.calculators.network import build_network
from mdxai.calculators.network_calculator import NetworkCalculator
from mdxai.calculators.potential import NetworkPotential

# Entries of a configuration that describe the network; the others are provenance.
DESCRIPTION = ("type", "n_atom_basis", "n_interactions", "n_rbf", "cutoff", "n_filters", "lmax",
               "shared_interactions", "shared_filters", "radial", "decay", "repulsion",
               "output")  # fmt: skip

ENERGY_UNITS = {  # eV
    "ev": 1.0,
    "mev": 1e-3,
    "kcal/mol": units.kcal / units.mol,
    "kj/mol": units.kJ / units.mol,
    "hartree": units.Hartree,
    "ha": units.Hartree,
}
LENGTH_UNITS = {"ang": 1.0, "angstrom": 1.0, "å": 1.0, "nm": 10.0, "bohr": units.Bohr}  # Å


def load_calculator(  # noqa: PLR0913 (a pickled model needs its two units)
    name: str | os.PathLike[str],
    *,
    dtype: str = "float32",
    device: str = "cpu",
    compile: bool = False,
    trust_pickle: bool = False,
    energy_unit: str | None = None,
    length_unit: str | None = None,
) -> NetworkCalculator:
    """Load a trained potential as an ASE calculator.

    Args:
        name: a calculator's name ("painn-ethanol"), its folder, a `{"config", "state_dict"}` file,
            or a pickled schnetpack `best_model`. Names are looked up in the folders of
            $MDXAI_CALCULATORS, then among the shipped calculators.
        dtype: "float32" or "float64".
        device: a torch device.
        compile: compile the evaluation of small molecules (up to 40 atoms). This takes seconds at
            first use, is cached on disk, and makes evaluations two to three times faster.
        trust_pickle: load a pickled model; loading runs any code that the file contains.
        energy_unit: of a pickled model, such as "kcal/mol".
        length_unit: of a pickled model, such as "Ang".

    Raises:
        CalculatorError: for an unknown name, a missing or damaged file, a hash that differs from
            the card's, or a pickle without `trust_pickle` and units.
    """
    if dtype not in ("float32", "float64"):
        raise CalculatorError(f"dtype {dtype!r} is not supported; expected float32 or float64")
    path = find_calculator(name)
    if path.is_dir():
        network, card = _from_folder(path)
    else:
        network, card = _from_file(path, trust_pickle, energy_unit, length_unit)
    potential = NetworkPotential(
        network, card, dtype=getattr(torch, dtype), device=device, compile=compile
    )
    return NetworkCalculator(potential)


def _from_folder(folder: Path) -> tuple[torch.nn.Module, Card]:
    card = Card.load(folder / "card.toml")
    weights = folder / "weights.pt"
    if not weights.is_file():
        raise CalculatorError(f"{folder} has a card but no weights.pt")
    digest = sha256(weights)
    if digest != card.weights_sha256:
        raise CalculatorError(
            f"{weights} is not the file its card describes: SHA-256 {digest[:12]}…, "
            f"expected {card.weights_sha256[:12]}…; the file is damaged or was replaced"
        )
    return trained_network(card.network, read_tensors(weights), weights), card


def read_tensors(path: Path) -> Any:
    """Return the content of a torch.save file; no code in it is run.

    Raises:
        CalculatorError: for a damaged file; its cause is an UnpicklingError for a pickle.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns about pickles before it refuses them
            return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        raise CalculatorError(f"{path} cannot be read as a file of weights: it is damaged, or not "
                              f"a torch file ({first_line(error)})") from error  # fmt: skip


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, or its type."""
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__


def trained_network(
    description: Mapping[str, Any], state: Mapping[str, Any], path: Path
) -> torch.nn.Module:
    """Return the network of a description with its weights.

    Raises:
        CalculatorError: if the weights do not belong to the description.
    """
    try:
        network = build_network(description)
        network.load_state_dict(dict(state))
        trained = float(network.representation.cutoff_fn.cutoff)
        if abs(trained - float(description["cutoff"])) > 1e-6:
            raise ValueError(f"stated cutoff {description['cutoff']}, trained with {trained}")
    except (ValueError, TypeError, RuntimeError) as error:
        raise CalculatorError(
            f"{path} does not fit its description: {first_line(error)}"
        ) from error
    return network  # type: ignore[no-any-return]


def _from_file(
    path: Path, trust_pickle: bool, energy_unit: str | None, length_unit: str | None
) -> tuple[torch.nn.Module, Card]:
    try:
        content = read_tensors(path)
    except CalculatorError as error:
        if not isinstance(error.__cause__, pickle.UnpicklingError):
            raise
        if trust_pickle:
            return _from_pickle(path, energy_unit, length_unit)
        raise refused_pickle(path, "energy_unit") from error
    if energy_unit or length_unit:
        raise CalculatorError(f"{path} states its own units; leave energy_unit and length_unit out")
    return _from_config(content, path)


def refused_pickle(path: Path, unit: str) -> CalculatorError:
    """Return the error for a pickle that came without `trust_pickle`."""
    return CalculatorError(
        f"{path} is a pickle, or damaged. Loading a pickle runs the code in it; if you trust its "
        f"author, pass trust_pickle=True (--trust-pickle) and the model's {unit} and length_unit"
    )


def config_of(content: Any, path: Path) -> dict[str, Any]:
    """Return a copy of the configuration in a `{"config", "state_dict"}` file.

    Raises:
        CalculatorError: for other content.
    """
    if not (isinstance(content, dict) and {"config", "state_dict"} <= content.keys()):
        raise CalculatorError(
            f"{path} does not hold a model: expected a dictionary with 'config' and 'state_dict'"
        )
    if not isinstance(content["config"], dict):
        raise CalculatorError(f"{path}: 'config' must be a dictionary, got {content['config']!r}")
    return dict(content["config"])


def _from_config(content: Any, path: Path) -> tuple[torch.nn.Module, Card]:
    config = config_of(content, path)
    if "output" in config:
        raise CalculatorError(
            f"{path} predicts {config['output'].get('property')!r} but no forces, so it is not a "
            "calculator; load it with mdxai.load_property"
        )
    energy_name, _, length_name = str(config.pop("units", "eV, Ang")).partition(",")
    unit = unit_value(ENERGY_UNITS, energy_name, "energy")
    card = Card(
        name=path.stem,
        network={key: config.pop(key) for key in DESCRIPTION if key in config},
        energy_unit=unit,
        length_unit=unit_value(LENGTH_UNITS, length_name or "Ang", "length"),
        offset_per_atom=float(config.pop("energy_offset_per_atom", 0.0)) * unit,
        provenance=config,
        weights_sha256=sha256(path),
    )
    return trained_network(card.network, content["state_dict"], path), card


def _from_pickle(
    path: Path, energy_unit: str | None, length_unit: str | None
) -> tuple[torch.nn.Module, Card]:
    if energy_unit is None or length_unit is None:
        raise CalculatorError(
            f"{path} does not state its units; pass energy_unit (one of {', '.join(ENERGY_UNITS)}) "
            f"and length_unit (one of {', '.join(LENGTH_UNITS)})"
        )
    try:
        # weights_only=False: the caller asked for it by name (trust_pickle).
        network = torch.load(path, map_location="cpu", weights_only=False)
        atom_energies_of(network)
        card = card_of_network(network, path.stem)
    except ModuleNotFoundError as error:
        raise CalculatorError(_what_to_do_about(path, str(error.name))) from error
    except (pickle.UnpicklingError, AttributeError, RuntimeError, EOFError, ValueError) as error:
        raise CalculatorError(
            f"{path} is not a potential of schnetpack that mdxai can open: {first_line(error)}"
        ) from error
    unit = unit_value(ENERGY_UNITS, energy_unit, "energy")
    return network, replace(
        card,
        energy_unit=unit,
        length_unit=unit_value(LENGTH_UNITS, length_unit, "length"),
        offset_per_atom=card.offset_per_atom * unit,
        atom_energies={symbol: energy * unit for symbol, energy in card.atom_energies.items()},
        weights_sha256=sha256(path),
    )


def _what_to_do_about(path: Path, module: str) -> str:
    """Return what to do about a pickle of a module that is not installed."""
    if module.partition(".")[0] != "schnetpack":
        return f"{path} needs the Python package {module.partition('.')[0]!r}; install it"
    return (
        f"{path} was saved by schnetpack 1 ({module}), which schnetpack 2 cannot load: where "
        "schnetpack 1 is installed, save model.state_dict(), load it into the same network of "
        "schnetpack 2 and save that; or run MD there with its SpkCalculator and `mdxai replay` the "
        "trajectory with another calculator"
    )


def card_of_network(network: Any, name: str) -> Card:
    """Describe a schnetpack potential; offsets are in the network's energy unit.

    Raises:
        ValueError: for parts that a card cannot state.
        AttributeError: for an object that is not a schnetpack potential.
    """
    _refuse_unknown_parts(network)
    key = network.output_modules[0].output_key
    steps = [step for step in network.postprocessors if type(step).__name__ == "AddOffsets"]
    offsets = [step for step in steps if step._property == key]
    alone: dict[str, float] = {}
    for step in offsets:
        if step.add_atomrefs:
            for z, value in enumerate(step.atomref.flatten().tolist()):
                if value and z < len(chemical_symbols):
                    symbol = chemical_symbols[z]
                    alone[symbol] = alone.get(symbol, 0.0) + value
    return Card(
        name=name, network=description_of(network), atom_energies=alone,
        offset_per_atom=sum(float(step.mean) for step in offsets if step.add_mean),
    )  # fmt: skip


def description_of(network: Any) -> dict[str, Any]:
    """Describe the representation of a schnetpack network.

    Raises:
        AttributeError: for an object that is not a schnetpack network.
    """
    representation = network.representation
    return {
        "type": type(representation).__name__,
        "n_atom_basis": representation.n_atom_basis,
        "n_interactions": _n_blocks(representation),
        "n_rbf": representation.radial_basis.n_rbf,
        "cutoff": float(representation.cutoff),
        **({"lmax": int(representation.lmax)} if hasattr(representation, "lmax") else {}),
    }


def _n_blocks(representation: Any) -> int:
    blocks = getattr(representation, "so3convs", None)  # SO3net's
    return len(representation.interactions if blocks is None else blocks)


def refuse_unknown_inputs(network: Any) -> None:
    """Raise ValueError for inputs of a network that our forward pass does not support."""
    if len(network.representation.electronic_embeddings):
        raise ValueError("electronic embeddings are not supported")
    inputs = {type(module).__name__ for module in network.input_modules}
    if not inputs <= {"PairwiseDistances", "Strain"}:
        raise ValueError(f"expected PairwiseDistances in, got {sorted(inputs)}")


def _refuse_unknown_parts(network: Any) -> None:
    """Raise ValueError for parts of a network that our forward pass does not support."""
    refuse_unknown_inputs(network)
    outputs = [type(module).__name__ for module in network.output_modules]
    if outputs != ["Atomwise", "Forces"]:
        raise ValueError(f"expected Atomwise, Forces out, got {outputs}")
    energy = network.output_modules[0]
    if energy.aggregation_mode != "sum" or energy.n_out != 1:
        raise ValueError("expected one energy per atom, summed")
    for step in network.postprocessors:
        name = type(step).__name__
        if name == "AddOffsets":
            if not step.is_extensive:
                raise ValueError("an offset that is not extensive is not supported")
        elif not name.startswith("Cast"):
            raise ValueError(f"the postprocessor {name} is not supported")


def unit_value(table: Mapping[str, float], name: str, kind: str) -> float:
    """Return a unit by name, in eV or Å.

    Raises:
        CalculatorError: for a unit not in the table.
    """
    try:
        return table[name.strip().lower()]
    except KeyError:
        raise CalculatorError(
            f"{kind} unit {name.strip()!r} is not known; expected one of {', '.join(table)}"
        ) from None

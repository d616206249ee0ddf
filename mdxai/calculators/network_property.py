"""Networks that predict a property other than the energy, such as a gap or a dipole moment."""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms

from mdxai.calculators.architectures import atom_energies_of
from mdxai.calculators.card import CalculatorError, Card, sha256
from mdxai.calculators.loading import (
    DESCRIPTION,
    LENGTH_UNITS,
    config_of,
    description_of,
    first_line,
    read_tensors,
    refuse_unknown_inputs,
    refused_pickle,
    trained_network,
    unit_value,
)
from mdxai.calculators.own_networks import OwnNetwork
from mdxai.calculators.pooling import MEAN, SUM, DipoleMagnitude, Pooling
from mdxai.calculators.potential import NetworkPotential
from mdxai.frame import Floats, Frame


@dataclass(frozen=True, slots=True)
class Offsets:
    """Constants that a network's postprocessing adds: single-atom references (atomic number →
    value), a constant per atom, and a constant for the whole structure.
    """

    references: Mapping[int, float]
    per_atom: float = 0.0
    whole: float = 0.0

    def of(self, frame: Frame) -> float:
        """Return the sum of all offsets for a frame."""
        atoms = sum(self.references.get(int(z), 0.0) for z in frame.numbers)
        return atoms + self.per_atom * frame.n_atoms + self.whole


class NetworkProperty(OwnNetwork):
    """One output of a SchNet, PaiNN or SO3net of schnetpack, to predict and to explain.

    Made by `load_property`; `mdxai.attributor` takes it in place of a calculator.

    Attributes:
        output: the property's name.
        unit: its unit, as the file or the user states it.
        pooling: how the atoms' outputs combine to it.
        potential: the network behind it, whose "energies" are the atoms' outputs in `unit`.
    """

    def __init__(
        self,
        potential: NetworkPotential,
        output: str,
        unit: str,
        pooling: Pooling,
        offsets: Offsets,
    ) -> None:
        self.potential, self.output, self.unit, self.pooling = potential, output, unit, pooling
        self._offsets = offsets

    @property
    def name(self) -> str:
        return self.potential.name

    def predict(self, frame: Frame | Atoms) -> float:
        """Return the property of one structure, offsets included.

        Raises:
            CalculatorError: for a structure the network cannot take, or for the dipole of a
                periodic one, which depends on the choice of cell.
        """
        if isinstance(frame, Atoms):
            frame = Frame.from_atoms(frame)
        return float(self.atoms(frame).sum()) + self._offsets.of(frame)

    def atoms(self, frame: Frame) -> Floats:
        """Return (n_atoms,) each atom's share of the output, offsets excluded."""
        self.pooling.check(frame)
        activations = self.potential.activations(frame)
        outputs = activations.energies.cpu().numpy().astype(np.float64)
        positions = frame.positions / self.potential.card.length_unit
        starts = np.array([0, frame.n_atoms])
        shares: Floats = outputs * self.pooling.weights(outputs, positions, starts)
        return shares


def load_property(  # noqa: PLR0913 (a pickled model needs its units)
    path: str | os.PathLike[str],
    output: str | None = None,
    *,
    dtype: str = "float32",
    device: str = "cpu",
    trust_pickle: bool = False,
    unit: str | None = None,
    length_unit: str | None = None,
) -> NetworkProperty:
    """Load a network that predicts a property of a molecule.

    Args:
        path: a `{"config", "state_dict"}` file whose config has an `output`, or a pickled
            schnetpack `best_model`.
        output: which of a pickled network's outputs; needed if it has several.
        dtype: "float32" or "float64".
        device: a torch device.
        trust_pickle: load a pickle; loading runs any code that the file contains.
        unit: of the property in a pickle; a label only, nothing is converted.
        length_unit: of a pickled model, such as "Ang".

    Raises:
        CalculatorError: for a missing or damaged file, an output the network does not have or that
            is not a sum over atoms of scalars, or a pickle without `trust_pickle`, unit and
            length_unit.
    """
    if dtype not in ("float32", "float64"):
        raise CalculatorError(f"dtype {dtype!r} is not supported; expected float32 or float64")
    path = Path(path).expanduser()
    if not path.is_file():
        raise CalculatorError(
            f"{path} is not a file; expected a network saved with torch.save. Folders and names of "
            "calculators, whose output is an energy, are for load_calculator"
        )
    network, length, label, offsets = (
        _from_pickle(path, output, unit, length_unit) if trust_pickle else _from_config(path)
    )
    module = network.output_modules[0]
    card = Card(path.stem, description_of(network), length_unit=length, weights_sha256=sha256(path))
    potential = NetworkPotential(network, card, dtype=getattr(torch, dtype), device=device)
    return NetworkProperty(potential, _key(module), label, _pooling_of(module), offsets)


Loaded = tuple[Any, float, str, Offsets]  # network with one output, length unit, unit, offsets


def _from_config(path: Path) -> Loaded:
    try:
        content = read_tensors(path)
    except CalculatorError as error:
        if isinstance(error.__cause__, pickle.UnpicklingError):
            raise refused_pickle(path, "unit") from error
        raise
    config = config_of(content, path)
    if not isinstance(config.get("output"), dict):
        raise CalculatorError(
            f"{path} has no `output` in its config, so it is a potential; load it with "
            "mdxai.load_calculator"
        )
    description = {key: config[key] for key in DESCRIPTION if key in config}
    network = trained_network(description, content["state_dict"], path)
    label, _, length = str(config.get("units", "?, Ang")).partition(",")
    references = {int(z): float(value) for z, value in config.get("atomrefs", {}).items()}
    offsets = Offsets(references, whole=float(config.get("offset", 0.0)))
    return network, unit_value(LENGTH_UNITS, length or "Ang", "length"), label.strip(), offsets


def _from_pickle(path: Path, output: str | None, unit: str | None, length: str | None) -> Loaded:
    if unit is None or length is None:
        raise CalculatorError(
            f"{path} does not state its units; pass unit (a label such as 'eV' or 'D') and "
            f"length_unit (one of {', '.join(LENGTH_UNITS)})"
        )
    try:
        # weights_only=False: the caller asked for it by name (trust_pickle).
        network = torch.load(path, map_location="cpu", weights_only=False)
        atom_energies_of(network)
        refuse_unknown_inputs(network)
        module = _chosen(list(network.output_modules), output)
        offsets = _offsets(network.postprocessors, _key(module))
    except (pickle.UnpicklingError, AttributeError, RuntimeError, EOFError, ValueError) as error:
        raise CalculatorError(
            f"{path} is not a network of schnetpack with such an output that mdxai can open: "
            f"{first_line(error)}"
        ) from error
    network.output_modules = torch.nn.ModuleList([module])
    return network, unit_value(LENGTH_UNITS, length, "length"), unit, offsets


def _chosen(modules: list[Any], output: str | None) -> Any:
    """Return the module of an output; ValueError if there is none or none is chosen."""
    known = {_key(m): m for m in modules if type(m).__name__ in ("Atomwise", "DipoleMoment")}
    if output is None and len(known) == 1:
        return next(iter(known.values()))
    if output not in known:
        raise ValueError(f"no output {output!r}; it has {', '.join(known) or 'none'}")
    return known[output]


def _key(module: Any) -> str:
    if type(module).__name__ == "DipoleMoment":
        return str(module.dipole_key)
    pooled = module.aggregation_mode is not None
    return str(module.output_key if pooled else module.per_atom_output_key)


def _pooling_of(module: Any) -> Pooling:
    """Return how a module combines its atoms; CalculatorError if that cannot be explained."""
    if type(module).__name__ == "DipoleMoment":
        if module.use_vector_representation:
            raise CalculatorError(
                "the dipole is made of atomic dipoles (use_vector_representation), which relevance "
                "cannot follow; expected a dipole of latent charges only"
            )
        return DipoleMagnitude(neutral=module.correct_charges)
    if module.n_out != 1:
        raise CalculatorError(f"expected one number per atom, the output has {module.n_out}")
    return MEAN if module.aggregation_mode == "avg" else SUM


def _offsets(steps: Any, key: str) -> Offsets:
    """Return what postprocessors add to an output; ValueError if they do anything else."""
    references: dict[int, float] = {}
    per_atom = whole = 0.0
    for step in steps:
        name = type(step).__name__
        if name == "AddOffsets" and step._property == key:
            mean = float(step.mean) if step.add_mean else 0.0
            per_atom, whole = (
                (per_atom + mean, whole) if step.is_extensive else (per_atom, whole + mean)
            )
            if step.add_atomrefs and not step.is_extensive:
                raise ValueError("single-atom references of an intensive output are not supported")
            if step.add_atomrefs:
                references |= {z: float(v) for z, v in enumerate(step.atomref.flatten()) if v}
        elif name != "AddOffsets" and not name.startswith("Cast"):
            raise ValueError(f"the postprocessor {name} is not supported")
    return Offsets(references, per_atom, whole)

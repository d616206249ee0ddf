"""Which atomic interactions a model's energy comes from, for one frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from ase import Atoms

from mdxai.errors import MdxaiError
from mdxai.frame import Bools, Floats, Frame, Ints, Pairs
from mdxai.serialization import as_json
from mdxai.showing import ShowsItself
from mdxai.statistics import RelevanceProfile

_NO_TRIPLES = np.empty((0, 3), dtype=np.int64)
_NO_ATOMS = np.empty(0, dtype=np.int64)
_NONE = np.empty(0)


class AttributionError(MdxaiError, ValueError):
    """An explanation is requested with unusable arguments."""


class AttributionUnavailable(AttributionError):
    """A calculator whose energy cannot be attributed to interactions, with the reason."""


@dataclass(frozen=True)  # no slots: the profile is kept once it is made
class Attribution(ShowsItself):
    """Relevance of one frame; eV, or the unit of the property explained.

    Attributes:
        method: "walks", "flow", "expansion" or "hessian".
        gamma: γ of the rule, NaN where the method has none.
        output: the energy being explained without its constant offset.
        atoms: (n_atoms,) relevance arriving at each atom.
        one_body: (n_atoms,) that of walks which never leave the atom; NaN where not computed.
        pairs: for "flow" every image of a pair within the cutoff, otherwise each pair once.
        strengths: (n_pairs,) the method's signed measure of each pair: exactly-two-body relevance
            ("walks", "expansion"), flow, or norms of Hessian blocks (eV/Å²).
        by_body_order: one-body, two-body, … up to the order computed; last, all higher orders.
        triples: (n, 3) sets of three atoms, each ascending; three_body: (n,) their relevance.
        several_images: (n_pairs,) pairs of which several images lie within the cutoff.
        by_layer: (n_layers, n_pairs) flow of each block, without pair potentials.
        unit: of everything but Hessian norms.
        max_bias: whether the rule handed the biases' share back.
        numbers: (n_atoms,) atomic numbers.
        scalars_only: whether the rule took SO3net's features of l > 0 as constants.
    """

    method: str
    gamma: float
    output: float
    atoms: Floats
    one_body: Floats
    pairs: Pairs
    strengths: Floats
    by_body_order: Floats
    triples: Ints = field(default_factory=_NO_TRIPLES.copy)
    three_body: Floats = field(default_factory=_NONE.copy)
    several_images: Bools | None = None
    by_layer: Floats | None = None
    unit: str = "eV"
    max_bias: bool = False
    numbers: Ints = field(default_factory=_NO_ATOMS.copy)
    scalars_only: bool = False

    _not_state: ClassVar = ("profile",)

    @cached_property
    def profile(self) -> RelevanceProfile:
        """|strengths| by element pair and distance, made when first asked for."""
        pairs = self.pairs
        return RelevanceProfile(self.numbers, pairs.i, pairs.j, pairs.distances, self.strengths)

    @property
    def two_body(self) -> Floats:
        """(n_pairs,) exactly-two-body relevance.

        Raises:
            AttributionUnavailable: for a method that gives another measure of pairs.
        """
        if self.method not in ("walks", "expansion"):
            raise AttributionUnavailable(
                f"method {self.method!r} gives no two-body relevance; `strengths` holds its "
                "measure of each pair"
            )
        return self.strengths

    @property
    def measure(self) -> str:
        """What `strengths` holds: "two_body", "flow" or "hessian_norm"."""
        return {"flow": "flow", "hessian": "hessian_norm"}.get(self.method, "two_body")

    @property
    def relevance_total(self) -> float:
        """Sum of all relevance, eV."""
        return float(self.atoms.sum())

    @property
    def residual(self) -> float:
        """Output − total: what the biases absorbed, eV. It judges the explanation, not physics."""
        return self.output - self.relevance_total

    def as_dict(self) -> dict[str, Any]:
        """Return plain numbers and lists, eV and Å, in full precision; None where undefined."""
        pairs = zip(self.pairs.i, self.pairs.j, self.pairs.distances, self.strengths, strict=True)
        trios = zip(self.triples.tolist(), self.three_body, strict=True)
        content: dict[str, Any] = {
            "method": self.method,
            "gamma": self.gamma,
            "max_bias": self.max_bias,
            "scalars_only": self.scalars_only,
            "output": self.output,
            "relevance_total": self.relevance_total,
            "residual": self.residual,
            "per_atom": self.atoms,
            "one_body": self.one_body,
            "pairs": [
                {"i": int(i), "j": int(j), "distance": float(r), self.measure: value}
                for i, j, r, value in pairs
            ],
            "by_body_order": self.by_body_order,
        }
        if len(self.by_body_order) >= 4:
            content["three_body"] = [[*trio, value] for trio, value in trios]
        plain: dict[str, Any] = as_json(content)
        return plain


@dataclass(frozen=True, slots=True)
class Together:
    """Explanations of several molecules side by side.

    Attributes:
        whole: of all atoms, numbered through; body orders are summed over the molecules.
        starts: (n_molecules + 1,) first atom of each molecule, and the number of all atoms.
        outputs: (n_molecules,) output of each.
    """

    whole: Attribution
    starts: Ints
    outputs: Floats

    def molecule_of(self, atoms: Ints) -> Ints:
        """Return the molecule of each atom."""
        found: Ints = np.searchsorted(self.starts, atoms, side="right") - 1
        return found


def side_by_side(explained: Sequence[Attribution]) -> Together:
    """Return explanations of single molecules as one."""
    starts = np.cumsum([0] + [len(one.atoms) for one in explained])
    shifts = starts[:-1]

    def joined(name: str) -> Any:
        return np.concatenate([getattr(one, name) for one in explained])

    parts = [one.pairs for one in explained]
    pairs = Pairs(
        np.concatenate([p.i + s for p, s in zip(parts, shifts, strict=True)]),
        np.concatenate([p.j + s for p, s in zip(parts, shifts, strict=True)]),
        np.concatenate([p.vectors for p in parts]), np.concatenate([p.distances for p in parts]),
    )  # fmt: skip
    outputs = np.array([one.output for one in explained])
    whole = replace(
        explained[0], output=float(outputs.sum()), pairs=pairs, several_images=None, by_layer=None,
        by_body_order=np.sum([one.by_body_order for one in explained], axis=0),
        triples=np.concatenate([t.triples + s for t, s in zip(explained, shifts, strict=True)]),
        **{name: joined(name) for name in ("atoms", "one_body", "strengths", "three_body",
                                           "numbers")},
    )  # fmt: skip
    return Together(whole, starts, outputs)


class Attributor(Protocol):
    """Explains frames."""

    method: str

    def attribute(self, frame: Frame | Atoms) -> Attribution: ...


@runtime_checkable
class Reaching(Protocol):
    """An attributor that knows how far interactions reach."""

    cutoff: float  # Å


@runtime_checkable
class Anticipating(Protocol):
    """An attributor that reuses what the force call computed, where it knows of it beforehand."""

    def will_explain_next(self, explained: bool) -> None:
        """State whether the next frame will be explained, before its forces are computed."""
        ...


@runtime_checkable
class Stateful(Protocol):
    """An attributor that a checkpoint must hold, so that explanations go on with the same bits."""

    def state(self) -> dict[str, Any]:
        """Return plain data and arrays."""
        ...

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` returned."""
        ...


def as_frame(frame: Frame | Atoms) -> Frame:
    """Return ASE atoms as a frame.

    Raises:
        AttributionUnavailable: for positions that are not finite.
    """
    if isinstance(frame, Atoms):
        frame = Frame.from_atoms(frame)
    if not isinstance(frame, Frame):
        raise AttributionError(f"expected ASE Atoms or a Frame, got {type(frame).__name__}")
    if not frame.n_atoms:
        raise AttributionError("the structure holds no atoms")
    if not np.isfinite(frame.positions).all():
        raise AttributionUnavailable(f"the positions of step {frame.step} are not finite")
    return frame

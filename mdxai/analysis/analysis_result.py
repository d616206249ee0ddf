"""What an analysis found: tables of every binned number, fits, rankings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from ase.data import atomic_numbers, covalent_radii
from scipy.stats import spearmanr

from mdxai.analysis.bond_kinds import BONDED, KINDS
from mdxai.analysis.close_look import ANGLES
from mdxai.analysis.close_look import WIDTH as CLOSE_WIDTH
from mdxai.analysis.clustered_means import ClusteredMeans
from mdxai.analysis.decay_laws import PairDecay, fit_laws, straight_line
from mdxai.analysis.histograms import Histograms, Offender
from mdxai.analysis.molecule_tally import HEAVIEST, WIDTH
from mdxai.frame import Floats
from mdxai.principles.bond_enthalpies import bond_enthalpy
from mdxai.principles.explanation.decay import BONDED as SHELL
from mdxai.principles.explanation.decay import (
    ENVELOPE,
    MIN_BINS,
    MIN_SAMPLES,
    NOTHING,
    Decay,
    fit_decay,
)
from mdxai.showing import ShowsItself

if TYPE_CHECKING:
    import pandas as pd

    from mdxai.analysis.close_look import CloseLook
    from mdxai.analysis.molecule_tally import MoleculeTally

FIRST = 5  # entries named per reason
DRAWS, SEED = 1000, 1  # of intervals
COMMON = 0.02  # share of molecules
SURE = 5  # molecules behind a mean, at least, where it counts in a ranking
GROWING = ("output", "atoms", "pairs", "atoms that take part", "pair strength per atom")


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Entries that were left out for one reason. first: the first five."""

    reason: str
    count: int
    first: tuple[int, ...]

    def and_entry(self, index: int) -> LeftOut:
        """Return this with one more entry."""
        first = self.first if len(self.first) >= FIRST else (*self.first, index)
        return replace(self, count=self.count + 1, first=first)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its 95 % interval. n: of the things it was taken from."""

    value: float
    low: float
    high: float
    n: int = 0

    @property
    def is_known(self) -> bool:
        """Whether there was enough to tell."""
        return bool(np.isfinite(self.value))


UNKNOWN = Estimate(np.nan, np.nan, np.nan)


@dataclass(frozen=True, slots=True)
class BondStrength:
    """Mean two-body strength of a kind of pair. error: standard error over molecules. reference:
    mean bond enthalpy, eV, None where none is listed.
    """

    name: str
    count: int
    molecules: int
    mean: float
    error: float
    signed: float
    median: float
    reference: float | None


@dataclass(frozen=True, slots=True)
class GroupShare:
    """What functional groups of one kind carry, in the molecules that have some.

    relevance, error: mean share of Σ|R_a|, and its standard error over molecules. atoms: mean share
    of the atoms. heaviest: share of these molecules whose heaviest fragment is such a group; NaN
    for the heaviest fragments themselves.
    """

    name: str
    molecules: int
    relevance: float
    error: float
    atoms: float
    heaviest: float


@dataclass(frozen=True)  # no slots: decays are kept once they are fitted
class ModelFindings:
    """What was found of one model. model: what identifies it, as in analysis.toml."""

    model: Mapping[str, Any]
    tally: MoleculeTally
    close: CloseLook

    @property
    def name(self) -> str:
        return str(self.model["name"])

    @property
    def unit(self) -> str:
        return str(self.model["unit"])

    @property
    def cutoff(self) -> float:
        """Å."""
        return float(self.model["cutoff"])

    @property
    def reach(self) -> float:
        """Receptive field, Å."""
        return self.cutoff * int(self.model["n_layers"])

    @cached_property
    def bonds(self) -> list[BondStrength]:
        """All kinds of pairs, and of single atoms, the strongest first."""
        bonds, tally = self.tally.bonds, self.tally
        found = []
        for k, name in enumerate(bonds.names):
            pair, _, kind = name.partition(" ")
            found.append(
                BondStrength(
                    name, int(bonds.count[k, 0]), int(bonds.molecules[k, 0]),
                    float(bonds.mean[k, 0]), float(bonds.error[k, 0]), float(bonds.signed[k, 0]),
                    float(10 ** tally.strengths.quantile(name, 0.5)), bond_enthalpy(pair, kind),
                )
            )  # fmt: skip
        return sorted(found, key=lambda one: -one.mean)

    @property
    def common_bonds(self) -> list[BondStrength]:
        """Those kinds that occur in at least one molecule in fifty, and in five; the strongest
        first.
        """
        most = max((b.molecules for b in self.bonds), default=0)
        return [b for b in self.bonds if b.molecules >= min(max(SURE, COMMON * most), most)]

    @cached_property
    def groups(self) -> list[GroupShare]:
        """The heaviest fragment of every molecule, then all kinds of functional groups, those in
        most molecules first.
        """
        relevance, atoms, won = (
            getattr(self.tally, f"group_{name}") for name in ("relevance", "atoms", "heaviest")
        )
        found = []
        for k, name in enumerate(relevance.names):
            row = won.row(name)
            found.append(
                GroupShare(
                    name, int(relevance.molecules[k, 0]), float(relevance.mean[k, 0]),
                    float(relevance.error[k, 0]), float(atoms.mean[k, 0]),
                    np.nan if row is None else float(won.mean[row, 0]),
                )
            )  # fmt: skip
        return sorted(found, key=lambda one: (one.name != HEAVIEST, -one.molecules, one.name))

    @cached_property
    def against_enthalpies(self) -> Estimate:
        """Spearman's ρ of mean strengths of bonds with mean bond enthalpies.

        Over kinds of bonds seen in at least five molecules. The interval is that of drawing each
        mean from its standard error over molecules.
        """
        known = [
            b for b in self.bonds
            if b.reference is not None and b.molecules >= SURE and np.isfinite(b.error)
        ]  # fmt: skip
        if len(known) < 4:
            return UNKNOWN
        means, errors, reference = (
            np.array([getattr(b, name) for b in known]) for name in ("mean", "error", "reference")
        )
        rng = np.random.default_rng(SEED)
        drawn = [spearmanr(rng.normal(means, errors), reference).statistic for _ in range(DRAWS)]
        low, high = np.quantile(drawn, [0.025, 0.975])
        value = spearmanr(means, reference).statistic
        return Estimate(float(value), float(low), float(high), len(known))

    @cached_property
    def against_wiberg(self) -> Estimate:
        """Spearman's ρ of the strengths of individual bonds with GFN2-xTB's Wiberg orders.

        The interval is by drawing molecules with replacement. Unknown without tblite.
        """
        rows = self.close.order_rows
        if len(rows) < 4:
            return UNKNOWN
        molecules = np.unique(rows[:, 0])
        parts = [rows[rows[:, 0] == m] for m in molecules]
        rng = np.random.default_rng(SEED)
        drawn = []
        for _ in range(DRAWS):
            some = np.concatenate([parts[k] for k in rng.integers(0, len(parts), len(parts))])
            drawn.append(spearmanr(some[:, 1], some[:, 2]).statistic)
        low, high = np.nanquantile(drawn, [0.025, 0.975])
        value = spearmanr(rows[:, 1], rows[:, 2]).statistic
        return Estimate(float(value), float(low), float(high), len(rows))

    @cached_property
    def decays(self) -> list[PairDecay]:
        """The decay of each element pair with enough bins, the most frequent first."""
        decay = self.tally.decay
        counts = decay.count.sum(axis=1)
        found = []
        for k in np.argsort(-counts, kind="stable"):
            name = decay.names[k]
            few = decay.molecules[k] < SURE
            profile = (
                centres(decay, WIDTH), np.where(few, np.nan, decay.mean[k]), decay.error[k],
            )  # fmt: skip
            found.append(fit_laws(name, profile, shell(name), self.cutoff))
        return [decay for decay in found if decay.laws]

    @cached_property
    def decay_principles(self) -> dict[str, Decay]:
        """What the decay principles measure, of each element pair with enough bins over the set.

        As `StrengthProfile` of a run does, in bins of 0.1 Å.
        """
        decay, found = self.tally.decay, {}
        middles = centres(decay, WIDTH)
        for k, name in enumerate(decay.names):
            count, mean = decay.count[k], decay.mean[k]
            with np.errstate(invalid="ignore"):
                use = (count >= MIN_SAMPLES) & (middles > shell(name)) & (mean > 0)
            near = use & (middles <= ENVELOPE * self.cutoff)
            if np.count_nonzero(near) >= MIN_BINS and mean[use].max() > NOTHING:
                counts = count[use].astype(np.float64)
                found[name] = fit_decay(middles[use], mean[use], counts, self.cutoff)
        return found

    @cached_property
    def growth(self) -> dict[str, Estimate]:
        """How a sum over a molecule grows with its number of atoms: e of ∝ nᵉ.

        Least squares of ln mean on ln n, weighted by the standard errors over molecules, over sizes
        with at least five of them: 1 for what is extensive, 0 for what is intensive.
        """
        return {name: _growth(self.tally.sizes, name) for name in GROWING}


@dataclass(frozen=True, repr=False)
class Analysis(ShowsItself):
    """An analysis of models over a data set; from `mdxai.analyse`.

    Attributes:
        identity: models, data and options, as plain data.
        n_read, n_used: entries read, and molecules that were explained.
        left_out: why the others were not.
        sums: of each model.
    """

    identity: Mapping[str, Any]
    n_read: int
    n_used: int
    left_out: tuple[LeftOut, ...]
    sums: tuple[tuple[MoleculeTally, CloseLook], ...]

    def __repr__(self) -> str:
        names = ", ".join(model.name for model in self.models)
        return f"<Analysis of {names}: {self.n_used} of {self.n_read} entries of {self.data}>"

    @cached_property
    def models(self) -> tuple[ModelFindings, ...]:
        """What was found of each model."""
        parts = zip(_distinct(self.identity["models"]), self.sums, strict=True)
        return tuple(ModelFindings(model, *sums) for model, sums in parts)

    @property
    def data(self) -> str:
        """The data set."""
        return str(self.identity["data"])

    def tables(self) -> dict[str, pd.DataFrame]:
        """Return every binned number, tidy: one observation per row, by name of the table."""
        import pandas as pd

        rows: dict[str, list[dict[str, Any]]] = {}
        for model in self.models:
            for name, row in _rows(model):
                rows.setdefault(name, []).append({"model": model.name} | row)
        rows["left_out"] = [
            {"reason": o.reason, "count": o.count, "first": " ".join(map(str, o.first))}
            for o in self.left_out
        ]
        return {name: pd.DataFrame(found) for name, found in rows.items()}


def _distinct(models: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return models with names of their own."""
    names = [model["name"] for model in models]
    return [
        model | ({"name": f"{name} ({k + 1})"} if names.count(name) > 1 else {})
        for k, (model, name) in enumerate(zip(models, names, strict=True))
    ]


def centres(means: ClusteredMeans, width: float) -> Floats:
    """Return the centres of the bins, (n_bins,)."""
    return width * (np.arange(means.n_bins, dtype=np.float64) + 0.5)


def shell(pair: str) -> float:
    """Return where the bonds of an element pair end, Å."""
    radii = (covalent_radii[atomic_numbers[symbol]] for symbol in pair.split("-"))
    return SHELL * float(sum(radii))


def _growth(sizes: ClusteredMeans, name: str) -> Estimate:
    k = sizes.row(name)
    if k is None:
        return UNKNOWN
    mean, error, n = sizes.mean[k], sizes.error[k], np.arange(sizes.n_bins)
    with np.errstate(invalid="ignore"):
        use = (sizes.molecules[k] >= SURE) & (mean > 1e-12) & np.isfinite(error)
    if use.sum() < 3:
        return UNKNOWN
    sigma = np.maximum(error[use] / mean[use], 1e-3)
    slope, half, *_ = straight_line(np.log(n[use]), np.log(mean[use]), sigma)
    return Estimate(slope, slope - half, slope + half, int(use.sum()))


def _rows(model: ModelFindings) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the rows of all tables of one model."""
    tally, close = model.tally, model.close
    for name, means, labels in (
        ("decay", tally.decay, {"distance": centres(tally.decay, WIDTH)}),
        ("atoms", tally.atoms, {}), ("body_orders", tally.orders, {}),
        ("guard", tally.guard, {"distance": centres(tally.guard, WIDTH)}),
        ("guarded_molecules", tally.guarded, {}),
        ("sizes", tally.sizes, {"n_atoms": np.arange(tally.sizes.n_bins, dtype=np.float64)}),
        ("three_body_perimeter", close.perimeters,
         {"perimeter": centres(close.perimeters, CLOSE_WIDTH)}),
        ("three_body_angle", close.angles, {"angle": centres(close.angles, 180 / ANGLES)}),
        ("beyond_direct_reach", close.beyond, {"distance": centres(close.beyond, CLOSE_WIDTH)}),
        ("close_body_orders", close.orders, {}), ("copies", close.copies, {}),
        ("precision", close.precision, {}),
    ):  # fmt: skip
        yield from ((name, row) for row in _mean_rows(means, labels))
    for bond in model.bonds:
        yield "bonds", {field: getattr(bond, field) for field in BondStrength.__slots__}
    for group in model.groups:
        yield "groups", {field: getattr(group, field) for field in GroupShare.__slots__}
    for decay in model.decays:
        for law in decay.laws:
            yield "laws", {
                "pair": decay.pair, "law": law.kind, "value": law.value, "low": law.low,
                "high": law.high, "prefactor": law.prefactor, "aic": law.aic,
                "fitted_from": decay.fitted[0], "fitted_to": decay.fitted[1],
                "holds_from": law.holds[0], "holds_to": law.holds[1],
            }  # fmt: skip
    for pair, found in model.decay_principles.items():
        yield "decay_principles", {
            "pair": pair, "rise": found.rise, "exponent_high": found.high,
            "prefers_exponential": found.prefers_exponential, "tail": found.tail,
            "worst_distance": found.worst,
        }  # fmt: skip
    for name, estimate in model.growth.items():
        yield "growth", {"quantity": name, "exponent": estimate.value, "low": estimate.low,
                         "high": estimate.high, "sizes": estimate.n}  # fmt: skip
    yield from (("strengths", row) for row in _histogram_rows(tally.strengths))
    yield from (("principles", row) for row in _histogram_rows(tally.principles))
    for principle, worst in tally.worst.found.items():
        for rank, one in enumerate(worst, 1):
            yield "worst", {"principle": principle, "rank": rank} | _offender_row(one)


def _mean_rows(means: ClusteredMeans, labels: Mapping[str, Floats]) -> Iterator[dict[str, Any]]:
    count, molecules = means.count, means.molecules
    mean, error, signed = means.mean, means.error, means.signed
    for k, b in zip(*np.nonzero(count), strict=True):
        place = {name: float(values[b]) for name, values in labels.items()}
        yield {"channel": means.names[k], **place, "count": int(count[k, b]),
               "molecules": int(molecules[k, b]), "mean": float(mean[k, b]),
               "standard_error": float(error[k, b]),
               "signed_mean": float(signed[k, b])}  # fmt: skip


def _histogram_rows(histograms: Histograms) -> Iterator[dict[str, Any]]:
    edges = histograms.edges
    for name, counts in histograms.counts.items():
        for b in np.flatnonzero(counts):
            yield {"channel": name, "from": float(edges[b]), "to": float(edges[b + 1]),
                   "count": int(counts[b])}  # fmt: skip


def _offender_row(one: Offender) -> dict[str, Any]:
    return {"value": one.value, "entry": one.index, "formula": one.formula}


def is_bond(name: str) -> bool:
    """Return whether a kind of pair ("C-C single") is a bond."""
    return name.partition(" ")[2] in [KINDS[k] for k in BONDED]

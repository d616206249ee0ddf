"""Principles that judge the explanation itself: equivalent atoms, residual, precision."""

from __future__ import annotations

import numpy as np

from mdxai.attribution import (
    Attribution,
    AttributionError,
    AttributionUnavailable,
    Attributor,
    attributor,
)
from mdxai.calculators import Potential
from mdxai.calculators.own_networks import network_potential
from mdxai.calculators.twin import AseTwin
from mdxai.frame import Floats, Frame, Ints
from mdxai.principles.explanation.ranking import WEAK
from mdxai.principles.motion.structure import bonds_of
from mdxai.principles.principle import Cost, Deviation, PrincipleUnavailable


class Equivalence:
    """By how much the mean relevance of equivalent atoms differs beyond its error, eV.

    Largest |⟨R_a⟩ − ⟨R⟩_class| beyond three standard errors, from the means of at least 8 blocks
    of 20 explained frames. Atoms are equivalent if Weisfeiler–Lehman refinement of the bond graph
    cannot tell them apart; in molecules this is nearly always a symmetry. A network
    treats such atoms alike by construction, and only their positions differ. A lasting value means
    that the run samples too little, or that the model has broken the molecule's symmetry.

    Args:
        first: frame that defines the bonds.

    Raises:
        PrincipleUnavailable: when no two atoms are equivalent.
    """

    name = "equivalence"
    unit = "eV"
    cost: Cost = "attribution"
    BLOCK, MIN_BLOCKS = 20, 8

    def __init__(self, first: Frame) -> None:
        self._kind = equivalent_atoms(first)
        self._counts = np.bincount(self._kind)
        if self._counts.max() == 1:
            raise PrincipleUnavailable("no two atoms of the bond graph are equivalent")
        self._sum = np.zeros(first.n_atoms)
        self._n = self._blocks = 0
        self._mean = np.zeros(first.n_atoms)
        self._m2 = np.zeros(first.n_atoms)

    def deviate(self, frame: Frame, attribution: Attribution | None) -> Deviation | None:
        if attribution is None:
            return None
        self._sum += attribution.atoms - self._class_means(attribution.atoms)
        self._n += 1
        if self._n % self.BLOCK:
            return None
        self._add_block(self._sum / self.BLOCK)
        if self._blocks < self.MIN_BLOCKS:
            return None
        error = np.sqrt(self._m2 / (self._blocks - 1) / self._blocks)
        excess = np.abs(self._mean) - 3 * error
        worst = int(np.argmax(excess))
        return Deviation(self.name, self.unit, float(np.maximum(excess[worst], 0.0)), (worst,))

    def _class_means(self, values: Floats) -> Floats:
        means: Floats = (np.bincount(self._kind, values) / self._counts)[self._kind]
        return means

    def _add_block(self, block: Floats) -> None:
        self._sum = np.zeros(len(block))
        self._blocks += 1
        delta = block - self._mean
        self._mean = self._mean + delta / self._blocks
        self._m2 = self._m2 + delta * (block - self._mean)


def equivalent_atoms(frame: Frame) -> Ints:
    """Return the class of each atom, (n_atoms,), by refinement of the coloured bond graph."""
    first, second = bonds_of(frame)
    finer: Ints = np.unique(frame.numbers, return_inverse=True)[1]
    rng = np.random.default_rng(0)
    known = 0
    while known < (known := int(finer.max()) + 1):
        # The sum of random 64-bit words tells which classes an atom's neighbours have.
        words = rng.integers(2**63, size=known, dtype=np.uint64)[finer]
        around = np.zeros(frame.n_atoms, dtype=np.uint64)
        np.add.at(around, first, words[second])
        np.add.at(around, second, words[first])
        described = np.stack([finer.astype(np.uint64), around], axis=1)
        finer = np.unique(described, axis=0, return_inverse=True)[1]
    return finer


class Residual:
    """|output − total relevance| as a share of Σ|by_body_order|: what the biases absorbed.

    The sum counts as 0.1 eV at least: nothing is lost where there is nothing to explain.

    It judges the explanation, not the physics: if it is large, interpret strengths with care.
    """

    name = "residual"
    unit = "share"
    cost: Cost = "attribution"

    def deviate(self, frame: Frame, attribution: Attribution | None) -> Deviation | None:
        if attribution is None:
            return None
        scale = sum(abs(relevance) for relevance in attribution.by_body_order.tolist())
        scale = WEAK if scale < WEAK else scale  # NaN stays
        return Deviation(self.name, self.unit, abs(attribution.residual) / scale)


class ExplanationPrecision:
    """Largest change of a pair's relevance in float64, as a share of the largest relevance.

    It judges the explanation, not the physics.

    Args:
        twin: the network in its working precision, not shared with the run.

    Raises:
        PrincipleUnavailable: for calculators whose network cannot be explained.
    """

    name = "explanation_precision"
    unit = "share"
    cost: Cost = "probe"

    def __init__(self, twin: Potential) -> None:
        self._used, self._exact = _explainers(twin)

    def deviate(self, frame: Frame, attribution: Attribution | None = None) -> Deviation | None:
        try:
            used, exact = self._used.attribute(frame), self._exact.attribute(frame)
        except AttributionUnavailable:  # too many pairs for exact relevance
            return None
        if len(exact.pairs) != len(used.pairs) or not len(used.pairs):
            return None  # the pairs differ by rounding at the cutoff, or there are no pairs
        change = np.abs(exact.strengths - used.strengths)
        worst = int(np.argmax(change))
        atoms = (int(exact.pairs.i[worst]), int(exact.pairs.j[worst]))
        share = float(change[worst] / np.abs(exact.strengths).max())
        return Deviation(self.name, self.unit, share, atoms)


def _explainers(twin: Potential) -> tuple[Attributor, Attributor]:
    """Return what explains a potential in its working precision, and in float64."""
    network = network_potential(twin)
    if network is None:
        try:
            calculator = twin.calculator if isinstance(twin, AseTwin) else twin
            used, exact = (
                attributor(calculator, method="walks", dtype=dtype) for dtype in (None, "float64")
            )
        except AttributionError as unknown:
            raise PrincipleUnavailable(str(unknown)) from unknown
        return used, exact
    import torch

    from mdxai.attribution import WalkAttributor

    return WalkAttributor(network), WalkAttributor(network.twin(torch.float64))

"""Decay principles: interaction strength falls with distance.

They share one profile: the mean |two-body relevance| (or |flow|) per element pair and distance
since the start of the run, beyond the bonded shell. It needs a few dozen explained frames; until
then, and between refits, the principles return None.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase.data import atomic_numbers, covalent_radii
from scipy.optimize import isotonic_regression
from scipy.special import stdtrit

from mdxai.attribution import Attribution
from mdxai.frame import Floats, Frame
from mdxai.principles.principle import Cost, Deviation, PrincipleUnavailable
from mdxai.statistics import BinnedMoments, element_pair_channels

BIN = 0.25  # Å
BONDED = 1.25  # times the sum of covalent radii, as in bonds_of
ENVELOPE = 0.8  # of the cutoff; beyond it the cutoff function shapes the decay, not physics
MIN_SAMPLES, MIN_BINS = 20, 4  # per bin; bins per element pair
REFIT = 20  # explained frames
LITTLE = 0.01  # eV: cut off within half an Å, it gives 0.02 eV/Å, as good models err anyway
NOTHING = 0.001  # eV: pairs of elements that never carry more have no decay to speak of


@dataclass(frozen=True, slots=True)
class Decay:
    """How one element pair's strength falls with distance.

    Attributes:
        exponent: n of strength ∝ r⁻ⁿ, least squares on logarithms.
        low, high: its 95 % interval, from the scatter of the bins.
        rise: Σ n_b |m_b − fit_b| / Σ n_b max(m_b, 0.01 eV) with the non-increasing (isotonic) fit:
            the share of the profile that would have to move for it to fall everywhere.
        prefers_exponential: ½ ln(RSS_power/RSS_exp), the log-likelihood per bin by which exp(−r/λ)
            fits better than r⁻ⁿ. Both have two parameters, so this is half their AIC difference
            per bin. Negative if the power law fits better.
        tail: strength in the last tenth before the cutoff, relative to the first bin beyond the
            bonds, or to 0.01 eV where that is more; NaN if no pair was that far apart.
        worst: distance of the largest rise, Å.
    """

    exponent: float
    low: float
    high: float
    rise: float
    prefers_exponential: float
    tail: float
    worst: float


def fit_decay(distances: Floats, strengths: Floats, counts: Floats, cutoff: float) -> Decay:
    """Fit the profile of one element pair beyond its bonds.

    Args:
        distances: (n_bins,) Å, ascending, at least 4 of them below 0.8 of the cutoff.
        strengths: (n_bins,) eV, positive means.
        counts: (n_bins,) samples.
        cutoff: Å.
    """
    falling = isotonic_regression(strengths, weights=counts, increasing=False).x
    excess = counts * np.abs(strengths - falling)
    near = distances <= ENVELOPE * cutoff
    logs = np.log(np.maximum(strengths[near], np.finfo(float).tiny))
    slope, half_width, power = _line(np.log(distances[near]), logs)
    *_, exponential = _line(distances[near], logs)
    far = distances > 0.9 * cutoff
    last = np.average(strengths[far], weights=counts[far]) if far.any() else np.nan
    return Decay(
        exponent=-slope,
        low=-slope - half_width,
        high=-slope + half_width,
        rise=float(excess.sum() / (counts * np.maximum(strengths, LITTLE)).sum()),
        prefers_exponential=float(0.5 * np.log(power / exponential)),
        tail=float(last / max(strengths[0], LITTLE)),
        worst=float(distances[np.argmax(excess)]),
    )


def _line(x: Floats, y: Floats) -> tuple[float, float, float]:
    """Return slope, half width of its 95 % interval, and residual sum of squares of y on x."""
    x = x - x.mean()
    slope = float(x @ (y - y.mean()) / (x @ x))
    residual = max(float(np.sum((y - y.mean() - slope * x) ** 2)), 1e-30)
    freedom = len(x) - 2
    error = np.sqrt(residual / freedom / (x @ x))
    return slope, float(stdtrit(freedom, 0.975) * error), residual


class StrengthProfile:
    """Mean pair strength per element pair and distance since the start of a run.

    Args:
        first: a frame of the system.
        cutoff: of the calculator, Å.

    Attributes:
        decays: by element pair ("C-H"), from the last refit; empty while there are too few samples.

    Raises:
        PrincipleUnavailable: for a single atom.
    """

    def __init__(self, first: Frame, cutoff: float) -> None:
        names = element_pair_channels(first.numbers).names
        if not names:
            raise PrincipleUnavailable("a single atom has no pairs")
        self._moments = BinnedMoments(names, cutoff, max(int(np.ceil(cutoff / BIN)), 1))
        self._cutoff = cutoff
        self._shell = [BONDED * _radii(name) for name in names]
        self._step: int | None = None
        self._seen = 0
        self.decays: dict[str, Decay] = {}

    def observe(self, frame: Frame, attribution: Attribution | None) -> bool:
        """Add a frame unless it was added before; return whether there are new fits."""
        if attribution is None:
            return False
        if frame.step != self._step:
            self._step = frame.step
            self._seen += 1
            self._moments.update(*attribution.profile.samples)
            if self._seen % REFIT == 0:
                self.decays = dict(self._fitted())
        return self._seen % REFIT == 0 and bool(self.decays)

    def _fitted(self) -> list[tuple[str, Decay]]:
        decays, centers = [], self._moments.bin_centers
        counts, means = self._moments.count, self._moments.mean
        for k, name in enumerate(self._moments.channels):
            count, mean = counts[k], means[k]
            use = (count >= MIN_SAMPLES) & (centers > self._shell[k]) & (mean > 0)
            near = use & (centers <= ENVELOPE * self._cutoff)
            if np.count_nonzero(near) >= MIN_BINS and mean[use].max() > NOTHING:
                decay = fit_decay(centers[use], mean[use], count[use].astype(float), self._cutoff)
                decays.append((name, decay))
        return decays

    def example(self, name: str, distance: float, attribution: Attribution) -> tuple[int, ...]:
        """Return the atoms of the pair of these elements whose distance is nearest to one (Å)."""
        pairs, profile = attribution.pairs, attribution.profile
        kind = profile.channels == profile.names.index(name)
        if not kind.any():
            return ()
        k = int(np.flatnonzero(kind)[np.argmin(np.abs(pairs.distances[kind] - distance))])
        return int(pairs.i[k]), int(pairs.j[k])


def _radii(name: str) -> float:
    return float(sum(covalent_radii[atomic_numbers[symbol]] for symbol in name.split("-")))


class DecayRise:
    """Share of the distance profile that rises where it should fall; worst element pair.

    `Decay.rise`, the distance from the non-increasing fit. Beyond the bonded shell, an interaction
    that grows with distance has no physical origin. Isotonic regression: Barlow et al. 1972.
    """

    name = "decay_rise"
    unit = "share"
    cost: Cost = "attribution"

    def __init__(self, profile: StrengthProfile) -> None:
        self._profile = profile

    def deviate(self, frame: Frame, attribution: Attribution | None) -> Deviation | None:
        if not self._profile.observe(frame, attribution) or attribution is None:
            return None
        name, decay = max(self._profile.decays.items(), key=lambda item: item[1].rise)
        atoms = self._profile.example(name, decay.worst, attribution)
        return Deviation(self.name, self.unit, decay.rise, atoms)


class DecayExponent:
    """By how much, at 95 % confidence, strength decays more slowly than 1/r; worst element pair.

    max(0, 1 − n_high) with n_high the upper end of the 95 % interval of the power-law exponent. No
    interaction of two atoms decays more slowly than the Coulomb energy, 1/r.
    """

    name = "decay_exponent"
    unit = "1"
    cost: Cost = "attribution"

    def __init__(self, profile: StrengthProfile) -> None:
        self._profile = profile

    def deviate(self, frame: Frame, attribution: Attribution | None) -> Deviation | None:
        if not self._profile.observe(frame, attribution) or attribution is None:
            return None
        name, decay = min(self._profile.decays.items(), key=lambda item: item[1].high)
        atoms = self._profile.example(name, decay.worst, attribution)
        return Deviation(self.name, self.unit, max(0.0, 1.0 - decay.high), atoms)


class DecayForm:
    """By how much an exponential fits the decay better than a power law, per bin; worst pair.

    max(0, ½ ln(RSS_power/RSS_exp)). Electrostatics, induction and dispersion fall as powers of the
    distance; Esders et al. 2025 find that networks learn a faster, exponential decay.
    """

    name = "decay_form"
    unit = "nats/bin"
    cost: Cost = "attribution"

    def __init__(self, profile: StrengthProfile) -> None:
        self._profile = profile

    def deviate(self, frame: Frame, attribution: Attribution | None) -> Deviation | None:
        if not self._profile.observe(frame, attribution) or attribution is None:
            return None
        decays = self._profile.decays.items()
        name, decay = max(decays, key=lambda item: item[1].prefers_exponential)
        atoms = self._profile.example(name, decay.worst, attribution)
        return Deviation(self.name, self.unit, max(0.0, decay.prefers_exponential), atoms)


class DecayTail:
    """Strength in the last tenth before the cutoff, relative to that just beyond the bonds.

    The cutoff function removes this strength within a tenth of the cutoff, which gives a force
    without a physical counterpart. Worst element pair; None while no pair was that far apart.
    """

    name = "decay_tail"
    unit = "share"
    cost: Cost = "attribution"

    def __init__(self, profile: StrengthProfile) -> None:
        self._profile = profile

    def deviate(self, frame: Frame, attribution: Attribution | None) -> Deviation | None:
        if not self._profile.observe(frame, attribution) or attribution is None:
            return None
        tails = {n: d.tail for n, d in self._profile.decays.items() if np.isfinite(d.tail)}
        if not tails:
            return None
        name = max(tails, key=lambda key: tails[key])
        atoms = self._profile.example(name, np.inf, attribution)
        return Deviation(self.name, self.unit, tails[name], atoms)

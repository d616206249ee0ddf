"""Every principle that probes a twin of the calculator."""

from __future__ import annotations

from collections.abc import Callable

from mdxai.calculators import Potential
from mdxai.frame import Frame
from mdxai.principles.explanation.health import ExplanationPrecision
from mdxai.principles.principle import Principle, PrincipleUnavailable
from mdxai.principles.probes.gradient import Gradient, precision_of
from mdxai.principles.probes.isolation import isolating
from mdxai.principles.probes.locality import doubling, spectator
from mdxai.principles.probes.mismatch import energy_and_forces
from mdxai.principles.probes.partial_forces import PartialForces
from mdxai.principles.probes.repulsion import (
    DIMER_MEASURES,
    DimerCurves,
    Dimers,
    Squeeze,
    squeeze_scans,
)
from mdxai.principles.probes.smoothness import BondStretch, CutoffJump, cutoff_scans, stretch_scans
from mdxai.principles.probes.softness import Softness
from mdxai.principles.probes.symmetry import CHANGES, invariances

# Names of the principles that one function makes together.
GRADIENT, PRECISION = ("gradient",), ("precision", "precision_forces")
LOCALITY, EXTENSIVITY = (("locality", "locality_forces"), ("extensivity", "extensivity_forces"))

# The names of all probes.
PROBES = (
    *GRADIENT, *(f"{change}{of}" for change in CHANGES for of in ("", "_forces")),
    "squeeze", "wall", *DIMER_MEASURES, "cutoff_energy", "cutoff_forces", "stretch", "inflections",
    Softness.name, *LOCALITY, *EXTENSIVITY, "reciprocity", "centrality", *PRECISION,
    ExplanationPrecision.name,
)  # fmt: skip


def probe_principles(twin: Potential, first: Frame) -> tuple[list[Principle], dict[str, str]]:
    """Return the principles that probe `twin`; and, by name, why others cannot be checked.

    Args:
        twin: an independent potential (see `mdxai.calculators.twin_of`), used by the probes alone.
        first: a frame of the system.
    """
    squeezes, pairs = squeeze_scans(twin), isolating(twin, first)
    curves, cutoffs = DimerCurves(pairs, first), cutoff_scans(twin, pairs)

    def stretches() -> list[Principle]:
        scans = stretch_scans(twin, first)
        return [BondStretch("stretch", scans), BondStretch("inflections", scans)]

    makers: dict[tuple[str, ...], Callable[[], list[Principle]]] = {
        GRADIENT: lambda: [Gradient(twin)],
        ("invariance",): lambda: [*invariances(twin)],
        ("squeeze", "wall"): lambda: [Squeeze("squeeze", squeezes), Squeeze("wall", squeezes)],
        **{(m,): lambda m=m: [Dimers(m, curves, first)] for m in DIMER_MEASURES},  # type: ignore[misc]
        ("cutoff",): lambda: [CutoffJump("energy", cutoffs), CutoffJump("forces", cutoffs)],
        ("stretch", "inflections"): stretches,
        (Softness.name,): lambda: [Softness(twin, first)],
        LOCALITY: lambda: [*energy_and_forces("locality", spectator(twin, first))],
        EXTENSIVITY: lambda: [*energy_and_forces("extensivity", doubling(twin, first))],
        ("reciprocity",): lambda: [PartialForces(twin, "reciprocity", first)],
        ("centrality",): lambda: [PartialForces(twin, "centrality", first)],
        PRECISION: lambda: [*energy_and_forces("precision", precision_of(twin))],
        (ExplanationPrecision.name,): lambda: [ExplanationPrecision(twin)],
    }
    principles: list[Principle] = []
    unavailable: dict[str, str] = {}
    for names, make in makers.items():
        try:
            principles += make()
        except PrincipleUnavailable as reason:
            unavailable |= dict.fromkeys(names, str(reason))
    return principles, unavailable

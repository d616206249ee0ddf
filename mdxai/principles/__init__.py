"""Physical principles as measured deviations."""

from mdxai.principles.available import LEARNED, learned_principles, principles_for
from mdxai.principles.connectivity import BrokenBonds, FormedBonds, Fragments, LoneHydrogen
from mdxai.principles.decay import (
    Decay,
    DecayExponent,
    DecayForm,
    DecayRise,
    DecayTail,
    StrengthProfile,
    fit_decay,
)
from mdxai.principles.distances import DistanceDrift
from mdxai.principles.energy import (
    ConservedEnergy,
    EnergyConservation,
    EnergyDrift,
    EnergyJump,
    StepDefect,
)
from mdxai.principles.equipartition import (
    ElementTemperature,
    FlyingIceCube,
    KineticSpread,
    ModeTemperature,
    Temperature,
)
from mdxai.principles.expected import ExpectationError, ExpectedBonds
from mdxai.principles.explanation import (
    BodyOrderDrift,
    BodyOrders,
    Equivalence,
    ExplanationPrecision,
    Residual,
    ThreeBodyReach,
)
from mdxai.principles.forces import ForceBeyondTraining, ForceSpike, NonFinite
from mdxai.principles.momentum import AngularMomentum, Momentum, NetForce, NetTorque
from mdxai.principles.principle import Deviation, Principle, PrincipleUnavailable
from mdxai.principles.probes import probes
from mdxai.principles.probing import Curve
from mdxai.principles.ranking import (
    BondClasses,
    BondOrderRanking,
    SpeciesDrift,
    SpeciesRanking,
)
from mdxai.principles.repulsion import dimer_curve, dimer_curves
from mdxai.principles.structure import (
    BondIntegrity,
    ClosestContact,
    DistanceBeyondTraining,
    bonds_of,
)

__all__ = [
    "LEARNED",
    "AngularMomentum",
    "BodyOrderDrift",
    "BodyOrders",
    "BondClasses",
    "BondIntegrity",
    "BondOrderRanking",
    "BrokenBonds",
    "ClosestContact",
    "ConservedEnergy",
    "Curve",
    "Decay",
    "DecayExponent",
    "DecayForm",
    "DecayRise",
    "DecayTail",
    "Deviation",
    "DistanceBeyondTraining",
    "DistanceDrift",
    "ElementTemperature",
    "EnergyConservation",
    "EnergyDrift",
    "EnergyJump",
    "Equivalence",
    "ExpectationError",
    "ExpectedBonds",
    "ExplanationPrecision",
    "FlyingIceCube",
    "ForceBeyondTraining",
    "ForceSpike",
    "FormedBonds",
    "Fragments",
    "KineticSpread",
    "LoneHydrogen",
    "ModeTemperature",
    "Momentum",
    "NetForce",
    "NetTorque",
    "NonFinite",
    "Principle",
    "PrincipleUnavailable",
    "Residual",
    "SpeciesDrift",
    "SpeciesRanking",
    "StepDefect",
    "StrengthProfile",
    "Temperature",
    "ThreeBodyReach",
    "bonds_of",
    "dimer_curve",
    "dimer_curves",
    "fit_decay",
    "learned_principles",
    "principles_for",
    "probes",
]

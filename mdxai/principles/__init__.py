"""Physical principles, each as a measured deviation that is 0 when the principle is obeyed."""

from mdxai.principles.allowed_reactions import AllowedBonds, AllowedReactionError
from mdxai.principles.explanation.body_order import BodyOrderDrift, BodyOrders
from mdxai.principles.explanation.decay import (
    Decay,
    DecayExponent,
    DecayForm,
    DecayRise,
    DecayTail,
    StrengthProfile,
    fit_decay,
)
from mdxai.principles.explanation.health import Equivalence, ExplanationPrecision, Residual
from mdxai.principles.explanation.ranking import (
    BondClasses,
    BondOrderRanking,
    SpeciesDrift,
    SpeciesRanking,
)
from mdxai.principles.motion.connectivity import (
    BondIntegrity,
    BrokenBonds,
    FormedBonds,
    Fragments,
    LoneHydrogen,
    Reaction,
)
from mdxai.principles.motion.distances import (
    ClosestContact,
    DistanceBeyondTraining,
    DistanceDrift,
    PairDistribution,
)
from mdxai.principles.motion.energy import (
    ConservedEnergy,
    EnergyConservation,
    EnergyDrift,
    EnergyJump,
    StepDefect,
)
from mdxai.principles.motion.equipartition import (
    ElementTemperature,
    FlyingIceCube,
    KineticSpread,
    ModeTemperature,
    Temperature,
)
from mdxai.principles.motion.followed_paths import FollowedPath, FollowedPaths, WeakSpotProgress
from mdxai.principles.motion.forces import ForceBeyondTraining, ForceSpike, NonFinite
from mdxai.principles.motion.matter import Crowding, Density, Detached, Lindemann, Void
from mdxai.principles.motion.momentum import AngularMomentum, Momentum, NetForce, NetTorque
from mdxai.principles.motion.structure import bonds_of
from mdxai.principles.principle import Deviation, Principle, PrincipleUnavailable
from mdxai.principles.probes.configurations import Curve
from mdxai.principles.probes.probe_registry import probe_principles
from mdxai.principles.probes.repulsion import dimer_curve, dimer_curves
from mdxai.principles.registry import (
    EXPLANATION,
    MOTION,
    Kind,
    explanation_principles,
    kind_of,
    principles_for,
)

__all__ = [
    "EXPLANATION",
    "MOTION",
    "AllowedBonds",
    "AllowedReactionError",
    "AngularMomentum",
    "BodyOrderDrift",
    "BodyOrders",
    "BondClasses",
    "BondIntegrity",
    "BondOrderRanking",
    "BrokenBonds",
    "ClosestContact",
    "ConservedEnergy",
    "Crowding",
    "Curve",
    "Decay",
    "DecayExponent",
    "DecayForm",
    "DecayRise",
    "DecayTail",
    "Density",
    "Detached",
    "Deviation",
    "DistanceBeyondTraining",
    "DistanceDrift",
    "ElementTemperature",
    "EnergyConservation",
    "EnergyDrift",
    "EnergyJump",
    "Equivalence",
    "ExplanationPrecision",
    "FlyingIceCube",
    "FollowedPath",
    "FollowedPaths",
    "ForceBeyondTraining",
    "ForceSpike",
    "FormedBonds",
    "Fragments",
    "Kind",
    "KineticSpread",
    "Lindemann",
    "LoneHydrogen",
    "ModeTemperature",
    "Momentum",
    "NetForce",
    "NetTorque",
    "NonFinite",
    "PairDistribution",
    "Principle",
    "PrincipleUnavailable",
    "Reaction",
    "Residual",
    "SpeciesDrift",
    "SpeciesRanking",
    "StepDefect",
    "StrengthProfile",
    "Temperature",
    "Void",
    "WeakSpotProgress",
    "bonds_of",
    "dimer_curve",
    "dimer_curves",
    "explanation_principles",
    "fit_decay",
    "kind_of",
    "principles_for",
    "probe_principles",
]

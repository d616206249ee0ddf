"""Which deviations go with instability, over many runs: survival analysis over models."""

from mdxai.study.survival.association import Association, associate
from mdxai.study.survival.survival_settings import AssociationSettings

__all__ = ["Association", "AssociationSettings", "associate"]

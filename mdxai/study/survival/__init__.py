"""Which deviations go with instability, over many runs: survival analysis over models."""

from mdxai.study.survival.association import Association, AssociationSettings
from mdxai.study.survival.compare_runs import associate
from mdxai.study.survival.survival_page import write_association

__all__ = ["Association", "AssociationSettings", "associate", "write_association"]

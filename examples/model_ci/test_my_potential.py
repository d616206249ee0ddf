"""The tests of a model developer: does the potential hold, and is it no worse than the last one?

pytest --mdxai-update    # once, writes baselines/my-potential.toml, to be committed
pytest                   # from then on
"""

import mdxai
from mdxai.testing import assert_stable


def test_my_potential(monitored_md, assert_not_worse):
    calculator = mdxai.load_calculator("schnet-ethanol")  # your model here: any ASE calculator
    runs = monitored_md(calculator, "CH3CH2OH", temperature=500, steps=1000)
    for run in runs:
        assert_stable(run, warnings_allowed=True)
    assert_not_worse(runs, "baselines/my-potential.toml")

"""What ASE's dynamics say about themselves."""

from __future__ import annotations

import numpy as np
import pytest
from ase import units
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.md.andersen import Andersen
from ase.md.bussi import Bussi
from ase.md.langevin import Langevin
from ase.md.langevinbaoab import LangevinBAOAB
from ase.md.nose_hoover_chain import NoseHooverChainNVT
from ase.md.nvtberendsen import NVTBerendsen
from ase.md.velocitydistribution import thermalize_momenta
from ase.md.verlet import VelocityVerlet

from mdxai.engines import AseEngine

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("make", "temperature", "conserves"),
    [
        (VelocityVerlet, None, True),
        (lambda a, dt: Langevin(a, dt, temperature_K=320, friction=0.01, fixcm=False), 320, False),
        (
            lambda a, dt: LangevinBAOAB(a, dt, temperature_K=320, T_tau=50 * units.fs, rng=RNG),
            320,
            False,
        ),
        (lambda a, dt: Bussi(a, dt, temperature_K=320, taut=50 * units.fs, rng=RNG), 320, False),
        (lambda a, dt: NVTBerendsen(a, dt, temperature_K=320, taut=50 * units.fs), 320, False),
        (lambda a, dt: Andersen(a, dt, temperature_K=320, andersen_prob=0.01), 320, False),
        (
            lambda a, dt: NoseHooverChainNVT(a, dt, temperature_K=320, tdamp=50 * units.fs),
            320,
            False,
        ),
    ],
)
def test_thermostats_state_their_temperature(make, temperature, conserves):
    atoms = bulk("Cu", cubic=True)
    atoms.calc = EMT()
    thermalize_momenta(atoms, temperature_K=320, rng=np.random.default_rng(0))
    description = AseEngine(make(atoms, 2 * units.fs)).describe()
    assert description.timestep == pytest.approx(2.0)
    assert description.conserves_energy is conserves
    if temperature is None:
        assert description.temperature is None
    else:
        assert description.temperature == pytest.approx(temperature)

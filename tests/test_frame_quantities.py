"""What several principles need of a frame is computed once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ase.build import molecule

from mdxai.frame import Frame
from mdxai.principles.frame_quantities import frame_quantities


@pytest.fixture
def frame(ethanol_frame):
    return ethanol_frame


def test_motion_of_the_whole_takes_its_kinetic_energy_apart(frame):
    """Rigid motion alone: translation and rotation are all of the kinetic energy."""
    centre = frame.masses @ frame.positions / frame.masses.sum()
    rigid = np.cross([0.002, -0.001, 0.003], frame.positions - centre) + np.array([0.01, 0.02, 0.0])
    seen = frame_quantities(replace(frame, velocities=rigid))
    assert seen.translation + seen.rigid.rotation == pytest.approx(seen.kinetic)
    water = molecule("CO2")
    water.set_velocities(np.cross([0, 0.01, 0], water.positions))
    seen = frame_quantities(Frame.from_atoms(water))
    assert seen.rigid.rotation == pytest.approx(seen.kinetic)

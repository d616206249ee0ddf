"""Potentials without forces: one clear error; atoms that nothing holds apart: a weak spot."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.lj import LennardJones

from mdxai.calculators import twin_of
from mdxai.forecast import FlatPotentialError, WeakSpotError, foretell, weak_spots
from mdxai.forecast.weakest_barrier import WeakestBarrier
from mdxai.frame import Frame
from mdxai.principles import PrincipleUnavailable

from .conftest import ETHANOL, invoke
from .test_weak_spots import WATER, Analytic, holed_water

AR2 = Atoms("Ar2", [[0, 0, 0], [3.8, 0, 0]])
FLAT = "the potential is flat here: there are no forces between any of the atoms"


class Constant(Calculator):
    """The same energy for whatever structure."""

    implemented_properties = ("energy", "forces")

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.results = {"energy": -3.0, "forces": np.zeros((len(self.atoms), 3))}


def argon():
    return LennardJones(sigma=3.4, epsilon=0.0104, rc=8.0)


FAR = Atoms("Ar3", [[0, 0, 0], [9, 0, 0], [0, 9, 0]])
BOXED = Atoms("Ar2", [[0, 0, 0], [9, 0, 0]], cell=[18] * 3, pbc=True)


@pytest.mark.parametrize(
    ("calculator", "atoms"),
    [
        (LennardJones, AR2),  # its defaults reach 3 Å
        (argon, FAR),
        (argon, BOXED),
        (Constant, molecule(ETHANOL)),
    ],
    ids=["defaults", "dissociated", "periodic", "constant"],
)
def test_a_flat_potential_is_one_clear_error(calculator, atoms):
    with pytest.raises(FlatPotentialError, match=FLAT):
        weak_spots(calculator, atoms)


def test_a_forecast_and_a_check_refuse_it_too(tmp_path):
    with pytest.raises(FlatPotentialError, match=FLAT):
        foretell(LennardJones, AR2, temperature=300, duration=10, path=tmp_path / "out")
    row = WeakestBarrier(LennardJones, twin_of(LennardJones), search=True)
    with pytest.raises(PrincipleUnavailable, match=FLAT):
        row.deviate(Frame.from_atoms(AR2))


def test_the_command_says_so_and_ends_with_2(tmp_path):
    AR2.write(tmp_path / "ar2.xyz")
    Atoms("Ar").write(tmp_path / "ar.xyz")
    for name, message in (("ar2", "the potential is flat here"), ("ar", "at least two atoms")):
        arguments = ["forecast", "lj", str(tmp_path / f"{name}.xyz"), "--temperature", "300"]
        found = invoke(*arguments, "--duration", "10ps")
        assert found.exit_code == 2
        assert message in " ".join(found.output.split())


def test_what_one_atom_does_not_see_the_others_do():
    """A third argon atom beyond the cutoff: the two others have their minimum and no weak spot."""
    third = Atoms("Ar3", [[0, 0, 0], [3.8, 0, 0], [16, 0, 0]])
    assert len(weak_spots(argon, third)) == 0


def test_atoms_that_nothing_holds_apart_are_a_weak_spot_without_a_barrier():
    """Molecules that do not see each other at any distance move through each other."""

    def sound(x):
        apart = torch.linalg.norm(x[2] - x[1])
        return holed_water(x) + 2.0 * torch.exp(-(((apart - 0.8) / 0.12) ** 2) / 2)

    both = WATER.copy()
    both.translate([0, 0, 3.2])
    assert len(weak_spots(Analytic(sound), WATER)) == 0
    found = weak_spots(Analytic(lambda x: sound(x[:3]) + sound(x[3:])), WATER + both)
    assert {s.kind for s in found.spots} == {"approach", "encounter"}
    assert all(s.barrier < 0.02 and "overlap" in s.forbidden for s in found.spots)
    assert found.spots[0].note == "no saddle: nothing holds them apart"


def test_frames_of_another_cell_are_refused():
    cell = {"cell": [20] * 3, "pbc": True}
    start = Atoms("Ar2", AR2.positions, **cell)
    frames = [Atoms("Ar2", AR2.positions + 25, **cell), Atoms("Ar2", AR2.positions)]
    assert len(weak_spots(argon, start, frames=frames)) == 0
    other = start.copy()
    other.set_cell([21, 20, 20])
    with pytest.raises(WeakSpotError, match="frame 1 has another cell than the structure"):
        weak_spots(argon, start, frames=[start, other])

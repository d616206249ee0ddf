"""Isolated pairs of calculators that know periodic cells only."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones

from mdxai.calculators import CalculatorError, twin_of
from mdxai.frame import Frame
from mdxai.monitoring.check import check
from mdxai.principles.probes.configurations import configuration
from mdxai.principles.probes.isolation import VACUUM, Boxed, boxed, isolating

from .conftest import invoke

ARGON = {"epsilon": 0.0104, "sigma": 3.4, "rc": 8.0}


class NeedsCell(LennardJones):
    """As networks for materials, which divide by the cell."""

    def calculate(self, atoms=None, properties=None, system_changes=()):
        np.linalg.inv(atoms.cell.array)
        if not atoms.pbc.all():
            raise ValueError("expected a periodic structure")
        super().calculate(atoms, properties, system_changes)


class NeedsMany(EMT):
    """Fails on every fragment."""

    def calculate(self, atoms=None, properties=None, system_changes=()):
        if len(atoms) < 3:
            raise RuntimeError("no neighbours")
        super().calculate(atoms, properties, system_changes)


def crystal():
    return bulk("Ar", "fcc", 5.4, cubic=True)


def test_a_box_changes_nothing_but_the_cell():
    pair = configuration(np.array([18, 18]), np.array([[0.0, 0, 0], [4.0, 1.0, 0]]))
    inside = boxed(pair)
    np.testing.assert_allclose(np.diff(inside.positions, axis=0), np.diff(pair.positions, axis=0))
    np.testing.assert_allclose(np.diag(inside.cell), np.array([4.0, 1.0, 0.0]) + VACUUM)
    assert inside.pbc.all()
    energy, forces = twin_of(LennardJones(**ARGON)).evaluate(pair)
    again, same = Boxed(twin_of(NeedsCell(**ARGON))).evaluate(pair)
    assert again == pytest.approx(energy, abs=1e-12)
    np.testing.assert_allclose(same, forces, atol=1e-12)
    cell = Frame.from_atoms(crystal())
    assert boxed(cell) is cell


def test_a_box_is_taken_where_it_is_needed():
    first = Frame.from_atoms(crystal())
    free, bound = twin_of(LennardJones(**ARGON)), twin_of(NeedsCell(**ARGON))
    assert isolating(free, first) is free
    assert isinstance(isolating(bound, first), Boxed)
    broken = twin_of(NeedsMany())
    assert isolating(broken, Frame.from_atoms(bulk("Cu", cubic=True))) is broken


def test_a_check_gives_the_numbers_of_a_calculator_that_needs_no_cell():
    free = {r.name: r for r in check(lambda: LennardJones(**ARGON), crystal())}
    bound = {r.name: r for r in check(lambda: NeedsCell(**ARGON), crystal())}
    assert not [r for r in bound.values() if r.verdict in ("error", "fail")]
    for name in ("dimer_hole", "dimer_wall", "dimer_work", "cutoff_energy", "cutoff_forces"):
        assert bound[name].value == pytest.approx(free[name].value, abs=1e-6)
    assert "in a periodic box" in bound["dimer_hole"].remedy


def test_fragments_that_a_calculator_refuses_are_not_checked_and_named_once(tmp_path, monkeypatch):
    results = {r.name: r for r in check(NeedsMany, bulk("Cu", cubic=True))}
    for name in ("dimer_hole", "cutoff_energy"):
        assert results[name].verdict == "not checked"
    assert "NeedsMany fails on Cu2 6 Å apart: RuntimeError: no neighbours" in (
        results["dimer_hole"].remedy
    )
    bulk("Cu", cubic=True).write(tmp_path / "cu.traj")
    table = invoke("check", f"{__name__}:NeedsMany", tmp_path / "cu.traj")
    assert table.exit_code == 0, table.output
    assert " ".join(table.stdout.split()).count("as above") >= 5


def test_a_failure_names_distance_and_charge():
    atoms = Atoms("ClS", [[0, 0, 0], [2.0, 0, 0]], info={"charge": -1})
    with pytest.raises(CalculatorError, match=r"EMT fails on ClS 2 Å apart with charge -1"):
        twin_of(EMT()).evaluate(Frame.from_atoms(atoms))


def test_copies_of_an_ion_are_not_compared():
    atoms = molecule("NH3")
    assert _extensivity(atoms).verdict == "pass"
    atoms.info["charge"] = 1
    assert _extensivity(atoms).remedy == "two copies of an ion repel at any distance"


def _extensivity(atoms):
    return next(r for r in check(EMT, atoms) if r.name == "extensivity")

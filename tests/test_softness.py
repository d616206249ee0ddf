"""Softness: how hard a molecule resists, against reference values by kind of coordinate."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.data import covalent_radii
from ase.data.vdw_alvarez import vdw_radii

from mdxai.calculators import twin_of
from mdxai.frame import Frame
from mdxai.principles import PrincipleUnavailable
from mdxai.principles.probes import softness as module
from mdxai.principles.probes.softness import Softness, deformations, reference_rises, rises

from .conftest import ETHANOL, shaken
from .pair_potential import Pairwise


@pytest.fixture
def frame():
    return Frame.from_atoms(molecule(ETHANOL))


def distance(positions, i, j):
    return np.linalg.norm(positions[i] - positions[j])


def test_angles_close_and_keep_their_bonds(frame):
    closed = [one for one in deformations(frame) if one.kind.startswith("angle")]
    assert {one.kind for one in closed} == {
        "angle H-C-H", "angle C-C-H", "angle H-C-O", "angle C-O-H",
    }  # fmt: skip
    assert sum(one.kind == "angle H-C-H" for one in closed) == 4
    for one in closed:
        a, middle, b = one.atoms
        z = frame.numbers
        goal = 0.47 * (vdw_radii[z[a]] + vdw_radii[z[b]])
        assert distance(one.positions, a, b) == pytest.approx(goal)
        for end in (a, b):
            kept = distance(frame.positions, end, middle)
            assert distance(one.positions, end, middle) == pytest.approx(kept)
        still = [k for k in range(frame.n_atoms) if k not in (a, b)]
        assert np.array_equal(one.positions[still], frame.positions[still])


def test_bonds_move_the_smaller_fragment(frame):
    bonds = [one for one in deformations(frame) if not one.kind.startswith("angle")]
    assert sum(one.kind == "stretch C-H" for one in bonds) == 5
    for one in bonds:
        i, j = one.atoms
        share = 1.4 if one.kind.startswith("stretch") else 0.8
        goal = share * covalent_radii[frame.numbers[[i, j]]].sum()
        assert distance(one.positions, i, j) == pytest.approx(goal)
        moved = (one.positions != frame.positions).any(axis=1).sum()
        assert share > 1 or 1 in frame.numbers[[i, j]]
        assert moved == {"C-H": 1, "H-O": 1, "C-O": 2, "C-C": 4}[one.kind.split()[1]]


def test_rings_are_not_opened_and_only_bonds_of_hydrogen_compressed():
    kinds = {one.kind for one in deformations(Frame.from_atoms(molecule("C6H6")))}
    assert kinds == {"angle C-C-H", "stretch C-H", "compression C-H"}
    kinds = {one.kind for one in deformations(Frame.from_atoms(molecule("CH3CHO")))}
    assert "stretch C-O" in kinds
    assert "compression C-O" not in kinds


def test_softness_is_the_missing_share_of_the_softest_kind(frame):
    """Springs between all atoms, for which each rise is known."""

    class Springs(Pairwise):
        def broken(self, energy, forces, x):
            i, j = np.triu_indices(len(x), k=1)
            change = np.linalg.norm(x[j] - x[i], axis=1) - lengths
            return float(np.sum(change**2)), forces

    i, j = np.triu_indices(frame.n_atoms, k=1)
    lengths = np.linalg.norm(frame.positions[j] - frame.positions[i], axis=1)
    twin = twin_of(Springs())
    found = rises(twin, frame)
    for kind, rise in found.items():
        exact = [
            np.sum((np.linalg.norm(one.positions[j] - one.positions[i], axis=1) - lengths) ** 2)
            for one in deformations(frame)
            if one.kind == kind
        ][: module.PER_KIND]
        assert rise.energy == pytest.approx(np.mean(exact))
    resisting = {kind: rise.energy for kind, rise in found.items()}
    assert Softness(twin, frame, resisting).deviate(frame).value == pytest.approx(0, abs=1e-9)
    harder = resisting | {"stretch H-O": 4 * resisting["stretch H-O"]}
    worst = Softness(twin, frame, harder).deviate(frame)
    assert worst.value == pytest.approx(0.75)
    assert [frame.symbols[a] for a in worst.atoms] == ["O", "H"]


def test_nan_is_never_stiff(frame):
    class Nothing(Pairwise):
        def broken(self, energy, forces, x):
            return (energy if np.array_equal(x, frame.positions) else np.nan), forces

    assert np.isnan(Softness(twin_of(Nothing()), frame).deviate(frame).value)


@pytest.mark.parametrize(
    ("atoms", "message"),
    [
        (bulk("Cu", cubic=True), "not in periodic cells"),
        (Atoms("Ar2", [[0, 0, 0], [4, 0, 0]]), "no reference for any angle or bond"),
    ],
)
def test_without_molecules_it_is_not_checked(atoms, message):
    with pytest.raises(PrincipleUnavailable, match=message):
        Softness(twin_of(EMT()), Frame.from_atoms(atoms))


def test_the_shipped_reference_says_where_it_comes_from():
    text = Path(module.__file__).with_suffix(".toml").read_text()
    assert "runs/softness_reference.py" in text
    entries = tomllib.loads(text)
    assert all(0.5 < e["lowest"] <= e["median"] and e["molecules"] > 1 for e in entries.values())
    assert max(reference_rises().values()) == 3.0


@pytest.mark.slow
@pytest.mark.parametrize("method", ["GFN1-xTB", "GFN2-xTB", "IPEA1-xTB"])
@pytest.mark.parametrize("name", [ETHANOL, "CH4", "C6H6", "CH3CHO", "HCOOH", "CH3CONH2", "NH3"])
def test_sound_calculators_are_not_soft(method, name):
    tblite = pytest.importorskip("tblite.ase", reason="tblite is not installed")
    twin = twin_of(lambda: tblite.TBLite(method=method, verbosity=0))
    frame = Frame.from_atoms(shaken(name, amplitude=0.03))
    assert Softness(twin, frame).deviate(frame).value < 0.25

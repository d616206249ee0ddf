"""Bonds that are exchanged are told from bonds that break; hydrogen bonds are no bonds."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.data import covalent_radii

from mdxai.frame import Frame
from mdxai.principles import (
    AllowedBonds,
    BondIntegrity,
    BrokenBonds,
    FormedBonds,
    Fragments,
    LoneHydrogen,
    Reaction,
    bonds_of,
    principles_for,
)
from mdxai.stability.thresholds import THRESHOLDS
from mdxai.stability.verdict import VerdictBuilder

from .conftest import at, ethanol_with, stretched

FAR = 2.5  # Å between the oxygens of H₅O₂⁺


def shared_proton(place=0.5):
    """Return H₅O₂⁺ with the proton, atom 6, at this part of the way from O0 to O3."""
    half = FAR / 2
    return Atoms(
        "OHHOHHH",
        [[-half, 0, 0], [-half - 0.4, 0.75, 0.45], [-half - 0.4, -0.75, 0.45], [half, 0, 0],
         [half + 0.4, 0.75, -0.45], [half + 0.4, -0.75, -0.45], [FAR * (place - 0.5), 0, 0]],
    )  # fmt: skip


def judged(first, path):
    """Return the verdict of a path of positions, a frame in 5 fs."""
    principles, unavailable = principles_for(first)
    builder = VerdictBuilder(THRESHOLDS, unavailable, first.symbols)
    structural = [p for p in principles if isinstance(p, STRUCTURAL)]
    for k, positions in enumerate(path):
        frame = at(first, 5 * k, positions)
        builder.add(frame.time, {p.name: p.deviate(frame) for p in structural})
    return builder.verdict()


STRUCTURAL = (BondIntegrity, BrokenBonds, Reaction, FormedBonds, Fragments, LoneHydrogen)


def test_a_hydrogen_has_one_bond():
    for place, partner in ((0.42, 0), (0.55, 3)):
        i, j = bonds_of(Frame.from_atoms(shared_proton(place)))
        assert [int(a) for a, b in zip(i, j, strict=True) if b == 6] == [partner]
    i, j = bonds_of(Frame.from_atoms(molecule("H2")))
    assert (i.tolist(), j.tolist()) == ([0], [1])


def test_a_proton_that_is_passed_on_is_a_reaction_and_it_is_told_when_it_is_back():
    first = Frame.from_atoms(shared_proton(0.4))
    there = [shared_proton(p).positions for p in np.linspace(0.4, 0.62, 12)]
    verdict = judged(first, there + there[-1:] * 5)
    assert verdict.stability == "reacted"
    (finding,) = verdict.findings
    assert finding.what == "H6 moved from O0 to O3"
    assert finding.until_fs is None
    back = judged(first, there + there[::-1] + there[:1] * 5)
    assert (back.stability, back.onset_fs) == ("reacted", None)
    assert back.findings[0].until_fs > back.findings[0].time_fs


def test_a_wide_hop_passes_through_its_transition_state_unharmed():
    """O···O at 2.9 Å: halfway the proton is 1.45 Å from both, half an ångström too far."""
    water, hydronium = molecule("H2O"), molecule("H2O")
    atoms = water + hydronium + Atoms("H")

    def place(r):
        atoms.positions[:3] = water.positions - water.positions[0]
        atoms.positions[3:6] = [2.7, 0, 0] - (hydronium.positions - hydronium.positions[0])
        atoms.positions[6] = [r, 0, 0]
        return atoms.positions.copy()

    place(1.0)
    first = Frame.from_atoms(atoms)
    verdict = judged(first, [place(r) for r in [*np.linspace(1.0, 1.72, 12), 1.7, 1.7, 1.7]])
    assert verdict.stability == "reacted", str(verdict)


def test_a_water_that_leaves_takes_no_bond_along():
    first = Frame.from_atoms(shared_proton(0.4))
    path = []
    for k in range(20):
        atoms = shared_proton(0.4)
        atoms.positions[3:6] += [0.4 * k, 0, 0]
        path.append(atoms.positions)
    assert judged(first, path).stability == "stable"


def test_a_substitution_is_a_reaction_and_a_dissociation_is_not():
    """F⁻ + CH₃Cl: the chlorine leaves as the fluorine comes; without one the molecule breaks."""
    atoms = molecule("CH3Cl")
    carbon, chlorine = (int(np.flatnonzero(atoms.numbers == z)[0]) for z in (6, 17))
    axis = atoms.positions[chlorine] - atoms.positions[carbon]
    axis /= np.linalg.norm(axis)
    atoms += Atoms("F", [atoms.positions[carbon] - 2.6 * axis])
    first = Frame.from_atoms(atoms)
    path = []
    for part in np.linspace(0, 1, 25):
        positions = first.positions.copy()
        positions[chlorine] += 1.6 * part * axis
        positions[-1] += 1.2 * np.sqrt(part) * axis
        path.append(positions)
    verdict = judged(first, path + path[-1:] * 5)
    assert verdict.stability == "reacted", str(verdict)
    assert set(verdict.cause.atoms) == {carbon, chlorine, first.n_atoms - 1}
    without = [np.vstack([positions[:-1], first.positions[-1]]) for positions in path]
    verdict = judged(first, without + without[-1:] * 5)
    assert verdict.stability == "unstable"
    assert {"bond", "broken_bonds", "fragments"} <= {f.principle for f in verdict.findings}


def on_copper(bond, height=1.85):
    """Return N₂ with this bond (Å), flat and this high (Å) above tops and hollows of copper."""
    slab = fcc111("Cu", (3, 3, 2), vacuum=8.0)
    top = slab.positions[:, 2].max() + height
    middle = slab.positions[13, :2]
    along = slab.positions[14, :2] - middle
    ends = [middle + sign * 0.5 * bond * along / np.linalg.norm(along) for sign in (-1, 1)]
    return slab + Atoms("N2", [[*end, top] for end in ends])


def test_a_molecule_that_dissociates_on_a_metal_has_reacted():
    """Its atoms are bound to the metal instead; high above it, the same path breaks it."""
    first = Frame.from_atoms(on_copper(1.1))
    lengths = [*np.linspace(1.1, 2.55, 30), *[2.55] * 5]
    verdict = judged(first, [on_copper(length).positions for length in lengths])
    assert verdict.stability == "reacted", str(verdict)
    (finding,) = verdict.findings
    assert finding.principle == "reaction"
    assert {18, 19} < set(finding.atoms)
    verdict = judged(first, [on_copper(length, 3.2).positions for length in lengths])
    assert verdict.stability == "unstable"
    squeezed = judged(first, [on_copper(length, 0.6).positions for length in lengths])
    assert squeezed.stability == "unstable"


def test_an_atom_that_overshoots_its_place_on_the_metal_has_not_broken_loose():
    """1.35 radii from the metal for 60 fs is a vibration; for good it is a fragment."""
    first = Frame.from_atoms(on_copper(1.1))
    apart = [on_copper(length).positions for length in np.linspace(1.1, 2.55, 12)]
    above = apart[-1].copy()
    above[-1, 2] += 0.8
    ratio = np.linalg.norm(above[:18] - above[-1], axis=1).min() / covalent_radii[[7, 29]].sum()
    assert 1.25 < ratio < 1.5
    for n, outcome in ((12, "reacted"), (60, "unstable")):
        verdict = judged(first, [*apart, *[above] * n, *[apart[-1]] * 5])
        assert verdict.stability == outcome, str(verdict)


def test_hydrogen_that_leaves_a_metal_as_a_molecule_is_not_lone():
    slab = fcc111("Pd", (2, 2, 2), vacuum=8.0)
    top = slab.positions[:, 2].max()

    def at_height(z, apart=0.74):
        return slab + Atoms("H2", [[0, 0, top + z], [apart, 0, top + z]])

    first = Frame.from_atoms(at_height(1.9))
    for apart, outcome in ((0.74, "stable"), (3.0, "unstable")):
        path = [at_height(z, apart).positions for z in np.linspace(1.9, 5, 30)]
        verdict = judged(first, path)
        assert verdict.stability == outcome, str(verdict)
    assert "lone_hydrogen" in {finding.principle for finding in verdict.findings}


def test_atoms_that_join_on_a_metal_have_reacted():
    """Two atoms on copper become a molecule; far above it a bond forms out of nothing."""
    first = Frame.from_atoms(on_copper(2.553))
    lengths = [*np.linspace(2.55, 1.1, 30), *[1.1] * 5]
    verdict = judged(first, [on_copper(length).positions for length in lengths])
    assert verdict.stability == "reacted", str(verdict)
    assert {18, 19} < set(verdict.cause.atoms)
    far = Frame.from_atoms(on_copper(2.553, height=5))
    flying = judged(far, [on_copper(length, height=5).positions for length in lengths])
    assert [finding.principle for finding in flying.findings] == ["formed_bonds"]


def test_atoms_that_collapse_are_no_reaction():
    """Everything drawn onto one oxygen: bonds stretch, and new partners are everywhere."""
    first = Frame.from_atoms(ethanol_with(None))
    centre = first.positions[2]
    path = [centre + (first.positions - centre) * np.where(np.arange(9) == 0, 1, s)[:, None]
            for s in np.linspace(1, 0.35, 15)]  # fmt: skip
    assert judged(first, path).stability == "unstable"


def test_a_forbidden_reaction_is_left_to_the_thresholds_and_an_allowed_one_is_none():
    first = Frame.from_atoms(shared_proton(0.4))
    moved = at(first, 10, shared_proton(0.62).positions)
    assert Reaction(first).deviate(moved).value == 1
    assert Reaction(first).deviate(moved).atoms == (0, 6, 3)
    allowed = AllowedBonds(["O-H6"], first)
    for principle in (Reaction, BrokenBonds, FormedBonds, Fragments):
        assert principle(first, allowed).deviate(moved).value == 0


def test_one_bond_of_very_many_may_stretch_further():
    """The largest of n normal deviations grows as √(2 ln n)."""
    one = ethanol_with(None)
    many = one.copy()
    for k in range(1, 40):
        copy = one.copy()
        copy.positions += [20.0 * k, 0, 0]
        many += copy
    few, lots = Frame.from_atoms(one), Frame.from_atoms(many)
    hot = np.sqrt(1000 / 300)
    for frame in (few, lots):
        assert BondIntegrity(frame).deviate(at(frame, 1, stretched(frame, 1.4))).value > 0.4
    velocities = np.random.default_rng(0).normal(size=(len(many), 3)) * hot
    many.set_momenta(velocities * many.get_masses()[:, None] ** 0.5 * 0.16)
    warm = Frame.from_atoms(many)
    cold = BondIntegrity(lots).deviate(at(lots, 1, stretched(lots, 1.4))).value
    change = cold - BondIntegrity(warm).deviate(at(warm, 1, stretched(warm, 1.4))).value
    n_bonds = 8 * 40
    sigma = np.sqrt(8.617e-5 * warm.temperature / 15)
    growth = np.sqrt(2 * np.log(n_bonds)) - np.sqrt(2 * np.log(64))
    assert change == pytest.approx(growth * sigma, rel=1e-3)


def test_silicon_may_vibrate_and_its_hydrogens_may_not_leave():
    crystal = bulk("Si", cubic=True) * (2, 2, 2)
    first = Frame.from_atoms(crystal)
    rng = np.random.default_rng(1)
    path = [first.positions + rng.normal(scale=0.25, size=(64, 3)) for _ in range(50)]
    assert judged(first, path).stability == "stable"

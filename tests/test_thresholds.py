"""Thresholds from a file, and reactions that are allowed."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import molecule

from mdxai import load_thresholds
from mdxai.frame import Frame
from mdxai.principles import (
    AllowedBonds,
    AllowedReactionError,
    BondIntegrity,
    BrokenBonds,
    FormedBonds,
    Fragments,
    LoneHydrogen,
)
from mdxai.stability.thresholds import PROBE_THRESHOLDS, THRESHOLDS, ThresholdError


def written(tmp_path, text):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    return path


def test_a_file_changes_what_it_names_and_nothing_else(tmp_path):
    path = written(tmp_path, "[bond]\nunstable = 0.7\n[temperature]\npatience = 50\n")
    changed = {t.principle: t for t in load_thresholds(path)}
    shipped = {t.principle: t for t in THRESHOLDS}
    assert (changed["bond"].warn, changed["bond"].unstable) == (0.4, 0.7)
    assert changed["temperature"].patience == 50
    assert all(changed[n] == shipped[n] for n in shipped if n not in ("bond", "temperature"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[bonds]\nwarn = 1\n", "names bonds, which is no principle; known are"),
        ("[bond]\nlimit = 1\n", "expected any of warn, unstable, patience, advice"),
        ("[bond]\nwarn = 'much'\n", "warn must be a number or text, got 'much'"),
        ("[bond]\nwarn = 2.0\n", "expected 0 ≤ warn ≤ unstable and patience ≥ 0, got warn 2"),
        ("[bond]\nwarn = nan\n", "expected 0 ≤ warn ≤ unstable"),
        ("[bond\n", "thresholds cannot be read from"),
    ],
)
def test_files_that_make_no_sense(tmp_path, text, message):
    with pytest.raises(ThresholdError, match=message):
        load_thresholds(written(tmp_path, text))


def test_shipped_thresholds_make_sense():
    for threshold in (*THRESHOLDS, *PROBE_THRESHOLDS):
        assert 0 <= threshold.warn <= threshold.unstable
        assert len(threshold.advice) > 20
    names = [t.principle for t in (*THRESHOLDS, *PROBE_THRESHOLDS)]
    assert len(set(names)) == len(names)


def ethanol(stretched=None):
    """Ethanol, with an atom moved 3 Å away from another."""
    atoms = molecule("CH3CH2OH")
    if stretched:
        moved, partner = stretched
        along = atoms.positions[moved] - atoms.positions[partner]
        atoms.positions[moved] += 3 * along / np.linalg.norm(along)
    return Frame.from_atoms(atoms, time=10.0 if stretched else 0.0)


@pytest.mark.parametrize("principle", [BondIntegrity, BrokenBonds, Fragments, LoneHydrogen])
@pytest.mark.parametrize("pattern", ["O2-H3", "H-O", "O2–H"])
def test_an_allowed_reaction_is_no_deviation_and_another_still_is(principle, pattern):
    first, hydroxyl = ethanol(), ethanol((3, 2))  # H3 leaves O2
    options = {"allowed": AllowedBonds([pattern], first)}
    assert principle(first).deviate(hydroxyl, None).value > 0.5
    assert principle(first, **options).deviate(hydroxyl, None).value == 0
    methyl = ethanol((6, 0))  # H6 leaves C0
    assert principle(first, **options).deviate(methyl, None).value > 0.5


def test_an_allowed_bond_may_form():
    first = ethanol()
    atoms = molecule("CH3CH2OH")
    atoms.positions[6] = atoms.positions[2] + (0.97, 0, 0)
    closer = Frame.from_atoms(atoms, step=10, time=10.0)
    alone = FormedBonds(first).deviate(closer, None)
    allowed = AllowedBonds(["H6-O"], first)
    assert FormedBonds(first, allowed).deviate(closer, None).value == alone.value - 1


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("C1", "'C1' is not a pair of atoms"),
        ("C9-O2", "there is no atom C9 in C0 C1 O2"),
        ("C-N", "there is no atom N in"),
        ("C1-Qq", "there is no atom Qq"),
    ],
)
def test_patterns_that_make_no_sense(pattern, message):
    with pytest.raises(AllowedReactionError, match=message):
        AllowedBonds([pattern], ethanol())

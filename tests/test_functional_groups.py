"""Functional groups: molecules by hand, against a search of the graph, shares counted again."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
from ase.build import molecule

import mdxai
from mdxai.analysis import AnalysisOptions
from mdxai.analysis.bond_kinds import BONDED, pair_kinds
from mdxai.analysis.functional_groups import GROUPS, functional_groups
from mdxai.attribution import attributor

from .test_analysis import MOLECULES, written

# Heavy atoms in the order of ASE's molecules.
KNOWN = {
    "CH3CH2OH": ["alkyl", "alkyl", "hydroxyl"],
    "CH3OCH3": ["alkyl", "ether", "alkyl"],
    "CH3COOH": ["carboxyl", "carboxyl", "carboxyl", "alkyl"],
    "HCOOCH3": ["ester", "ester", "ester", "alkyl"],
    "CH3CHO": ["aldehyde", "aldehyde", "alkyl"],
    "CH3COCH3": ["ketone", "ketone", "alkyl", "alkyl"],
    "CH3CONH2": ["amide", "amide", "amide", "alkyl"],
    "H3CNH2": ["alkyl", "amine"],
    "CH3CN": ["alkyl", "nitrile", "nitrile"],
    "CH3NO2": ["alkyl", "nitro", "nitro", "nitro"],
    "CH3CH2Cl": ["alkyl", "alkyl", "halogen"],
    "CH3SH": ["alkyl", "thiol"],
    "C2H4": ["alkene", "alkene"],
    "C2H2": ["alkyne", "alkyne"],
    "C6H6": ["aromatic ring"] * 6,
    "C5H5N": ["aromatic ring"] * 6,
    "C3H4_C2v": ["alkyl", "alkene", "alkene"],
    "C3H4_D2d": ["alkene"] * 3,  # allene
    "C3H4_C3v": ["alkyne", "alkyne", "alkyl"],
    "CO2": ["other"] * 3,
}


def groups_of(atoms):
    i, j = np.triu_indices(len(atoms), k=1)
    distances = np.linalg.norm(atoms.positions[j] - atoms.positions[i], axis=1)
    kinds, _ = pair_kinds(atoms.numbers.astype(np.int64), atoms.positions, i, j, distances)
    found = functional_groups(atoms.numbers.astype(np.int64), i, j, kinds)
    bonded = np.isin(kinds, BONDED)
    return found, nx.Graph([*zip(i[bonded].tolist(), j[bonded].tolist(), strict=True)])


@pytest.mark.parametrize("name", KNOWN)
def test_groups_of_known_molecules(name):
    atoms = molecule(name)
    found, graph = groups_of(atoms)
    names = [GROUPS[k] for k in found.kinds]
    heavy = np.flatnonzero(atoms.numbers > 1)
    assert sorted(names[k] for k in heavy) == sorted(KNOWN[name])
    for k in np.flatnonzero(atoms.numbers == 1):  # hydrogen goes with what it is bound to
        assert names[k] == names[next(iter(graph[k]))]


@pytest.mark.parametrize("name", ["CH3CH2OH", "CH3COOH", "C5H5N", "CH3OCH3", "isobutane"])
def test_fragments_are_connected_atoms_of_one_group(name):
    found, graph = groups_of(molecule(name))
    same = nx.Graph([(a, b) for a, b in graph.edges if found.kinds[a] == found.kinds[b]])
    same.add_nodes_from(graph)
    parts = {frozenset(np.flatnonzero(found.fragments == k)) for k in np.unique(found.fragments)}
    assert parts == set(map(frozenset, nx.connected_components(same)))


def test_groups_do_not_change_when_a_molecule_moves():
    """At 500 K bonds are stretched, but keep their neighbours."""
    rng = np.random.default_rng(4)
    for name in ("CH3COOH", "CH3CN", "C2H2", "CH3CONH2", "C3H4_C2v"):
        atoms = molecule(name)
        expected = groups_of(atoms)[0].kinds
        for _ in range(20):
            shaken = atoms.copy()
            shaken.positions += rng.normal(0, 0.05, shaken.positions.shape)
            np.testing.assert_array_equal(groups_of(shaken)[0].kinds, expected)


def test_shares_of_groups_are_counted_again(tmp_path):
    calculator = mdxai.load_calculator("schnet-ethanol", dtype="float64")
    data = written(tmp_path / "molecules.xyz", [molecule(name) for name in MOLECULES])
    options = AnalysisOptions(closely=0, block=5)
    (model,) = mdxai.analyse(calculator, data, options=options).models
    explain, rows = attributor(calculator, method="walks"), {}
    for name in MOLECULES:
        atoms = molecule(name)
        found, graph = groups_of(atoms)
        size = np.abs(explain.attribute(atoms).atoms)
        same = nx.Graph([(a, b) for a, b in graph.edges if found.kinds[a] == found.kinds[b]])
        same.add_nodes_from(range(len(atoms)))
        parts = [[*part] for part in nx.connected_components(same)]
        heaviest = max(parts, key=lambda part: size[part].sum())
        rows.setdefault("heaviest fragment", []).append(
            (size[heaviest].sum() / size.sum(), len(heaviest) / len(atoms), np.nan)
        )
        for kind in np.unique(found.kinds):
            mine = found.kinds == kind
            won = float(found.kinds[heaviest[0]] == kind)
            rows.setdefault(GROUPS[kind], []).append(
                (size[mine].sum() / size.sum(), mine.mean(), won)
            )
    assert {group.name for group in model.groups} == set(rows)
    for group in model.groups:
        relevance, atoms_share, won = np.array(rows[group.name]).T
        assert group.molecules == len(relevance)
        assert group.relevance == pytest.approx(relevance.mean(), abs=1e-9)
        assert group.atoms == pytest.approx(atoms_share.mean(), abs=1e-9)
        assert group.heaviest == pytest.approx(won.mean(), nan_ok=True)
        if len(relevance) > 1:
            error = relevance.std(ddof=1) / np.sqrt(len(relevance))
            assert group.error == pytest.approx(error, abs=1e-9)
    assert model.groups[0].name == "heaviest fragment"

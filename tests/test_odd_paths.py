"""Files and run directories of any name are found, and no part of a name is taken for syntax."""

from __future__ import annotations

import os

import pytest
from ase.build import molecule
from ase.io import read, write

import mdxai
from mdxai.calculators.reference_data import ReferenceData
from mdxai.monitoring.run import read_structure
from mdxai.record.export import export

from .conftest import ethanol_dynamics, invoke

NAMES = (
    "ethanol@300K", "a@1:2", "with space", "éthanol 空", "what?", "[1]", "*", "~home", "#1 100%",
    "a'b\"c", "-dash", "semi;colon & more", "x" * 240,
)  # fmt: skip


def _written(folder, name, suffix=".xyz"):
    path = folder / f"{name}{suffix}"
    with path.open("w", encoding="utf-8") as file:
        write(file, molecule("CH3CH2OH"), format="extxyz")
    return path


@pytest.mark.parametrize("name", NAMES)
def test_structures_and_reference_data_of_any_name(tmp_path, monkeypatch, name):
    path = _written(tmp_path, name)
    monkeypatch.chdir(tmp_path)
    link = tmp_path / "link.xyz"
    link.symlink_to(path)
    for source in (str(path), path.name, "link.xyz", os.path.join("..", tmp_path.name, path.name)):
        assert len(read_structure(source)) == 9
    assert "C-O" in ReferenceData.load(path).distances


@pytest.mark.parametrize("name", NAMES)
def test_run_directories_and_exports_of_any_name(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    out = tmp_path / name
    dynamics = ethanol_dynamics(seed=1)
    with mdxai.Monitor(dynamics, out, attribute_every=0) as monitor:
        dynamics.attach(monitor, interval=1)
        dynamics.run(3)
    assert mdxai.open_run(name).n_frames == 4
    for suffix in (".extxyz", ".traj", ".xtc", ".pdb"):
        assert export(name, f"{name}{suffix}") == 4
    with (tmp_path / f"{name}.extxyz").open(encoding="utf-8") as file:
        assert len(read(file, ":", format="extxyz")) == 4
    result = invoke("export", "--start", 2, "--", name, f"{name}.ncdf")
    assert result.exit_code == 0, result.output
    result = invoke("repair", "--", name)
    assert result.exit_code == 0, result.output

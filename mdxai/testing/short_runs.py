"""Short monitored runs of a calculator, alike but for their seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ase import Atoms

from mdxai.monitoring.options import MonitorOptions
from mdxai.monitoring.run import RunSettings, read_structure, simulate
from mdxai.record import Run, open_run

STEPS = 1000


def short_runs(
    calculator: Any, structure: Atoms | str, folder: Path, seeds: int | Sequence[int] = 4,
    **settings: Any,
) -> list[Run]:  # fmt: skip
    """Run monitored molecular dynamics once per seed, and return the runs, opened.

    A run that becomes unstable ends there.

    Args:
        calculator: any ASE calculator.
        structure: to start from: atoms, a file that ASE reads, or a molecule of ASE's G2 set.
        folder: where the run directories are made.
        seeds: of velocities and thermostat, or how many: 1, 2, …
        **settings: of `RunSettings`; 1000 steps by default.

    Raises:
        SettingsError, CalculatorError, RecordError: for what cannot be run as asked.
    """
    atoms = structure if isinstance(structure, Atoms) else read_structure(str(structure))
    monitor = replace(settings.pop("monitor", MonitorOptions()), on_unstable="halt", report=False)
    chosen = RunSettings(**{"steps": STEPS, **settings}, monitor=monitor)
    runs = []
    for seed in range(1, seeds + 1) if isinstance(seeds, int) else seeds:
        out = folder / f"seed-{seed}"
        simulate(calculator, atoms, replace(chosen, seed=seed), out)
        runs.append(open_run(out))
    return runs

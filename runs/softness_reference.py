"""Makes mdxai/principles/probes/softness.toml: how hard molecules resist, by GFN2-xTB (tblite).

    python runs/softness_reference.py mdxai/principles/probes/softness.toml

Every closed-shell molecule of ASE's G2 set is relaxed, and each angle and bond deformed as the
probe `softness` does it. Kinds that occur in one molecule only are left out, and those that rise by
less than 0.5 eV in one: between short bonds of high order nothing is compressed.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from ase.build import molecule
from ase.collections import g2
from ase.optimize import BFGS
from tblite.ase import TBLite

from mdxai.calculators import CalculatorError, twin_of
from mdxai.frame import Frame
from mdxai.principles.probes.softness import rises

HEAD = """\
# Rise of the energy, eV, when a coordinate is deformed: GFN2-xTB, closed-shell molecules of ASE's
# G2 set. Made by runs/softness_reference.py.
"""


def main(target: Path) -> None:
    """Write the table."""
    found: dict[str, list[float]] = {}
    for name in g2.names:
        atoms = molecule(name)
        if len(atoms) < 2 or atoms.get_initial_magnetic_moments().any():
            continue
        atoms.calc = TBLite(method="GFN2-xTB", verbosity=0)
        try:
            BFGS(atoms, logfile=None).run(fmax=0.02, steps=200)
            twin = twin_of(lambda: TBLite(method="GFN2-xTB", verbosity=0))
            for kind, rise in rises(twin, Frame.from_atoms(atoms)).items():
                found.setdefault(kind, []).append(rise.energy)
        except (CalculatorError, RuntimeError) as refused:
            print(f"{name}: {refused}", file=sys.stderr)
    lines = [HEAD]
    for kind, values in sorted(found.items()):
        if len(values) > 1 and min(values) > 0.5:
            lines.append(
                f'"{kind}" = {{ lowest = {min(values):.3f}, median = {np.median(values):.3f}, '
                f"molecules = {len(values)} }}\n"
            )
    target.write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""MDAnalysis' PDB writer, with what ASE and others need to read its files back."""

from __future__ import annotations

from typing import Any

from MDAnalysis.coordinates.PDB import PDBWriter


class RunPdbWriter(PDBWriter):  # type: ignore[misc]
    """Writes a model per frame.

    A frame without a cell gets no CRYST1 (MDAnalysis writes one of 1 × 1 × 1 Å, which ASE takes for
    a cell), each model states its own cell, which may change, and nothing follows the last ENDMDL
    but bonds (ASE takes what lies between ENDMDL and END for a frame without atoms).
    """

    format = "MDXAI_PDB"  # under which MDAnalysis registers this class beside its own

    def CRYST1(self, dimensions: Any, *arguments: Any, **keywords: Any) -> None:  # noqa: N802
        """Write the cell, where there is one."""
        if self._dimensions() is not None:
            super().CRYST1(dimensions, *arguments, **keywords)

    def REMARK(self, *remarks: str) -> None:  # noqa: N802
        """Write remarks, but none on a cell that is not there."""
        super().REMARK(*(text for text in remarks if not text.startswith("285 ")))

    def MODEL(self, modelnumber: int) -> None:  # noqa: N802
        """Begin a frame; the header holds the cell of the first."""
        super().MODEL(modelnumber)
        if modelnumber > 1:
            self.CRYST1(self._dimensions())

    def END(self) -> None:  # noqa: N802
        """End the file without a word."""
        self.has_END = True

    def _dimensions(self) -> Any:
        return self.obj.universe.trajectory.ts.dimensions

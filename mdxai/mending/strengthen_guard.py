"""Choose the strength of a guard from the model's weak spots: until none is left below a height."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from ase import Atoms

from mdxai.calculators.guard_term import Guard, GuardError
from mdxai.calculators.guarded_calculator import guard_of, guarded, without_guard
from mdxai.calculators.reference_data import ReferenceData
from mdxai.forecast import ScanOptions, WeakSpot, WeakSpots, weak_spots
from mdxai.frame import Frame
from mdxai.mending.make_guard import REPULSION, WALL, guard

STEP = 2.0  # by which a strength is raised
ROUNDS = 6
GAIN = 0.001  # eV, by which a round must at least change the lowest weak spot
ABOVE = 1.1  # times the height, up to which weak spots are looked for
Progress = Callable[[str], None]  # what is being done, in words


@dataclass(frozen=True, slots=True)
class GuardRound:
    """The weak spots of a model with a guard of one strength: `repulsion` and `wall`, eV."""

    repulsion: float
    wall: float
    spots: WeakSpots


@dataclass(frozen=True, slots=True)
class StrongGuard:
    """A guard whose strength was chosen by weak spots.

    Attributes:
        calculator: with the guard.
        height: eV, below which no weak spot was to be left.
        before: the weak spots without a guard.
        rounds: those with guards of rising strength; the last is that of the calculator.
    """

    calculator: Any
    height: float
    before: WeakSpots
    rounds: tuple[GuardRound, ...]

    @property
    def guard(self) -> Guard:
        """The guard that was chosen."""
        found = guard_of(self.calculator)
        assert found is not None
        return found

    @property
    def left(self) -> tuple[WeakSpot, ...]:
        """The weak spots below the height that the guard does not close."""
        return _below(self.rounds[-1].spots, self.height)

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {
            "height_eV": self.height, "repulsion_eV": self.guard.repulsion,
            "wall_eV": self.guard.wall, "source": self.guard.source,
            "n_walls": len(self.guard.bonds), "before": self.before.as_dict(),
            "after": self.rounds[-1].spots.as_dict(), "left": [spot.label for spot in self.left],
        }  # fmt: skip

    def __str__(self) -> str:
        lines = [f"without guard: {_told(self.before, self.height)}"]
        lines += [
            f"repulsion {r.repulsion:g} eV, wall {r.wall:g} eV: {_told(r.spots, self.height)}"
            for r in self.rounds
        ]
        if self.left:
            named = ", ".join(f"{s.label} ({s.barrier:.2f} eV)" for s in self.left)
            lines.append(f"not closed, as no guard of this kind does: {named}")
        return "\n".join([*lines, str(self.guard)])


def strengthen(
    calculator: Any,
    structure: Atoms | Frame,
    *,
    height: float,
    temperature: float = 300.0,
    reference: ReferenceData | str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> StrongGuard:
    """Return the weakest guard, in steps of 2, that leaves no weak spot below a height.

    Weak spots are looked for without a guard and with one (`weak_spots`). Where one is left below
    the height, the wall is doubled if bonds are stretched there, else the repulsion. It ends when
    none is left, when a round has changed the lowest neither in height nor depth, or after six.

    Args:
        calculator: as `guard` takes; a guard that it has is taken off first.
        structure: the molecule, which is not meant to react.
        height: eV, of the lowest weak spot that may stay.
        temperature: of the rates, K.
        reference: as `guard` takes.
        progress: called with what is being done.

    Raises:
        GuardError: for a height that is not positive and finite; as `guard`.
        WeakSpotError, CalculatorError: as `weak_spots`.
    """
    if not 0 < height < math.inf:
        raise GuardError(f"expected a finite height above 0 eV, got {height:g}")
    tell = progress or (lambda what: None)
    options = ScanOptions(ceiling=ABOVE * height)

    def look(model: Any, what: str) -> WeakSpots:
        tell(f"weak spots {what}")
        return weak_spots(model, structure, temperature=temperature, options=options)

    bare = without_guard(calculator)
    plain = guard_of(guard(bare, structure, reference=reference))
    assert plain is not None
    before, rounds = look(bare, "without guard"), list[GuardRound]()
    repulsion, wall = REPULSION, WALL
    while True:
        made = guarded(bare, replace(plain, repulsion=repulsion, wall=wall))
        spots = look(made, f"with repulsion {repulsion:g} eV, wall {wall:g} eV")
        rounds.append(GuardRound(repulsion, wall, spots))
        low = _below(spots, height)
        if not low or len(rounds) == ROUNDS or _stuck(rounds):
            return StrongGuard(made, height, before, tuple(rounds))
        stretched = [spot.kind == "stretch" for spot in low]
        wall *= STEP if any(stretched) else 1.0
        repulsion *= 1.0 if all(stretched) else STEP


def _below(spots: WeakSpots, height: float) -> tuple[WeakSpot, ...]:
    return tuple(spot for spot in spots.spots if spot.barrier < height)


def _stuck(rounds: list[GuardRound]) -> bool:
    """Return whether a stronger guard has made the lowest weak spot neither higher nor shallower
    by 1 meV: all of it lies within the training domain.
    """
    if len(rounds) < 2:
        return False
    before, now = (r.spots.spots[0] for r in rounds[-2:])
    higher, shallower = now.barrier - before.barrier, before.depth - now.depth
    return not (higher >= GAIN or shallower >= GAIN)


def _told(spots: WeakSpots, height: float) -> str:
    if not spots.spots:
        return f"no weak spot up to {spots.ceiling:.2f} eV"
    lowest, n = spots.spots[0], len(_below(spots, height))
    return (
        f"{n} weak spot{'' if n == 1 else 's'} below {height:g} eV, lowest {lowest.label} at "
        f"{lowest.barrier:.2f} eV; hazard {spots.hazard_per_ps:.2g} per ps at "
        f"{spots.temperature:g} K"
    )

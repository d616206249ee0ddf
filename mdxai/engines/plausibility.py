"""Whether the first frames of a trajectory can be in the units they are taken to be in.

Pure functions of frames. Each finds what no sound simulation shows, at limits that metals,
molecules, melts and hot gases stay away from by a factor of 1.5 or more; tests/test_plausibility.py
has the numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from ase.data import covalent_radii
from ase.geometry import find_mic
from ase.units import Bohr

from mdxai.frame import ASE_TIME_PER_FS, Floats, Frame

SHORT = 2.0  # fs for H, a quarter of the period of H2; longer as the square root of the mass
ALIGNED = 0.95  # correlation of displacement and velocity × time of frames that are close in time
CLOSELY_ALIGNED = 0.97
SHARED_BY = 4.0  # atoms: the motion of a few may be one vibration
SLOPES = (0.6, 1.7)  # of one on the other, in sound files 1 to 1.3
FASTER_THAN_VELOCITIES = 4.0  # × further than the velocities reach
RESOLVED = 0.05  # Å; below, displacements may be rounding of coordinates
TOO_HOT = 25_000.0  # K
NOBLE = (2, 10, 18, 36, 54, 86)
UPON_EACH_OTHER = 0.05  # Å
OWN_IMAGE = 0.9  # Å
IN_BOHR = (0.88, 1.2)  # nearest distance over covalent radii and Bohr, of bonded atoms
TAKEN_FOR_BOHR = 0.66  # nearest distance over covalent radii
CROWDED = 0.25  # nearest distance over covalent radii, median
CARRIED = 0.5  # Å, beyond what velocities say, of atoms that another one has replaced
TOO_FAR = 0.8  # Å
MOST_PAIRS = 600  # atoms up to which all distances are formed

# What velocities are in, where they are taken for Å/fs and are off by this factor.
_MISTAKES = {
    1000.0: "Å/ps",
    1 / ASE_TIME_PER_FS: "ASE's Å/ase_time",
    48.888: "AKMA's Å/akma",
    100.0: "nm/ps",
    1e5: "m/s",
}


@dataclass(frozen=True, slots=True)
class Doubt:
    """Something that sound files do not show.

    message: what was seen and what to state. quantity: "positions", "velocities" or "cell": stating
    its unit settles it. refuses: whether it cannot be right at all, rather than hardly.
    """

    message: str
    quantity: str
    refuses: bool = True


def doubts(frames: Sequence[Frame]) -> list[Doubt]:
    """Return what is doubtful about frames in their order, the first ones of a file."""
    first = frames[0]
    if not np.isfinite(first.positions).all():
        return []  # a matter of its own, and no unit
    cell = of_cell(first)
    if cell is not None and cell.refuses:  # distances in it mean nothing
        return [cell]
    found = [of_distances(first), of_velocities(frames), of_temperature(frames)]
    return [doubt for doubt in found if doubt is not None]


def of_cell(frame: Frame) -> Doubt | None:
    """Return a doubt where a periodic direction has no length, or an atom is upon its own image."""
    periodic = np.flatnonzero(frame.pbc)
    if not len(periodic):
        return None
    lengths = np.linalg.norm(frame.cell, axis=1)
    if not np.isfinite(frame.cell).all() or (lengths[periodic] < 1e-6).any():
        return Doubt(
            "it is periodic along a cell vector that it does not give; leave the cell aside "
            "(without=, --without cell), or give the file one", "cell",
        )  # fmt: skip
    shortest = float(lengths[periodic].min())
    if shortest < OWN_IMAGE:
        return Doubt(
            f"its cell puts atoms {shortest:.3g} Å from their own images, which no matter does; "
            "leave the cell aside (without=, --without cell), or state the unit of lengths "
            "(units=, --units positions=nm)", "cell",
        )  # fmt: skip
    vectors = frame.cell[periodic] / lengths[periodic, None]
    if len(periodic) > 1 and np.linalg.matrix_rank(vectors, tol=1e-3) < len(periodic):
        return Doubt(
            "its cell is flat: two of its vectors lie in one line or three in one plane; leave it "
            "aside (without=, --without cell)", "cell",
        )  # fmt: skip
    return None


def of_distances(frame: Frame) -> Doubt | None:
    """Return a doubt where nearest neighbours are at distances of another unit of length.

    Bonded atoms are at 0.8 to 1.3 times the sum of their covalent radii (B. Cordero et al., Dalton
    Trans. 2008, 2832), atoms of metals at 0.95 to 1.2.
    """
    if not frame.n_atoms > 1:
        return None
    ratios, nearest = nearest_over_radii(frame)
    close = float(nearest.min())
    if close < UPON_EACH_OTHER and np.median(nearest) < UPON_EACH_OTHER:
        return Doubt(
            f"its atoms lie upon each other ({close:.2g} Å): are these positions at all? State the "
            "unit of lengths (units=, --units positions=nm)", "positions",
        )  # fmt: skip
    ratios = ratios[~np.isin(frame.numbers[: len(ratios)], NOBLE)]
    return None if len(ratios) < 3 else _of_ratios(ratios)


def _of_ratios(ratios: Floats) -> Doubt | None:
    """Return a doubt where nearest distances over radii are those of nm, or of bohr."""
    middle, most = float(np.median(ratios)), float(np.quantile(ratios, 0.9))
    if middle < CROWDED:
        return Doubt(
            f"its atoms are {1 / middle:.1f} times closer than bonds are long; are they in nm? "
            "State --units positions=nm, or positions=Å if they are right (units=)", "positions",
        )  # fmt: skip
    if most < TAKEN_FOR_BOHR:
        return Doubt(
            f"its bonds would be {middle:.2f} times as long as bonds are; are they in Å, and taken "
            "for bohr? State --units positions=Å (units=)", "positions",
        )  # fmt: skip
    low, high = (limit / Bohr for limit in IN_BOHR)
    # Atoms a little apart are no sign; all of them at bond lengths × 1.89 are.
    if low < ratios.min() and most < high:
        return Doubt(
            f"its bonds would be {middle:.2f} times as long as bonds are; are they in bohr? State "
            "--units positions=bohr, or positions=Å if they are right (units=)", "positions",
        )  # fmt: skip
    return None


def nearest_over_radii(frame: Frame) -> tuple[Floats, Floats]:
    """Return (n,) the nearest distance of each atom over covalent radii, and that distance, Å.

    Of large systems the first atoms, with all others as neighbours.
    """
    some = frame.positions[:MOST_PAIRS]
    radii = covalent_radii[frame.numbers]
    ratios, nearest = np.empty(len(some)), np.empty(len(some))
    sound = frame.pbc.any() and np.isfinite(frame.cell).all()
    inverse = np.linalg.pinv(frame.cell) if sound else None
    for n, place in enumerate(some):
        apart = frame.positions - place
        if inverse is not None:
            shifts = np.round(apart @ inverse) * frame.pbc
            apart = apart - shifts @ frame.cell
        distances = np.linalg.norm(apart, axis=1)
        distances[n] = np.inf
        nearest[n] = distances.min()
        ratios[n] = (distances / (radii + radii[n])).min()
    return ratios, nearest


def displacements(frames: Sequence[Frame]) -> list[Floats]:
    """Return the (n_atoms, 3) displacements between neighbouring frames, Å, at nearest images."""
    found = []
    for before, after in pairwise(frames):
        moved = after.positions - before.positions
        if after.pbc.any() and np.isfinite(after.cell).all():
            shifts = np.round(moved @ np.linalg.pinv(after.cell)) * after.pbc
            moved = moved - shifts @ after.cell
        found.append(moved)
    return found


def of_velocities(frames: Sequence[Frame]) -> Doubt | None:
    """Return a doubt where velocities × time are not what the atoms move.

    Of frames that are close in time `of_slope` tells it. Of those far apart only a bound holds: no
    atom gets further than it moves.
    """
    pairs = _motions(frames)
    if len(pairs) < 2:
        return None
    doubt = of_slope(frames)
    beyond = float(np.median([m.beyond for m in pairs]))
    far = min(m.beyond for m in pairs) > FASTER_THAN_VELOCITIES
    if doubt is None and far and min(m.distance for m in pairs) > RESOLVED:
        return Doubt(
            f"its atoms move {beyond:.3g} times as far as their velocities carry them; "
            f"{_what_to_state(beyond)}", "velocities",
        )  # fmt: skip
    return doubt


def of_slope(frames: Sequence[Frame]) -> Doubt | None:
    """Return a doubt where atoms move along their velocities, but at another pace.

    Of a vibration of period T that is looked at every Δt, the slope of displacement on velocity ×
    time is tan(y)/y with y = πΔt/T: 1 to 1.3 up to Δt = T/4.
    """
    pairs = _motions(frames)
    if len(pairs) < 2:
        return None
    slopes, aligned = [m.slope for m in pairs], min(m.aligned for m in pairs)
    slope, interval = float(np.median(slopes)), frames[1].time - frames[0].time
    steady = 0 < max(slopes) < 1.5 * slope and min(slopes) > slope / 1.5
    short = SHORT * float(np.sqrt(frames[0].masses.min() / 1.008))
    sure = interval <= short
    if not sure and slope * interval <= short:  # then the frames may be closer than they say
        sure = aligned > CLOSELY_ALIGNED and min(m.participants for m in pairs) > SHARED_BY
    wrong = slope < SLOPES[0] or (slope > SLOPES[1] and interval <= short)
    if aligned > ALIGNED and steady and sure and wrong:
        return Doubt(_of_slope(slope, interval), "velocities")
    return None


@dataclass(frozen=True, slots=True)
class Motion:
    """How the atoms move from one frame to the next.

    slope, aligned: of displacement on velocity × time, and their correlation. distance: root mean
    square displacement, Å. beyond: that over what the faster of both velocities allows.
    participants: number of atoms that share the displacement.
    """

    slope: float
    aligned: float
    distance: float
    beyond: float
    participants: float


def _motions(frames: Sequence[Frame]) -> list[Motion]:
    """Return the motion from frame to frame; empty where there is none or it is not known."""
    if any(not f.has_velocities or not np.isfinite(f.positions).all() for f in frames):
        return []
    if len(frames) < 2 or frames[0].n_atoms < 3:
        return []
    found = []
    for (before, after), moved in zip(pairwise(frames), displacements(frames), strict=True):
        span = after.time - before.time
        reach = 0.5 * (before.velocities + after.velocities) * span
        size, squares = float(np.sum(reach**2)), np.sum(moved**2, axis=1)
        covered = float(squares.sum())
        if not (size > 0 and covered > 0):
            return []
        along = float(np.sum(moved * reach))
        fastest = max(float(np.mean(f.velocities**2)) for f in (before, after))
        distance = float(np.sqrt(np.mean(moved**2)))
        found.append(
            Motion(
                along / size, along / np.sqrt(size * covered), distance,
                distance / (np.sqrt(fastest) * span), covered**2 / float(np.sum(squares**2)),
            )
        )  # fmt: skip
    return found


def _of_slope(slope: float, interval: float) -> str:
    return (
        f"its atoms move {slope:.3g} times as far as velocity × time; {_what_to_state(slope)}, or "
        f"are its frames {interval * slope:.3g} fs apart rather than {interval:g} (timestep=, "
        f"--timestep {interval * slope:.3g})?"
    )


def _what_to_state(slope: float) -> str:
    """Return the likely right statement where velocities are too small by a factor."""
    likely = "in another unit"
    for factor, name in _MISTAKES.items():
        if 0.8 < slope * factor < 1.25:  # given in larger numbers than ours
            likely = f"in {name}"
        elif 0.8 < slope / factor < 1.25:
            likely = f"in a unit {factor:.4g} times larger"
    return (
        f"are its velocities {likely}? State the unit (units=, --units velocities=Å/fs, or Å/ps, "
        "Å/ase_time, m/s; of LAMMPS --units real or metal)"
    )


def of_temperature(frames: Sequence[Frame]) -> Doubt | None:
    """Return a doubt where velocities are those of a plasma and nothing confirms them."""
    hot = [f.temperature for f in frames if f.has_velocities]
    if len(hot) < len(frames) or not hot or not np.isfinite(hot).all():
        return None
    if min(hot) <= TOO_HOT or _confirmed(frames):
        return None
    return Doubt(
        f"its velocities are those of {np.median(hot):.3g} K; if that is not meant, state their "
        "unit (units=, --units velocities=Å/ps)", "velocities", refuses=False,
    )  # fmt: skip


def _confirmed(frames: Sequence[Frame]) -> bool:
    """Whether displacements agree with velocity × time."""
    pairs = _motions(frames)
    return bool(pairs) and all(m.aligned > 0.9 and SLOPES[0] < m.slope < SLOPES[1] for m in pairs)


def changed_places(last: Frame, frame: Frame) -> tuple[int, int] | None:
    """Return an atom that is where another one of its element was a frame before, and that one.

    Velocities must be known, and too small to carry the atom there; frames too far apart to tell
    (more than 0.8 Å at twice these velocities, and 0.5 Å besides) are passed over.
    """
    if not (last.has_velocities and frame.has_velocities):
        return None
    speed = np.maximum(*(np.linalg.norm(f.velocities, axis=1) for f in (last, frame)))
    reach = 2 * speed * (frame.time - last.time) + CARRIED
    moved = frame.positions - last.positions
    far = np.flatnonzero((np.einsum("ij,ij->i", moved, moved) > reach**2) & (reach < TOO_FAR))
    if len(far) < 2:
        return None
    there = frame.positions[far, None] - last.positions[None, far]  # to where the others were
    if frame.pbc.any():
        there = find_mic(there.reshape(-1, 3), frame.cell, frame.pbc)[0].reshape(there.shape)
    distances = np.linalg.norm(there, axis=2)
    alike = frame.numbers[far, None] == frame.numbers[None, far]
    taken = alike & (distances < reach[far, None])
    taken[np.diag(taken)] = False  # it is near its own place, in another image of the cell
    if not taken.any():
        return None
    atom, other = np.argwhere(taken)[0]
    return int(far[atom]), int(far[other])

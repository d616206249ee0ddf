"""What laws want to know about one frame, in single passes over its atoms or pairs.

For a small molecule NumPy's calls cost more than their arithmetic, and there are dozens of them in
every frame. Every kernel has a NumPy twin in the tests and adds nothing but speed. As in NumPy's
`argmax`, NaN counts as the largest, and of several the first.
"""

from __future__ import annotations

import math

import numba
import numpy as np


@numba.njit(cache=True, nogil=True)
def all_distances(points, distances):  # type: ignore[no-untyped-def]
    """Fill distances (n_pairs,) of all pairs i < j of points (n, 3)."""
    k = 0
    for i in range(len(points)):
        for j in range(i + 1, len(points)):
            x = points[j, 0] - points[i, 0]
            y = points[j, 1] - points[i, 1]
            z = points[j, 2] - points[i, 2]
            distances[k] = math.sqrt(x * x + y * y + z * z)
            k += 1


@numba.njit(cache=True, nogil=True)
def summary(  # type: ignore[no-untyped-def]
    positions, velocities, forces, masses, kinetic, distances
):
    """Return sums over atoms, and the atoms that stand out.

    One kernel for all of it: called once a step, between evaluations of a network, each kernel
    costs some 10 µs until its code is back in the processor's cache.

    positions, velocities, forces: (n_atoms, 3). masses: (n_atoms,). kinetic: (n_atoms,) is filled
    with m v². distances: (n_pairs,) is filled with those of all pairs i < j; empty, it stays so.

    Returns:
        Σ x, Σ v over all components; Σ F (3 numbers), Σ m v (3), Σ m, Σ m v²; largest F² and its
        atom; atom of the largest m v².
    """
    x = v = fx = fy = fz = px = py = pz = mass = total = 0.0
    largest, hottest = -1.0, -1.0
    at_force = at_heat = 0
    for a in range(len(masses)):
        m, f0, f1, f2 = masses[a], forces[a, 0], forces[a, 1], forces[a, 2]
        v0, v1, v2 = velocities[a, 0], velocities[a, 1], velocities[a, 2]
        x += positions[a, 0] + positions[a, 1] + positions[a, 2]
        v += v0 + v1 + v2
        fx, fy, fz = fx + f0, fy + f1, fz + f2
        px, py, pz = px + m * v0, py + m * v1, pz + m * v2
        mass += m
        square, heat = f0 * f0 + f1 * f1 + f2 * f2, m * (v0 * v0 + v1 * v1 + v2 * v2)
        kinetic[a] = heat
        total += heat
        if not (square <= largest) and not math.isnan(largest):
            largest, at_force = square, a
        if not (heat <= hottest) and not math.isnan(hottest):
            hottest, at_heat = heat, a
    if len(distances):
        all_distances(positions, distances)
    return x, v, fx, fy, fz, px, py, pz, mass, total, largest, at_force, at_heat


@numba.njit(cache=True, nogil=True)
def largest_change(values, rows, reference):  # type: ignore[no-untyped-def]
    """Return the largest |values[rows] − reference| and its place. rows, reference: (n,)."""
    largest, at = -1.0, 0
    for k in range(len(rows)):
        change = abs(values[rows[k]] - reference[k])
        if not (change <= largest):
            largest, at = change, k
            if math.isnan(change):
                break
    return largest, at


@numba.njit(cache=True, nogil=True)
def largest_excess(values, limits, sign):  # type: ignore[no-untyped-def]
    """Return the largest sign · (values − limits) and its place; −∞ without values."""
    largest, at = -np.inf, 0
    for k in range(len(values)):
        excess = sign * (values[k] - limits[k])
        if not (excess <= largest):
            largest, at = excess, k
            if math.isnan(excess):
                break
    return largest, at


@numba.njit(cache=True, nogil=True)
def largest_ratio(values, rows, reference):  # type: ignore[no-untyped-def]
    """Return the largest values[rows] / reference and its place. rows, reference: (n,)."""
    largest, at = -np.inf, 0
    for k in range(len(rows)):
        ratio = values[rows[k]] / reference[k]
        if not (ratio <= largest):
            largest, at = ratio, k
            if math.isnan(ratio):
                break
    return largest, at


@numba.njit(cache=True, nogil=True)
def nearest_heavy(i, j, distances, light, nearest):  # type: ignore[no-untyped-def]
    """Lower `nearest` (n_atoms,) of light atoms to the distance of their nearest heavy partner.

    i, j, distances: (n_pairs,). light: (n_atoms,) bool.
    """
    for k in range(len(distances)):
        a, b = i[k], j[k]
        if light[a] != light[b]:
            atom = a if light[a] else b
            if not (distances[k] >= nearest[atom]):
                nearest[atom] = distances[k]


@numba.njit(cache=True, nogil=True)
def step_work(positions, last_positions, forces, last_forces):  # type: ignore[no-untyped-def]
    """Return Σ (F + F_last)·(x − x_last). All (n_atoms, 3)."""
    work = 0.0
    for a in range(len(positions)):
        for axis in range(3):
            force = last_forces[a, axis] + forces[a, axis]
            work += force * (positions[a, axis] - last_positions[a, axis])
    return work


@numba.njit(cache=True, nogil=True, error_model="numpy")
def about_centre(positions, vectors, masses):  # type: ignore[no-untyped-def]
    """Return Σ m a ⊗ a and Σ m a ⊗ v, a the arms from the centre of mass.

    positions, vectors: (n_atoms, 3). masses: (n_atoms,).

    Returns:
        The 6 numbers xx, yy, zz, xy, xz, yz, then Σ m a × v (3 numbers).
    """
    mass = cx = cy = cz = 0.0
    for k in range(len(masses)):
        m = masses[k]
        mass += m
        cx += m * positions[k, 0]
        cy += m * positions[k, 1]
        cz += m * positions[k, 2]
    cx, cy, cz = cx / mass, cy / mass, cz / mass
    xx = yy = zz = xy = xz = yz = lx = ly = lz = 0.0
    for k in range(len(masses)):
        m = masses[k]
        x, y, z = positions[k, 0] - cx, positions[k, 1] - cy, positions[k, 2] - cz
        u, v, w = vectors[k, 0], vectors[k, 1], vectors[k, 2]
        xx, yy, zz = xx + m * x * x, yy + m * y * y, zz + m * z * z
        xy, xz, yz = xy + m * x * y, xz + m * x * z, yz + m * y * z
        lx, ly, lz = lx + m * (y * w - z * v), ly + m * (z * u - x * w), lz + m * (x * v - y * u)
    return xx, yy, zz, xy, xz, yz, lx, ly, lz

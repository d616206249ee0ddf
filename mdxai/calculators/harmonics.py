"""Spherical harmonics and Clebsch–Gordan products of schnetpack's SO3net, as matrix products.

Features hold all l ≤ lmax and m of one channel in S = (lmax + 1)² rows, sorted by l, then m. The
coefficients are those of the network's own buffers, so that results agree to rounding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

ROOT = float(torch.tensor(math.sqrt(0.5), dtype=torch.float32))  # rounded as schnetpack has it


@dataclass(frozen=True, slots=True)
class Harmonics:
    """Constants of one lmax.

    lmax: highest l. exponents: (3, n_monomials) powers of x, y and z. polynomials:
    (n_monomials, S) coefficients of the real spherical harmonics. coupling: (S, S, S)
    Clebsch–Gordan coefficients [s1, s2, s] of a product of rows s1 and s2 in row s. by_degree:
    (S, (lmax + 1)·S·S), the same with the harmonics of each l apart, as `maps_of` needs them.
    degrees: (S,) l of each row.
    """

    lmax: int
    exponents: Tensor
    polynomials: Tensor
    coupling: Tensor
    by_degree: Tensor
    degrees: Tensor

    @property
    def n_rows(self) -> int:
        """S, the number of rows of a feature."""
        return (self.lmax + 1) ** 2

    @classmethod
    def of(cls, representation: Any) -> Harmonics:
        """Return the constants of an SO3net, in its dtype and on its device."""
        product, lmax = representation.so3product, int(representation.lmax)
        rows, values = (lmax + 1) ** 2, product.clebsch_gordan
        coupling = values.new_zeros(rows, rows, rows)
        coupling[product.idx_in_1, product.idx_in_2, product.idx_out] = values
        degrees = representation.sphharm.lidx.to(values.device)
        apart = values.new_zeros(rows, lmax + 1, rows, rows)
        apart[torch.arange(rows, device=values.device), degrees] = coupling
        exponents, polynomials = _polynomials(representation.sphharm)
        return cls(lmax, exponents, polynomials, coupling, apart.view(rows, -1), degrees)

    def at(self, directions: Tensor) -> Tensor:
        """Return the harmonics (n, S) of unit vectors (n, 3)."""
        powers = [torch.ones_like(directions)]
        for _ in range(self.lmax):
            powers.append(powers[-1] * directions)
        of_x, of_y, of_z = torch.stack(powers, 2).unbind(1)
        x, y, z = self.exponents
        return (of_x[:, x] * of_y[:, y] * of_z[:, z]) @ self.polynomials

    def maps_of(self, harmonics: Tensor) -> Tensor:
        """Return (n, lmax + 1, S, S): Σ_m Y_lm C[lm, s2, s] at [l, s2, s], from Y (n, S)."""
        rows = self.n_rows
        return (harmonics @ self.by_degree).view(-1, self.lmax + 1, rows, rows)

    def of_rows(self, by_degree: Tensor) -> Tensor:
        """(n, lmax + 1, F) → (n, S, F): the value of each l in the rows of its m."""
        return by_degree.index_select(1, self.degrees)

    def product(self, first: Tensor, second: Tensor) -> Tensor:
        """(n, S, F), (n, S, F) → (n, S, F): their Clebsch–Gordan product, channel by channel."""
        rows = self.n_rows
        every = (first[:, :, None] * second[:, None]).flatten(1, 2)
        return self.coupling.view(rows * rows, rows).t() @ every


def _polynomials(module: Any) -> tuple[Tensor, Tensor]:
    """Return exponents and coefficients of schnetpack's real spherical harmonics.

    Y_lm = √((2l + 1)/2π) Π_l|m|(z) · (A_m(x, y) for m > 0, √½ for m = 0, B_|m|(x, y) for m < 0).
    """
    terms: dict[tuple[tuple[int, int, int], int], float] = {}
    degrees, orders = module.lidx.tolist(), module.midx.tolist()
    for row, (degree, order) in enumerate(zip(degrees, orders, strict=True)):
        scale, m = math.sqrt((2 * degree + 1) / (2 * math.pi)), abs(order)
        plane = [(0, 0, ROOT)]
        if m:
            table = (module.cAm if order > 0 else module.cBm)[m - 1].double().tolist()
            plane = [(p, m - p, c) for p, c in enumerate(table[: m + 1])]
        for a, b, flat in plane:
            for k, tall in enumerate(module.cPi[degree, m].double().tolist()):
                if value := scale * flat * tall:
                    key = (a, b, degree - 2 * k - m), row
                    terms[key] = terms.get(key, 0.0) + value
    monomials = sorted({powers for powers, _ in terms})
    coefficients = torch.zeros(len(monomials), len(degrees), dtype=torch.float64)
    for (powers, row), value in terms.items():
        coefficients[monomials.index(powers), row] = value
    device = module.cPi.device
    return torch.tensor(monomials, device=device).t(), coefficients.to(device, module.cPi.dtype)

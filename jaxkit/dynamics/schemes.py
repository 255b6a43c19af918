"""Runge-Kutta schemes as data: one table of coefficients defines a method."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import diffrax
import numpy as np

from jaxkit.core.struct import static, struct


@struct
class Tableau:
    """A Butcher tableau: `k_i = f(t + c_i h, x + h sum_j a_ij k_j)`, `x' = x + h sum_i b_i k_i`.

    Attributes:
        name: Its name.
        order: Order of accuracy of `b`.
        a: Stage coefficients, shape `(s, s)`; strictly lower triangular for an explicit scheme.
        b: Weights, shape `(s,)`.
        c: Nodes, shape `(s,)`.
        error: Weights of the embedded error estimate, shape `(s,)`; None without one.
    """

    name: str = static()
    order: int = static()
    a: np.ndarray
    b: np.ndarray
    c: np.ndarray
    error: np.ndarray | None = None

    @property
    def explicit(self) -> bool:
        """Whether each stage needs only the stages before it."""
        return not np.any(np.triu(self.a))


def tableau(name: str, order: int, a: list[list[float]], b: list[float], error: list[float] | None = None) -> Tableau:
    """A tableau from the rows of `a` (short rows are filled with zeros); its nodes are the row sums."""
    full = np.zeros((len(b), len(b)))
    for i, row in enumerate(a):
        full[i, : len(row)] = row
    return Tableau(name, order, full, np.array(b), full.sum(1), None if error is None else np.array(error))


def from_diffrax(solver: Any) -> Tableau:
    """The tableau of one of diffrax's explicit Runge-Kutta solvers, e.g. `diffrax.Tsit5()`."""
    theirs = solver.tableau
    rows = [[], *(list(np.asarray(row, float)) for row in theirs.a_lower)]
    error = list(np.asarray(theirs.b_error, float))
    order = solver.order(None)
    return tableau(type(solver).__name__.lower(), int(order or 0), rows, list(np.asarray(theirs.b_sol, float)), error)


TABLEAUS: Mapping[str, Tableau] = MappingProxyType(
    {
        "euler": tableau("euler", 1, [[]], [1.0]),
        "midpoint": tableau("midpoint", 2, [[], [0.5]], [0.0, 1.0]),
        "heun": tableau("heun", 2, [[], [1.0]], [0.5, 0.5], error=[0.5, -0.5]),
        "rk4": tableau("rk4", 4, [[], [0.5], [0, 0.5], [0, 0, 1.0]], [1 / 6, 1 / 3, 1 / 3, 1 / 6]),
        "tsit5": from_diffrax(diffrax.Tsit5()),
        "dopri5": from_diffrax(diffrax.Dopri5()),
        "dopri8": from_diffrax(diffrax.Dopri8()),
    }
)

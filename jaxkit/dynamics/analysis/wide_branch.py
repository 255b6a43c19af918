"""Branches of equilibria with many unknowns whose Jacobian is sparse.

All solves are with the Jacobian bordered by the parameter's column and one row, through sparse factors. Of the
eigenvalues, those next to zero are looked at, by Arnoldi's method with the inverse: they are the ones that cross it at
folds and branch points.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from jaxkit.core.status import Status
from jaxkit.dynamics.analysis.branch import Place, Residual
from jaxkit.dynamics.linear import klu
from jaxkit.dynamics.linear.arnoldi import ritz
from jaxkit.dynamics.linear.pattern import Pattern

SHOWN = 8  # eigenvalues that are reported
BASIS = 40  # vectors of the basis in which they are looked for, beyond twice their number
RTOL, TURNS = 1e-9, 16
KNOWN = 1e-6  # relative residual of an eigenvalue that has converged


@dataclasses.dataclass(frozen=True)
class Wide:
    """A curve of many unknowns.

    Attributes:
        residual: What vanishes on it.
        pattern: Pattern of its Jacobian by the state.
    """

    residual: Residual
    pattern: Pattern

    @functools.cached_property
    def _bordered(self) -> tuple[Pattern, np.ndarray]:
        return bordered(self.pattern)

    def _slope(self, u: Array) -> tuple[Array, Array, Array]:
        """The value, the entries of the Jacobian by the state, and the column of the parameter."""
        value, push = jax.linearize(self.residual, u)
        entries = self.pattern.entries(lambda v: push(jnp.append(v, 0.0)), u[:-1])
        return value, entries, push(jnp.zeros_like(u).at[-1].set(1))

    def _solve(self, entries: Array, column: Array, row: Array, right: Array) -> Array:
        pattern, order = self._bordered
        return klu.solve(pattern, jnp.concatenate([entries, column, row])[order], right)

    def correct(self, guess: Array, normal: Array) -> tuple[Array, Int[Array, ""]]:
        """The point of the curve in the plane through `guess` with normal `normal`, and its `Status` code."""

        def turn(carry: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
            u, step, _, count = carry
            value, entries, column = self._slope(u)
            move = self._solve(entries, column, normal, -jnp.append(value, normal @ (u - guess)))
            return u + move, jnp.max(jnp.abs(move)), step, count + 1

        def go(carry: tuple[Array, Array, Array, Array]) -> Array:
            u, step, before, count = carry
            left = ~self._short(u, jnp.maximum(step, before))  # two steps in a row: the last one is mere rounding
            return (count < TURNS) & jnp.isfinite(step) & left

        far = jnp.full((), 1e300 if guess.dtype == jnp.float64 else 1e30, guess.dtype)
        u, step, before, _ = jax.lax.while_loop(go, turn, (guess, far, far, jnp.asarray(0)))
        still = step <= jnp.maximum(0.5 * before, 1e3 * float(jnp.finfo(u.dtype).eps) * jnp.max(jnp.abs(u)))
        good = self._short(u, jnp.maximum(step, before)) & still & jnp.all(jnp.isfinite(u))
        return u, jnp.where(good, int(Status.ok), int(Status.max_steps))

    def _short(self, u: Array, step: Array) -> Array:
        return step <= RTOL**0.5 * jnp.max(jnp.abs(u))

    def place(self, u: Array, like: Array, fine: Array) -> Place:
        """The properties of a point `u`; the tangent points along `like`."""
        _, entries, column = self._slope(u)
        tangent = self._solve(entries, column, like, jnp.zeros_like(u).at[-1].set(1))
        tangent = tangent / jnp.linalg.norm(tangent)
        found = klu.held(self.pattern, entries, lambda factors: ritz(factors.solve, u[:-1], SHOWN, BASIS))
        known = (found.residuals <= KNOWN * jnp.abs(found.values)) & (found.values != 0)
        every = jnp.where(known, 1 / jnp.where(known, found.values, 1), jnp.nan)
        every = every[jnp.argsort(jnp.where(known, jnp.abs(every), jnp.inf))]
        real, size = jnp.real(every), jnp.max(jnp.abs(entries))
        # A real eigenvalue is as good as its residual; the matrix's own rounding is in the smallest ones.
        rounding = 64 * float(jnp.finfo(u.dtype).eps) * size
        up, neutral = jnp.sum(real > rounding), jnp.sum(jnp.abs(real) <= rounding)
        down = u.size - 1 - up - neutral
        direction = jnp.sign(tangent[-1]).astype(int)
        border = jnp.where(neutral == 0, direction * (1 - 2 * (down % 2)), 0)
        least, speed = jnp.log(jnp.abs(every[0])), jnp.log(jnp.abs(tangent[-1]))
        sizes = jnp.stack([speed, least - speed, jnp.log(jnp.nanmin(jnp.abs(real)))])
        fine = fine & jnp.all(jnp.isfinite(tangent)) & known.any()
        border = jnp.where(fine, border, 0).astype(int)
        return Place(u, tangent, every[:SHOWN], up, down, neutral, border, sizes, fine)

    def branch_point(self, u: Array, length: Array) -> Array:
        """The point as it is: bisection has found it about as well as the singular system there allows."""
        del length
        return u


def bordered(pattern: Pattern) -> tuple[Pattern, np.ndarray]:
    """The pattern with one more full row and column, and the order of entries: matrix, column, row."""
    n = pattern.size
    known = vars(pattern)
    if "_bordered" not in known:  # it lives as long as the pattern: programs hold addresses of what belongs to it
        rows = np.concatenate([pattern.rows, np.arange(n), np.full(n + 1, n)]).astype(np.int32)
        columns = np.concatenate([pattern.columns, np.full(n, n), np.arange(n + 1)]).astype(np.int32)
        order = np.lexsort((columns, rows))
        whole = Pattern(rows[order], columns[order], n + 1, np.zeros(n + 1, np.int32), 0)
        known["_bordered"] = (whole, order)
    return known["_bordered"]

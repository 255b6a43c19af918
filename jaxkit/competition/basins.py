"""Who wins from which start: the separatrix of the bistable case, basins by integration, outcome maps."""

import dataclasses
import functools
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Int

from jaxkit.competition.theory import Regime, equilibria, regime
from jaxkit.core import checks
from jaxkit.core.status import Outcome, Status, worst
from jaxkit.core.struct import struct
from jaxkit.dynamics.ode.ensemble import ensemble
from jaxkit.dynamics.ode.solve import solve
from jaxkit.models.lotka_volterra import Params, as_rates, as_two_species, lotka_volterra


@struct
class Separatrix(Outcome):
    """The boundary between the two basins: an increasing curve `x2 = s(x1)` from the origin through the saddle.

    Attributes:
        u: `log x1` at the knots, increasing, shape `(k,)`.
        w: `log x2` at the knots.
        slope: `dw/du` at the knots (exact, from the field).
        status: `Status` code; `not_applicable` if the parameters are not bistable.
    """

    verb: ClassVar[str] = "separatrix"

    u: Float[Array, " k"]
    w: Float[Array, " k"]
    slope: Float[Array, " k"]
    status: Int[Array, ""]

    def __call__(self, x1: ArrayLike) -> Array:
        """`x2` on the curve at `x1` of any shape: cubic Hermite between the knots, a power law beyond them."""
        x1 = jnp.asarray(x1)
        u = jnp.log(jnp.maximum(x1, jnp.finfo(self.u.dtype).tiny))
        i = jnp.clip(jnp.searchsorted(self.u, u) - 1, 0, self.u.size - 2)
        h = self.u[i + 1] - self.u[i]
        s = (u - self.u[i]) / h
        rise = (self.w[i + 1] - self.w[i]) / h
        m0, m1 = self.slope[i], self.slope[i + 1]
        inside = self.w[i] + h * s * (m0 + s * (3 * rise - 2 * m0 - m1 + s * (m0 + m1 - 2 * rise)))
        left, right = self.w[0] + self.slope[0] * (u - self.u[0]), self.w[-1] + self.slope[-1] * (u - self.u[-1])
        w = jnp.where(u < self.u[0], left, jnp.where(u > self.u[-1], right, inside))
        return jnp.where(x1 > 0, jnp.exp(w), 0)


def separatrix(p: Params, *, reach: float = 20.0, knots: int = 200, rtol: float = 1e-10) -> Separatrix:
    """The stable manifold of the saddle in the bistable case.

    In `u = log x1`, `w = log x2` the curve solves `dw/du = (r2 - a2 x1 - r2 x2/N2) / (r1 - r1 x1/N1 - a1 x2)`. It is
    traced away from the saddle, starting along the stable eigenvector, so that errors shrink on the way.

    Args:
        p: Parameters.
        reach: Largest `x1`, as a multiple of the saddle's.
        knots: Knots on each side.
        rtol: Tolerance of the integration.

    Returns:
        A `Separatrix`, callable at any `x1`; differentiable in `p`.

    Example:
        >>> from jaxkit import competition as comp
        >>> curve = comp.separatrix(comp.Params(r=(1.0, 1.0), N=(1.0, 1.0), a=(2.0, 2.0))).checked()
        >>> round(float(curve(0.3)), 8)  # by symmetry the diagonal
        0.3
    """
    return _separatrix(as_two_species(p), reach=reach, knots=knots, rtol=rtol)


@functools.partial(jax.jit, static_argnames=("reach", "knots", "rtol"))
def _separatrix(p: Params, *, reach: float, knots: int, rtol: float) -> Separatrix:
    bistable = regime(p) == int(Regime.bistable)
    # Elsewhere there is no interior saddle: trace a harmless stand-in; the status says so.
    q = jax.tree.map(lambda v, w: jnp.where(bistable, v, w), p, Params(*(jnp.full(2, c, p.r.dtype) for c in (1, 1, 2))))
    eq = equilibria(q)
    saddle, jac, low = eq.x[3], eq.J[3], jnp.real(eq.eigenvalues[3, 1])
    vector = jnp.stack([jac[0, 1], low - jac[0, 0]])  # (J - low) v = 0; J01 < 0 always, so v1 never vanishes
    u0, w0 = jnp.log(saddle[0]), jnp.log(saddle[1])
    slope0 = vector[1] / vector[0] * saddle[0] / saddle[1]
    rates, offset = q.rates, 1e-5

    def slope(u: Array, w: Array) -> Array:
        x = jnp.stack([jnp.exp(u), jnp.exp(w)])
        growth = rates.r - rates.A @ x
        return growth[1] / growth[0]

    def trace(sign: int, length: float) -> tuple[Array, Array, Array, Array]:
        ts = jnp.linspace(0.0, length, knots, dtype=u0.dtype)
        start = (u0 + sign * offset, w0 + sign * offset * slope0)
        path = solve(lambda t, w, _: sign * slope(start[0] + sign * t, w), start[1], ts, rtol=rtol, atol=rtol)
        u = start[0] + sign * ts
        return u, path.xs, jax.vmap(slope)(u, path.xs), path.status

    ul, wl, ml, left = trace(-1, 12.0)
    ur, wr, mr, right = trace(1, math.log(reach))
    join = lambda a, middle, b: jnp.concatenate([a[::-1], middle[None], b])
    status = jnp.where(bistable, worst(left, right), int(Status.not_applicable))
    return Separatrix(join(ul, u0, ur), join(wl, w0, wr), join(ml, slope0, mr), status)


def basin(
    p: Params, grid: ArrayLike, *, horizon: float = 400.0, rtol: float = 1e-6, max_steps: int = 16384
) -> Int[Array, "..."]:
    """Which equilibrium each start leads to, by integration.

    Args:
        p: Parameters.
        grid: Starts, shape `(..., 2)`.
        horizon: Length of the integration, in units of the slower growth time `1/min(r)`.
        rtol: Relative tolerance of the integration.
        max_steps: Most steps of a lane.

    Returns:
        Index of the equilibrium (as in `equilibria`: 1 species 2 alone, 2 species 1 alone, 3 coexistence), or -1 where
        the motion has not come near a stable one; shape `(...)`.
    """
    p, grid = as_two_species(p), checks.floating("grid", grid)
    checks.require(grid.ndim >= 1 and grid.shape[-1] == 2, "grid", "have shape (..., 2)", f"has shape {grid.shape}")
    nearest = _nearest(p, grid.reshape(-1, 2), jnp.asarray(horizon, p.r.dtype), rtol=rtol, max_steps=max_steps)
    return nearest.reshape(grid.shape[:-1])


@functools.partial(jax.jit, static_argnames=("rtol", "max_steps"))
def _nearest(
    p: Params, starts: Float[Array, "k 2"], horizon: Array, *, rtol: float, max_steps: int
) -> Int[Array, " k"]:
    # The engine's tolerances are fixed numbers, so populations are in units of the larger capacity.
    unit = jnp.max(p.N)
    scaled = as_rates(dataclasses.replace(p, N=p.N / unit, a=p.a * unit))
    shared, ts = jax.tree.map(lambda v: v[None], scaled), jnp.stack([jnp.zeros_like(horizon), horizon / jnp.min(p.r)])
    found = ensemble(lotka_volterra, tuple(starts.T / unit), ts, shared, rtol=rtol, atol=1e-8, max_steps=max_steps)
    final, eq = jnp.stack(found.final, axis=-1) * unit, equilibria(p)
    distance = jnp.linalg.norm((final[:, None, :] - eq.x[None]) / p.N[None, None, :], axis=-1)
    distance = jnp.where((eq.exists & eq.stable)[None, :], distance, jnp.inf)
    return jnp.where(jnp.min(distance, axis=1) < 0.05, jnp.argmin(distance, axis=1), -1)


def outcome_map(p: Params, a1: ArrayLike, a2: ArrayLike) -> Int[Array, "n m"]:
    """The regime over a grid of the two harms, all else fixed: entry `[i, j]` is for `a = (a1[i], a2[j])`.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxkit import competition as comp
        >>> p = comp.Params(r=(1.0, 1.0), N=(1.0, 1.0), a=(1.0, 1.0))
        >>> comp.outcome_map(p, jnp.array([0.5, 2.0]), jnp.array([0.5, 2.0])).tolist()
        [[0, 2], [3, 1]]
    """
    return _outcome_map(as_two_species(p), checks.floating("a1", a1), checks.floating("a2", a2))


@jax.jit
def _outcome_map(p: Params, a1: Array, a2: Array) -> Int[Array, "n m"]:
    at = lambda h1, h2: regime(Params(p.r, p.N, jnp.stack([h1, h2])))
    return jax.vmap(lambda h1: jax.vmap(lambda h2: at(h1, h2))(a2))(a1)

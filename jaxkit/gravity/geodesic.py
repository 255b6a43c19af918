"""Geodesics: thousands of rays at once, any metric, each ray with its own steps and status.

The motion is Hamilton's, `H = g^ab p_a p_b / 2`, with derivatives by `jax.grad`: no Christoffel symbol is written by
hand, so none can be wrong; how well `H` was kept is returned for each ray.
"""

import functools
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int

from jaxkit.core.checks import floating, require
from jaxkit.core.status import Outcome, Status
from jaxkit.core.struct import struct
from jaxkit.dynamics.solve import solve
from jaxkit.gravity.metrics import CARTESIAN, Entries, Metric, Params, Point, as_metric
from jaxkit.gravity.observables import horizon

WIDTH = 128  # rays moved together
ENDS = ("length", "horizon", "escape", "event")  # what `Rays.ended` counts


@struct
class Rays(Outcome):
    """Geodesics, `n` of them.

    Attributes:
        x: Last points, shape `(n, 4)`.
        p: Covariant momenta there, shape `(n, 4)`.
        end: Affine parameter there, shape `(n,)`.
        ended: Why, an index into `gravity.ENDS`: length used up, horizon reached, escaped, the user's event.
        drift: How far `H` moved, relative to the sum of the magnitudes of its terms, shape `(n,)`.
        status: `Status` of each ray.
        steps: Steps accepted.
        path: Points at the affine parameters asked for, shape `(n, m, 4)`; infinite beyond the end. None without them.
    """

    verb: ClassVar[str] = "geodesic"

    x: Float[Array, "n 4"]
    p: Float[Array, "n 4"]
    end: Float[Array, " n"]
    ended: Int[Array, " n"]
    drift: Float[Array, " n"]
    status: Int[Array, " n"]
    steps: Int[Array, " n"]
    path: Float[Array, "n m 4"] | None = None


def _inverse(metric: Metric) -> Callable[[Point, Params], Entries]:
    """Entries of `g^ab`: the metric's own, or from its structure (diagonal, one block, full)."""
    if metric.inverse is not None:
        return metric.inverse

    def inverse(x: Point, params: Params) -> Entries:
        g = {key: jnp.asarray(value) for key, value in metric.entries(x, params).items()}
        mixed = [key for key in g if key[0] != key[1]]
        result: Entries = {(i, i): 1 / g[i, i] for i in range(4) if not any(i in key for key in mixed)}
        if not mixed:
            return result
        if len(mixed) == 1:
            i, j = mixed[0]
            zero = jnp.zeros(())
            a, b, c = g.get((i, i), zero), g[i, j], g.get((j, j), zero)
            det = a * c - b * b
            return {**result, (i, i): c / det, (j, j): a / det, (i, j): -b / det}
        zero = jnp.zeros_like(x[0])
        full = [[g.get((min(i, j), max(i, j)), zero) for j in range(4)] for i in range(4)]
        return _cofactors(full)

    return inverse


def _cofactors(g: list[list[Array]]) -> Entries:
    """The inverse of a symmetric 4x4 matrix by 2x2 minors: scalars only, so that lanes stay side by side."""
    top = {(i, j): g[0][i] * g[1][j] - g[0][j] * g[1][i] for i in range(4) for j in range(i + 1, 4)}
    low = {(i, j): g[2][i] * g[3][j] - g[2][j] * g[3][i] for i in range(4) for j in range(i + 1, 4)}
    det = (
        top[0, 1] * low[2, 3]
        - top[0, 2] * low[1, 3]
        + top[0, 3] * low[1, 2]
        + top[1, 2] * low[0, 3]
        - top[1, 3] * low[0, 2]
        + top[2, 3] * low[0, 1]
    )
    (a, b, c, d) = g
    adjugate = {
        (0, 0): b[1] * low[2, 3] - b[2] * low[1, 3] + b[3] * low[1, 2],
        (0, 1): -a[1] * low[2, 3] + a[2] * low[1, 3] - a[3] * low[1, 2],
        (0, 2): d[1] * top[2, 3] - d[2] * top[1, 3] + d[3] * top[1, 2],
        (0, 3): -c[1] * top[2, 3] + c[2] * top[1, 3] - c[3] * top[1, 2],
        (1, 1): a[0] * low[2, 3] - a[2] * low[0, 3] + a[3] * low[0, 2],
        (1, 2): -d[0] * top[2, 3] + d[2] * top[0, 3] - d[3] * top[0, 2],
        (1, 3): c[0] * top[2, 3] - c[2] * top[0, 3] + c[3] * top[0, 2],
        (2, 2): d[0] * top[1, 3] - d[1] * top[0, 3] + d[3] * top[0, 1],
        (2, 3): -c[0] * top[1, 3] + c[1] * top[0, 3] - c[3] * top[0, 1],
        (3, 3): c[0] * top[1, 2] - c[1] * top[0, 2] + c[2] * top[0, 1],
    }
    return {key: value / det for key, value in adjugate.items()}


@functools.cache
def hamiltonian(metric: Metric) -> Callable[..., Array]:
    """`H(x, p, params) = g^ab p_a p_b / 2` of a metric; 0 for light, `-1/2` for a unit mass."""
    inverse = _inverse(metric)

    def energy(x: Point, p: Point, params: Params) -> Array:
        return 0.5 * sum(_terms(inverse(x, params), p), jnp.zeros(()))

    return energy


def _terms(up: Entries, p: Point) -> list[Any]:
    return [(1.0 if i == j else 2.0) * value * p[i] * p[j] for (i, j), value in up.items()]


def momentum(
    metric: Metric | Callable[..., Array],
    x: Float[Array, "... 4"],
    direction: Float[Array, "... 3"],
    params: Params = None,
    *,
    mass: float = 0.0,
) -> Float[Array, "... 4"]:
    """The covariant momentum `(p_t, p_1, p_2, p_3)` of a future-directed particle from its spatial part.

    Solves the full quadratic `g^ab p_a p_b = -mass²` for `p_t`, so any metric will do, shifts included.

    Args:
        metric: A metric.
        x: Points, shape `(..., 4)`.
        direction: Spatial components `p_1, p_2, p_3`, shape `(..., 3)`.
        params: Parameters instead of the metric's own.
        mass: 0 for light.

    Returns:
        Momenta, shape `(..., 4)`; not numbers where no such momentum exists.
    """
    metric = as_metric(metric)
    x, direction = floating("x", x), floating("direction", direction)
    params = metric.resolve(params)
    up = {key: jnp.asarray(v) for key, v in _inverse(metric)(jnp.moveaxis(x, -1, 0), params).items()}
    p = [jnp.zeros_like(direction[..., 0]), *jnp.moveaxis(direction, -1, 0)]
    a, b = up[0, 0], sum((up[0, i] * p[i] for i in range(1, 4) if (0, i) in up), jnp.zeros_like(p[0]))
    c = sum(_terms({key: v for key, v in up.items() if key[0] > 0}, p)) + mass**2
    root = jnp.sqrt(b**2 - a * c)
    inside = a > 0  # where t is spacelike there are two answers; this one continues the outside
    p_t = jnp.where(inside, (-b - root) / jnp.where(inside, a, 1.0), (-b + root) / jnp.where(inside, -1.0, a))
    return jnp.concatenate([p_t[..., None], direction], axis=-1)


def radius(metric: Metric, x: Point) -> Array:
    """The radial coordinate, or the distance from the origin in Cartesian coordinates."""
    return jnp.sqrt(x[1] ** 2 + x[2] ** 2 + x[3] ** 2) if metric.coordinates == CARTESIAN else x[1]


@functools.cache
def equations(metric: Metric) -> Callable[[Array, Any, Any], Any]:
    """Hamilton's equations, `field(t, (t, r, theta, phi, p_t, ...), args)`, as eight numbers."""
    energy = hamiltonian(metric)

    def field(_: Array, state: tuple[Array, ...], args: dict[str, Any]) -> tuple[Array, ...]:
        x, p = state[:4], state[4:]
        in_x, in_p = jax.grad(lambda x, p: energy(x, p, args["params"]), argnums=(0, 1))(x, p)
        return (*in_p, *(-v for v in in_x))

    return field


@functools.cache
def _stops(metric: Metric, event: Callable[..., Array] | None) -> tuple[Callable[..., Array], ...]:
    inner = lambda t, state, args: radius(metric, state) - args["inner"]
    outer = lambda t, state, args: args["outer"] - radius(metric, state)
    own = () if event is None else (lambda t, state, args: event(state[:4], args["params"]),)
    return (inner, outer, *own)


def trace(
    metric: Metric | Callable[..., Array],
    x0: Float[Array, "n 4"],
    p0: Float[Array, "n 4"],
    length: ArrayLike,
    params: Params = None,
    *,
    rtol: float = 1e-8,
    atol: float = 1e-10,
    method: str = "dopri8",
    inner: ArrayLike | None = None,
    outer: ArrayLike | None = None,
    event: Callable[..., Array] | None = None,
    ts: ArrayLike | None = None,
    max_steps: int = 4096,
) -> Rays:
    """Follow geodesics.

    Args:
        metric: A `Metric` or a function `(x, params) -> (4, 4)`. Pass the same object to reuse compiled code.
        x0: Points, shape `(n, 4)`.
        p0: Covariant momenta, shape `(n, 4)`; see `momentum`.
        length: Affine parameter to go, one for all or shape `(n,)`; negative goes back in time.
        params: Parameters instead of the metric's own.
        rtol: Relative tolerance of a step.
        atol: Absolute tolerance of a step.
        method: A method of `jaxkit.solve`: `"dopri8"`, `"tsit5"`, ...
        inner: Stop below this radius; 1.001 horizon radii by default. With 0 and no other limit nothing is watched.
        outer: Stop beyond this radius; nowhere by default.
        event: Stop where `event(x, params)` crosses zero.
        ts: Affine parameters at which points are kept, shape `(m,)`, from 0 to `length`.
        max_steps: Most steps of a ray.

    Returns:
        `Rays`, with a status and the drift of `H` for each; nothing raises inside.

    Raises:
        ValueError: A shape is wrong.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxkit import gravity
        >>> hole = gravity.schwarzschild()
        >>> x = jnp.array([[0.0, 3.0, jnp.pi / 2, 0.0]])
        >>> p = gravity.momentum(hole, x, jnp.array([[0.0, 0.0, 1.0]]))  # light on the photon sphere
        >>> rays = gravity.trace(hole, x, p, 10.0)
        >>> round(float(rays.x[0, 1]), 6)
        3.0
    """
    metric = as_metric(metric)
    x0, p0 = floating("x0", x0), floating("p0", p0)
    require(x0.ndim == 2 and x0.shape[-1] == 4, "x0", "have shape (n, 4)", f"has shape {x0.shape}")
    require(p0.shape == x0.shape, "p0", f"have the shape of `x0`, {x0.shape}", f"has shape {p0.shape}")
    params = metric.resolve(params)
    args = {
        "params": jax.tree.map(jnp.asarray, params),
        "inner": _stop_radius(metric, params) if inner is None else floating("inner", inner),
        "outer": jnp.asarray(jnp.inf) if outer is None else floating("outer", outer),
    }
    length = jnp.broadcast_to(floating("length", length), x0.shape[:1])
    times = None if ts is None else floating("ts", ts)
    watch = not (isinstance(inner, int | float) and inner == 0 and outer is None and event is None)
    found = _program(metric, event, method, rtol, atol, max_steps, watch=watch)(x0, p0, length, args, times)
    x, p = found["x"], found["p"]
    drift = jnp.abs(_energy(metric, x, p, params) - _energy(metric, x0, p0, params)) / _scale(metric, x, p, params)
    return Rays(x, p, found["end"], found["ended"], drift, found["status"], found["steps"], found["path"])


@functools.cache
def _program(
    metric: Metric,
    event: Callable[..., Array] | None,
    method: str,
    rtol: float,
    atol: float,
    max_steps: int,
    *,
    watch: bool,
) -> Callable[..., dict[str, Any]]:
    """A tracer of many rays, `WIDTH` at a time: small chunks stay in the cache and wait for few slow rays."""
    equation, gauges = equations(metric), _stops(metric, event)

    def field(s: Array, state: Array, given: tuple[Array, Any]) -> Array:
        length, args = given  # the motion is scaled to s in [0, 1], so that rays of any length and sense share a span
        return length * jnp.stack(equation(s, tuple(state[i] for i in range(8)), args))

    def stop(_: Array, state: Array, given: tuple[Array, Any]) -> Array:
        # An infinite or absent limit is no limit; otherwise the product changes its sign where any one does.
        values = [g(_, tuple(state[i] for i in range(8)), given[1]) for g in gauges]
        total = jnp.ones(())
        for value in values:
            total = total * jnp.where(jnp.isfinite(value), value / (1 + jnp.abs(value)), 1.0)
        return total

    def one(ray: tuple[Array, Array, Array], args: Any, ts: Array | None) -> dict[str, Any]:
        x0, p0, length = ray
        span = jnp.array([0.0, 1.0]) if ts is None else jnp.concatenate([ts / length, jnp.ones(1)])
        span = span if ts is None else jnp.concatenate([jnp.zeros(1), span])
        start = jnp.concatenate([x0, p0])
        found = solve(
            field,
            start,
            span,
            (length, args),
            method=method,
            rtol=rtol,
            atol=atol,
            max_steps=max_steps,
            adjoint="forward",
            event=stop if watch else None,
        )
        final = tuple(found.final[i] for i in range(8))
        near = [jnp.abs(jnp.where(jnp.isfinite(v), v, jnp.inf)) for v in (g(length, final, args) for g in gauges)]
        met = jnp.where(found.end < 1, jnp.argmin(jnp.stack(near)) + 1, 0)
        return {
            "x": found.final[:4],
            "p": found.final[4:],
            "end": found.end * length,
            "ended": met,
            "status": found.status,
            "steps": found.steps,
            "path": None if ts is None else found.xs[1:-1, :4],
        }

    def many(x0: Array, p0: Array, length: Array, args: Any, ts: Array | None) -> dict[str, Any]:
        return jax.lax.map(lambda ray: one(ray, args, ts), (x0, p0, length), batch_size=min(WIDTH, x0.shape[0]))

    return jax.jit(many)


def _stop_radius(metric: Metric, params: Params) -> Array:
    """Just outside the horizon, or minus infinity where there is none."""
    if metric.coordinates == CARTESIAN:
        return jnp.asarray(-jnp.inf)
    return _just_outside(metric)(params)


@functools.cache
def _just_outside(metric: Metric) -> Callable[[Params], Array]:
    def find(params: Params) -> Array:
        place = horizon(metric, params)
        return jnp.where(place.status == int(Status.ok), 1.001 * place.value, -jnp.inf)

    return jax.jit(find)


def _energy(metric: Metric, x: Array, p: Array, params: Params) -> Array:
    return hamiltonian(metric)(x.T, p.T, params)


def _scale(metric: Metric, x: Array, p: Array, params: Params) -> Array:
    return 0.5 * sum((jnp.abs(v) for v in _terms(_inverse(metric)(x.T, params), p.T)), jnp.zeros(x.shape[0]))


def carter_constant(x: Float[Array, "... 4"], p: Float[Array, "... 4"], a: ArrayLike, mass: float = 0.0) -> Array:
    """Carter's constant of a geodesic of Kerr in Boyer-Lindquist coordinates, conserved beside energy and momentum."""
    cos2 = jnp.cos(x[..., 2]) ** 2
    return p[..., 2] ** 2 + cos2 * (a**2 * (mass**2 - p[..., 0] ** 2) + p[..., 3] ** 2 / (1 - cos2))


def camera(
    metric: Metric | Callable[..., Array],
    params: Params = None,
    *,
    distance: float = 1000.0,
    inclination: float = 80.0,
    extent: float = 10.0,
    pixels: int = 64,
) -> tuple[Array, Array]:
    """Rays that arrive in the pixels of a distant screen, to be traced back in time (negative `length`).

    Args:
        metric: A metric in (t, r, theta, phi).
        params: Parameters instead of its own.
        distance: Radius of the observer, who carries a tetrad at rest with respect to the slices of constant time.
        inclination: Angle from the axis in degrees.
        extent: Half the width of the screen in impact parameter (at `distance`).
        pixels: Pixels in a row.

    Returns:
        Points and covariant momenta, each of shape `(pixels**2, 4)`; rows run from the top, columns from the left.
    """
    metric = as_metric(metric)
    at = jnp.asarray([0.0, distance, np.deg2rad(inclination), 0.0])
    offset = (jnp.arange(pixels, dtype=float) + 0.5) / pixels * 2 - 1
    beta, alpha = jnp.meshgrid(-extent * offset, extent * offset, indexing="ij")
    return screen_rays(metric, at, alpha.ravel(), beta.ravel(), params)


def screen_rays(
    metric: Metric, at: Float[Array, "4"], alpha: Float[Array, " n"], beta: Float[Array, " n"], params: Params = None
) -> tuple[Array, Array]:
    """Light that meets an observer at `at` from the direction of the screen point `(alpha, beta)`."""
    params = metric.resolve(params)
    g = metric(at, params)
    triad = jnp.linalg.cholesky(g[1:, 1:])
    tilt = jnp.stack([jnp.ones_like(alpha), beta / at[1], -alpha / at[1]], -1)
    unit = tilt / jnp.linalg.norm(tilt, axis=-1, keepdims=True)
    x = jnp.broadcast_to(at, (alpha.size, 4))
    return x, momentum(metric, x, unit @ triad.T, params)

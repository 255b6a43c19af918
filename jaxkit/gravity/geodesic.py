"""Geodesics: thousands of rays at once, in any metric, each ray with its own steps and status.

The motion follows Hamilton's equations for `H = g^ab p_a p_b / 2`, with derivatives by `jax.grad`, so no Christoffel
symbols are needed; how well `H` was conserved is returned for each ray.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int

from jaxkit.compile.jit_cache import run_kept
from jaxkit.core.checks import floating, require
from jaxkit.core.status import Outcome, Status
from jaxkit.core.struct import struct
from jaxkit.dynamics.ode.engine.batch import Ensemble
from jaxkit.dynamics.ode.ensemble import ensemble
from jaxkit.dynamics.ode.methods import Method, of_ensemble
from jaxkit.dynamics.ode.symplectic import HamiltonianMotion
from jaxkit.dynamics.ode.symplectic import hamiltonian as symplectic
from jaxkit.gravity.horizons import horizon
from jaxkit.gravity.metrics import CARTESIAN, Entries, Metric, Params, Point, as_metric, bare, inverse_of, lorentzian

ENDS = ("length", "horizon", "escape", "event")  # what `Rays.ended` indexes


@struct
class Rays(Outcome):
    """Geodesics, `n` of them.

    Attributes:
        x: Last points, shape `(n, 4)`.
        p: Covariant momenta there, shape `(n, 4)`.
        end: Affine parameter there, shape `(n,)`.
        ended: Why each ray ended, an index into `gravity.ENDS`: length used up, horizon reached, escaped, the user's
            event; shape `(n,)`.
        drift: How far `H` drifted, relative to the sum of the magnitudes of its terms, shape `(n,)`.
        status: `Status` code of each ray.
        steps: Number of accepted steps of each ray.
        path: Points at the affine parameters `ts`, shape `(n, m, 4)`; infinite beyond the end; None where `ts` has no
            shape `(m,)`.
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


def hamiltonian(metric: Metric) -> Callable[..., Array]:
    """`H(x, p, params) = g^ab p_a p_b / 2` of a metric; 0 for light, `-1/2` for a unit mass."""
    if metric.formulas.energy is not None:
        return metric.formulas.energy
    inverse = inverse_of(metric)

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

    It solves the full quadratic `g^ab p_a p_b = -mass²` for `p_t`, so the metric may have a shift.

    Args:
        metric: A metric.
        x: Points, shape `(..., 4)`.
        direction: Spatial components `p_1, p_2, p_3`, shape `(..., 3)`.
        params: Parameters instead of the metric's own.
        mass: Mass of the particle; 0 for light.

    Returns:
        Momenta, shape `(..., 4)`; NaN where no such momentum exists.
    """
    metric = as_metric(metric)
    x, direction = floating("x", x), floating("direction", direction)
    params, inverse = metric.resolve(params), inverse_of(metric)

    def one(x: Array, direction: Array) -> Array:
        up = {key: jnp.asarray(v) for key, v in inverse(tuple(x), params).items()}
        p = [jnp.zeros_like(direction[0]), *direction]
        a, b = up[0, 0], sum((up[0, i] * p[i] for i in range(1, 4) if (0, i) in up), jnp.zeros_like(p[0]))
        c = sum(_terms({key: v for key, v in up.items() if key[0] > 0}, p)) + mass**2
        root = jnp.sqrt(b**2 - a * c)
        inside = a > 0  # where t is spacelike there are two solutions; this one continues that outside
        p_t = jnp.where(inside, (-b - root) / jnp.where(inside, a, 1.0), (-b + root) / jnp.where(inside, -1.0, a))
        return jnp.concatenate([p_t[None], direction])

    return jnp.vectorize(one, signature="(k),(s)->(k)")(x, direction)


def _radius(x: Point, *, cartesian: bool) -> Array:
    """The radial coordinate, or the distance from the origin in Cartesian coordinates."""
    return jnp.sqrt(x[1] ** 2 + x[2] ** 2 + x[3] ** 2) if cartesian else x[1]


def equations(metric: Metric) -> Callable[[Array, Any, Any], Any]:
    """Hamilton's equations, `field(t, (t, r, theta, phi, p_t, ...), args)`, as eight numbers."""
    energy = hamiltonian(metric)

    def field(_: Array, state: tuple[Array, ...], args: dict[str, Any]) -> tuple[Array, ...]:
        in_x, in_p = jax.grad(lambda x, p: energy(x, p, args["params"]), argnums=(0, 1))(state[:4], state[4:])
        return (*in_p, *(-v for v in in_x))

    return field


def _stops(event: Callable[..., Array] | None, *, cartesian: bool) -> dict[str, Callable[..., Array]]:
    """What ends a ray, by its name in `ENDS`."""
    own = {} if event is None else {"event": lambda t, state, args: event(state[:4], args["params"])}
    return {
        "horizon": lambda t, state, args: _radius(state, cartesian=cartesian) - args["inner"],
        "escape": lambda t, state, args: args["outer"] - _radius(state, cartesian=cartesian),
        **own,
    }


class Stop(NamedTuple):
    """What ends a ray before its length is reached.

    Attributes:
        inner: The ray ends below this radius; 1.001 horizon radii by default, but nowhere in Cartesian coordinates,
            which are regular at the horizon; 0 sets no such radius.
        outer: The ray ends beyond this radius; nowhere by default.
        event: The ray ends where `event(x, params)` crosses zero.
    """

    inner: ArrayLike | None = None
    outer: ArrayLike | None = None
    event: Callable[..., Array] | None = None


_STOP = Stop()


def trace(
    metric: Metric | Callable[..., Array],
    x0: Float[Array, "n 4"],
    p0: Float[Array, "n 4"],
    ts: ArrayLike,
    params: Params = None,
    *,
    method: str | Method = "dopri8",
    rtol: float = 1e-8,
    atol: float = 1e-10,
    max_steps: int = 4096,
    stop: Stop = _STOP,
) -> Rays:
    """Follow geodesics.

    Args:
        metric: A `Metric` or a function `(x, params) -> (4, 4)`.
        x0: Points, shape `(n, 4)`.
        p0: Covariant momenta, shape `(n, 4)`; see `momentum`.
        ts: Affine parameters: a number, the length of all rays; or those at which points are saved, shape `(m,)`; or
            the first and the last of each ray, shape `(n, 2)`. Decreasing ones, or a negative length, go back in time.
        params: Parameters instead of the metric's own.
        method: A method of `jaxkit.ensemble`.
        rtol: Relative tolerance of a step.
        atol: Absolute tolerance of a step.
        max_steps: Most steps of a ray.
        stop: What ends a ray before its length is reached.

    Returns:
        `Rays`, with a status and the drift of `H` for each; a failed ray does not raise.

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
    lorentzian(metric, x0[0], params)
    params = jax.tree.map(jnp.asarray, metric.resolve(params))
    args = {"params": params}
    inner, outer = stop.inner, stop.outer
    stops = _stops(stop.event, cartesian=metric.coordinates == CARTESIAN)
    if isinstance(inner, int | float) and inner == 0:
        del stops["horizon"]
    else:
        args["inner"] = _stop_radius(metric, params) if inner is None else floating("inner", inner)
    if outer is None:
        del stops["escape"]
    else:
        args["outer"] = floating("outer", outer)
    times = floating("ts", ts)
    spans = (times.ndim == 1 and times.size >= 2) or times.shape == (len(x0), 2)
    require(
        times.ndim == 0 or spans,
        "ts",
        f"be a number, or have shape (m,), m >= 2, or ({len(x0)}, 2)",
        f"has {times.shape}",
    )
    found = ensemble(
        equations(metric),
        (*x0.T, *p0.T),
        times if times.ndim else jnp.broadcast_to(jnp.stack([jnp.zeros_like(times), times]), (len(x0), 2)),
        jax.tree.map(lambda v: v[None] if jnp.ndim(v) else v, args),
        method=_with_neighbours(metric, method),
        rtol=rtol,
        atol=atol,
        max_steps=max_steps,
        event=tuple(stops.values()),
    )
    places = tuple(ENDS.index(name) for name in stops)
    return run_kept(_rays, (bare(metric), places, times.ndim == 1), (found, x0, p0, params))


def _with_neighbours(metric: Metric, method: str | Method) -> Method:
    """The method, with rays of similar angular momentum side by side, so that fewer steps are wasted."""
    chosen = of_ensemble(method)
    return (
        chosen
        if chosen.alike is not None
        else dataclasses.replace(chosen, alike=_moments(cartesian=metric.coordinates == CARTESIAN))
    )


def _rays(
    metric: Metric,
    places: tuple[int, ...],
    saved: bool,  # noqa: FBT001
    found: Ensemble,
    x0: Array,
    p0: Array,
    params: Params,
) -> Rays:
    """The ensemble as rays, with how well each conserved `H`."""
    table = lambda rows: jnp.stack(rows[:4], -1)
    x, p = table(found.final[:4]), table(found.final[4:])
    ended = jnp.asarray([0, *places], found.event.dtype)[found.event + 1]
    (now, scale), (before, _) = (_energies(metric, *phase, params) for phase in ((x, p), (x0, p0)))
    path = table(found.xs) if saved else None
    return Rays(x, p, found.end, ended, jnp.abs(now - before) / scale, found.status, found.steps, path)


def _moments(*, cartesian: bool) -> Callable[[tuple[Array, ...], Any], tuple[Array, Array]]:
    """A ray's axial and total angular momentum per unit of energy: they decide how near it comes."""

    def alike(state: tuple[Array, ...], _: Any) -> tuple[Array, Array]:
        x, p = state[:4], state[4:]
        if cartesian:
            moment = jnp.cross(jnp.stack(x[1:]), jnp.stack(p[1:]))
            axial, total = moment[2], jnp.linalg.norm(moment)
        else:
            axial = p[3]
            total = jnp.hypot(p[2], axial / jnp.maximum(jnp.abs(jnp.sin(x[2])), 1e-3))
        energy = jnp.maximum(jnp.abs(p[0]), 1e-30)
        return axial / energy, total / energy

    return alike


def long_run(
    metric: Metric | Callable[..., Array],
    x0: Float[Array, "4"],
    p0: Float[Array, "4"],
    params: Params = None,
    *,
    step: float,
    steps: int,
    keep: int = 1,
    method: str = "midpoint",
) -> HamiltonianMotion:
    """Follow one geodesic for very long without drift, by symplectic steps of constant affine length.

    The adaptive `trace` is faster and more accurate up to lengths of about 1e5 masses; beyond, its error in `H` grows
    with the length of the run, while here it stays bounded.

    Args:
        metric: A `Metric` or a function `(x, params) -> (4, 4)`.
        x0: Start, shape `(4,)`.
        p0: Covariant momentum, shape `(4,)`; see `momentum`.
        params: Parameters instead of the metric's own.
        step: Affine length of a step: about 1/50 of the shortest turn of the orbit.
        steps: Number of steps.
        keep: One point in this many is kept; it must divide `steps`.
        method: `"midpoint"` or `"tao4"`, see `jaxkit.dynamics.ode.symplectic.hamiltonian`.

    Returns:
        Points, momenta and `H` at equally spaced affine parameters, with a status.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxkit import gravity
        >>> hole = gravity.schwarzschild()
        >>> x = jnp.array([0.0, 10.0, jnp.pi / 2, 0.0])
        >>> p = gravity.momentum(hole, x, jnp.array([0.0, 0.0, 3.9]), mass=1.0)
        >>> motion = gravity.long_run(hole, x, p, step=2.0, steps=4000, keep=40).checked()
        >>> bool(abs(motion.energy + 0.5).max() < 1e-3)
        True
    """
    metric = as_metric(metric)
    lorentzian(metric, x0, params)
    given = jax.tree.map(jnp.asarray, metric.resolve(params))
    return symplectic(hamiltonian(metric), x0, p0, given, dt=step, steps=steps, keep=keep, method=method)


def _stop_radius(metric: Metric, params: Params) -> Array:
    """Just outside the horizon, or minus infinity where there is none."""
    if metric.coordinates == CARTESIAN:
        return jnp.asarray(-jnp.inf)
    return run_kept(_just_outside, (bare(metric),), (params,))


def _just_outside(metric: Metric, params: Params) -> Array:
    place = horizon(metric, params)
    return jnp.where(place.status == int(Status.ok), 1.001 * place.value, -jnp.inf)


def _energies(metric: Metric, x: Array, p: Array, params: Params) -> tuple[Array, Array]:
    """`H` of many rays, and the sum of the magnitudes of its terms."""
    energy, inverse = hamiltonian(metric), inverse_of(metric)

    def one(x: Array, p: Array) -> tuple[Array, Array]:
        x, p = tuple(x), tuple(p)  # pyright: ignore[reportAssignmentType]
        size = 0.5 * sum((jnp.abs(v) for v in _terms(inverse(x, params), p)), jnp.zeros(()))
        return energy(x, p, params), size

    return jax.vmap(one)(x, p)


def carter_constant(x: Float[Array, "... 4"], p: Float[Array, "... 4"], a: ArrayLike, mass: float = 0.0) -> Array:
    """Carter's constant of a Kerr geodesic in Boyer-Lindquist coordinates, conserved like energy and `p_phi`."""
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
        distance: Radius of the screen, where the rays start.
        inclination: Angle from the axis, in degrees.
        extent: Half the width of the screen in the impact parameters `-p_phi / (E sin(theta))` and `p_theta / E`.
        pixels: Number of pixels in a row.

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
    """Light that arrives at `at` with the impact parameters `alpha = -p_phi / (E sin(theta))` and `beta = p_theta / E`.

    These are conserved, or nearly so, along the ray, and so the picture is that of a distant observer, wherever `at`
    is. The results are NaN where no light arrives with such parameters.
    """
    params = metric.resolve(params)
    up = {key: jnp.asarray(value) for key, value in inverse_of(metric)(tuple(at), params).items()}
    known = [-jnp.ones_like(alpha), jnp.zeros_like(alpha), beta, -alpha * jnp.sin(at[2])]
    a = up[1, 1]
    b = sum((up[min(1, i), max(1, i)] * known[i] for i in (0, 2, 3) if (min(1, i), max(1, i)) in up), jnp.zeros(()))
    c = sum(_terms({key: v for key, v in up.items() if 1 not in key}, known))  # pyright: ignore[reportArgumentType]
    outwards = (jnp.sqrt(b**2 - a * c) - b) / a
    x = jnp.broadcast_to(at, (alpha.size, 4))
    return x, jnp.stack([known[0], outwards, known[2], known[3]], -1)

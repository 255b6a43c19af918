"""Actions: their Euler-Lagrange equations by `jax.grad`, and their static solutions by Newton's method.

`solve_static` does all of it: a Lagrangian written as a Python function is summed over Legendre-Gauss-Lobatto nodes;
`jax.grad` of that sum gives the field equations; Newton's method solves them.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int

from jaxkit.compile.jit_cache import run_kept
from jaxkit.core.checks import double_precision, floating, require
from jaxkit.core.status import Outcome, Status
from jaxkit.core.struct import static as static_field
from jaxkit.core.struct import struct
from jaxkit.dynamics.roots.root import root
from jaxkit.gravity.curvature import Curvature, assemble, slopes
from jaxkit.gravity.metrics import Metric, Params, as_metric, bare, static

Lagrangian = Callable[..., Array]
SMOOTH = 1e-4  # tail of a Legendre series above which a solution counts as unresolved


def euler_lagrange(lagrangian: Lagrangian, order: int = 1) -> Callable[..., Callable[[Array], Array]]:
    """The Euler-Lagrange expression `sum_k (-d/dr)^k dL/dq^(k)` of a Lagrangian, by automatic differentiation.

    Args:
        lagrangian: `L(r, q, dq, ..., params)` with `order` derivatives of `q`, all of shape `(m,)`.
        order: The order of the highest derivative in it.

    Returns:
        A function of `(q, params)`, where `q` is a function of `r`, that returns the expression as a function of `r`.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxkit import gravity
        >>> oscillator = lambda t, q, v, p: 0.5 * jnp.sum(v**2) - 0.5 * p * jnp.sum(q**2)
        >>> equation = gravity.euler_lagrange(oscillator)(lambda t: jnp.array([jnp.sin(2 * t)]), 4.0)
        >>> bool(jnp.abs(equation(0.3))[0] < 1e-14)
        True
    """

    def of_path(q: Callable[[Array], Array], params: Params = None) -> Callable[[Array], Array]:
        path = [q]
        for _ in range(order):
            path.append(jax.jacfwd(path[-1]))

        def momentum(k: int) -> Callable[[Array], Array]:
            return lambda r: jax.grad(lagrangian, argnums=k + 1)(r, *[piece(r) for piece in path], params)

        def term(k: int) -> Callable[[Array], Array]:
            p = momentum(k)
            for _ in range(k):
                p = jax.jacfwd(p)
            return p

        terms = [term(k) for k in range(order + 1)]
        return lambda r: sum((-1) ** k * piece(r) for k, piece in enumerate(terms))  # pyright: ignore[reportReturnType]

    return of_path


def field_equations(
    lagrangian: Callable[[Curvature, Params], Array],
    metric: Metric | Callable[..., Array],
    *,
    moving: Sequence[int] | None = None,
) -> Callable[..., Array]:
    """The field equations of a covariant Lagrangian, `E^ab = (1/sqrt(-g)) δ/δg_ab ∫ sqrt(-g) L`, for any metric.

    They are `∂/∂g - ∂_c ∂/∂(∂_c g) + ∂_c ∂_d ∂/∂(∂_c ∂_d g)` of the density, with every derivative by JAX.

    Args:
        lagrangian: `L(curvature, params)`, a scalar made of a `Curvature`, e.g. `lambda k, p: k.scalar`.
        metric: The metric to insert.
        moving: Indices of the coordinates on which the metric depends; all by default. Fewer compile faster.

    Returns:
        A function of `(x, params)` that returns `E^ab`, shape `(4, 4)`: zero for a solution. The first call compiles
        for some seconds.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxkit import gravity
        >>> anti = gravity.from_text(
        ...     {"t t": "-z^-2", "x x": "z^-2", "y y": "z^-2", "z z": "z^-2"}, coordinates=("t", "x", "y", "z"),
        ... )
        >>> square = lambda k, p: k.scalar**2  # anti-de Sitter space solves it
        >>> e = gravity.field_equations(square, anti, moving=[3])(jnp.array([0.0, 0.0, 0.0, 1.3]))
        >>> bool(abs(e).max() < 1e-10)
        True
    """
    metric = as_metric(metric)
    axes = np.asarray(range(len(metric.coordinates)) if moving is None else moving)

    def at(x: Float[Array, "4"], params: Params = None) -> Array:
        return run_kept(
            _equations_at, (bare(metric), lagrangian, axes), (metric.resolve(params), params, jnp.asarray(x))
        )

    return at


def _equations_at(
    metric: Metric, lagrangian: Callable[..., Array], axes: np.ndarray, own: Params, params: Params, x: Array
) -> Array:
    def density(g: Array, dg: Array, ddg: Array, params: Params) -> Array:
        return jnp.sqrt(jnp.abs(jnp.linalg.det(g))) * lagrangian(assemble(g, dg, ddg), params)

    point = lambda y: x.at[axes].set(y)

    def momenta(y: Array) -> tuple[Array, Array, Array]:
        pieces = slopes(lambda z: metric(point(z), own))(y)
        size = pieces[0].shape[-1]
        dg = jnp.zeros((size,) * 3).at[..., axes].set(pieces[1])
        ddg = jnp.zeros((size,) * 4).at[..., axes[:, None], axes].set(pieces[2])
        p0, p1, p2 = jax.grad(density, argnums=(0, 1, 2))(pieces[0], dg, ddg, params)
        return p0, p1[..., axes], p2[..., axes[:, None], axes]

    y = x[axes]
    once = jnp.einsum("abcc->ab", jax.jacfwd(lambda y: momenta(y)[1])(y))
    twice = jnp.einsum("abcdcd->ab", jax.jacfwd(jax.jacfwd(lambda y: momenta(y)[2]))(y))
    total = momenta(y)[0] - once + twice
    return 0.5 * (total + total.T) / jnp.sqrt(jnp.abs(jnp.linalg.det(metric(x, own))))


def field_residual(metric: Metric, lagrangian: Lagrangian, couplings: Params, r: Float[Array, " k"]) -> Array:
    """How far a static metric is from satisfying the field equations of a reduced Lagrangian, at the radii `r`.

    Each equation is divided by the sum of the magnitudes of its terms, so that 1e-16 is as good as rounding allows.

    Args:
        metric: A static metric.
        lagrangian: `L(r, f, df, n, couplings)` with `n = N / sqrt(f)`, e.g. `gravity.reduced_lagrangian`.
        couplings: The couplings that the Lagrangian takes.
        r: Radii, outside any horizon.

    Returns:
        The scaled residuals of the equations of `f` and of `n`, shape `(k, 2)`.
    """
    require(metric.is_static, "metric", "be static and spherical", f"is {metric.name}")
    return run_kept(_residual, (bare(metric), lagrangian), (metric.params, couplings, jnp.asarray(r, float)))


def _residual(metric: Metric, lagrangian: Lagrangian, params: Params, couplings: Params, r: Array) -> Array:
    space, time = metric.space, metric.time
    f = lambda r: 1 - space(r, params)  # pyright: ignore[reportOptionalCall]
    n = lambda r: jnp.sqrt((1 - time(r, params)) / f(r))  # pyright: ignore[reportOptionalCall]

    def at(r: Array) -> Array:
        value, slope, lapse = f(r), jax.grad(f)(r), n(r)
        partial = jax.grad(lagrangian, argnums=(1, 3))
        force, constraint = partial(r, value, slope, lapse, couplings)
        momentum = lambda r: jax.grad(lagrangian, argnums=2)(r, f(r), jax.grad(f)(r), n(r), couplings)
        rate = jax.grad(momentum)(r)
        # The scale of the constraint: its change when only the slope is changed by its own size.
        moved = partial(r, value + 0.5 * (jnp.abs(value) + 1), slope * 2 + 1, lapse, couplings)[1]
        scales = jnp.stack([jnp.abs(force) + jnp.abs(rate) + jnp.abs(lapse), jnp.abs(moved) + 1])
        return jnp.stack([force - rate, constraint]) / scales

    return jax.vmap(at)(r)


@functools.cache
def lobatto(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Legendre-Gauss-Lobatto nodes and weights on [-1, 1] and the differentiation matrix.

    Summation by parts holds exactly: `W D + D' W = diag(-1, 0, ..., 0, 1)`.
    """
    legendre = np.polynomial.legendre.Legendre.basis(n - 1)
    slope = legendre.deriv()
    inner = slope.roots()
    for _ in range(3):  # polish: companion matrices lose a few digits
        inner = inner - slope(inner) / slope.deriv()(inner)
    x = np.concatenate([[-1.0], np.sort(inner.real), [1.0]])
    p = legendre(x)
    gap = x[:, None] - x[None, :] + np.eye(n)
    d = p[:, None] / p[None, :] / gap
    np.fill_diagonal(d, 0.0)
    np.fill_diagonal(d, -d.sum(1))
    return x, 2 / (n * (n - 1) * p**2), d


@functools.cache
def _to_series(n: int) -> np.ndarray:
    """The matrix from values at the nodes to Legendre coefficients."""
    return np.linalg.inv(np.polynomial.legendre.legvander(lobatto(n)[0], n - 1))


@struct
class StaticSolution(Outcome):
    """A static spherical solution of an action.

    Attributes:
        r: Nodes, shape `(n,)`.
        f: `g^rr` at the nodes.
        n: `N / sqrt(f)` at the nodes, 1 at the outer end.
        residual: Largest residual of the field equations.
        tail: Last Legendre coefficients of `f` and `n` over the largest; above 1e-4 the status is `unresolved`.
        status: `Status` code.
        steps: Newton steps taken.
    """

    verb: ClassVar[str] = "solve_static"

    r: Float[Array, " n"]
    f: Float[Array, " n"]
    n: Float[Array, " n"]
    residual: Float[Array, ""]
    tail: Float[Array, ""]
    status: Int[Array, ""]
    steps: Int[Array, ""]
    ends: tuple[float, float] = static_field()

    def metric(self, name: str = "solution") -> Metric:
        """The solution as a metric between the ends (NaN outside), differentiable in all inputs of the solution."""
        count, (a, b) = self.r.shape[-1], self.ends
        to_series = _to_series(count)

        def series(values: Array, r: Array) -> Array:
            z = (2 * r - (a + b)) / (b - a)
            coefficients = to_series @ values
            older, old, total = jnp.ones_like(z), z, coefficients[0] + coefficients[1] * z
            for k in range(2, count):
                older, old = old, ((2 * k - 1) * z * old - (k - 1) * older) / k
                total = total + coefficients[k] * old
            return jnp.where(jnp.abs(z) <= 1, total, jnp.nan)

        f = lambda r, p: series(p["f"], r)
        time = lambda r, p: 1 - series(p["n"], r) ** 2 * f(r, p)
        profile = lambda r, p: 1 - f(r, p)
        return static(deficit=profile, time_deficit=time, params={"f": self.f, "n": self.n}, name=name)


def solve_static(
    lagrangian: Lagrangian,
    ends: tuple[float, float],
    params: Params = None,
    *,
    inner: ArrayLike | None = None,
    outer: ArrayLike | None = None,
    nodes: int = 32,
    guess: Callable[[Array], Array] | None = None,
    max_steps: int = 50,
) -> StaticSolution:
    """Solve the field equations of a static spherical action, given as a Python function.

    A quadratic constraint has several branches, each a true solution, and the first guess selects one: `ok` says that
    the equations hold and that `f` is smooth, not that this is the branch you meant. Compare `f` with what you know
    about it (mass, asymptotics). A curve that jumps between branches is `unresolved`.

    Args:
        lagrangian: `L(r, f, df, n, params)`, the density of the action in `r` for
            `ds² = -n² f dt² + dr²/f + r² dΩ²`.
        ends: The radii between which to solve.
        params: Couplings, any pytree; the solution is differentiable in them.
        inner: Value of `f` at the inner end (give either this or `outer`).
        outer: Value of `f` at the outer end, where `n` is 1.
        nodes: Number of Legendre-Gauss-Lobatto nodes; the error falls exponentially with it.
        guess: First guess of `f(r)`, which selects the branch; by default `1 + (value - 1) end / r`.
        max_steps: Most Newton steps.

    Returns:
        A `StaticSolution`. A failed solve does not raise: call `.checked()`, or look at `.status`.

    Raises:
        ValueError: The ends, the boundary value, or what `lagrangian` returns cannot be used.

    Example:
        >>> from jaxkit import gravity
        >>> einstein = lambda r, f, df, n, p: n * (1 - f - r * df)
        >>> solution = gravity.solve_static(einstein, (3.0, 9.0), inner=1 / 3).checked()
        >>> bool(abs(solution.f - (1 - 2 / solution.r)).max() < 1e-12)
        True

    References:
        Summation by parts: Carpenter, Gottlieb, J. Comput. Phys. 129, 74 (1996).
    """
    double_precision("solve_static")
    a, b = map(float, ends)
    require(0 < a < b, "ends", "be two radii with 0 < r1 < r2", f"is {ends}")
    require((inner is None) != (outer is None), "inner", "be given, or `outer`, not both", "that is not so")
    require(nodes >= 4, "nodes", "be at least 4", f"is {nodes}")
    at_inner = inner is not None
    given = inner if at_inner else outer
    value = floating("inner" if at_inner else "outer", given)  # pyright: ignore[reportArgumentType]
    scalar = jnp.ones(())
    shape = jnp.shape(jax.eval_shape(lagrangian, scalar, scalar, scalar, scalar, params))
    require(shape == (), "lagrangian", "return a scalar", f"returns shape {shape}")

    options = {"at_inner": at_inner, "nodes": nodes, "guess": guess, "max_steps": max_steps}
    found = run_kept(_solve_static, (lagrangian, options), (jnp.asarray([a, b]), value, params))
    return dataclasses.replace(found, ends=(a, b))


def _solve_static(
    lagrangian: Lagrangian, options: dict[str, Any], ends: Array, value: Array, params: Params
) -> StaticSolution:
    at_inner, nodes, guess = options["at_inner"], options["nodes"], options["guess"]
    a, b = ends
    x, weights, derivative = lobatto(nodes)
    r = jnp.asarray((a + b) / 2 + (b - a) / 2 * x)
    w, d = jnp.asarray(weights * (b - a) / 2), jnp.asarray(derivative * 2 / (b - a))
    boundary = jnp.zeros(nodes).at[0].set(-1.0).at[-1].set(1.0)

    def action(f: Array, n: Array, params: Any) -> Array:
        return jnp.sum(w * jax.vmap(lagrangian, (0, 0, 0, 0, None))(r, f, d @ f, n, params))

    def equations(q: dict[str, Array], given: Any) -> dict[str, Array]:
        value, params = given
        f, n = q["f"], q["n"]
        in_f, in_n = jax.grad(action, argnums=(0, 1))(f, n, params)
        momentum = jax.vmap(jax.grad(lagrangian, argnums=2), (0, 0, 0, 0, None))(r, f, d @ f, n, params)
        in_f = (in_f - boundary * momentum) / w  # the boundary term of the variation is not one of the equations
        constraint = (in_n / w).at[0 if at_inner else -1].set(f[0 if at_inner else -1] - value)
        return {"f": in_f.at[-1].set(n[-1] - 1), "n": constraint}

    end = a if at_inner else b
    first = jax.vmap(guess)(r) if guess else 1 + jax.lax.stop_gradient(value - 1) * end / r
    found = root(
        equations, {"f": first, "n": jnp.ones(nodes)}, (value, params), atol=1e-11, max_steps=options["max_steps"]
    )
    f, n = found.value["f"], found.value["n"]
    series = _to_series(nodes)
    share = lambda v: jnp.max(jnp.abs(series[-3:] @ v)) / jnp.max(jnp.abs(series @ v))
    tail = jax.lax.stop_gradient(jnp.maximum(share(f), share(n)))
    rough = (found.status == int(Status.ok)) & ~(tail < SMOOTH)
    status = jnp.where(rough, int(Status.unresolved), found.status)
    return StaticSolution(r, f, n, found.residual, tail, status, found.steps, ends=(0.0, 0.0))  # `ends` are set outside

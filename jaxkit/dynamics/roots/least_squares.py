"""Least squares: parameters from data, with their standard errors."""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, Generic, TypeVar

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from jaxkit.compile.jit_cache import run_kept
from jaxkit.core.checks import floating, one_of, require
from jaxkit.core.status import Outcome
from jaxkit.core.struct import struct
from jaxkit.dynamics.linear import tall
from jaxkit.dynamics.linear.dense import solve_dense, value_and_jacobian
from jaxkit.dynamics.linear.implicit import closed, failed, implicit
from jaxkit.dynamics.parts import apart
from jaxkit.dynamics.roots.many import Many
from jaxkit.dynamics.roots.methods.descent import LevenbergMarquardt
from jaxkit.dynamics.roots.optimum import Algebra, Dense, descend, scaled_svd
from jaxkit.dynamics.roots.trust_region import begin, or_one, unit_of

P = TypeVar("P")
Residuals = Callable[[P, Any], PyTree]

TABLE = 1 << 22  # most numbers of a table of second derivatives that is in memory at once
SQUARE = 500  # parameters above which a covariance is formed with a dense Jacobian alone


@struct
class LeastSquares(Outcome, Generic[P]):
    """A least-squares fit and how it was reached.

    Attributes:
        params: The parameters, of the structure of the first guess.
        residuals: Residuals at `params`, flattened, shape `(m,)`.
        sse: Sum of squares of the residuals.
        covariance: Covariance of the flattened parameters, shape `(n, n)`: `s**2 inv(J'J)`, `s**2 = sse / (m - n)`;
            NaN with as many residuals as parameters. None with a sparse Jacobian of more than 500 parameters, and
            where the Jacobian is known by its products alone.
        status: `Status` code.
        steps: Number of evaluations of the residuals and their Jacobian.
    """

    verb: ClassVar[str] = "least_squares"

    params: P
    residuals: Float[Array, "... m"]
    sse: Float[Array, "..."]
    covariance: Float[Array, "... n n"] | Any
    status: Int[Array, "..."]
    steps: Int[Array, "..."]

    @property
    def standard_errors(self) -> P:
        """Standard errors of the parameters, in their structure (asymptotic, from `covariance`)."""
        if self.covariance is None:
            raise ValueError("There are no standard errors without a covariance; `jacobian='dense'` forms one.")
        errors = jnp.sqrt(jnp.diagonal(self.covariance, axis1=-2, axis2=-1))
        numbers, other = apart(self.params)
        leaves, structure = jax.tree.flatten(numbers)
        batch = self.covariance.ndim - 2
        sizes = [int(leaf.size / max(1, self.sse.size)) for leaf in leaves]
        offsets = [sum(sizes[:i]) for i in range(len(sizes))]
        parts = [errors[..., o : o + s] for o, s in zip(offsets, sizes, strict=True)]
        shaped = [p.reshape(errors.shape[:batch] + v.shape[batch:]) for p, v in zip(parts, leaves, strict=True)]
        return jax.tree.unflatten(structure, shaped) if other is None else other.alone(shaped)

    @property
    def degrees_of_freedom(self) -> int:
        """Number of residuals minus number of parameters."""
        numbers = jax.tree.leaves(apart(self.params)[0])
        return self.residuals.shape[-1] - sum(v.size for v in numbers) // max(1, self.sse.size)


def least_squares(
    residuals: Residuals[P],
    params0: P,
    args: PyTree = None,
    *,
    method: str | LevenbergMarquardt = "levenberg_marquardt",
    rtol: float = 1e-10,
    gtol: float = 1e-10,
    max_steps: int = 200,
    jacobian: str = "auto",
) -> LeastSquares[P]:
    """Minimise the sum of squares of `residuals(params, args)`.

    The optimum is differentiable with respect to `args` by the implicit function theorem (residuals whose Jacobian is
    computed in forward mode must then be twice differentiable in that mode).

    Args:
        residuals: Maps parameters and `args` to a pytree of residuals, `m` numbers in all.
        params0: First guess: a pytree of real arrays, `n` numbers in all, `n <= m`.
        args: Data; differentiable.
        method: `"levenberg_marquardt"`, or `jk.LevenbergMarquardt(damping=..., jacobian="reverse")`.
        rtol: Stop when the Gauss-Newton step, or what the sum of squares can still fall by, is relatively smaller.
        gtol: Stop when the cosine between the residuals and the column space of their Jacobian is smaller.
        max_steps: Largest number of evaluations.
        jacobian: How the Jacobian of many parameters is held: `"dense"`; `"sparse"`, its possible nonzeros alone, with
            sparse factors of the normal equations (on the CPU, in double precision); `"krylov"`, by products with it
            alone (conjugate gradients); or `"auto"`, which from 256 parameters on looks for zeros in `residuals` with
            the libraries of `jaxkit[sparse]`, and is dense where there are few. Indices by which residuals pick their
            parameters must be known: NumPy arrays that `residuals` closes over, not a part of `args`. Combinations of
            parameters that show a million times less than others count as not seen (`singular`) unless it is dense.

    Returns:
        A `LeastSquares`. It does not raise: call `.checked()`, or look at `.status`.

    Raises:
        ValueError: There are no parameters, or fewer residuals than parameters.

    Example:
        >>> import jax.numpy as jnp, jaxkit as jk
        >>> t = jnp.array([0.0, 1.0, 2.0, 3.0])
        >>> y = 5 * jnp.exp(-0.5 * t)
        >>> fit = jk.least_squares(lambda p, _: p["a"] * jnp.exp(-p["k"] * t) - y, {"a": 1.0, "k": 1.0}).checked()
        >>> round(float(fit.params["a"]), 5), round(float(fit.params["k"]), 5)
        (5.0, 0.5)

    References:
        Moré (1978), The Levenberg-Marquardt algorithm: implementation and theory. Nielsen (1999), Damping parameter in
        Marquardt's method, IMM-REP-1999-05.
    """
    options = {"rtol": rtol, "gtol": gtol, "max_steps": max_steps, "jacobian": jacobian}
    (start, own), (numbers, other) = apart(params0), apart(args)
    if own is not None or other is not None:
        residuals = residuals if own is None else own.called(residuals, 0)
        residuals = residuals if other is None else other.called(residuals, 1)
        found = run_kept(_fitted, (residuals, method, options), (start, numbers))
        return found if own is None else dataclasses.replace(found, params=own.join(found.params))
    return run_kept(_fitted, (residuals, method, options), (params0, args))


def _fitted(residuals: Residuals, method: Any, options: dict[str, Any], params0: Any, args: Any) -> LeastSquares:
    options = dict(options)
    problem, start = posed(residuals, params0, args, method, options.pop("jacobian"))
    return problem.fit(*problem.search(start, **options))


@dataclasses.dataclass(frozen=True)
class Regression:
    """Residuals of a flat vector, and how their optimum moves with their inputs.

    Attributes:
        residuals: The flat residuals, a function of `(p, *inputs)` that closes over no tracers.
        inputs: What the optimum is differentiable with respect to: `args`, and what the user's residuals close over.
        unravel: The user's structure around a flat vector.
        count: Number of residuals.
        settings: Settings of the method.
        way: How the Jacobian is held.
    """

    residuals: Callable[..., Array]
    inputs: tuple[Any, ...]
    unravel: Callable[[Array], Any]
    count: int
    settings: LevenbergMarquardt
    way: tall.Way = tall.DENSE

    def search(self, start: Float[Array, " n"], *, rtol: float, gtol: float, max_steps: int) -> tuple[Any, Any]:
        """Descend from `start`: (parameters, residuals, Jacobian) and (status, evaluations)."""

        def solve(start: Array, *inputs: Any) -> Any:
            value, held = (lambda p: self.residuals(p, *inputs)), self._held(inputs)
            algebra: Algebra = Many(held) if held else Dense(value, lambda p: self._both(p, *inputs))
            shape = held.shape(start.size) if held else None
            first = begin(start, self.count, self.settings.damping, shape)
            return descend(algebra, first, rtol=rtol, gtol=gtol, max_steps=max_steps)

        return implicit(solve, self._rule, lost=failed)(start, *self.inputs)

    def settle(self, answer: Any, info: Any) -> tuple[Any, Any]:
        """What `search` has found, with a derivative that does not go through the search."""
        found = jax.lax.stop_gradient((answer, info))
        return implicit(lambda found, *_: found, self._rule, lost=failed)(found, *self.inputs)

    def fit(self, answer: Any, info: Any) -> LeastSquares:
        """The result of a search."""
        (p, r, jac), (status, steps) = answer, info
        return LeastSquares(self.unravel(p), r, r @ r, self._covariance(p, r, jac), status, steps)

    def _covariance(self, p: Array, r: Array, slope: Array) -> Array | None:
        if self.way.name == "dense":
            unit = unit_of(p, r, slope)
            return _covariance(unit * slope, (unit * r) @ (unit * r))
        sse = r @ r
        if self.way.pattern is None or p.size > SQUARE:
            return None
        return _covariance_by_entries(self.way.pattern, slope, sse)

    def _held(self, inputs: tuple[Any, ...]) -> tall.Tall | None:
        return self.way.held(lambda q: self.residuals(q, *inputs))

    def _both(self, p: Array, *inputs: Any) -> tuple[Array, Array]:
        held = self._held(inputs)
        if held:
            return held.both(p)
        return value_and_jacobian(lambda q: self.residuals(q, *inputs), p, mode=self.settings.jacobian)

    def _gradient(self, p: Array, *inputs: Any) -> Array:
        if self._slim(p, inputs):
            r, pulled = jax.vjp(lambda q: self.residuals(q, *inputs), p)
            return pulled(r)[0]
        r, jac = self._both(p, *inputs)
        held = self._held(inputs)
        return held.pull(jac, r) if held else jac.T @ r

    def _slim(self, p: Array, inputs: Any) -> bool:
        """Whether products with the Jacobian take its place: where a table of second derivatives would be large."""
        if self.way.name == "dense" and self.count * p.size**2 <= TABLE:
            return False
        try:  # residuals with a loop of their own may have forward mode alone
            jax.eval_shape(
                lambda p: jax.vjp(lambda q: self.residuals(q, *inputs), p)[1](jnp.zeros(self.count, p.dtype)), p
            )
        except (ValueError, NotImplementedError):
            return False
        return True

    def _hessian(self, p: Array, inputs: Any) -> Array:
        """The derivative of the gradient, some columns after others."""
        gradient = lambda q: self._gradient(q, *inputs)
        column = lambda v: jax.jvp(gradient, (p,), (v,))[1]
        each = self.count * (1 if self._slim(p, inputs) else p.size)
        return jax.lax.map(column, jnp.eye(p.size, dtype=p.dtype), batch_size=max(1, min(p.size, TABLE // each))).T

    def _rule(self, answer: Any, primals: Any, tangents: Any) -> Any:
        """The optimum is a root of the gradient J'r: its implicit derivative needs the full Hessian."""
        (p, _, _), (_, *inputs), (_, *moved) = answer, primals, tangents
        _, pushed = jax.jvp(lambda *a: self._gradient(p, *a), tuple(inputs), tuple(moved))
        held = self._held(tuple(inputs))
        if held:
            product = lambda v: jax.jvp(lambda q: self._gradient(q, *inputs), (p,), (v,))[1]
            norms = jax.lax.stop_gradient(or_one(held.norms(held.both(p)[1])))
            dp = self.way.hessian_solver(product, p, norms)(-pushed)
        else:
            dp = solve_dense(self._hessian(p, inputs), -pushed)  # factored whatever its size
        _, (dr, djac) = jax.jvp(self._both, (p, *inputs), (dp, *moved))
        return dp, dr, djac


def posed(
    residuals: Residuals[P], params0: P, args: Any, method: str | LevenbergMarquardt, jacobian: str = "dense"
) -> tuple[Regression, Float[Array, " n"]]:
    """The flat problem, traced once and for all (the residuals may hold a solver), and its flat start."""
    settings = _settings(method)
    start, unravel = flat_params("params0", params0)
    require(start.size > 0, "params0", "hold at least one number", "is empty")
    flat = lambda p, a: jax.flatten_util.ravel_pytree(residuals(unravel(p), a))[0]
    found = jax.eval_shape(flat, start, args).dtype
    require(not jnp.issubdtype(found, jnp.complexfloating), "residuals", "be real", "is complex")
    dtype = np.promote_types(found, start.dtype)
    start = start.astype(dtype)
    fn, values = closed(lambda p, a: flat(p, a).astype(dtype), start, args)
    count = jax.eval_shape(fn, start, args, *values).size
    if count < start.size:
        raise ValueError(f"`residuals` must return at least {start.size} values, one a parameter, but returns {count}.")
    way = tall.chosen(lambda p: fn(p, args, *values), start, count, jacobian)
    forward = way.name == "dense" or settings.jacobian == "forward"
    require(forward, "jacobian", "be 'dense' where the method's own is 'reverse'", f"is {jacobian!r}")
    return Regression(lambda p, a, v: fn(p, a, *v), (args, values), unravel, count, settings, way), start


def flat_params(name: str, params: Any) -> tuple[Float[Array, " n"], Callable[[Array], Any]]:
    """Parameters as a flat vector, and the way back."""
    return jax.flatten_util.ravel_pytree(jax.tree.map(lambda v: floating(name, v), params))


def _settings(method: str | LevenbergMarquardt) -> LevenbergMarquardt:
    if isinstance(method, LevenbergMarquardt):
        return method
    one_of("method", method, ("levenberg_marquardt",))
    return LevenbergMarquardt()


def _covariance(jac: Float[Array, "m n"], sse: Float[Array, ""]) -> Float[Array, "n n"]:
    """`sse / (m - n) inv(J'J)`, through the singular values of the column-scaled Jacobian."""
    m, n = jac.shape
    if m == n:
        return jnp.full((n, n), jnp.nan, jac.dtype)  # no residual is left to estimate the noise
    scale, _, s, vt = scaled_svd(jac)
    inverse = (vt.T / s[None, :] ** 2) @ vt
    return inverse / jnp.outer(scale, scale) * sse / (m - n)


def _covariance_by_entries(pattern: tall.TallPattern, entries: Array, sse: Float[Array, ""]) -> Float[Array, "n n"]:
    m, n = pattern.shape
    if m == n:
        return jnp.full((n, n), jnp.nan, entries.dtype)
    scale = or_one(jnp.sqrt(pattern.over_columns(entries**2)))
    normal = pattern.normal
    matrix = (
        jnp.zeros((n, n), entries.dtype)
        .at[normal.rows, normal.columns]
        .set(pattern.normal_entries(entries / scale[pattern.columns]))
    )
    return jnp.linalg.inv(matrix) / jnp.outer(scale, scale) * sse / (m - n)

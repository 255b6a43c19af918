"""Least squares: parameters from data, with their standard errors."""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, Generic, TypeVar

import equinox.internal as eqxi
import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree

from jaxkit.compile.jit_cache import run_kept
from jaxkit.core.checks import floating, one_of, require
from jaxkit.core.status import Outcome, Status
from jaxkit.core.struct import struct
from jaxkit.dynamics.iterate import iterate
from jaxkit.dynamics.linear.dense import solve_dense, value_and_jacobian
from jaxkit.dynamics.linear.implicit import closed, failed, implicit
from jaxkit.dynamics.parts import apart
from jaxkit.dynamics.roots.methods.descent import LevenbergMarquardt
from jaxkit.dynamics.roots.trust_region import MARQUARDT, Region, advance, begin, column_norms, pull, unseen

P = TypeVar("P")
Residuals = Callable[[P, Any], PyTree]
Split = tuple[Array, Array, Array, Array]  # norms of a Jacobian's columns, and u, s, v' of the columns divided by them

_PART = 0.1  # of a parameter, or of the residuals: how far a lower sum of squares is looked for
TABLE = 1 << 22  # most numbers of a table of second derivatives that is in memory at once
_WIDE = 0.1  # cosine of an angle that rounding does not explain


@struct
class LeastSquares(Outcome, Generic[P]):
    """A least-squares fit and how it was reached.

    Attributes:
        params: The parameters, of the structure of the first guess.
        residuals: Residuals at `params`, flattened, shape `(m,)`.
        sse: Sum of squares of the residuals.
        covariance: Covariance of the flattened parameters, shape `(n, n)`: `s**2 inv(J'J)`, `s**2 = sse / (m - n)`;
            NaN with as many residuals as parameters.
        status: `Status` code.
        steps: Number of evaluations of the residuals and their Jacobian.
    """

    verb: ClassVar[str] = "least_squares"

    params: P
    residuals: Float[Array, "... m"]
    sse: Float[Array, "..."]
    covariance: Float[Array, "... n n"]
    status: Int[Array, "..."]
    steps: Int[Array, "..."]

    @property
    def standard_errors(self) -> P:
        """Standard errors of the parameters, in their structure (asymptotic, from `covariance`)."""
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
        return self.residuals.shape[-1] - self.covariance.shape[-1]


def least_squares(
    residuals: Residuals[P],
    params0: P,
    args: PyTree = None,
    *,
    method: str | LevenbergMarquardt = "levenberg_marquardt",
    rtol: float = 1e-10,
    gtol: float = 1e-10,
    max_steps: int = 200,
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
    options = {"rtol": rtol, "gtol": gtol, "max_steps": max_steps}
    (start, own), (numbers, other) = apart(params0), apart(args)
    if own is not None or other is not None:
        residuals = residuals if own is None else own.called(residuals, 0)
        residuals = residuals if other is None else other.called(residuals, 1)
        found = run_kept(_fitted, (residuals, method, options), (start, numbers))
        return found if own is None else dataclasses.replace(found, params=own.join(found.params))
    return run_kept(_fitted, (residuals, method, options), (params0, args))


def _fitted(residuals: Residuals, method: Any, options: dict[str, Any], params0: Any, args: Any) -> LeastSquares:
    problem, start = posed(residuals, params0, args, method)
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
    """

    residuals: Callable[..., Array]
    inputs: tuple[Any, ...]
    unravel: Callable[[Array], Any]
    count: int
    settings: LevenbergMarquardt

    def search(self, start: Float[Array, " n"], *, rtol: float, gtol: float, max_steps: int) -> tuple[Any, Any]:
        """Descend from `start`: (parameters, residuals, Jacobian) and (status, evaluations)."""

        def solve(start: Array, *inputs: Any) -> Any:
            value, both = (lambda p: self.residuals(p, *inputs)), (lambda p: self._both(p, *inputs))
            first = begin(start, self.count, self.settings.damping)
            return _descend(value, both, first, rtol=rtol, gtol=gtol, max_steps=max_steps)

        return implicit(solve, self._rule, lost=failed)(start, *self.inputs)

    def settle(self, answer: Any, info: Any) -> tuple[Any, Any]:
        """What `search` has found, with a derivative that does not go through the search."""
        found = jax.lax.stop_gradient((answer, info))
        return implicit(lambda found, *_: found, self._rule, lost=failed)(found, *self.inputs)

    def fit(self, answer: Any, info: Any) -> LeastSquares:
        """The result of a search."""
        (p, r, jac), (status, steps) = answer, info
        sse = r @ r
        return LeastSquares(self.unravel(p), r, sse, _covariance(jac, sse), status, steps)

    def _both(self, p: Array, *inputs: Any) -> tuple[Array, Array]:
        return value_and_jacobian(lambda q: self.residuals(q, *inputs), p, mode=self.settings.jacobian)

    def _gradient(self, p: Array, *inputs: Any) -> Array:
        if self._slim(p, inputs):
            r, pulled = jax.vjp(lambda q: self.residuals(q, *inputs), p)
            return pulled(r)[0]
        r, jac = self._both(p, *inputs)
        return jac.T @ r

    def _slim(self, p: Array, inputs: Any) -> bool:
        """Whether products with the Jacobian take its place: where a table of second derivatives would be large."""
        if self.count * p.size**2 <= TABLE:
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
        dp = solve_dense(self._hessian(p, inputs), -pushed)  # factored whatever its size
        _, (dr, djac) = jax.jvp(self._both, (p, *inputs), (dp, *moved))
        return dp, dr, djac


def posed(
    residuals: Residuals[P], params0: P, args: Any, method: str | LevenbergMarquardt
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
    return Regression(lambda p, a, v: fn(p, a, *v), (args, values), unravel, count, settings), start


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
    scale, _, s, vt = _scaled_svd(jac)
    inverse = (vt.T / s[None, :] ** 2) @ vt
    return inverse / jnp.outer(scale, scale) * sse / (m - n)


def _scaled_svd(jac: Float[Array, "m n"]) -> Split:
    """The norms of the columns, and the singular value decomposition of the columns divided by their norms."""
    scale = column_norms(jac)
    u, s, vt = jnp.linalg.svd(jac / scale[None, :], full_matrices=False)
    return scale, u, s, vt


def _descend(
    value: Callable[[Array], Array],
    both: Callable[[Array], tuple[Array, Array]],
    first: Region,
    *,
    rtol: float,
    gtol: float,
    max_steps: int,
) -> tuple[tuple[Array, Array, Array], tuple[Int[Array, ""], Int[Array, ""]]]:
    """The iteration on flat vectors: (parameters, residuals, Jacobian) and (status, evaluations)."""
    eps, ok = float(jnp.finfo(first.x.dtype).eps), jnp.asarray(int(Status.ok))
    rtol, gtol = max(rtol, 4 * eps), max(gtol, 4 * eps)

    def step(state: tuple[Region, Array, Array]) -> tuple[Region, Array, Array]:
        before = state[0]
        region, ratio, better = advance(both, before, squared=True, least=0.0)
        old, new = before.value @ before.value, region.value @ region.value
        small_gain = better & ~unseen(before) & (old - new <= rtol * old)
        small_step = before.length <= rtol * jnp.linalg.norm(region.scale * region.x)
        look = small_gain | small_step | (region.size > 1 / eps) | (new == 0) | (_cosine(region) <= gtol)
        region = MARQUARDT.propose(region, ratio, better, region.move)
        return region, look, jnp.where(unseen(region), int(Status.not_finite), ok)

    # Two loops: what looks like an optimum is examined, and if it is none, the descent goes on from there. (A condition
    # within one loop would be evaluated at every step of every lane under `vmap`.)
    def descend(state: tuple[Region, Array, Array, Array]) -> tuple[Region, Array, Array, Array]:
        region, _, _, taken = state
        start = (region, jnp.zeros((), bool), ok)
        (region, _, _), status, count = iterate(
            step, start, status=lambda s: s[2], done=lambda s: s[1], max_steps=max_steps - taken
        )
        split = _scaled_svd(region.slope)
        converged, blind = _examine(region, split, rtol, gtol)
        region, lower = _beside(value, region, split, converged, first.size)
        converged &= ~lower
        lost = jnp.where(~converged & (region.size > 1 / eps), int(Status.no_progress), ok)
        lost = jnp.where(blind, int(Status.singular), lost)
        status = jnp.where(status == ok, lost, status)
        return region, converged & (status == ok), status, taken + count

    state = (first, jnp.zeros((), bool), ok, jnp.asarray(0))
    (last, _, _, taken), status, _ = iterate(
        descend, state, status=lambda s: s[2], done=lambda s: s[1], max_steps=max_steps
    )
    return (last.x, last.value, last.slope), (status, taken)


def _examine(region: Region, split: Split, rtol: float, gtol: float) -> tuple[Bool[Array, ""], Bool[Array, ""]]:
    """Whether the point is an optimum, and whether it looks so because the residuals do not show all parameters.

    Judged without damping, which makes any step short: by the angle between the residuals and the space of the columns,
    whose squared cosine is the relative decrease that is left; by the Gauss-Newton step, where a trial was refused; or
    by residuals that are mere rounding. For parameters that do not show in the residuals, the angle is not known.
    """
    (m, n), eps = region.slope.shape, jnp.finfo(region.x.dtype).eps
    size, norms = jnp.linalg.norm(region.value), jnp.linalg.norm(region.slope, axis=0)
    scale, u, s, vt = split
    part = u.T @ region.value
    seen = s > m * eps * s[0]
    cosine = lambda which: jnp.linalg.norm(jnp.where(which, part, 0)) / jnp.where(size > 0, size, 1)
    small = lambda angle: (angle <= gtol) | (angle**2 <= rtol)
    newton = vt.T @ jnp.where(seen, part / jnp.where(seen, s, 1), 0)
    rounding = n * eps * jnp.sum(norms * jnp.abs(region.x))
    exact = size <= rounding
    # Beside a pole, too, the step is short and refused, but there the cosine is more than rounding explains.
    limited = (region.factor > 16) & ((cosine(seen) <= _WIDE) | (jnp.linalg.norm(part) <= 2 * rounding))
    short = jnp.all(seen) & limited & (jnp.linalg.norm(newton) <= rtol * jnp.linalg.norm(scale * region.x))
    lost = (norms <= jnp.sqrt(eps) * region.scale) & (norms * jnp.abs(region.x) <= eps * size)
    hidden = jnp.any(lost | (norms == 0)) | (small(cosine(seen)) & ~small(cosine(~seen)))
    blind = jnp.where(exact | (size == 0), ~jnp.all(seen), hidden)  # an exact fit says nothing about what is not seen
    return ~blind & (small(cosine(seen)) | short | exact), blind


def _beside(
    value: Callable[[Array], Array],
    region: Region,
    split: Split,
    converged: Bool[Array, ""],
    damping: Float[Array, ""],
) -> tuple[Region, Bool[Array, ""]]:
    """Whether the sum of squares is lower beside an apparent optimum, and the region with the step to that point.

    Where parameters hardly show (a peak without height, beside the data), first derivatives do not tell a saddle from
    an optimum. Only residuals are evaluated, on both sides: of each parameter by its own size, and along each singular
    vector by a part of the residuals. Where every parameter's own size moves the residuals by more than their norm, the
    curvature is that of the first derivatives, and nothing is evaluated.
    """
    size, norms = jnp.linalg.norm(region.value), jnp.linalg.norm(region.slope, axis=0)
    doubtful = converged & jnp.any(norms * jnp.abs(region.x) <= size) & (size > 0)

    def look() -> tuple[Array, Array]:
        scale, u, s, vt = split
        own = jnp.diag(region.x)
        along = vt / scale[None, :] * (_PART * size / s)[:, None]
        moves = jnp.stack([own, -0.5 * own, _PART * own, -_PART * own, along, -along])
        found = jax.lax.map(jax.vmap(lambda d: jnp.linalg.norm(value(region.x + d))), moves).ravel()
        moves = moves.reshape(-1, region.x.size)
        best = jnp.argmin(jnp.where(jnp.isfinite(found), found, jnp.inf))
        gain = (size - found[best]) * (size + found[best])
        left = jnp.linalg.norm(u.T @ region.value) ** 2  # the decrease that a step by the first derivatives would bring
        noise = region.value.size * jnp.finfo(size.dtype).eps * size * (size + jnp.sum(norms * jnp.abs(region.x)))
        return moves[best], jnp.where(gain > 2 * left + 4 * noise, gain, 0)

    nothing = lambda: (jnp.zeros_like(region.x), jnp.zeros_like(size))
    move, gain = jax.lax.cond(eqxi.unvmap_any(doubtful), look, nothing)
    lower = doubtful & (gain > 0)
    length = jnp.linalg.norm(region.scale * move)
    there = region._replace(size=damping, factor=jnp.full_like(size, 2), move=move, length=length, predicted=gain)
    return jax.tree.map(lambda new, old: jnp.where(lower, new, old), there, region), lower


def _cosine(region: Region) -> Float[Array, ""]:
    """Largest cosine between the residuals and a column of the Jacobian; 0 at an exact fit."""
    size = jnp.linalg.norm(region.value)
    return jnp.max(jnp.abs(pull(region)) / column_norms(region.slope)) / jnp.where(size > 0, size, 1)

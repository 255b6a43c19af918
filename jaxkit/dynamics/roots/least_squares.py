"""Least squares: parameters from data, with their standard errors."""

from collections.abc import Callable
from typing import Any, ClassVar, Generic, TypeVar

import jax
import jax.flatten_util
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from jaxkit.core.checks import floating
from jaxkit.core.status import Outcome, Status
from jaxkit.core.struct import struct
from jaxkit.dynamics.iterate import iterate
from jaxkit.dynamics.linear.implicit import closed, implicit

P = TypeVar("P")
Residuals = Callable[[P, Any], PyTree]


@struct
class LeastSquares(Outcome, Generic[P]):
    """A least-squares fit and how it was reached.

    Attributes:
        params: The parameters, of the structure of the first guess.
        residuals: Residuals at `params`, flattened, shape `(m,)`.
        sse: Their sum of squares.
        covariance: Covariance of the flattened parameters, shape `(n, n)`: `s**2 inv(J'J)`, `s**2 = sse / (m - n)`.
        status: `Status` code.
        steps: Evaluations of the residuals and their Jacobian.
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
        leaves, structure = jax.tree.flatten(self.params)
        batch = self.covariance.ndim - 2
        sizes = [int(leaf.size / max(1, self.sse.size)) for leaf in leaves]
        offsets = [sum(sizes[:i]) for i in range(len(sizes))]
        parts = [errors[..., o : o + s] for o, s in zip(offsets, sizes, strict=True)]
        shaped = [p.reshape(errors.shape[:batch] + v.shape[batch:]) for p, v in zip(parts, leaves, strict=True)]
        return jax.tree.unflatten(structure, shaped)

    @property
    def degrees_of_freedom(self) -> int:
        """Number of residuals less number of parameters."""
        return self.residuals.shape[-1] - self.covariance.shape[-1]


def least_squares(
    residuals: Residuals[P],
    params0: P,
    args: PyTree = None,
    *,
    rtol: float = 1e-10,
    gtol: float = 1e-10,
    max_steps: int = 200,
    damping: float = 1e-3,
    mode: str = "forward",
) -> LeastSquares[P]:
    """Minimise the sum of squares of `residuals(params, args)` by Levenberg-Marquardt.

    The optimum is differentiable in `args` by the implicit function theorem (`mode="forward"` residuals must then
    be twice differentiable in forward mode).

    Args:
        residuals: Maps parameters and `args` to a pytree of residuals, `m` numbers in all.
        params0: First guess: a pytree of real arrays, `n` numbers in all, `n <= m`.
        args: Data; differentiable.
        rtol: Stop when a step, or the decrease of the sum of squares, is relatively smaller.
        gtol: Stop when the cosine between the residuals and every column of their Jacobian is smaller.
        max_steps: Most evaluations.
        damping: First damping, relative to the scaled normal matrix.
        mode: `"forward"` or `"reverse"`: how the Jacobian of the residuals is made.

    Returns:
        A `LeastSquares`. It does not raise: call `.checked()`, or look at `.status`.

    Raises:
        ValueError: There are fewer residuals than parameters.

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
    start, unravel = jax.flatten_util.ravel_pytree(jax.tree.map(lambda v: floating("params0", v), params0))
    flat = lambda p, a: jax.flatten_util.ravel_pytree(residuals(unravel(p), a))[0]
    jacobian = {"forward": jax.jacfwd, "reverse": jax.jacrev}[mode]
    flat, values = closed(flat, start, args)  # (traced once and for all: the residuals may hold a solver)
    count = jax.eval_shape(flat, start, args, *values).size
    if count < start.size:
        raise ValueError(f"`residuals` must return at least {start.size} values, one a parameter, but returns {count}.")

    def both(p: Array, inputs: Any) -> tuple[Array, Array]:
        a, values = inputs
        jac, r = jacobian(lambda q: (flat(q, a, *values),) * 2, has_aux=True)(p)
        return r, jac

    def solve(start: Array, inputs: Any) -> tuple[tuple[Array, Array, Array], tuple[Array, Array]]:
        return _levenberg_marquardt(
            lambda p: both(p, inputs), start, count, rtol=rtol, gtol=gtol, max_steps=max_steps, damping=damping
        )

    # The optimum is a root of the gradient J'r: its implicit derivative needs the full Hessian.
    def gradient(p: Array, inputs: Any) -> Array:
        r, jac = both(p, inputs)
        return jac.T @ r

    def rule(answer: Any, primals: Any, tangents: Any) -> Any:
        (p, _, _), (_, inputs), (_, moved) = answer, primals, tangents
        _, pushed = jax.jvp(lambda i: gradient(p, i), (inputs,), (moved,))
        dp = -jnp.linalg.solve(jax.jacfwd(gradient)(p, inputs), pushed)
        _, (dr, djac) = jax.jvp(both, (p, inputs), (dp, moved))
        return dp, dr, djac

    (p, r, jac), (status, steps) = implicit(solve, rule)(start, (args, values))
    sse = r @ r
    return LeastSquares(unravel(p), r, sse, _covariance(jac, sse), status, steps)


def _covariance(jac: Float[Array, "m n"], sse: Float[Array, ""]) -> Float[Array, "n n"]:
    """`sse / (m - n) inv(J'J)`, through the singular values of the column-scaled Jacobian."""
    m, n = jac.shape
    scale = _column_norms(jac)
    _, s, vt = jnp.linalg.svd(jac / scale[None, :], full_matrices=False)
    inverse = (vt.T / s[None, :] ** 2) @ vt
    return inverse / jnp.outer(scale, scale) * sse / max(m - n, 1)


def _column_norms(jac: Float[Array, "m n"]) -> Float[Array, " n"]:
    norms = jnp.linalg.norm(jac, axis=0)
    return jnp.where((norms > 0) & jnp.isfinite(norms), norms, 1)


def _levenberg_marquardt(
    both: Callable[[Array], tuple[Array, Array]],
    start: Float[Array, " n"],
    count: int,
    *,
    rtol: float,
    gtol: float,
    max_steps: int,
    damping: float,
) -> tuple[tuple[Array, Array, Array], tuple[Int[Array, ""], Int[Array, ""]]]:
    """The iteration on flat vectors: (parameters, residuals, Jacobian) and (status, evaluations).

    Residuals and Jacobian are evaluated at one place of the program, always at the trial point: a rejected step wastes
    a Jacobian, but the program compiles in a third of the time, and under `vmap` both branches would run anyway.
    """
    dtype, eps = start.dtype, float(jnp.finfo(start.dtype).eps)
    ok = jnp.asarray(int(Status.ok))

    def step(s: dict[str, Array]) -> dict[str, Array]:
        r, jac = both(s["trial"])
        sse, new = s["r"] @ s["r"], r @ r
        first = jnp.isinf(sse)
        better = jnp.isfinite(new) & jnp.all(jnp.isfinite(jac)) & (new < sse)
        gain = jnp.where(first, 0.5, (sse - new) / jnp.maximum(s["predicted"], jnp.finfo(dtype).tiny))
        move = jnp.linalg.norm(s["z"])
        keep = lambda there, here: jnp.where(better, there, here)
        p, r, jac = keep(s["trial"], s["p"]), keep(r, s["r"]), keep(jac, s["jac"])
        scale = jnp.maximum(s["scale"], _column_norms(jac))
        shrink = jnp.maximum(1 / 3, 1 - (2 * jnp.clip(gain, 0, 1) - 1) ** 3)
        lam, nu = s["lam"] * keep(shrink, s["nu"]), keep(jnp.asarray(2.0, dtype), 2 * s["nu"])
        small_gain = better & ~first & (sse - new <= rtol * sse) & (s["predicted"] <= rtol * sse)
        small_step = ~first & (move <= rtol * jnp.linalg.norm(scale * p))
        exact = better & (new <= eps**2 * jnp.where(first, 1, 1 + sse))
        done = small_gain | small_step | exact | (_cosine(jac, r) <= gtol)
        status = jnp.where(first & ~better, int(Status.not_finite), ok)
        status = jnp.where(~done & (lam > 1 / eps), int(Status.no_progress), status)
        z, predicted = _step(jac / scale[None, :], r, lam)
        state = {"p": p, "r": r, "jac": jac, "scale": scale, "lam": lam, "nu": nu, "trial": p + z / scale}
        return state | {"z": z, "predicted": predicted, "done": done, "status": status}

    first = {
        "p": start,
        "r": jnp.full(count, jnp.inf, dtype),
        "jac": jnp.zeros((count, start.size), dtype),
        "scale": jnp.zeros_like(start),
        "lam": jnp.asarray(damping, dtype),
        "nu": jnp.asarray(2.0, dtype),
        "trial": start,
        "z": jnp.full_like(start, jnp.inf),
        "predicted": jnp.asarray(jnp.inf, dtype),
        "done": jnp.zeros((), bool),
        "status": ok,
    }
    last, status, steps = iterate(
        step, first, status=lambda s: s["status"], done=lambda s: s["done"], max_steps=max_steps
    )
    return (last["p"], last["r"], last["jac"]), (status, steps)


def _step(jac: Float[Array, "m n"], r: Float[Array, " m"], lam: Float[Array, ""]) -> tuple[Array, Array]:
    """The damped Gauss-Newton step in scaled parameters, and the decrease of the sum of squares that it predicts."""
    n = jac.shape[1]
    # QR of the augmented system: no squaring of the condition number.
    q, upper = jnp.linalg.qr(jnp.concatenate([jac, jnp.sqrt(lam) * jnp.eye(n, dtype=jac.dtype)]))
    z = -jax.scipy.linalg.solve_triangular(upper, q[: r.size].T @ r)
    return z, z @ (lam * z - jac.T @ r)


def _cosine(jac: Float[Array, "m n"], r: Float[Array, " m"]) -> Float[Array, ""]:
    """Largest cosine between the residuals and a column of the Jacobian; 0 at an exact fit."""
    size = jnp.linalg.norm(r)
    return jnp.max(jnp.abs(jac.T @ r) / _column_norms(jac)) / jnp.where(size > 0, size, 1)

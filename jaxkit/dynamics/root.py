"""Roots of residuals: the `root` verb."""

from collections.abc import Callable
from typing import Any, ClassVar, Generic, TypeVar

import jax
import jax.flatten_util
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from jaxkit.core.checks import floating
from jaxkit.core.status import Outcome, Status
from jaxkit.core.struct import struct
from jaxkit.dynamics.loop import iterate

X = TypeVar("X")


@struct
class Root(Outcome, Generic[X]):
    """A root and how it was reached.

    Attributes:
        value: The root, of `x0`'s structure and shapes.
        residual: Largest absolute entry of `fn(value, args)`.
        status: `Status` code.
        steps: Iterations taken.
    """

    verb: ClassVar[str] = "root"

    value: X
    residual: Float[Array, "..."]
    status: Int[Array, "..."]
    steps: Int[Array, "..."]


def root(
    fn: Callable[[X, Any], PyTree],
    x0: X,
    args: PyTree = None,
    *,
    rtol: float = 1e-6,
    atol: float = 1e-9,
    max_steps: int = 50,
) -> Root[X]:
    """Find `x` with `fn(x, args) = 0`, by Newton's method with JAX derivatives.

    The derivative of the root with respect to `args` comes from the implicit function theorem, in both modes
    and to any order, so its cost does not grow with `max_steps`.

    Args:
        fn: Residual; maps `x` and `args` to a pytree with as many entries as `x`.
        x0: First guess: a scalar, an array, or a pytree of such.
        args: Parameters; differentiable.
        rtol: Stop when the step is below `atol + rtol * |x|` and the residual is small.
        atol: See `rtol`.
        max_steps: Most iterations.

    Returns:
        A `Root`. It does not raise: call `.checked()` on the host, or look at `.status`.

    Raises:
        ValueError: `fn` does not return as many values as `x0` has.

    Example:
        >>> import jaxkit as jk
        >>> r = jk.root(lambda x, a: x**3 - a, 1.0, 2.0).checked()
        >>> round(float(r.value), 6)
        1.259921
        >>> round(float(jax.grad(lambda a: jk.root(lambda x, a: x**3 - a, 1.0, a).value)(2.0)), 4)
        0.21
    """
    start, unravel = jax.flatten_util.ravel_pytree(jax.tree.map(lambda v: floating("x0", v), x0))

    def residual(x: Array, args: Any) -> Array:
        return jax.flatten_util.ravel_pytree(fn(unravel(x), args))[0]

    size = jax.eval_shape(residual, start, args).size
    if size != start.size:
        raise ValueError(f"`fn` must return as many values as `x0` has, {start.size}, but returns {size}.")

    @jax.custom_jvp
    def solved(start: Array, args: Any) -> tuple[Array, tuple[Array, Array]]:
        return _newton(lambda x: residual(x, args), start, rtol=rtol, atol=atol, max_steps=max_steps)

    @solved.defjvp
    def _(primals: Any, tangents: Any) -> Any:
        x, aux = solved(*primals)
        _, moved = jax.jvp(lambda a: residual(x, a), primals[1:], tangents[1:])
        dx = jnp.linalg.solve(jax.jacfwd(residual)(x, primals[1]), -moved)
        return (x, aux), (dx, jax.tree.map(lambda v: jnp.zeros(v.shape, jax.dtypes.float0), aux))

    x, (status, steps) = solved(start, args)
    return Root(unravel(x), jnp.max(jnp.abs(residual(x, args))), status, steps)


def _newton(
    fn: Callable[[Array], Array], start: Float[Array, " n"], *, rtol: float, atol: float, max_steps: int
) -> tuple[Float[Array, " n"], tuple[Int[Array, ""], Int[Array, ""]]]:
    """Newton's iteration on flat vectors: the root, and (status, steps)."""
    eps = float(jnp.finfo(start.dtype).eps)

    def step(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        x, _, _ = state
        value = fn(x)
        dx = jnp.linalg.solve(jax.jacfwd(fn)(x), -value)
        finite = jnp.all(jnp.isfinite(dx))
        failed = jnp.where(jnp.all(jnp.isfinite(value)), int(Status.singular), int(Status.not_finite))
        return jnp.where(finite, x + dx, x), dx, jnp.where(finite, int(Status.ok), failed)

    def done(state: tuple[Array, Array, Array]) -> Array:
        x, dx, _ = state
        settled = jnp.all(jnp.abs(dx) <= atol + rtol * jnp.abs(x))
        return settled & jnp.all(jnp.abs(fn(x)) <= max(atol, 4 * eps) * (1 + jnp.max(jnp.abs(x))))

    first = (start, jnp.full_like(start, jnp.inf), jnp.asarray(int(Status.ok)))
    (x, _, _), status, steps = iterate(step, first, status=lambda s: s[2], done=done, max_steps=max_steps)
    return x, (status, steps)

"""Descent of one loss with optax: the `fit` verb."""

from collections.abc import Callable
from typing import Any, ClassVar, Generic, TypeVar

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PyTree

from jaxkit.core import checks
from jaxkit.core.status import Outcome, Status
from jaxkit.core.struct import struct

P = TypeVar("P")


@struct
class Fit(Outcome, Generic[P]):
    """Fitted parameters and how they were reached.

    Attributes:
        params: Parameters after the last step (the last finite ones, if the loss stopped being finite).
        opt_state: State of the optimizer: pass it back to go on.
        history: Loss before each step, shape `(steps,)`.
        status: `Status` code; `not_finite` when a loss was not finite.
        steps: Steps that moved the parameters.
    """

    verb: ClassVar[str] = "fit"

    params: P
    opt_state: Any
    history: Float[Array, " steps"]
    status: Int[Array, ""]
    steps: Int[Array, ""]


def fit(
    loss: Callable[[P, Any], Array],
    params: P,
    args: PyTree = None,
    *,
    optimizer: optax.GradientTransformation | None = None,
    steps: int = 1000,
    opt_state: Any = None,
) -> Fit[P]:
    """Minimise `loss(params, args)` by a gradient method, all steps in one compiled program.

    Args:
        loss: Scalar loss.
        params: Where to start: a pytree of arrays.
        args: Data.
        optimizer: Any optax optimizer; `optax.adam(1e-3)` by default.
        steps: Number of steps.
        opt_state: To go on from an earlier fit; None starts afresh.

    Returns:
        A `Fit`; it vmaps over `params` and over keys in `args`.

    Example:
        >>> import jax.numpy as jnp, optax, jaxkit as jk
        >>> done = jk.fit(lambda p, _: jnp.sum((p - 3.0) ** 2), jnp.zeros(2), optimizer=optax.adam(0.1), steps=300)
        >>> [round(float(p), 3) for p in done.checked().params]
        [3.0, 3.0]
    """
    checks.require(steps > 0, "steps", "be positive", f"is {steps}")
    method = optax.adam(1e-3) if optimizer is None else optimizer
    start: Any = jax.tree.map(lambda v: checks.floating("params", v), params)
    # Some of optax's bias corrections mix integers and floats: allow it for them alone.
    with jax.numpy_dtype_promotion("standard"):
        opt_state = method.init(start) if opt_state is None else opt_state

    def step(carry: Any, _: None) -> tuple[Any, Array]:
        params, opt_state, alive, count = carry
        value, gradient = jax.value_and_grad(loss)(params, args)
        finite = jnp.isfinite(value) & jnp.all(jnp.stack([jnp.all(jnp.isfinite(g)) for g in jax.tree.leaves(gradient)]))
        alive = alive & finite
        with jax.numpy_dtype_promotion("standard"):
            updates, moved = method.update(gradient, opt_state, params)
        keep = lambda new, old: jnp.where(alive, new, old)
        params = jax.tree.map(keep, optax.apply_updates(params, updates), params)
        return (params, jax.tree.map(keep, moved, opt_state), alive, count + alive.astype(count.dtype)), value

    first = (start, opt_state, jnp.ones((), bool), jnp.asarray(0))
    (params, opt_state, alive, count), history = jax.lax.scan(step, first, None, length=steps)
    return Fit(params, opt_state, history, jnp.where(alive, int(Status.ok), int(Status.not_finite)), count)

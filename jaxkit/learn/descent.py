"""One step of descent: batches, gradients, the optimizer's move, the average, and the guard against non-numbers."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Int, PyTree

from jaxkit.core import checks
from jaxkit.core.status import Status
from jaxkit.core.struct import struct
from jaxkit.learn import scale

Logs = dict[str, Any]


@struct
class State:
    """What a training run carries from step to step.

    Attributes:
        params: What moves.
        ema: Averaged copy, or None.
        opt_state: The optimizer's (or optimizers') state.
        alive: False once a loss or a gradient was not finite: nothing moves any more.
        steps: Steps that moved the parameters.
    """

    params: Any
    ema: Any
    opt_state: Any
    alive: Bool[Array, ""]
    steps: Int[Array, ""]


# One step, not yet guarded: (state, index of the step, data) -> (state, what to log, whether all was finite).
Update = Callable[[State, Array, Any], tuple[State, Logs, Array]]


def begin(params: PyTree, ema: PyTree, opt_state: PyTree) -> State:
    """The state before the first step; every array a copy, so that the caller's are never donated."""
    params, ema, opt_state = jax.tree.map(_own, (params, ema, opt_state))
    return State(params, ema, opt_state, jnp.ones((), bool), jnp.zeros((), int))


def advance(update: Update, state: State, i: Int[Array, ""], data: PyTree) -> tuple[State, Logs]:
    """One step, undone unless everything in it was finite."""
    moved, logs, finite = update(state, i, data)
    alive = state.alive & finite
    keep = lambda new, old: jnp.where(alive, new, old)
    params, ema, opt_state = jax.tree.map(
        keep, (moved.params, moved.ema, moved.opt_state), (state.params, state.ema, state.opt_state)
    )
    return State(params, ema, opt_state, alive, state.steps + alive.astype(state.steps.dtype)), logs


def status(state: State) -> Int[Array, ""]:
    """`Status` code of a run."""
    return jnp.where(state.alive, int(Status.ok), int(Status.not_finite))


def source(batches: Any, parts: int = 1) -> tuple[PyTree, Callable[[PyTree, Array], PyTree]]:
    """Split `batches` into data, passed to the compiled program as arguments, and a rule: (data, j) -> j-th batch.

    Data that a function closes over would be compiled into the program as constants; a callable that is itself a
    pytree of arrays (as `minibatches` returns) is passed as one. Fixed arrays are cut along their first axis where
    gradients are accumulated over `parts`.
    """
    arrays = all(
        isinstance(leaf, jax.Array | np.ndarray | np.generic | float | int) for leaf in jax.tree.leaves(batches)
    )
    if callable(batches):
        return (batches, lambda data, j: data(j)) if arrays else (None, lambda _, j: batches(j))
    if parts > 1:
        for leaf in jax.tree.leaves(batches):
            length = jnp.shape(leaf)[0] if jnp.ndim(leaf) else 1
            checks.require(
                length % parts == 0, "batches", f"have first axes divisible by {parts}", f"has one of {length}"
            )
        cut = lambda v, j: jnp.reshape(v, (parts, v.shape[0] // parts, *v.shape[1:]))[j % parts]
        return batches, lambda data, j: jax.tree.map(lambda v: cut(v, j), data)
    return (batches, lambda data, _: data) if arrays else (None, lambda *_: batches)


def gradient(
    loss: Callable[[PyTree, PyTree, Any], Any],
    params: PyTree,
    batch_of: Callable[[Array], PyTree],
    key: Any,
    index: Int[Array, ""],
    accumulate: int,
) -> tuple[Array, Logs, PyTree, Array]:
    """Value, metrics and gradient of a loss, averaged over `accumulate` batches, and whether all are finite."""

    def call(params: PyTree, batch: PyTree, key: Any) -> tuple[Array, Logs]:
        value = loss(params, batch, key)
        value, metrics = value if isinstance(value, tuple) else (value, {})
        checks.require(jnp.shape(value) == (), "loss", "return a scalar", f"returns shape {jnp.shape(value)}")
        return value, dict(metrics)

    def one(part: Array | int) -> tuple[tuple[Array, Logs], PyTree]:
        batch = scale.spread(batch_of(index * accumulate + part))
        inner = key if key is None or accumulate == 1 else jax.random.fold_in(key, part)
        return jax.value_and_grad(call, has_aux=True)(params, batch, inner)

    if accumulate == 1:
        (value, metrics), slope = one(0)
    else:
        zeros = jax.tree.map(lambda v: jnp.zeros(v.shape, v.dtype), jax.eval_shape(one, 0))
        add = lambda total, part: (jax.tree.map(jnp.add, total, one(part)), None)
        total, _ = jax.lax.scan(add, zeros, jnp.arange(accumulate))
        (value, metrics), slope = jax.tree.map(lambda v: v / jnp.asarray(accumulate, v.dtype), total)
    finite = [jnp.all(jnp.isfinite(v)) for v in jax.tree.leaves((value, slope))]
    return value, metrics, slope, jnp.all(jnp.stack(finite))


def descend(
    method: optax.GradientTransformation, slope: PyTree, opt_state: PyTree, params: PyTree
) -> tuple[PyTree, PyTree]:
    """New parameters and optimizer state."""
    # Some of optax's bias corrections mix integers and floats: allow it for them alone.
    with jax.numpy_dtype_promotion("standard"):
        updates, opt_state = method.update(slope, opt_state, params)
        return optax.apply_updates(params, updates), opt_state


def average(ema: PyTree, params: PyTree, decay: float) -> PyTree:
    """Exponential moving average of the parameters."""
    return jax.tree.map(lambda old, new: decay * old + (1 - decay) * new, ema, params)


def trainable(name: str, params: PyTree) -> PyTree:
    """Parameters as floating arrays of a definite dtype."""
    definite = lambda v: jnp.asarray(v, v.dtype)  # a Python number's dtype is weak, and would change in the first step
    return jax.tree.map(lambda v: definite(checks.floating(name, v)), params)


def described(params: PyTree, key: Any) -> dict[str, Any]:
    """What a run log says of the parameters and the key."""
    size = sum(leaf.size for leaf in jax.tree.leaves(params))
    seed = None if key is None or checks.is_traced(key) else np.asarray(_bits(key)).ravel().tolist()
    return {"parameters": size, "key": seed}


def _bits(key: Any) -> Any:
    return jax.random.key_data(key) if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else key


def _own(leaf: Any) -> Array:
    """A copy of its own, of a definite dtype."""
    array = jnp.asarray(leaf)
    if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(jnp.array(jax.random.key_data(array)), impl=jax.random.key_impl(array))
    return jnp.array(array, array.dtype, copy=True)

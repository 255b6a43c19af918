"""One step of descent: batches, gradients, the optimizer's move, the average, and the guard against non-numbers."""

from collections.abc import Callable
from typing import Any, Protocol

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
# Of an average: a number, or a function of the step's index.
Decay = float | Callable[[Array], Any]


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


class Update(Protocol):
    """One step; a state that is not alive stays as it is. `careful` looks at gradients too, not at losses alone."""

    def __call__(self, state: State, i: Array, data: Any, *, careful: bool) -> tuple[State, Logs]:
        """The next state, and what to log."""
        ...


def begin(params: PyTree, ema: PyTree, opt_state: PyTree) -> State:
    """The state before the first step, every array of a definite dtype."""
    params, ema, opt_state = jax.tree.map(_definite, (params, ema, opt_state))
    return State(params, ema, opt_state, jnp.ones((), bool), jnp.zeros((), int))


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
) -> tuple[Logs, PyTree]:
    """What to log (the value as `loss`, and the metrics) and the gradient, averaged over `accumulate` batches."""

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
    return {"loss": value, **metrics}, slope


def finite(loss: Array, slope: PyTree, *, careful: bool) -> Bool[Array, ""]:
    """Whether the loss, and with `careful` its gradient too, are finite."""
    looked_at = [loss, *(jax.tree.leaves(slope) if careful else ())]
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(v)) for v in looked_at]))


def descend(
    method: optax.GradientTransformation, slope: PyTree, opt_state: PyTree, params: PyTree, alive: Array
) -> tuple[PyTree, PyTree]:
    """New parameters and optimizer state; the old ones unless `alive`."""

    def move(slope: PyTree, opt_state: PyTree, params: PyTree) -> tuple[PyTree, PyTree]:
        # Some of optax's bias corrections mix integers and floats: allow it for them alone.
        with jax.numpy_dtype_promotion("standard"):
            updates, moved = method.update(slope, opt_state, params)
            new = optax.apply_updates(params, updates)
        same = lambda new, old: new if _is_key(new) else jnp.asarray(new, old.dtype)
        return jax.tree.map(same, (new, moved), (params, opt_state))

    # A branch: selecting old or new values entry by entry (which it is under vmap) costs up to a fifth of a step.
    return jax.lax.cond(alive, move, lambda _, opt_state, params: (params, opt_state), slope, opt_state, params)


def average(ema: PyTree, params: PyTree, decay: Decay, i: Array, alive: Array) -> PyTree:
    """Exponential moving average of the parameters after step i; the old one unless `alive`."""
    share = decay(i) if callable(decay) else decay

    def move(ema: PyTree, params: PyTree) -> PyTree:
        one = lambda old, new: jnp.asarray(share, old.dtype) * old + jnp.asarray(1 - share, old.dtype) * new
        return jax.tree.map(one, ema, params)

    return jax.lax.cond(alive, move, lambda ema, _: ema, ema, params)


def check_decay(name: str, decay: Any) -> None:
    """Raise `ValueError` unless it is None, a schedule, or a number in [0, 1)."""
    fits = decay is None or callable(decay) or 0 <= decay < 1
    checks.require(fits, name, "lie in [0, 1), or be a function of the step", f"is {decay}")


def trainable(name: str, params: PyTree) -> PyTree:
    """Parameters as floating arrays of a definite dtype."""
    return jax.tree.map(lambda v: _definite(checks.floating(name, v)), params)


def described(params: PyTree, key: Any) -> dict[str, Any]:
    """What a run log says of the parameters and the key."""
    size = sum(leaf.size for leaf in jax.tree.leaves(params))
    bits = None if key is None else _bits(key)  # of a known key, too, not known inside a trace
    seed = None if bits is None or checks.is_traced(bits) else np.asarray(bits).ravel().tolist()
    return {"parameters": size, "key": seed}


def _is_key(value: Any) -> bool:
    return jnp.issubdtype(value.dtype, jax.dtypes.prng_key)


def _bits(key: Any) -> Any:
    return jax.random.key_data(key) if _is_key(key) else key


def _definite(leaf: Any) -> Array:
    """An array whose dtype is not weak, as a Python number's is: it would change in the first step."""
    array = jnp.asarray(leaf)
    return array if _is_key(array) else jnp.asarray(array, array.dtype)

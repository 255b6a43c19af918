"""One step of descent: batches, gradients, the optimizer's move, the average, and the guard against non-numbers."""

from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Int, PyTree

from jaxkit.core import checks
from jaxkit.core.jax_internals import inside_a_trace
from jaxkit.core.numerics import all_finite
from jaxkit.core.status import Status
from jaxkit.core.struct import struct
from jaxkit.learn import feed, scale

Logs = dict[str, Any]
# Decay of an average: a number, or a function of the step's index.
Decay = float | Callable[[Array], Any]


@struct
class TrainState:
    """What a training run carries from step to step, and what callbacks see.

    Attributes:
        params: What moves: the parameters of `fit`, the players of `play`.
        ema: Averaged copies, in at least single precision: None; or a pytree for `fit`; or, for `play`, a dictionary of
            the players that have one.
        carry: State that is not a parameter.
        opt_state: The state of the optimizer (or optimizers).
        alive: False once a loss or a gradient was not finite: nothing moves any more.
        steps: Steps that moved the parameters.
    """

    params: Any
    ema: Any
    carry: Any
    opt_state: Any
    alive: Bool[Array, ""]
    steps: Int[Array, ""]

    @property
    def averaged(self) -> Any:
        """The parameters, averaged where an average is kept."""
        if isinstance(self.params, dict) and isinstance(self.ema, dict):
            return self.params | self.ema
        return self.params if self.ema is None else self.ema


class Update(Protocol):
    """A training step, number `state.steps`; a state that is not alive stays as it is.

    With `careful`, the gradients are checked too, not only the losses.
    """

    def __call__(self, state: TrainState, data: Any, key: Any, *, careful: bool) -> tuple[TrainState, Logs]:
        """The next state, and what to log."""
        ...


def begin(params: PyTree, ema: PyTree, carry: PyTree, opt_state: PyTree, steps: Any = 0) -> TrainState:
    """The state before the first step, or after `steps` of an earlier run; every array has a definite dtype."""
    params, ema, carry, opt_state = jax.tree.map(_definite, (params, ema, carry, opt_state))
    return TrainState(params, jax.tree.map(wide, ema), carry, opt_state, jnp.ones((), bool), jnp.asarray(steps, int))


def wide(value: Array) -> Array:
    """In at least single precision: in less, the steps of an average round to nothing, and it would stand still."""
    return value.astype(jnp.float32) if jnp.finfo(value.dtype).bits < 32 else value


def status(state: TrainState, data: PyTree) -> Int[Array, ""]:
    """`Status` code of a run that was fed with `data`."""
    end = Status.out_of_batches if isinstance(data, feed.Feed) and data.ended else Status.ok
    return jnp.where(state.alive, int(end), int(Status.not_finite))


def source(batches: Any, parts: int = 1, draws: int = 1) -> tuple[PyTree, Callable[[PyTree, Array], PyTree]]:
    """Split `batches` into data, which the compiled program takes as arguments, and a rule (data, j) -> j-th batch.

    Batches that the host makes become a `Feed`, whose pieces are the data of one chunk each; a step takes `draws` times
    `parts` of them.

    Data that a function closes over would be compiled into the program as constants; a callable that is itself a
    pytree of arrays (such as `minibatches` returns) is passed as data. Fixed arrays are cut along their first axis if
    gradients are accumulated over `parts`.
    """
    host = feed.host_batches(batches)
    if host is not None:
        inside = inside_a_trace()
        checks.require(not inside, "batches", "be arrays or a function of the step inside a trace", "are the host's")
        return feed.Feed(host, parts * draws), feed.nth
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
    loss: Callable[..., Any],
    params: PyTree,
    batch_of: Callable[[Array], PyTree],
    key: Any,
    carry: PyTree,
    index: Int[Array, ""],
    accumulate: int,
) -> tuple[Logs, PyTree, PyTree]:
    """One gradient, averaged over `accumulate` batches, each with its own key; the carry goes through them all.

    Returns:
        What to log (the value as `loss`, and the metrics), the gradient, and the new carry.
    """

    def call(params: PyTree, batch: PyTree, key: Any, carry: PyTree) -> tuple[Array, tuple[Logs, PyTree]]:
        value, metrics, new = _told(loss(params, batch, key, carry), carry)
        return value, ({"loss": value, **metrics}, new)

    def one(carry: PyTree, part: Array | int) -> tuple[PyTree, tuple[Logs, PyTree]]:
        batch, inner = _drawn(batch_of, key, index, accumulate, part)
        (_, (logs, carry)), slope = jax.value_and_grad(call, has_aux=True)(params, batch, inner, carry)
        return carry, (logs, slope)

    if accumulate == 1:
        carry, (logs, slope) = one(carry, 0)
        return logs, slope, carry

    def add(so_far: tuple[PyTree, PyTree], part: Array) -> tuple[tuple[PyTree, PyTree], None]:
        carry, new = one(so_far[0], part)
        return (carry, jax.tree.map(jnp.add, so_far[1], new)), None

    zeros = jax.tree.map(lambda v: jnp.zeros(v.shape, v.dtype), jax.eval_shape(one, carry, 0)[1])
    (carry, total), _ = jax.lax.scan(add, (carry, zeros), jnp.arange(accumulate))
    logs, slope = jax.tree.map(lambda v: v / jnp.asarray(accumulate, v.dtype), total)
    return logs, slope, carry


def value_of(
    loss: Callable[..., Any],
    batch_of: Callable[[Array], PyTree],
    key: Any,
    carry: PyTree,
    index: Int[Array, ""],
    accumulate: int,
) -> Callable[[PyTree], Array]:
    """What `gradient` differentiates, as a function of the parameters: the mean loss over the batches of a step."""

    def value(params: PyTree, **_: Any) -> Array:
        def one(carry: PyTree, part: Array | int) -> tuple[PyTree, Array]:
            batch, inner = _drawn(batch_of, key, index, accumulate, part)
            value, _, carry = _told(loss(params, batch, inner, carry), carry)
            return carry, value

        if accumulate == 1:
            return one(carry, 0)[1]
        return jnp.mean(jax.lax.scan(one, carry, jnp.arange(accumulate))[1])

    return value


def _drawn(batch_of: Callable[[Array], PyTree], key: Any, index: Array, accumulate: int, part: Any) -> tuple[Any, Any]:
    """One of the batches of a step, and its key."""
    batch = scale.shard_batch(batch_of(index * accumulate + part))
    return batch, key if key is None or accumulate == 1 else jax.random.fold_in(key, part)


def _told(value: Any, carry: PyTree) -> tuple[Array, Logs, PyTree]:
    """What a loss returned, as value, metrics and carry; a carry that it does not return stays as it is."""
    value, metrics, *rest = value if isinstance(value, tuple) else (value, {})
    checks.require(jnp.shape(value) == (), "loss", "return a scalar", f"returns shape {jnp.shape(value)}")
    checks.require(len(rest) < 2, "loss", "return a value, metrics and a carry", f"returns {2 + len(rest)} things")
    if not rest:
        return value, dict(metrics), carry
    new = jax.tree.map(_definite, rest[0])
    forms = [
        (jax.tree.structure(v), [f"{leaf.dtype}{leaf.shape}" for leaf in jax.tree.leaves(v)]) for v in (new, carry)
    ]
    same = forms[0] == forms[1]
    checks.require(same, "loss", f"return a carry like the one it is given, {forms[1]}", f"returns {forms[0]}")
    return value, dict(metrics), new


def finite(loss: Array, slope: PyTree, *, careful: bool) -> Bool[Array, ""]:
    """Whether the loss is finite and, with `careful`, its gradient too."""
    return all_finite((loss, slope if careful else None))


def descend(
    method: optax.GradientTransformation,
    slope: PyTree,
    opt_state: PyTree,
    params: PyTree,
    alive: Array,
    value: Array,
    value_fn: Callable[[PyTree], Array],
) -> tuple[PyTree, PyTree]:
    """New parameters and optimizer state; the old ones unless `alive`.

    Optimizers that ask for them get the loss as `value`, its gradient as `grad`, and the loss of this step as a
    function of the parameters as `value_fn`. An infinite gradient makes the parameters NaN, whatever the optimizer
    makes of it (one that takes signs or clips would hide it), so the parameters alone show whether all gradients of a
    chunk were finite.
    """
    rule = optax.with_extra_args_support(method)

    def move(slope: PyTree, opt_state: PyTree, params: PyTree) -> tuple[PyTree, PyTree]:
        # Some of optax's bias corrections mix integers and floats: allow it for them alone.
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            updates, moved = rule.update(slope, opt_state, params, value=value, grad=slope, value_fn=value_fn)
            new = optax.apply_updates(params, updates)
        new = jax.tree.map(lambda v, g: v + 0 * g.astype(v.dtype), new, slope)
        same = lambda new, old: new if _is_key(new) else jnp.asarray(new, old.dtype)
        return jax.tree.map(same, (new, moved), (params, opt_state))

    # A branch is cheaper than selecting old or new values entry by entry (which it becomes under vmap).
    return jax.lax.cond(alive, move, lambda _, opt_state, params: (params, opt_state), slope, opt_state, params)


def kept(alive: Array, new: PyTree, old: PyTree) -> PyTree:
    """The new carry; the old one unless `alive`."""
    return jax.lax.cond(alive, lambda new, _: new, lambda _, old: old, new, old) if jax.tree.leaves(old) else old


def average(ema: PyTree, params: PyTree, decay: Decay, i: Array, alive: Array) -> PyTree:
    """Exponential moving average of the parameters after step i; the old one unless `alive`."""
    share = decay(i) if callable(decay) else decay

    def move(ema: PyTree, params: PyTree) -> PyTree:
        one = lambda old, new: (
            jnp.asarray(share, old.dtype) * old + jnp.asarray(1 - share, old.dtype) * new.astype(old.dtype)
        )
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
    """What a run log says about the parameters and the key."""
    size = sum(leaf.size for leaf in jax.tree.leaves(params))
    bits = None if key is None else _bits(key)  # inside a trace, the bits of a known key are unknown too
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

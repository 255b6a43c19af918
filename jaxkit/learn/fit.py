"""Descent of one loss with optax: the `fit` verb."""

from collections.abc import Callable
from typing import Any, ClassVar, Generic, TypeVar

import jax
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from jaxkit.core import checks
from jaxkit.core.run import Run
from jaxkit.core.status import Outcome
from jaxkit.core.struct import struct
from jaxkit.learn import chunks, descent
from jaxkit.learn.descent import Decay, TrainState

P = TypeVar("P")


@struct
class Fit(Outcome, Generic[P]):
    """Fitted parameters and how they were reached.

    Attributes:
        params: Parameters after the last step (the last finite ones, if the loss stopped being finite).
        ema: Their exponential moving average, or None; in single precision where the parameters have less.
        carry: What the loss returned as its carry in the last step that did not fail, or None.
        opt_state: State of the optimizer.
        history: Loss before each step, shape `(steps,)`; NaN after a step that failed.
        metrics: The scalars that the loss returned for recording, each with a leading axis `steps`.
        status: `Status` code; `not_finite` if a loss or gradient was not finite, `out_of_batches` if an iterator of
            batches ended before the steps did.
        steps: Number of steps that moved the parameters, including those of the fit that this one continued.
    """

    verb: ClassVar[str] = "fit"

    params: P
    ema: Any
    carry: Any
    opt_state: Any
    history: Float[Array, " steps"]
    metrics: dict[str, Array]
    status: Int[Array, ""]
    steps: Int[Array, ""]


def fit(
    loss: Callable[..., Any],
    params: P | Fit[P],
    batches: Any = None,
    *,
    optimizer: optax.GradientTransformation | None = None,
    steps: int = 1000,
    key: PRNGKeyArray | None = None,
    carry: Any = None,
    ema: Decay | None = None,
    accumulate: int = 1,
    run: Run | None = None,
) -> Fit[P]:
    """Minimise a loss by a gradient method.

    The steps run in chunks of one compiled program; between chunks the host shows, logs and saves. Inside a trace
    (`vmap` over seeds, `jit`) all steps are one pure program, and `run` may not ask anything of the host.

    Args:
        loss: `loss(params, batch)`; with a `key`, `loss(params, batch, key)`; with a `carry`,
            `loss(params, batch, key, carry)` (where the key is None if none is given). It returns a scalar; or a scalar
            and a dictionary of scalars to record; or these two and the next carry.
        params: Where to start: a pytree of arrays; or an earlier `Fit`, which is continued with its parameters,
            average, carry and optimizer state, and with the batches, noise and schedules that follow its steps.
        batches: A pytree of arrays (the same data every step), or a callable `batches(i)` traced inside the loop, such
            as `jk.learn.minibatches` returns; step i sees `batches(i)`; or an iterable of batches that the host makes
            (a generator, a grain or torch loader, `jk.learn.host_minibatches` of a file on disk), which a thread reads
            ahead: see `jk.learn.HostBatches`.
        optimizer: Any optax optimizer; `optax.adam(1e-3)` by default. One that asks for `value`, `grad` or `value_fn`
            (`optax.lbfgs()`, `reduce_on_plateau`) gets those of the step's batch.
        steps: Number of steps.
        key: Key of the loss's own noise; step i gets `fold_in(key, i)`.
        carry: State that is not a parameter (a replay buffer, a moving mean): a pytree of arrays, handed from step to
            step through the loss. No gradient flows through it, checkpoints hold it, a failed step keeps the old one.
        ema: Decay of an averaged copy of the parameters, such as 0.999, or a function of the step's index.
        accumulate: Batches per step over which the gradient is averaged (`batches(i * accumulate + j)`; fixed arrays
            are cut along their first axis). The j-th part gets the key `fold_in(fold_in(key, i), j)`, and the carry
            of the part before it.
        run: What the host does meanwhile: see `jaxkit.Run`. Callbacks get the number of steps done and a
            `jk.learn.TrainState`; after one that ends the run, the rest of `history` is NaN.

    Returns:
        A `Fit`. A failed run does not raise: call `.checked()`, or look at `.status`.

    Raises:
        ValueError: An argument is unusable.

    Example:
        >>> import jax.numpy as jnp, optax, jaxkit as jk
        >>> done = jk.fit(lambda p, _: jnp.sum((p - 3.0) ** 2), jnp.zeros(2), optimizer=optax.adam(0.1), steps=300)
        >>> [round(float(p), 3) for p in done.checked().params]
        [3.0, 3.0]
    """
    checks.require(accumulate > 0, "accumulate", "be positive", f"is {accumulate}")
    descent.check_decay("ema", ema)
    method = optax.adam(1e-3) if optimizer is None else optimizer
    before = params if isinstance(params, Fit) else None
    start: Any = descent.trainable("params", params if before is None else before.params)
    with jax.numpy_dtype_promotion("standard"):
        opt_state = method.init(start) if before is None else before.opt_state
    carry = before.carry if before is not None and carry is None else carry
    data, batch_of = descent.source(batches, accumulate)
    given = 4 if carry is not None else 3 if key is not None else 2
    of_four = lambda *arguments: loss(*arguments[:given])

    def update(state: TrainState, data: Any, key: Any, *, careful: bool) -> tuple[TrainState, descent.Logs]:
        i = state.steps  # of all runs that led here; a state that is not alive does not move, whatever the batch
        inner = None if key is None else jax.random.fold_in(key, i)
        at = lambda j: batch_of(data, j)
        logs, slope, carry = descent.gradient(of_four, state.params, at, inner, state.carry, i, accumulate)
        alive = state.alive & descent.finite(logs["loss"], slope, careful=careful)
        value_fn = descent.value_of(of_four, at, inner, state.carry, i, accumulate)
        new, moved = descent.descend(method, slope, state.opt_state, state.params, alive, logs["loss"], value_fn)
        averaged = None if ema is None else descent.average(state.ema, new, ema, i, alive)
        carry = descent.kept(alive, carry, state.carry)
        return TrainState(new, averaged, carry, moved, alive, state.steps + alive.astype(state.steps.dtype)), logs

    about = {"verb": "fit", "ema": ema, "accumulate": accumulate, **descent.described(start, key)}
    average = start if before is None or before.ema is None else before.ema
    done = 0 if before is None else before.steps
    first = descent.begin(start, None if ema is None else average, carry, opt_state, done)
    end, logs = chunks.loop(update, first, data, key, steps, run, about)
    history = logs.pop("loss")
    return Fit(end.params, end.ema, end.carry, end.opt_state, history, logs, descent.status(end, data), end.steps)

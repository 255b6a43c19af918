"""Descent of one loss with optax: the `fit` verb."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import jax
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from jaxkit.core import checks
from jaxkit.core.status import Outcome
from jaxkit.core.struct import struct
from jaxkit.learn import descent, train
from jaxkit.learn.descent import Decay, State
from jaxkit.learn.runlog import RunLog

P = TypeVar("P")


@struct
class Fit(Outcome, Generic[P]):
    """Fitted parameters and how they were reached.

    Attributes:
        params: Parameters after the last step (the last finite ones, if the loss stopped being finite).
        ema: Their exponential moving average, or None.
        opt_state: State of the optimizer: pass it back to go on.
        history: Loss before each step, shape `(steps,)`; not a number after a step that failed.
        metrics: What else the loss returned, each with a leading axis `steps`.
        status: `Status` code; `not_finite` when a loss or gradient was not finite.
        steps: Steps that moved the parameters.
    """

    verb: ClassVar[str] = "fit"

    params: P
    ema: Any
    opt_state: Any
    history: Float[Array, " steps"]
    metrics: dict[str, Array]
    status: Int[Array, ""]
    steps: Int[Array, ""]


def fit(
    loss: Callable[..., Any],
    params: P,
    batches: Any = None,
    *,
    optimizer: optax.GradientTransformation | None = None,
    steps: int = 1000,
    key: PRNGKeyArray | None = None,
    chunk: int = 200,
    ema: Decay | None = None,
    accumulate: int = 1,
    opt_state: Any = None,
    devices: Sequence[Any] | None = None,
    progress: bool = False,
    log: str | Path | RunLog | None = None,
    checkpoint: str | Path | None = None,
    keep: int = 2,
    resume: bool = False,
    watch: Callable[[int, State], Any] | None = None,
) -> Fit[P]:
    """Minimise a loss by a gradient method.

    The steps run in chunks of one compiled program; between chunks the host shows, logs and saves. Inside a trace
    (`vmap` over seeds, `jit`) all steps are one pure program.

    Args:
        loss: `loss(params, batch)`, or with a `key` `loss(params, batch, key)`: a scalar, or a scalar and a dictionary
            of scalars to record.
        params: Where to start: a pytree of arrays.
        batches: A pytree of arrays (the same data every step), or a callable `batches(i)` traced inside the loop, such
            as `minibatches` returns; step i sees `batches(i)`.
        optimizer: Any optax optimizer; `optax.adam(1e-3)` by default.
        steps: Number of steps.
        key: Key of the loss's own noise; step i gets `fold_in(key, i)`.
        chunk: Steps a dispatch.
        ema: Decay of an averaged copy of the parameters, such as 0.999, or a function of the step's index.
        accumulate: Average the gradient over so many batches a step (`batches(i * accumulate + j)`; fixed arrays are
            cut along their first axis).
        opt_state: To go on from an earlier fit; None starts afresh.
        devices: Cut every batch over these devices.
        progress: Show a bar, where the output is a terminal.
        log: Folder for `run.json` and `metrics.jsonl`, or a `runlog.RunLog`.
        checkpoint: Folder for checkpoints, one a chunk.
        keep: Checkpoints that are kept.
        resume: Go on from the newest good checkpoint in that folder, if there is one.
        watch: Called between chunks with the steps done and the state (`params`, `ema`, `opt_state`): to validate, or
            keep the best. If it returns something true, the run ends, and the rest of `history` is not a number.

    Returns:
        A `Fit`. It does not raise: call `.checked()`, or look at `.status`.

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
    start: Any = descent.trainable("params", params)
    with jax.numpy_dtype_promotion("standard"):
        opt_state = method.init(start) if opt_state is None else opt_state
    data, batch_of = descent.source(batches, accumulate)
    keyed = loss if key is not None else lambda params, batch, _: loss(params, batch)

    def update(state: State, i: Array, data: Any, *, careful: bool) -> tuple[State, descent.Logs]:
        inner = None if key is None else jax.random.fold_in(key, i)
        logs, slope = descent.gradient(keyed, state.params, lambda j: batch_of(data, j), inner, i, accumulate)
        alive = state.alive & descent.finite(logs["loss"], slope, careful=careful)
        new, moved = descent.descend(method, slope, state.opt_state, state.params, alive)
        averaged = None if ema is None else descent.average(state.ema, new, ema, i, alive)
        return State(new, averaged, moved, alive, state.steps + alive.astype(state.steps.dtype)), logs

    config = {"ema": ema, "accumulate": accumulate, **descent.described(start, key)}
    host = train.Host("fit", chunk, progress, log, checkpoint, keep, resume, devices, watch, config)
    state, logs = train.run(
        update, descent.begin(start, start if ema is not None else None, opt_state), data, steps, host
    )
    history = logs.pop("loss")
    return Fit(state.params, state.ema, state.opt_state, history, logs, descent.status(state), state.steps)

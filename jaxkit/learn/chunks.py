"""The trainer under `fit` and `play`: chunks of one compiled loop; the host works between them, never inside."""

import contextlib
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from jaxkit.compile import jit_cache
from jaxkit.core import checks
from jaxkit.core.jax_internals import inside_a_trace
from jaxkit.core.numerics import all_finite
from jaxkit.core.run import Run
from jaxkit.learn import checkpoint, identity, runlog, scale
from jaxkit.learn.callbacks import Stateful
from jaxkit.learn.descent import Logs, TrainState, Update
from jaxkit.learn.feed import Feed
from jaxkit.learn.progress import bar

TERMINATED = 128 + signal.SIGTERM  # what a shell reports for a process that SIGTERM ended


def loop(
    update: Update, state: TrainState, data: PyTree, key: Any, steps: int, run: Run | None, about: Mapping[str, Any]
) -> tuple[TrainState, Logs]:
    """Take `steps` steps: inside a trace as one scan, otherwise in chunks.

    Args:
        update: One step.
        state: Where to start.
        data: Passed to `update`; of a `Feed`, the piece of each chunk.
        key: Also passed to `update`: the key of its noise, or None.
        steps: Number of steps.
        run: What the host does.
        about: What the log says about the run; its `"verb"` is shown.

    Returns:
        The last state, and what was logged with a leading axis `steps`.
    """
    checks.require(steps > 0, "steps", "be positive", f"is {steps}")
    run = Run() if run is None else run
    checks.require(isinstance(run, Run), "run", "be a `jaxkit.Run`", f"is {run!r}")
    if inside_a_trace():
        asked = ", ".join(run.asked())
        checks.require(not asked, "run", "ask nothing of the host inside a trace", f"asks for {asked}")
        return jax.lax.scan(lambda s, _: update(s, data, key, careful=True), state, None, steps)
    return _chunked(update, state, data, key, steps, run, about)


def _chunked(
    update: Update, state: TrainState, data: PyTree, key: Any, steps: int, run: Run, about: Mapping[str, Any]
) -> tuple[TrainState, Logs]:
    """Chunks of one compiled loop; a run whose loss is not finite ends early, and one whose batches come to an end."""
    layout = scale.layout(run.devices)
    feed = data if isinstance(data, Feed) else None
    example = data if feed is None else feed.example
    size = min(run.chunk, steps) if feed is None else feed.chunk(min(run.chunk, steps))
    shapes = _logged(update, layout, *jax.tree.map(_shape, (state, example, key)))
    history = jax.tree.map(lambda v: _unset((steps, *v.shape), v.dtype), shapes)
    begun = int(state.steps)  # steps of an earlier run; those of this one are counted from here
    own = identity.of_run(lambda s, d: update(s, d, key, careful=False), state, example) if run.checkpoint else {}
    state, start = _resumed(state, history, run, steps, own, feed)
    state = layout.place(state)
    with contextlib.ExitStack() as stack:
        terminated = stack.enter_context(_termination()) if run.checkpoint else list[bool]()
        show = _shown(stack, run, about, steps, start)
        piece_of = stack.enter_context(_pieces(data, layout, (begun, start, steps, size)))
        while start < steps:
            piece, given = piece_of(start)
            stop = min(start + size, steps) if piece is None else start + piece.steps
            if stop == start:  # an iterator of batches has ended between two chunks
                break
            clock, cpu = time.perf_counter(), time.process_time()
            state, rows = _moved(update, shapes, size, layout, (state, given, key, start, stop))
            scale.pulse()
            alive = bool(state.alive)
            done = stop if alive else min(stop, int(state.steps) - begun + 1)
            rows = jax.tree.map(lambda v, length=done - start: v[:length], rows)
            jax.tree.map(
                lambda whole, part, start=start: whole.__setitem__(slice(start, start + len(part)), part), history, rows
            )
            for each in show:
                each(done, rows, (done - start) / (time.perf_counter() - clock), time.process_time() - cpu)
            if not alive:
                break
            start = stop
            ends = [bool(each(stop, state)) for each in run.callbacks]  # before the checkpoint, which holds their state
            if run.checkpoint and jax.process_index() == 0:
                so_far = jax.tree.map(lambda v, stop=stop: v[:stop], history)
                tree = {"state": state, "history": so_far, "callbacks": _states(run, state)}
                meta = {"run": own} | ({} if piece is None else {"source": piece.state})
                checkpoint.store(run.checkpoint, stop, tree, keep=run.keep, meta=meta)
            if run.checkpoint and _anywhere(bool(terminated)) and start < steps:
                raise SystemExit(TERMINATED)
            if (piece is not None and piece.last) or (ends and _anywhere(any(ends))):
                break
    return state, jax.tree.map(jnp.asarray, history)


@contextlib.contextmanager
def _pieces(data: PyTree, layout: scale.Layout, where: tuple[int, ...]) -> Iterator[Callable[[int], tuple[Any, Any]]]:
    """A function (step) -> (piece of a feed or None, what `update` gets in the chunk that begins there)."""
    begun, start, steps, size = where
    if not isinstance(data, Feed):
        # Batches are sharded; a data set from which rows are drawn is replicated, or every draw would be communicated.
        # NumPy arrays go to the device now, not once per chunk.
        placed = layout.place(jax.tree.map(jnp.asarray, data), spread=None if callable(data) else 0)
        yield lambda _: (None, placed)
        return
    with data.pieces(start, steps, size) as take:

        def piece_of(at: int) -> tuple[Any, Any]:
            piece = take()
            data.ended = piece.last
            rows = layout.place(jax.tree.map(jnp.asarray, piece.rows), spread=1)
            return piece, {"first": jnp.asarray((begun + at) * data.per_step), "rows": rows}

        yield piece_of


def _moved(update: Update, shapes: Logs, size: int, layout: scale.Layout, given: Any) -> tuple[TrainState, Logs]:
    """The state after a chunk, and the logs of its steps on the host.

    The length of the loop is an argument: one program serves all chunks, including the last, so a run gives the same
    bits however it is cut or resumed. Checking every gradient would slow each step, so only the losses are checked,
    and after the chunk the parameters; if these are not finite, the chunk runs again, carefully, from where it began.
    (That is why the state is not donated: it is copied once per chunk, and two states are held.)
    """
    again = lambda careful: jit_cache.run_kept(
        _chunk, (update, shapes, size, layout, careful), given, out_shardings=layout.whole
    )
    moved, rows, whole = again(False)  # noqa: FBT003
    if not whole:
        moved, rows, _ = again(True)  # noqa: FBT003
    return moved, jax.device_get(rows)


def _chunk(
    update: Update, shapes: Logs, size: int, layout: scale.Layout, careful: bool,  # noqa: FBT001
    state: TrainState, data: PyTree, key: Any, start: Array, stop: Array,
) -> tuple[TrainState, Logs, Array]:  # fmt: skip
    """The program of a chunk: steps from `start` to before `stop`."""

    def body(carry: Any) -> Any:
        i, state, logs = carry
        state, new = update(state, data, key, careful=careful)
        return i + 1, state, jax.tree.map(lambda rows, v: rows.at[i - start].set(v), logs, new)

    with layout.spreading():
        rows = jax.tree.map(lambda v: jnp.zeros((size, *v.shape), v.dtype), shapes)
        going = lambda carry: (carry[0] < stop) & carry[1].alive
        _, state, rows = jax.lax.while_loop(going, body, (jnp.asarray(start, int), state, rows))
        return state, rows, all_finite(state.params)


@jit_cache.kept
def _logged(update: Update, layout: scale.Layout, state: Any, data: Any, key: Any) -> Logs:
    """The shapes of what a step logs."""
    with layout.spreading():
        return jax.eval_shape(lambda *given: update(*given, careful=False)[1], state, data, key)


def _shape(value: Any) -> jax.ShapeDtypeStruct:
    value = value if hasattr(value, "dtype") else jnp.asarray(value)
    return jax.ShapeDtypeStruct(value.shape, value.dtype, weak_type=getattr(value, "weak_type", False))


def _resumed(
    state: TrainState, history: Logs, run: Run, steps: int, own: Mapping[str, str], feed: Feed | None
) -> tuple[TrainState, int]:
    """The state to start from, and its step; what was logged before is put into `history`.

    A new run refuses the folder of another run, whose later checkpoints would be taken for its own; and a run continues
    only from its own checkpoints (`own` identifies them, see `identity`).
    """
    if run.checkpoint is None:
        return state, 0
    if not run.resume:
        used = [path.name for path in checkpoint.steps(run.checkpoint)]
        but = f"{run.checkpoint} holds {used[0] if used else ''}: go on with `resume=True`, or name another folder"
        checks.require(not used, "checkpoint", "be a folder without checkpoints for a new run", but)
        return state, 0
    rows = lambda meta: jax.tree.map(lambda v: _like(v, meta["step"]), history)
    like = lambda meta: {"state": state, "history": rows(meta), "callbacks": _states(run, state)}
    found, meta, refused = checkpoint.newest(run.checkpoint, like)
    for sentence in refused:
        print(sentence, "The one before it is used." if found else "", file=sys.stderr)  # noqa: T201
    if found is None:
        return state, 0
    other = identity.difference(meta.get("run"), dict(own))
    if other is not None:
        where, step = run.checkpoint, meta["step"]
        raise checkpoint.CheckpointError(
            f"Checkpoints in {where} are another run's: that of step {step} has {other}; name another folder."
        )
    checks.require(meta["step"] <= steps, "steps", f"be at least the checkpoint's {meta['step']}", f"is {steps}")
    jax.tree.map(lambda whole, part: whole.__setitem__(slice(len(part)), part), history, found["history"])
    for name, tree in found["callbacks"].items():
        run.callbacks[int(name)].restore(tree)  # pyright: ignore[reportFunctionMemberAccess]
    if feed is not None:
        feed.skip(meta["step"], meta.get("source"))
    return found["state"], meta["step"]


def _states(run: Run, state: TrainState) -> dict[str, PyTree]:
    """What the stateful callbacks remember (see `callbacks.Stateful`)."""
    return {str(i): each.state(state) for i, each in enumerate(run.callbacks) if isinstance(each, Stateful)}


def _shown(stack: contextlib.ExitStack, run: Run, about: Mapping[str, Any], steps: int, start: int) -> list[Any]:
    """Functions of (steps done, logs of the chunk, steps per second, CPU seconds) that show and log, in process 0."""
    show = []
    if jax.process_index() > 0:
        return show
    if run.progress:
        move = stack.enter_context(bar(about["verb"], steps, start))
        show.append(lambda done, rows, rate, _: move(done, jax.tree.map(lambda v: v[-1], rows), rate))
    if run.log is not None:
        log = runlog.opened(run.log)
        log.start({"steps": steps, "chunk": run.chunk, **about}, start)
        stack.callback(log.close)
        price = lambda rate, cpu: {"steps_per_second": rate, "cpu_seconds": cpu}
        show.append(lambda done, rows, *speed: log.row(done, runlog.scalars(rows) | price(*speed)))
    return show


@contextlib.contextmanager
def _termination() -> Iterator[list[bool]]:
    """A list that is no longer empty once SIGTERM has come; the current chunk is still finished and saved."""
    flag: list[bool] = []
    if threading.current_thread() is not threading.main_thread():  # only the main thread may handle signals
        yield flag
        return
    before = signal.signal(signal.SIGTERM, lambda *_: flag.append(True))
    try:
        yield flag
    finally:
        signal.signal(signal.SIGTERM, before if before is not None else signal.SIG_DFL)


def _anywhere(flag: bool) -> bool:  # noqa: FBT001
    """Whether the flag is set in any process: all must stop after the same chunk."""
    if jax.process_count() == 1:
        return flag
    from jax.experimental import multihost_utils

    return bool(np.any(multihost_utils.process_allgather(np.asarray(flag))))


def _unset(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Rows that were not reached: NaN where the dtype has it."""
    floats = jnp.issubdtype(dtype, jnp.floating)
    return np.full(shape, np.nan if floats else 0, dtype)


def _like(rows: np.ndarray, length: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((length, *rows.shape[1:]), rows.dtype)

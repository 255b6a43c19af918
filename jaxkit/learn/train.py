"""The trainer under `fit` and `play`: chunks of one compiled loop; the host works between them, never inside."""

import contextlib
import dataclasses
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.extend.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from jaxkit.core import checks
from jaxkit.learn import checkpoint, runlog, scale
from jaxkit.learn.descent import Logs, State, Update
from jaxkit.learn.progress import bar

TERMINATED = 128 + signal.SIGTERM  # what a shell reports for a process that SIGTERM ended


@dataclasses.dataclass(frozen=True)
class Host:
    """What the host does between chunks (see `fit` for each)."""

    verb: str
    chunk: int = 200
    progress: bool = False
    log: Any = None
    checkpoint: str | Path | None = None
    keep: int = 2
    resume: bool = False
    devices: Sequence[Any] | None = None
    watch: Callable[[int, State], Any] | None = None
    config: dict[str, Any] = dataclasses.field(default_factory=dict)


def run(update: Update, state: State, data: PyTree, steps: int, host: Host) -> tuple[State, Logs]:
    """Move `steps` times; inside a trace as one scan, else in chunks.

    Returns:
        The last state, and what was logged with a leading axis `steps`.
    """
    checks.require(steps > 0, "steps", "be positive", f"is {steps}")
    checks.require(host.chunk > 0, "chunk", "be positive", f"is {host.chunk}")
    checks.require(
        not host.resume or host.checkpoint is not None, "checkpoint", "be a folder to resume from", "is None"
    )
    if inside_a_trace():
        asked = [
            name for name in ("progress", "log", "checkpoint", "resume", "devices", "watch") if getattr(host, name)
        ]
        checks.require(not asked, (asked or [""])[0], "not be used inside a trace", "is, and needs the host")
        return jax.lax.scan(lambda s, i: update(s, i, data, careful=True), state, jnp.arange(steps))
    return _chunked(update, state, data, steps, host)


def inside_a_trace() -> bool:
    """Whether jit, vmap, grad or scan is tracing the caller."""
    now = jax.extend.core.take_current_trace
    with now() as here, now() as top:  # inside the first, no trace is current
        return here is not top


def _chunked(update: Update, state: State, data: PyTree, steps: int, host: Host) -> tuple[State, Logs]:
    """Chunks of one compiled loop; a run whose loss is not finite ends early."""
    layout = scale.layout(host.devices)
    with layout.spreading():
        shapes = jax.eval_shape(lambda s, d: update(s, jnp.asarray(0), d, careful=False)[1], state, data)
    history = jax.tree.map(lambda v: _unset((steps, *v.shape), v.dtype), shapes)
    state, start = _resumed(state, history, host, steps)
    # Batches are cut; a data set from which rows are drawn is whole everywhere, or every draw would be communicated.
    # NumPy arrays go to the device now, not once a chunk.
    data = layout.place(jax.tree.map(jnp.asarray, data), spread=not callable(data))
    state = layout.place(state)
    program = _program(update, shapes, min(host.chunk, steps), layout)
    with contextlib.ExitStack() as stack:
        stack.enter_context(layout.spreading())
        terminated = stack.enter_context(_termination()) if host.checkpoint else list[bool]()
        show = _shown(stack, host, steps, start)
        while start < steps:
            stop = min(start + host.chunk, steps)
            clock, cpu = time.perf_counter(), time.process_time()
            state, rows = program(state, data, start, stop)
            scale.pulse()
            alive = bool(state.alive)
            done = stop if alive else min(stop, int(state.steps) + 1)
            rows = jax.tree.map(lambda v, length=done - start: v[:length], rows)
            jax.tree.map(
                lambda whole, part, start=start: whole.__setitem__(slice(start, start + len(part)), part), history, rows
            )
            for each in show:
                each(done, rows, (done - start) / (time.perf_counter() - clock), time.process_time() - cpu)
            if not alive:
                break
            start = stop
            if host.checkpoint and jax.process_index() == 0:
                so_far = jax.tree.map(lambda v, stop=stop: v[:stop], history)
                checkpoint.store(host.checkpoint, stop, {"state": state, "history": so_far}, keep=host.keep)
            if host.checkpoint and _anywhere(bool(terminated)) and start < steps:
                raise SystemExit(TERMINATED)
            if host.watch is not None and host.watch(stop, state):
                break
    return state, jax.tree.map(jnp.asarray, history)


def _program(update: Update, shapes: Logs, size: int, layout: scale.Layout) -> Any:
    """The compiled chunk: (state, data, first step, step to stop before) -> (state, logs of the steps on the host).

    A loop whose length is an argument: one program for all chunks, the last one too, hence the same bits however a run
    is cut or resumed. Looking at every gradient costs up to an eighth of a step, so the losses alone are looked at, and
    after the chunk the parameters; if those are not finite, the chunk runs again from where it began, carefully. (The
    state is not donated for that reason: it is copied once a chunk, and two states are held.)
    """

    def loop(state: State, data: PyTree, start: Array, stop: Array, *, careful: bool) -> tuple[State, Logs, Array]:
        def body(carry: Any) -> Any:
            i, state, logs = carry
            state, new = update(state, i, data, careful=careful)
            return i + 1, state, jax.tree.map(lambda rows, v: rows.at[i - start].set(v), logs, new)

        rows = jax.tree.map(lambda v: jnp.zeros((size, *v.shape), v.dtype), shapes)
        going = lambda carry: (carry[0] < stop) & carry[1].alive
        _, state, rows = jax.lax.while_loop(going, body, (start, state, rows))
        return state, rows, jnp.all(jnp.stack([jnp.all(jnp.isfinite(v)) for v in jax.tree.leaves(state.params)]))

    compiled = jax.jit(loop, static_argnames="careful", out_shardings=layout.whole)

    def program(state: State, data: PyTree, start: int, stop: int) -> tuple[State, Logs]:
        bounds = jnp.asarray(start), jnp.asarray(stop)
        moved, rows, whole = compiled(state, data, *bounds, careful=False)
        if not whole:
            moved, rows, _ = compiled(state, data, *bounds, careful=True)
        return moved, jax.device_get(rows)

    return program


def _resumed(state: State, history: Logs, host: Host, steps: int) -> tuple[State, int]:
    """The state to start from and its step; what was logged before is put into `history`."""
    if not host.resume:
        return state, 0
    assert host.checkpoint is not None  # noqa: S101  (checked by `run`)
    like = lambda meta: {"state": state, "history": jax.tree.map(lambda v: _like(v, meta["step"]), history)}
    found, meta, refused = checkpoint.newest(host.checkpoint, like)
    for sentence in refused:
        print(sentence, "The one before it is used." if found else "", file=sys.stderr)  # noqa: T201
    if found is None:
        return state, 0
    checks.require(meta["step"] <= steps, "steps", f"be at least the checkpoint's {meta['step']}", f"is {steps}")
    jax.tree.map(lambda whole, part: whole.__setitem__(slice(len(part)), part), history, found["history"])
    return found["state"], meta["step"]


def _shown(stack: contextlib.ExitStack, host: Host, steps: int, start: int) -> list[Any]:
    """Functions of (steps done, logs of the chunk, steps a second, CPU-seconds) that show and log, in process 0."""
    show = []
    if jax.process_index() > 0:
        return show
    if host.progress:
        move = stack.enter_context(bar(host.verb, steps, start))
        show.append(lambda done, rows, rate, _: move(done, jax.tree.map(lambda v: v[-1], rows), rate))
    if host.log is not None:
        log = runlog.opened(host.log)
        log.start({"verb": host.verb, "steps": steps, "chunk": host.chunk, **host.config}, start)
        stack.callback(log.close)
        price = lambda rate, cpu: {"steps_per_second": rate, "cpu_seconds": cpu}
        show.append(lambda done, rows, *speed: log.row(done, runlog.scalars(rows) | price(*speed)))
    return show


@contextlib.contextmanager
def _termination() -> Iterator[list[bool]]:
    """A list that is no longer empty once SIGTERM has come; the chunk under way is finished and saved."""
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
    """Rows not reached: not a number where the dtype has one."""
    floats = jnp.issubdtype(dtype, jnp.floating)
    return np.full(shape, np.nan if floats else 0, dtype)


def _like(rows: np.ndarray, length: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((length, *rows.shape[1:]), rows.dtype)

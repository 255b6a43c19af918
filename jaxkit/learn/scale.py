"""Several devices and machines: sharded batches, `pmap`, seeds side by side, processes that find each other."""

import contextlib
import contextvars
import dataclasses
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

from jaxkit.core import checks

# (state, batch) -> (state, anything).
TrainStep = Callable[[Any, Any], tuple[Any, Any]]

AXIS = "batch"
_MESH: contextvars.ContextVar[Mesh | None] = contextvars.ContextVar("mesh of the run being traced", default=None)
_MAPPED: contextvars.ContextVar[bool] = contextvars.ContextVar("inside of pmapped", default=False)

# The variables by which `python -m jaxkit launch` tells its children who they are.
COORDINATOR, PROCESSES, PROCESS, PARENT, PULSE = (
    f"JAXKIT_{name}" for name in ("COORDINATOR", "PROCESSES", "PROCESS", "PARENT", "PULSE")
)
# Variables of a cluster's job with more than one process that `jax.distributed` reads by itself: (sign, count).
_CLUSTERS = (("SLURM_STEP_NODELIST", "SLURM_NTASKS"), ("OMPI_MCA_orte_hnp_uri", "OMPI_COMM_WORLD_SIZE"))


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where a run lives: everything whole on every device, batches cut along their first axis."""

    mesh: Mesh | None

    @property
    def whole(self) -> NamedSharding | None:
        """Every array on every device; None without devices."""
        return None if self.mesh is None else NamedSharding(self.mesh, PartitionSpec())

    def place(self, tree: PyTree, *, spread: int | None = None) -> PyTree:
        """Put arrays on the devices: whole or, where the axis `spread` is divisible, cut along it."""
        if self.mesh is None:
            return tree
        mesh = self.mesh
        return jax.tree.map(lambda v: _put(v, _sharding(mesh, v, spread)), tree)

    @contextlib.contextmanager
    def spreading(self) -> Iterator[None]:
        """While this is open, `shard_batch` cuts batches."""
        token = _MESH.set(self.mesh)
        try:
            yield
        finally:
            _MESH.reset(token)


def layout(devices: Sequence[Any] | None) -> Layout:
    """The layout of a run on these devices (None: where JAX puts it)."""
    return Layout(None if devices is None else mesh(devices))


def mesh(devices: Sequence[Any] | None = None) -> Mesh:
    """A mesh of one axis, `"batch"`, over these devices (all of all processes by default)."""
    devices = list(jax.devices() if devices is None else devices)
    # Not explicit axes, JAX's default: with them, every operation would have to say how its result is sharded.
    return jax.make_mesh((len(devices),), (AXIS,), axis_types=(AxisType.Auto,), devices=devices)


def data_parallel(step: TrainStep, mesh: Mesh) -> TrainStep:
    """Compile a step so that the batch is cut over a mesh; the compiler adds what has to be communicated.

    Args:
        step: `step(state, batch) -> (state, anything)`, written for the whole batch.
        mesh: A mesh of one axis, as `mesh` makes; the first axes of the batch must be divisible by its size.

    Returns:
        The compiled step, whose results lie whole on every device.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxkit.learn import scale
        >>> step = lambda w, x: (w - 0.1 * scale.device_mean(jax.grad(lambda w: jnp.mean((w - x) ** 2))(w)), None)
        >>> devices = jax.devices()[:1]
        >>> parallel, mapped = scale.data_parallel(step, scale.mesh(devices)), scale.pmapped(step, devices)
        >>> x = jnp.arange(4.0)
        >>> round(float(parallel(1.0, x)[0]), 3), round(float(mapped(1.0, x)[0]), 3)
        (1.1, 1.1)
    """
    whole, cut = NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec(mesh.axis_names[0]))
    return jax.jit(step, in_shardings=(whole, cut), out_shardings=whole)


def pmapped(step: TrainStep, devices: Sequence[Any] | None = None) -> TrainStep:
    """The same by `pmap`: each device sees its part of the batch, and `device_mean` inside averages over the devices.

    Args:
        step: As for `data_parallel`; it must pass gradients and losses through `device_mean`.
        devices: Devices to use; the local ones by default.

    Returns:
        The compiled step; `state` goes to every device, and the batch is cut along its first axis.
    """
    devices = list(jax.local_devices() if devices is None else devices)

    def inside(state: Any, batch: Any) -> tuple[Any, Any]:
        token = _MAPPED.set(True)
        try:
            return step(state, batch)
        finally:
            _MAPPED.reset(token)

    mapped = jax.pmap(inside, axis_name=AXIS, in_axes=(None, 0), out_axes=None, devices=devices)

    def cut(v: Any) -> Any:
        length = jnp.shape(v)[0] if jnp.ndim(v) else 1
        divisible = length % len(devices) == 0
        checks.require(divisible, "batch", f"have first axes divisible by {len(devices)}", f"has one of {length}")
        return jnp.reshape(v, (len(devices), length // len(devices), *jnp.shape(v)[1:]))

    return lambda state, batch: mapped(state, jax.tree.map(cut, batch))


def device_mean(tree: PyTree) -> PyTree:
    """The mean over the devices inside `pmapped`; elsewhere, where a batch is whole, the tree itself."""
    return jax.lax.pmean(tree, AXIS) if _MAPPED.get() else tree


def seeds(run: Callable[[Any], Any], keys: Any, devices: Sequence[Any] | None = None) -> Any:
    """One run per key, all in one program, cut over devices.

    Args:
        run: A pure function of a key, such as `lambda key: jk.fit(..., key=key)`.
        keys: Keys, shape `(n,)`.
        devices: Devices over which the runs are cut; `n` must be divisible by their number.

    Returns:
        What `run` returns, with a leading axis `n`.

    Example:
        >>> import jax, jaxkit as jk
        >>> from jaxkit.learn import scale
        >>> run = lambda key: jk.fit(lambda p, _: (p - jax.random.normal(key)) ** 2, 0.0, steps=5)
        >>> scale.seeds(run, jax.random.split(jax.random.key(0), 3)).history.shape
        (3, 5)
    """
    if devices is not None:
        count = len(devices)
        checks.require(len(keys) % count == 0, "keys", f"be divisible by {count} in number", f"are {len(keys)}")
        keys = jax.device_put(keys, NamedSharding(mesh(devices), PartitionSpec(AXIS)))
    return jax.jit(jax.vmap(run))(keys)


def initialize(
    coordinator: str | None = None,
    processes: int | None = None,
    process: int | None = None,
    *,
    heartbeat: int = 10,
    patience: int = 120,
) -> bool:
    """Join the other processes of this job; call it before any computation. Afterwards `jax.devices()` are all of them.

    Who the others are is taken from the arguments, else from `python -m jaxkit launch`, else from SLURM, Open MPI or
    Kubernetes; without any of these, nothing happens. A process whose peer dies ends within seconds with status 1.

    Args:
        coordinator: `host:port` of process 0.
        processes: Number of processes.
        process: Index of this one.
        heartbeat: Seconds without a sign of life after which a peer counts as dead.
        patience: Seconds to wait for the others to join.

    Returns:
        Whether there are others.
    """
    given = (coordinator, processes, process)
    if all(v is None for v in given) and COORDINATOR in os.environ:
        coordinator, processes, process = os.environ[COORDINATOR], int(os.environ[PROCESSES]), int(os.environ[PROCESS])
    elif not all(v is None for v in given):
        whole = None not in given
        checks.require(whole, "coordinator", "come with `processes` and `process`", "one of the three is missing")
    elif not _in_a_cluster():
        return False
    # Only matters on CPUs, and must be set before the backend is asked for.
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(
        coordinator, processes, process, initialization_timeout=patience, heartbeat_timeout_seconds=heartbeat
    )
    sys.excepthook = _end
    pulse()
    if PARENT in os.environ:
        threading.Thread(target=_outlive_nobody, args=(int(os.environ[PARENT]),), daemon=True).start()
    return jax.process_count() > 1


def pulse() -> None:
    """Tell the launcher, if there is one, that this process is alive. `fit` and `play` do so after every chunk."""
    if PULSE in os.environ:
        Path(os.environ[PULSE]).touch()


def _in_a_cluster() -> bool:
    several = any(sign in os.environ and int(os.environ.get(count, "1")) > 1 for sign, count in _CLUSTERS)
    return several or ("KUBERNETES_SERVICE_HOST" in os.environ and "JOB_COMPLETION_INDEX" in os.environ)


def _end(kind: Any, error: Any, trace: Any) -> None:
    """After an uncaught error, print it and exit. JAX's own exit would wait for peers that may be dead."""
    traceback.print_exception(kind, error, trace)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)


def _outlive_nobody(parent: int) -> None:
    """End this process if its launcher has died without a word."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def shard_batch(tree: PyTree) -> PyTree:
    """Cut arrays along their first axis over the devices of the run being traced; does nothing without devices.

    `fit` and `play` do so with every batch. A loss that makes a batch itself (noise for a generator) calls it.
    """
    where = _MESH.get()
    if where is None:
        return tree
    return jax.tree.map(lambda v: jax.lax.with_sharding_constraint(v, _sharding(where, v)), tree)


def _put(value: Any, sharding: NamedSharding) -> jax.Array:
    """Put a value, which every process has whole, onto the devices of all processes."""
    if sharding.is_fully_addressable or (isinstance(value, jax.Array) and not value.is_fully_addressable):
        return jax.device_put(value, sharding)
    if hasattr(value, "dtype") and jnp.issubdtype(value.dtype, jax.dtypes.prng_key):  # only their bits can be sent
        bits = _put(jax.random.key_data(value), NamedSharding(sharding.mesh, PartitionSpec()))
        return jax.random.wrap_key_data(bits, impl=jax.random.key_impl(value))
    here = np.asarray(value)
    return jax.make_array_from_callback(here.shape, sharding, lambda index: here[index])


def _sharding(mesh: Mesh, value: Any, axis: int | None = 0) -> NamedSharding:
    fits = axis is not None and jnp.ndim(value) > axis and jnp.shape(value)[axis] % mesh.size == 0
    return NamedSharding(mesh, PartitionSpec(*[None] * axis, AXIS) if fits and axis is not None else PartitionSpec())

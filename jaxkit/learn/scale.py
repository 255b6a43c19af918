"""One training run on several devices."""

import contextlib
import contextvars
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

AXIS = "batch"
_MESH: contextvars.ContextVar[Mesh | None] = contextvars.ContextVar("mesh of the run being traced", default=None)


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where a run lives: everything whole on every device, batches cut along their first axis."""

    mesh: Mesh | None

    @property
    def whole(self) -> NamedSharding | None:
        """Every array on every device; None without devices."""
        return None if self.mesh is None else NamedSharding(self.mesh, PartitionSpec())

    def place(self, tree: PyTree, *, spread: bool = False) -> PyTree:
        """Put arrays on the devices, whole, or (with `spread`) cut where the first axis can be."""
        if self.mesh is None:
            return tree
        mesh = self.mesh
        put = lambda v: jax.device_put(v, _sharding(mesh, v if spread else None))
        return jax.tree.map(put, tree)

    @contextlib.contextmanager
    def spreading(self) -> Iterator[None]:
        """While this is open, `spread` cuts batches."""
        token = _MESH.set(self.mesh)
        try:
            yield
        finally:
            _MESH.reset(token)


def layout(devices: Sequence[Any] | None) -> Layout:
    """The layout of a run on these devices (None: where JAX puts it)."""
    if devices is None:
        return Layout(None)
    devices = list(devices)
    return Layout(jax.make_mesh((len(devices),), (AXIS,), axis_types=(AxisType.Auto,), devices=devices))


def spread(tree: PyTree) -> PyTree:
    """Cut arrays along their first axis over the devices of the run being traced; does nothing without devices.

    `fit` and `play` do it to every batch. A loss that makes a batch itself (noise for a generator) calls it.
    """
    mesh = _MESH.get()
    if mesh is None:
        return tree
    return jax.tree.map(lambda v: jax.lax.with_sharding_constraint(v, _sharding(mesh, v)), tree)


def _sharding(mesh: Mesh, value: Any) -> NamedSharding:
    fits = jnp.ndim(value) > 0 and jnp.shape(value)[0] % mesh.size == 0 if value is not None else False
    return NamedSharding(mesh, PartitionSpec(AXIS) if fits else PartitionSpec())

"""The whole Jacobian of each of many lanes: pushed along the inputs or pulled from the outputs, block by block."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

BLOCK = 1 << 21  # most numbers of the tangents that move together: a solve keeps some ten times as many
COST = 3  # of pulling a covector, in units of pushing a tangent


def all_directions(fn: Callable[..., tuple[PyTree, Any]], inputs: PyTree) -> tuple[PyTree, Any]:
    """The derivatives of each lane's outputs with respect to its own inputs.

    Args:
        fn: `fn(*inputs) -> (outputs, others)`; all leaves have the lanes as leading axis, and no lane knows of another.
        inputs: The inputs.

    Returns:
        For each output `(n, *shape)` the derivatives `(n, *shape, m)`, with the numbers of a lane's inputs side by
        side; and the others.
    """
    leaves, treedef = jax.tree.flatten(inputs)
    flat = lambda *leaves: fn(*treedef.unflatten(leaves))
    outputs, push, others = jax.linearize(flat, *leaves, has_aux=True)
    targets, structure = jax.tree.flatten(outputs)
    n, m = len(leaves[0]), _size(leaves)
    if m <= COST * _size(targets):

        def pushed(i: Array) -> list[Array]:
            return jax.tree.leaves(push(*_unit(i, leaves)))

        rows = _mapped(pushed, m, n * (_size(leaves[:1]) + 1))
        return structure.unflatten([jnp.moveaxis(v, 0, -1) for v in rows]), others
    pull = jax.linear_transpose(push, *leaves)
    rows = _mapped(lambda i: list(pull(structure.unflatten(_unit(i, targets)))), _size(targets), n * m)
    columns = jnp.concatenate([v.reshape(*v.shape[:2], -1) for v in rows], axis=-1)  # (outputs, n, m)
    parts, at = [], 0
    for v in targets:
        size = math.prod(v.shape[1:])
        parts.append(jnp.moveaxis(columns[at : at + size], 0, 1).reshape(*v.shape, m))
        at += size
    return structure.unflatten(parts), others


def _size(leaves: Sequence[Array]) -> int:
    """How many numbers a lane has."""
    return sum(math.prod(v.shape[1:]) for v in leaves)


def _unit(i: Array, leaves: Sequence[Array]) -> list[Array]:
    """The i-th direction, the same one in each lane."""
    parts, at = [], 0
    for v in leaves:
        size = math.prod(v.shape[1:])
        own = (jnp.arange(at, at + size, dtype=i.dtype) == i).astype(v.dtype).reshape(1, *v.shape[1:])
        parts.append(jnp.broadcast_to(own, v.shape))
        at += size
    return parts


def _mapped(fn: Callable[[Array], Any], count: int, each: int) -> list[Array]:
    """`fn` of the numbers up to `count`, as many together as have room; `each` of them takes that many numbers."""
    width = max(1, min(count, BLOCK // max(1, each)))
    parts = -(-count // width)
    index = jnp.minimum(jnp.arange(parts * width, dtype=jnp.int32), max(0, count - 1))
    if parts <= 1:
        return jax.vmap(fn)(index)
    found = jax.lax.map(jax.vmap(fn), index.reshape(parts, width))
    return [v.reshape(-1, *v.shape[2:])[:count] for v in found]

"""Packing: two numbers in one, because XLA's CPU compiler runs a fused loop once for each of its output arrays.

There is no fusion with several outputs on the CPU, so a step that returns a state of four numbers is computed four
times. As two complex arrays it is computed twice. To see it: the compiled text (`.compile().as_text()`) of a function
that returns `(f(x), g(f(x)))` has two fusions, and `f` in both. A status and a count of steps are small whole numbers,
which share one floating number (`failed`, `status_of`, `count_of`).

The gain is recorded in docs/devdocs/lanes.md.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from jaxkit.core.status import Status

CODES = 64  # more than the number of statuses


def pack(values: Sequence[Array]) -> tuple[Array, ...]:
    """Pairs of numbers as complex ones; a number without a neighbour of its shape stays as it is."""
    packed, rest = [], list(values)
    while rest:
        pair = len(rest) > 1 and rest[0].shape == rest[1].shape
        packed.append(jax.lax.complex(rest[0], rest[1]) if pair else rest[0])
        rest = rest[1 + pair :]
    return tuple(packed)


def unpack(packed: Sequence[Array]) -> tuple[Array, ...]:
    """What `pack` was given."""
    values = []
    for value in packed:
        values.extend((value.real, value.imag) if jnp.iscomplexobj(value) else (value,))
    return tuple(values)


@jax.tree_util.register_pytree_node_class
class Named:
    """Numbers by name, as a pytree: the names need no order."""

    def __init__(self, named: dict[Any, Array]) -> None:
        self.named = named

    def tree_flatten(self) -> tuple[tuple[Array, ...], tuple[Any, ...]]:
        """The numbers and their names."""
        return tuple(self.named.values()), tuple(self.named)

    @classmethod
    def tree_unflatten(cls, names: tuple[Any, ...], numbers: Sequence[Array]) -> "Named":
        """Rebuild it from its names and numbers."""
        return cls(dict(zip(names, numbers, strict=True)))


def pack_named(named: dict[Any, Array], names: Sequence[Any]) -> dict[Any, Array]:
    """The numbers of `names` in pairs, under the pairs of their names; the others as they are."""
    packed = dict(zip(zip(names[::2], names[1::2], strict=False), pack([named[name] for name in names]), strict=False))
    pairs = {name for pair in packed for name in pair}
    return {**{name: v for name, v in named.items() if name not in pairs}, **packed}


def unpack_named(named: dict[Any, Array]) -> dict[Any, Array]:
    """The numbers, one by one again."""
    found = {}
    for name, value in named.items():
        found.update(zip(name, unpack([value]), strict=True) if jnp.iscomplexobj(value) else [(name, value)])
    return found


def failed(count: Array, status: Array) -> Array:
    """A count of steps together with the status of a failure; a count alone means the status ok.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxkit.compile.packing import count_of, failed, status_of
        >>> counts = jnp.stack([jnp.asarray(3.0), failed(jnp.asarray(3.0), jnp.asarray(7.0))])
        >>> count_of(counts).tolist(), status_of(counts).tolist()
        ([3, 3], [0, 7])
    """
    return -1 - count - status.astype(count.dtype) / CODES


def status_of(count: Array) -> Int[Array, "..."]:
    """The status of a count: ok, unless it is one of `failed`."""
    code = jnp.round((jnp.trunc(count) - count) * CODES).astype(jnp.int32)
    return jnp.where(count < 0, code, int(Status.ok))


def count_of(count: Array) -> Int[Array, "..."]:
    """The count itself."""
    return jnp.where(count < 0, -1 - jnp.trunc(count), count).astype(jnp.int32)


def refused_again(count: Array, times: Array | int = 1) -> Array:
    """`times` more refused steps, added to the count of all and to the count of those refused in a row at the end."""
    return count + times * (1 + 1 / CODES)


def accepted_again(count: Array) -> Array:
    """The same count after an accepted step: the number refused in a row shrinks by one."""
    return count - jnp.where(in_a_row(count) > 0, 1 / CODES, 0).astype(count.dtype)


def in_a_row(count: Array) -> Array:
    """How many steps in a row were refused, at most `CODES - 1`: the fraction of the count.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxkit.compile.packing import accepted_again, in_a_row, refused_again
        >>> count = refused_again(refused_again(jnp.asarray(5.0)))
        >>> int(count), float(in_a_row(count)), float(in_a_row(accepted_again(count)))
        (7, 2.0, 1.0)
    """
    return (count - jnp.floor(count)) * CODES


def runs(count: Array) -> Array:
    """Whether the status of a count is ok: `status_of(count) == Status.ok`, in one comparison."""
    return count >= 0

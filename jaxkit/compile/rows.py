"""Rows of lanes: the numbers of a chunk, a field on them, and the field's derivatives along directions.

A lane may carry tangents `S_i = dx/dp_i` in `m` directions. Those of one state entry are one array `(m, w)`, so that a
step's recurrences are computed once for the state, and one linear recurrence serves all directions.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxkit.compile.fences import fence
from jaxkit.compile.nodes import Atom
from jaxkit.compile.scalars import LANE, ScalarField

State = tuple[Array, ...]  # the numbers of the state, each a row of lanes
Constants = dict[int, Any]


class Lanes(NamedTuple):
    """A row of lanes: states, ends of the time span, and the parameters in which lanes differ."""

    x: State  # each (w,), followed by the tangents, each (m, w)
    t0: Float[Array, " w"]
    t1: Float[Array, " w"]
    args: tuple[Array, ...]
    refused: Any = None  # how often a first step would be refused, (w,)


class Row:
    """A field with the constants of a row of lanes, and their derivatives along the directions.

    Args:
        field: The field.
        roots: The nodes of the field that will be asked for.
        lanes: The lanes of the row.
        shared: The constants that all lanes share.
        directions: For each parameter of `lanes.args` the `m` directions in it, `(m, *shape)`, or None.
    """

    def __init__(
        self, field: ScalarField, roots: list[Any], lanes: Lanes, shared: Constants, directions: Sequence[Any] = ()
    ) -> None:
        self.field, self.shared, self.size = field, shared, len(lanes.t0)
        own = lambda args: field.constants(LANE, args, shared, roots)
        self.own = jax.vmap(own)(lanes.args) if lanes.args else {}
        moved = [i for i, direction in enumerate(directions) if direction is not None]
        # (The barrier hides that a beginning which is a number in the program equals itself.)
        self.kept, self.holds = len(lanes.x) > len(field.x), jnp.any(jax.lax.optimization_barrier(lanes.t0) == lanes.t0)

        def real(some: list[Array]) -> Constants:
            args = list(lanes.args)
            for i, leaf in zip(moved, some, strict=True):
                args[i] = leaf
            return {number: v for number, v in jax.vmap(own)(args).items() if jnp.issubdtype(v.dtype, jnp.floating)}

        def along(some: list[Array]) -> Constants:
            leaves = [lanes.args[i] for i in moved]
            dots = [jnp.broadcast_to(dot, leaf.shape) for dot, leaf in zip(some, leaves, strict=True)]
            return jax.jvp(real, (leaves,), (dots,))[1]

        self.dots = jax.vmap(along)([directions[i][:, None] for i in moved]) if moved else {}
        self.seen: Callable[[Array], Array] = lambda t: t  # at which time the field is evaluated

    def varied(self, own: Constants) -> "Row":
        """The row with other constants, to be differentiated: its series are kept in memory, without tangents."""
        other = copy.copy(self)
        other.own, other.dots, other.kept = {**self.own, **own}, {}, True
        return other

    def seeing(self, seen: Callable[[Array], Array]) -> "Row":
        """The row whose field is evaluated at other times: those on one side of a switch."""
        other = copy.copy(self)
        other.seen = seen
        return other

    def each(self, fn: Callable[..., Any], *rows: Any) -> Any:
        """`fn(constants, *numbers)` for each lane."""
        return self._each(fn, self.own, rows)

    def _each(self, fn: Callable[..., Any], own: Constants, rows: Sequence[Any]) -> Any:
        one = lambda own, *numbers: fn({**self.shared, **own}, *numbers)
        return jax.vmap(one, axis_size=self.size)(own, *rows)

    def push(
        self, fn: Callable[..., list[Array]], numbers: Sequence[Array], dots: Sequence[Any]
    ) -> tuple[list[Array], list[Any]]:
        """`fn(constants, *numbers)` for each lane, a list of numbers, and their derivatives along all directions.

        Args:
            fn: The function for one lane.
            numbers: Its arguments, each `(w,)`.
            dots: Their derivatives, each `(m, w)`, or None.

        Returns:
            The values `(w,)` and their derivatives `(m, w)`, None where there is none.
        """
        moving = [i for i, dot in enumerate(dots) if dot is not None]
        if not moving and not self.dots:
            values = self.each(fn, *numbers)
            return values, [None] * len(values)
        own = {number: self.own[number] for number in self.dots}

        def real(own: Constants, some: list[Array]) -> tuple[list[Array], list[Array]]:
            rows = list(numbers)
            for i, value in zip(moving, some, strict=True):
                rows[i] = value
            values = self._each(fn, {**self.own, **own}, rows)
            return [v for v in values if jnp.issubdtype(v.dtype, jnp.floating)], values

        def along(own_dots: Constants, some: list[Array]) -> tuple[list[Array], list[Array]]:
            at = (own, [numbers[i] for i in moving])
            _, change, values = jax.jvp(real, at, (own_dots, some), has_aux=True)
            return values, change

        values, changes = jax.vmap(along, out_axes=(None, 0))(self.dots, [dots[i] for i in moving])
        rest = iter(changes)
        return values, [next(rest) if jnp.issubdtype(v.dtype, jnp.floating) else None for v in values]

    def __call__(self, t: Array, x: State, atoms: Sequence[Atom]) -> State:
        """The values of some of the field's nodes, and their derivatives if `x` holds tangents."""
        k = len(self.field.x)
        of, t = lambda constants, t, *x: self.field(t, x, constants, atoms), self.seen(t)
        if len(x) == k:
            return tuple(self.each(of, t, *x))
        values, changes = self.push(of, (t, *x[:k]), (None, *x[k:]))
        return (*values, *changes)

    def apart(self, fn: Callable[[], Any]) -> Any:
        """`fn()` with its results kept in memory: see `jaxkit.compile.fences`."""
        return fence(fn, self.holds)


def like(row: Array, number: Array) -> Array:
    """A row `(w,)` as wide as the tangents beside it."""
    return row.reshape((1,) * (number.ndim - row.ndim) + row.shape)


def where(condition: Array, a: State, b: State) -> State:
    """Choose, lane by lane, between two states."""
    return tuple(jnp.where(like(condition, u), u, v) for u, v in zip(a, b, strict=True))


class Step(NamedTuple):
    """A step of each lane."""

    x: State
    length: Array  # signed; 0 if the step was rejected
    memory: State  # what the next step needs, e.g. the length to try

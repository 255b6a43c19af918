"""Derivatives by pulling covectors back: for lanes with many parameters and a small state.

The forward way carries one tangent for each parameter; this one carries one covector for each number of the state. The
steps that a lane has taken are kept, and each is pulled back in turn. The result is the derivative of the numerical
solution with its steps held fixed, exact to rounding for the solution that was computed.

References:
    Griewank and Walther (2008), Evaluating Derivatives, chapter 3.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxkit.compile.rows import Constants, Lanes, Row, State
from jaxkit.dynamics.ode.engine.integrate import Arrived, Stepper, advance, begin, outcome, under_way
from jaxkit.dynamics.ode.engine.switches import behind, between

MANY = 20  # number of directions above which pulling back costs less


def integrate_back(
    stepper: Stepper, lanes: Lanes, constants: Constants, *, max_steps: int, ts: None = None, events: int = 0
) -> tuple[Arrived, Float[Array, "k p w"]]:
    """Move a row of lanes from `t0` to `t1`, and pull the last state's numbers back.

    Args:
        stepper: How a lane steps; its directions tell which parameters are asked for, not their number.
        lanes: The lanes of the row.
        constants: Values that all lanes share.
        max_steps: Largest number of steps of a lane, rejected ones included; as many states are kept.
        ts: None, as nothing is saved on the way.
        events: 0, as no events are followed.

    Returns:
        Where the lanes ended, and their Jacobians with respect to the start, then to the entries of the parameters.
    """
    row, k = Row(stepper.field, stepper.roots, lanes, constants), len(lanes.x)
    moved = [i for i, direction in enumerate(stepper.directions) if direction is not None]
    numbers, path, count = step_by_step(stepper, row, lanes, max_steps)
    leaves = [lanes.args[i] for i in moved]

    def of_leaves(leaves: list[Array]) -> Constants:
        args = list(lanes.args)
        for i, leaf in zip(moved, leaves, strict=True):
            args[i] = leaf
        own = Row(stepper.field, stepper.roots, lanes._replace(args=tuple(args)), constants).own
        return {number: v for number, v in own.items() if jnp.issubdtype(v.dtype, jnp.floating)}

    own, to_leaves = jax.vjp(of_leaves, leaves)
    covectors = [jnp.broadcast_to(unit[:, None], (k, row.size)) for unit in jnp.eye(k, dtype=lanes.t0.dtype)]
    nothing = jax.tree.map(lambda v: jnp.zeros((k, *v.shape), v.dtype), own)

    def back(i: Array, carry: tuple[State, Constants]) -> tuple[State, Constants]:
        here, there = path[count - 1 - i], path[count - i]

        def step(own: Constants, x: State) -> State:
            side, start, length = between(stepper.switches, row.varied(own), lanes, here[k], there[k])
            ended = stepper.within(start, x, length, side)
            return behind(stepper, side, (start, start + length), x, ended) if stepper.jumps else ended

        _, pull = jax.vjp(step, own, tuple(here[:k]))
        by_own, by_x = jax.vmap(pull)(carry[0])
        return by_x, jax.tree.map(jnp.add, carry[1], by_own)

    by_x, by_own = jax.lax.fori_loop(0, count, back, (tuple(covectors), nothing))
    nowhere = [jnp.zeros((k, *leaf.shape), leaf.dtype) for leaf in leaves]  # the field knows no parameter
    by_leaves = jax.vmap(to_leaves)(by_own)[0] if by_own else nowhere
    columns = [jnp.stack(by_x, axis=1), *(jnp.moveaxis(v.reshape(k, row.size, -1), 1, -1) for v in by_leaves)]
    status, steps = outcome(stepper, row, lanes, numbers, under_way(lanes, numbers))
    event = jnp.full(row.size, -1, jnp.int32)
    arrived = Arrived(numbers[:k], numbers[k], (), status, steps, numbers[k + 2].astype(jnp.int32), event)
    return arrived, jnp.concatenate(columns, axis=1)


def step_by_step(
    stepper: Stepper, row: Row, lanes: Lanes, max_steps: int
) -> tuple[State, Float[Array, "s k1 w"], Int[Array, ""]]:
    """The loop's last numbers, the states and times it went through, and the number of steps it took."""
    k = len(lanes.x)
    numbers = begin(stepper, row, lanes)
    first = jnp.stack(numbers[: k + 1])
    path = jnp.zeros((max_steps + 1, *first.shape), first.dtype).at[0].set(first)

    def running(c: Any) -> Array:
        return jnp.any(under_way(lanes, c[0])) & (c[2] < max_steps)

    def body(c: Any) -> Any:
        numbers, path, count = c
        numbers = advance(stepper, row, lanes, numbers, under_way(lanes, numbers))
        path = jax.lax.dynamic_update_index_in_dim(path, jnp.stack(numbers[: k + 1]), count + 1, 0)
        return numbers, path, count + 1

    return jax.lax.while_loop(running, body, (numbers, path, jnp.asarray(0, jnp.int32)))

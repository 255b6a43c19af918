"""The one loop through which every iteration of the package goes."""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from jaxkit.core.status import Status

S = TypeVar("S")


def iterate(
    step: Callable[[S], S],
    state: S,
    *,
    status: Callable[[S], Int[Array, ""]],
    done: Callable[[S], Bool[Array, ""]],
    max_steps: int | Int[Array, ""],
) -> tuple[S, Int[Array, ""], Int[Array, ""]]:
    """Repeat `step` until `done`, a failure, or `max_steps`.

    Forward only: the verbs attach implicit derivatives. Under `vmap` a finished lane keeps its state.

    Args:
        step: Moves the state (any pytree) once.
        state: The state to start from.
        status: Gives the `Status` code of a state; anything but ok stops the lane.
        done: Tells whether a state is an answer.
        max_steps: Largest number of steps.

    Returns:
        The last state, its `Status`, and the number of steps.
    """

    def unfinished(carry: tuple[S, Any]) -> Bool[Array, ""]:
        state, count = carry
        return (count < max_steps) & (status(state) == int(Status.ok)) & ~done(state)

    state, count = jax.lax.while_loop(unfinished, lambda c: (step(c[0]), c[1] + 1), (state, jnp.asarray(0)))
    code = status(state)
    code = jnp.where((code == int(Status.ok)) & ~done(state), int(Status.max_steps), code)
    return state, code, count


def record(
    step: Callable[[S], S], state: S, *, running: Callable[[S], Bool[Array, ""]], max_steps: int
) -> tuple[S, Int[Array, ""]]:
    """Repeat `step` while `running`, and keep every state.

    Args:
        step: Moves the state (any pytree) once.
        state: The state to start from.
        running: Tells whether to go on from a state.
        max_steps: Largest number of steps.

    Returns:
        The states with a leading axis of `max_steps + 1` (the last state is repeated), and the number of steps.
    """

    def body(carry: tuple[S, Any], _: None) -> tuple[tuple[S, Any], S]:
        state, count = carry
        go = running(state)
        after = jax.tree.map(lambda new, old: jnp.where(go, new, old), step(state), state)
        return (after, jnp.where(go, count + 1, count)), after

    (_, count), rest = jax.lax.scan(body, (state, jnp.asarray(0)), length=max_steps)
    states = jax.tree.map(lambda first, more: jnp.concatenate([first[None], more]), state, rest)
    return states, count

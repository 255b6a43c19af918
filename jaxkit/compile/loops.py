"""Loops of small bodies: two steps in one turn.

XLA's `while` copies what the body has written back to where it reads. With the body twice in a turn, the second half
writes where the first has read, and the condition is evaluated half as often. To see it: the `copy` operations in a
compiled loop's body (`.compile().as_text()`).

The gain is recorded in docs/devdocs/lanes.md.
"""

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

S = TypeVar("S")


def repeat_while(
    running: Callable[[S], Bool[Array, ""]], body: Callable[[S], S], state: S, *, limit: int, small: bool = False
) -> S:
    """Repeat `body` while `running`, at most `limit` times.

    Args:
        running: Whether to go on.
        body: One step; it must leave unchanged a state for which `running` is false.
        state: The state to begin with.
        limit: Largest number of steps.
        small: Whether the body is so small that two steps a turn pay; only where `limit` is even, so that it holds.
    """
    twice = small and limit % 2 == 0
    turn = (lambda s: body(body(s))) if twice else body
    step = 2 if twice else 1

    def on(carry: tuple[S, Array]) -> Array:
        return (carry[1] < limit) & running(carry[0])

    return jax.lax.while_loop(on, lambda c: (turn(c[0]), c[1] + step), (state, jnp.asarray(0, jnp.int32)))[0]

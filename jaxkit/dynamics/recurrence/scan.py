"""The recurrence step by step."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from jaxkit.core import checks
from jaxkit.dynamics.recurrence.method import Step, Unrolled, outcome


@dataclasses.dataclass(frozen=True)
class Scan:
    """The recurrence step by step, by `jax.lax.scan`.

    Attributes:
        checkpoint_every: Distance between the states kept for the backward pass, which recomputes the others: about
            `sqrt(length)` makes its memory O(sqrt(length)) for one more forward pass. None keeps all.
    """

    checkpoint_every: int | None = None

    def __post_init__(self) -> None:
        every = self.checkpoint_every
        checks.require(every is None or every > 0, "checkpoint_every", "be a positive number of steps", f"is {every}")

    def run(self, step: Step, x0: Any, inputs: PyTree, args: PyTree, length: int) -> Unrolled:
        """All steps, one after another."""
        body, every = (lambda x, given: step(x, given, args)), self.checkpoint_every
        if every is None or every >= length:
            final, ys = jax.lax.scan(body, x0, inputs)
            return Unrolled(ys, final, outcome(final, ys), jnp.asarray(0))
        chunk = jax.checkpoint(lambda x, part: jax.lax.scan(body, x, part))
        whole = length - length % every
        chunked = jax.tree.map(lambda v: v[:whole].reshape(whole // every, every, *v.shape[1:]), inputs)
        final, ys = jax.lax.scan(chunk, x0, chunked)
        ys = jax.tree.map(lambda v: v.reshape(whole, *v.shape[2:]), ys)
        if whole < length:
            final, rest = chunk(final, jax.tree.map(lambda v: v[whole:], inputs))
            ys = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), ys, rest)
        return Unrolled(ys, final, outcome(final, ys), jnp.asarray(0))

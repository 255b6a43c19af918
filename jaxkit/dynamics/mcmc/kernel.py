"""What a sampling method is: data. A kernel moves all chains once; the verb in front does the rest."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

# All chains at once: (n, d) -> energies (n,), gradients (n, d).
Evaluate = Callable[[Array], tuple[Array, Array]]


class State(NamedTuple):
    """Where the chains are, with what was computed there.

    Attributes:
        x: Flattened states, shape `(n, d)`.
        energy: Shape `(n,)`.
        gradient: Of the energy, shape `(n, d)`.
        velocity: Shape `(n, d)`; zeros (never read) in methods without one.
    """

    x: Float[Array, "n d"]
    energy: Float[Array, " n"]
    gradient: Float[Array, "n d"]
    velocity: Float[Array, "n d"]


class Tuning(NamedTuple):
    """Numbers of a method besides its step: static, the same for all chains."""

    leapfrogs: int = 10
    friction: float = 1.0
    jitter: float = 0.0


class Step(Protocol):
    """Moves all chains once: the new state, and the probability with which each proposal was accepted."""

    def __call__(
        self, evaluate: Evaluate, key: Array, state: State, step: Float[Array, ""], tuning: Tuning
    ) -> tuple[State, Float[Array, " n"]]:
        """See the class."""
        ...


class Kernel(NamedTuple):
    """A sampling method.

    Attributes:
        move: Moves all chains once.
        corrected: Whether a Metropolis test makes it exact for any step (such a method needs energies, not only
            gradients).
        velocity: Whether the state has a velocity, drawn from N(0, 1) at the start.
    """

    move: Step
    corrected: bool
    velocity: bool = False


def start(evaluate: Evaluate, x: Float[Array, "n d"], velocity: Float[Array, "n d"] | None = None) -> State:
    """The state at `x`."""
    energy, gradient = evaluate(x)
    return State(x, energy, gradient, jnp.zeros_like(x) if velocity is None else velocity)


def metropolis(
    key: Array, log_ratio: Float[Array, " n"], proposed: Any, current: Any
) -> tuple[Any, Float[Array, " n"]]:
    """Accept each chain's proposal with probability `min(1, exp(log_ratio))`; where that is not a number, refuse it.

    Args:
        key: Random key.
        log_ratio: Log of the Metropolis-Hastings ratio, shape `(n,)`.
        proposed: Pytree of arrays with the chains first.
        current: The same structure.

    Returns:
        The state after the test, and the acceptance probabilities.
    """
    probability = jnp.where(jnp.isnan(log_ratio), 0, jnp.exp(jnp.minimum(log_ratio, 0)))
    accepted: Bool[Array, " n"] = jax.random.uniform(key, log_ratio.shape, log_ratio.dtype) < probability

    def choose(new: Array, old: Array) -> Array:
        return jnp.where(accepted.reshape(accepted.shape + (1,) * (new.ndim - 1)), new, old)

    return jax.tree.map(choose, proposed, current), probability


def row_sum(x: Float[Array, "n d"]) -> Float[Array, " n"]:
    """Sum over the coordinates of each chain."""
    return jnp.sum(x, axis=-1)

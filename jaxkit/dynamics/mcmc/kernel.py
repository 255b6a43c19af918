"""What a sampling method is: an object with its settings that moves all chains once. The verb does the rest."""

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float

from jaxkit.core import checks

DIVERGENT = 1000.0  # a gain of energy that no accurate step has (Stan's value)

# All chains at once: (n, d) -> energies (n,), gradients (n, d).
Evaluate = Callable[[Array], tuple[Array, Array]]


class State(NamedTuple):
    """Where the chains are, with what was computed there.

    Attributes:
        x: Flattened states, shape `(n, d)`.
        energy: Energies, shape `(n,)`.
        gradient: Gradients of the energy, shape `(n, d)`.
        velocity: Velocities, shape `(n, d)`; zeros (never read) in methods without them.
        error: Energy that the last proposal gained by the integrator's error, shape `(n,)`; zeros where there is none.
    """

    x: Float[Array, "n d"]
    energy: Float[Array, " n"]
    gradient: Float[Array, "n d"]
    velocity: Float[Array, "n d"]
    error: Float[Array, " n"]


@runtime_checkable
class Method(Protocol):
    """A sampling method. A new one is a class with these members, and a line in `METHODS` if it is to have a name.

    Its state is any pytree of arrays, chains first, with fields `x` and `energy`, and `error` (see `State`) where
    proposals may diverge.

    Attributes:
        step_size: Length of a step; the first guess, where the warm-up adapts it.
        target_accept: Acceptance probability that the warm-up aims at; None keeps `step_size`.
        corrected: Whether a Metropolis test makes it exact for any step length (it then needs energies, not only
            gradients).
    """

    corrected: ClassVar[bool]

    @property
    def step_size(self) -> ArrayLike: ...  # noqa: D102

    @property
    def target_accept(self) -> float | None: ...  # noqa: D102

    def check(self) -> None:
        """Raise `ValueError` where a setting is unusable."""
        ...

    def init(self, evaluate: Evaluate, x: Float[Array, "n d"], key: Array) -> Any:
        """The state at `x`."""
        ...

    def move(self, evaluate: Evaluate, key: Array, state: Any, step_size: Float[Array, ""]) -> tuple[Any, Array]:
        """Move all chains once: the new state, and the probability with which each proposal was accepted."""
        ...


class Kernel:
    """What the methods of this package share. Subclasses are `struct`s with a field `step_size`."""

    corrected: ClassVar[bool] = False
    target_accept: float | None = None

    def check(self) -> None:
        """Raise `ValueError` where a setting is unusable."""
        target = self.target_accept
        checks.require(target is None or 0 < target < 1, "target_accept", "lie between 0 and 1", f"is {target}")

    def init(self, evaluate: Evaluate, x: Float[Array, "n d"], key: Array) -> State:
        """The state at `x`."""
        del key
        return start(evaluate, x)


def start(evaluate: Evaluate, x: Float[Array, "n d"], velocity: Float[Array, "n d"] | None = None) -> State:
    """The state at `x`."""
    energy, gradient = evaluate(x)
    return State(x, energy, gradient, jnp.zeros_like(x) if velocity is None else velocity, jnp.zeros_like(energy))


class Walk(NamedTuple):
    """What chains went through.

    Attributes:
        last: Their last state.
        xs: Every `thin`-th state, shape `(kept, n, d)`.
        energies: Their energies, shape `(kept, n)`.
        acceptance: Mean acceptance probabilities, shape `(n,)`.
        diverged: Numbers of proposals that diverged, shape `(n,)`.
        moments: Mean and sum of squares about it of every state, kept or not, each of shape `(n, d)`; None where every
            state is kept.
    """

    last: Any
    xs: Float[Array, "kept n d"]
    energies: Float[Array, "kept n"]
    acceptance: Float[Array, " n"]
    diverged: Array
    moments: tuple[Array, Array] | None


# The state, the sum of the acceptances, the divergences so far, and the moments.
_Carry = tuple[Any, Array, Array, tuple[Array, Array] | None]


def walk(method: Method, evaluate: Evaluate, state: Any, step_size: Array, steps: int, thin: int, key: Array) -> Walk:
    """Move `steps` times and keep every `thin`-th state."""

    def move(i: Any, carry: _Carry) -> _Carry:
        state, total, count, moments = carry
        state, probability = method.move(evaluate, jax.random.fold_in(key, i), state, step_size)
        if hasattr(state, "error"):
            count = count + (jnp.isfinite(state.error) & (state.error > DIVERGENT)).astype(count.dtype)
        if moments is not None:  # Welford's update
            mean, squares = moments
            apart = state.x - mean
            mean = mean + apart / jnp.asarray(i + 1, apart.dtype)
            moments = mean, squares + apart * (state.x - mean)
        return state, total + probability, count, moments

    def stretch(carry: _Carry, block: Array) -> tuple[_Carry, tuple[Array, Array]]:
        if thin == 1:
            carry = move(block, carry)
        else:
            carry = jax.lax.fori_loop(0, thin, lambda i, c: move(block * thin + i, c), carry)
        return carry, (carry[0].x, carry[0].energy)

    moments = None if thin == 1 else (jnp.zeros_like(state.x), jnp.zeros_like(state.x))
    first = (state, jnp.zeros_like(state.energy), jnp.zeros(state.energy.shape, jnp.int32), moments)
    (state, total, count, moments), (xs, energies) = jax.lax.scan(stretch, first, jnp.arange(steps // thin))
    return Walk(state, xs, energies, total / steps, count, moments)


def metropolis(
    key: Array, log_ratio: Float[Array, " n"], proposed: Any, current: Any
) -> tuple[Any, Float[Array, " n"]]:
    """Accept each chain's proposal with probability `min(1, exp(log_ratio))`; refuse it where that is not a number.

    Args:
        key: Random key.
        log_ratio: Log of the Metropolis-Hastings ratio, shape `(n,)`.
        proposed: Pytree of arrays with the chains first.
        current: The present states, with the same structure.

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

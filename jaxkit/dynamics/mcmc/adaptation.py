"""Warm-up: throw steps away, and meanwhile find the step with a wanted acceptance."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxkit.dynamics.mcmc.kernel import Evaluate, Kernel, State, Tuning


def warm_up(
    kernel: Kernel,
    tuning: Tuning,
    evaluate: Evaluate,
    state: State,
    step: Array,
    steps: int,
    target: float | None,
    key: Array,
) -> tuple[State, Array]:
    """Move the chains `steps` times; with a `target`, by steps of changing length.

    Nesterov's dual averaging of log(step) against the mean acceptance of all chains (Hoffman and Gelman 2014, their
    constants).

    Returns:
        The last state, and the step to go on with.
    """
    shrink, delay, power = 0.05, 10.0, 0.75
    centre = jnp.log(10 * step)

    def move(carry: tuple[State, Array, Array, Array], i: Array) -> tuple[Any, None]:
        state, log_step, mean_log, bias = carry
        state, probability = kernel.move(evaluate, jax.random.fold_in(key, i), state, jnp.exp(log_step), tuning)
        if target is not None:
            t = (i + 1).astype(step.dtype)
            share = 1 / (t + delay)
            bias = (1 - share) * bias + share * (target - jnp.mean(probability))
            log_step = centre - jnp.sqrt(t) / shrink * bias
            weight = t**-power
            mean_log = weight * log_step + (1 - weight) * mean_log
        return (state, log_step, mean_log, bias), None

    first = (state, jnp.log(step), jnp.log(step), jnp.zeros_like(step))
    (state, _, mean_log, _), _ = jax.lax.scan(move, first, jnp.arange(steps))
    return state, jnp.exp(mean_log)

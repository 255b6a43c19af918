"""Warm-up: discard the first steps, and find the step length with the acceptance wanted meanwhile."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxkit.dynamics.mcmc.kernel import Evaluate, Method


def warm_up(
    method: Method, evaluate: Evaluate, state: Any, step_size: Array, steps: int, key: Array
) -> tuple[Any, Array]:
    """Move the chains `steps` times, with steps of changing length if there is a `target_accept`.

    The length follows from Nesterov's dual averaging of log(step) against the mean acceptance of all chains (with the
    constants of Hoffman and Gelman 2014).

    Returns:
        The last state, and the step length to go on with.
    """
    shrink, delay, power, target = 0.05, 10.0, 0.75, method.target_accept
    centre = jnp.log(10 * step_size)

    def move(carry: tuple[Any, Array, Array, Array], i: Array) -> tuple[Any, None]:
        state, log_step, mean_log, bias = carry
        state, probability = method.move(evaluate, jax.random.fold_in(key, i), state, jnp.exp(log_step))
        if target is not None:
            t = (i + 1).astype(step_size.dtype)
            share = 1 / (t + delay)
            bias = (1 - share) * bias + share * (target - jnp.mean(probability))
            log_step = centre - jnp.sqrt(t) / shrink * bias
            weight = t**-power
            mean_log = weight * log_step + (1 - weight) * mean_log
        return (state, log_step, mean_log, bias), None

    first = (state, jnp.log(step_size), jnp.log(step_size), jnp.zeros_like(step_size))
    (state, _, mean_log, _), _ = jax.lax.scan(move, first, jnp.arange(steps))
    return state, jnp.exp(mean_log)

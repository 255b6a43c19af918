"""Stiffness: both criteria are needed."""

import jax.numpy as jnp

from jaxkit.dynamics.ode.engine.stiffness import limited_by_stability


def test_stiff_is_fast_decay_and_slow_motion():
    # Pure decay with a long step; near its slow solution with a long step; the same with a short one.
    rate, rest, step = jnp.array([1.0, 1e3, 1e3]), jnp.array([0.0, 1.0, 1.0]), jnp.array([2.0, 2e-3, 2e-4])
    x = jnp.array([1.0, 1.0 + 1e-6, 1.0 + 1e-6])
    stiff = limited_by_stability(lambda v: -rate[None] * (v - rest[None]), x[None], step)
    assert stiff.tolist() == [False, True, False]

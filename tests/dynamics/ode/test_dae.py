"""Equations with an algebraic part of index 1, solved for it by `jk.root` within the field (docs/devdocs/dae.md)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxkit as jk

RATES = jnp.array([0.04, 1e4, 3e7])


def robertson(t, x, p):
    y3 = jk.root(lambda y3, x: x[0] + x[1] + y3 - 1, 0.0, x).value
    first = -p[0] * x[0] + p[1] * x[1] * y3
    return jnp.stack([first, -first - p[2] * x[1] ** 2])


@pytest.mark.slow
def test_robertson():
    end = lambda p: (
        jk.solve(
            robertson, jnp.array([1.0, 0.0]), jnp.array([0.0, 40.0]), p, method="kvaerno5", rtol=1e-8, atol=1e-12
        ).final
    )
    value, slopes = jax.jit(lambda p: (end(p), jax.jacfwd(end)(p)))(RATES)
    np.testing.assert_allclose(value, [0.7158270688, 9.185534765e-6], rtol=1e-5)  # Hairer and Wanner II, IV.10
    ordinary = lambda t, x, p: jnp.stack(
        [
            -p[0] * x[0] + p[1] * x[1] * (1 - x[0] - x[1]),
            p[0] * x[0] - p[1] * x[1] * (1 - x[0] - x[1]) - p[2] * x[1] ** 2,
        ]
    )
    other = lambda p: (
        jk.solve(
            ordinary, jnp.array([1.0, 0.0]), jnp.array([0.0, 40.0]), p, method="kvaerno5", rtol=1e-8, atol=1e-12
        ).final
    )
    np.testing.assert_allclose(slopes, jax.jit(jax.jacfwd(other))(RATES), rtol=1e-3, atol=1e-15)


@pytest.mark.slow
def test_the_pendulum_of_index_one():
    # x'' = -s x, y'' = -s y - g; twice differentiated, the rod says v.v - s - g y = 0 at length 1.
    def pendulum(t, state, g):
        place, speed = state
        tension = jk.root(
            lambda s, given: given[1] @ given[1] - s * (given[0] @ given[0]) - g * given[0][1], 0.0, state
        )
        return speed, -tension.value * place - jnp.stack([0.0 * g, g])

    start = (jnp.array([np.sin(0.1), -np.cos(0.1)]), jnp.zeros(2))
    sol = jk.solve(pendulum, start, jnp.array([0.0, 1.0, 3.0]), 9.81, rtol=1e-9, atol=1e-11).checked()
    np.testing.assert_allclose(jnp.linalg.norm(sol.xs[0], axis=1), 1.0, atol=1e-7)
    angle = jk.solve(lambda t, x, g: (x[1], -g * jnp.sin(x[0])), (0.1, 0.0), jnp.array([0.0, 3.0]), 9.81, rtol=1e-9)
    assert float(jnp.arctan2(sol.final[0][0], -sol.final[0][1])) == pytest.approx(float(angle.final[0]), abs=1e-6)

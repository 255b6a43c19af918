"""The Rosenbrock method: its order, its path within a step, stiffness, solves with one factored matrix."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxkit.dynamics.ode import rosenbrock

OMEGA = 2.0


def forced(t, x):
    """`x = (sin(w t), cos(w t) + t^2)`, in a form that is neither linear nor autonomous."""
    s, c = jnp.sin(OMEGA * t), jnp.cos(OMEGA * t)
    return jnp.stack([OMEGA * c + (x[1] - c - t * t) * x[0], 2 * t - OMEGA * s + (x[0] - s) * (x[1] + x[0])])


def exact(t):
    return np.array([np.sin(OMEGA * t), np.cos(OMEGA * t) + t * t])


@jax.jit
def steps(n):
    """To time 1 in `n` steps: the end, the state at the middle of the last step, its error estimate."""
    h = 1.0 / n

    def one(i, carry):
        x = carry[0]
        velocity = lambda s, x: forced((i + s) * h, x)
        taken, *_ = rosenbrock.step(velocity, x, jnp.asarray(h), velocity(0.0, x))
        powers = 0.5 ** jnp.arange(1.0, 5.0)
        return taken.x, x + powers @ taken.path, taken.error

    x0 = jnp.array([0.0, 1.0])
    return jax.lax.fori_loop(0, n, one, (x0, x0, x0))


def test_order_five_with_a_path_and_an_error_estimate_of_order_four():
    counts = np.array([8, 16, 32])
    found = [steps(int(n)) for n in counts]
    ends = [np.max(np.abs(x - exact(1.0))) for x, _, _ in found]
    middles = [np.max(np.abs(x - exact(1 - 0.5 / n))) for (_, x, _), n in zip(found, counts, strict=True)]
    errors = [np.max(np.abs(error)) for *_, error in found]
    order = lambda values: -np.polyfit(np.log(counts), np.log(values), 1)[0]
    assert order(ends) == pytest.approx(5, abs=0.4)
    assert order(middles) > 4.4
    assert order(errors) == pytest.approx(5, abs=0.5)  # of one step
    assert ends[-1] < 1e-7


def test_a_step_over_all_of_a_fast_decay_ends_on_the_slow_motion():
    velocity = lambda s, x: jnp.stack([-1e8 * (x[0] - jnp.cos(0.1 * s)), -x[1]])
    x = jnp.array([2.0, 1.0])
    taken, *_ = rosenbrock.step(velocity, x, jnp.asarray(0.1), velocity(0.0, x))
    np.testing.assert_allclose(taken.x, [np.cos(0.1), np.exp(-0.1)], atol=1e-5)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_factored_solves_and_their_derivatives(n):
    matrix = jnp.asarray(np.random.default_rng(n).normal(size=(n, n)) + np.eye(n))
    right = jnp.arange(1.0, n + 1)
    ours = lambda m, r: jnp.sin(rosenbrock.factored(m)(r))
    plain = lambda m, r: jnp.sin(jnp.linalg.solve(m, r))
    np.testing.assert_allclose(ours(matrix, right), plain(matrix, right), rtol=1e-10)
    for derive in (jax.jacfwd, jax.jacrev):
        for mine, other in zip(derive(ours, (0, 1))(matrix, right), derive(plain, (0, 1))(matrix, right), strict=True):
            np.testing.assert_allclose(mine, other, rtol=1e-8, atol=1e-9)

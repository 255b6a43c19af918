"""Memory follows the work: the largest array of a program, read from the program."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxkit as jk
from jaxkit import newton
from jaxkit.core.jax_internals import Jaxpr
from jaxkit.dynamics.analysis.distinct import first_of_each
from jaxkit.dynamics.mcmc import diagnostics


def largest(fn, *inputs):
    """The number of entries of the largest array in a program."""

    def inside(jaxpr):
        sizes = [math.prod(v.aval.shape) for e in jaxpr.eqns for v in e.outvars if hasattr(v.aval, "shape")]
        for equation in jaxpr.eqns:
            for value in equation.params.values():
                for part in value if isinstance(value, tuple | list) else (value,):
                    part = getattr(part, "jaxpr", part)
                    if isinstance(part, Jaxpr):
                        sizes.append(inside(part))
        return max(sizes, default=0)

    return inside(jax.make_jaxpr(fn)(*inputs).jaxpr)


@pytest.mark.parametrize("max_steps", [4096, 10**6])
def test_checkpoints_of_a_large_state_do_not_follow_max_steps(max_steps):
    n, ts = 10**5, jnp.array([0.0, 1.0])
    loss = lambda rate: jnp.sum(jk.solve(lambda t, x, r: -r * x, jnp.ones(n), ts, rate, max_steps=max_steps).final)
    assert largest(jax.grad(loss), 0.5) <= 24 * n


def test_the_derivative_of_a_fit_by_its_data_has_no_table_of_second_derivatives():
    m, n = 2000, 100
    matrix, data = jnp.ones((m, n)), jnp.ones(m)
    params = lambda y: jk.least_squares(lambda p, y: jnp.tanh(matrix @ p) - y, jnp.zeros(n), y).params
    assert largest(lambda y, v: jax.vjp(params, y)[1](v), data, jnp.ones(n)) <= 40 * m * n


def test_equilibria_from_many_starts_have_no_table_of_distances():
    k = 3000
    found = lambda x: jk.equilibria(lambda t, x, a: jnp.sin(x), x).found
    assert largest(found, jnp.linspace(-9.0, 9.0, k)[:, None]) <= 100 * k


def test_a_polynomial_has_no_table_of_chords():
    n = 300
    assert largest(lambda c: newton.polynomial_roots(c).value, jnp.ones(n + 1)) <= (n + 1) ** 2


def test_diagnostics_take_coordinates_in_turn(monkeypatch):
    monkeypatch.setattr(diagnostics, "TOGETHER", 100)
    xs = jax.random.normal(jax.random.key(0), (20, 3, 4)).at[:, 0, 1].add(0.5)
    turn = lambda xs: diagnostics._by_coordinate(lambda v: diagnostics._effective(v, "mean"), xs)
    found, whole = jax.jit(lambda xs: (turn(xs), diagnostics._effective(xs, "mean")))(xs)
    np.testing.assert_allclose(found, whole, rtol=1e-9)
    assert largest(turn, xs) <= xs.size


@pytest.mark.slow
def test_many_numbers_without_parameters_have_a_sensitivity():
    found = jk.sensitivity(lambda t, x, _: -x, jnp.ones((1, 24)), (0.0, 1.0), method="tsit5")
    np.testing.assert_allclose(found.x0s[0], np.exp(-1.0) * np.eye(24), atol=1e-6)


def by_table(points, usable, apart):
    gap = np.linalg.norm(points[:, None] - points[None], axis=-1)
    near = gap <= apart * (1 + np.linalg.norm(points, axis=-1))[:, None]
    return usable & ~(np.tril(near, -1) & usable[None]).any(axis=1)


@pytest.mark.parametrize("d", [1, 3])
def test_distinct_points_are_those_of_the_table(d):
    r = np.random.default_rng(d)
    roots = r.standard_normal((20, d)) * 10.0 ** r.integers(-3, 4, (20, 1))
    points = roots[r.integers(0, 20, 300)] * (1 + 1e-9 * r.standard_normal((300, d)))
    line = np.linspace(0, 1, 300)[:, None] * np.ones(d)[None]
    usable = r.random(300) > 0.1
    first = jax.jit(first_of_each, static_argnums=2)
    for given in (points, line):
        found = np.asarray(first(jnp.asarray(given), jnp.asarray(usable), 1e-5))
        np.testing.assert_array_equal(found, by_table(given, usable, 1e-5))
    close = np.asarray(first(jnp.asarray(line), jnp.asarray(usable), 1e-2))  # no two that are kept are near
    kept = line[close]
    gaps = np.linalg.norm(kept[:, None] - kept[None], axis=-1) + 9 * np.eye(len(kept))
    assert (gaps > 1e-2).all()


def test_wide_states_have_diagonals_from_probes():
    n, r = 48, np.random.default_rng(0)
    weights = jnp.asarray(0.8 * r.standard_normal((n, n)) / n**0.5)
    inputs = jnp.asarray(r.standard_normal((60, n)))
    step = lambda h, x, w: (jnp.tanh(w @ h + x), h[:2])
    newton_ = jk.ParallelNewton(jacobian="diagonal")
    found = jk.unroll(step, jnp.zeros(n), inputs, weights, method=newton_).checked()
    exact = jk.unroll(step, jnp.zeros(n), inputs, weights)
    np.testing.assert_allclose(found.final, exact.final, atol=1e-10)
    assert found.iterations < 60


def test_full_jacobians_say_what_they_take():
    run = lambda: jk.unroll(
        lambda h, x, a: (h + x, ()), jnp.zeros(300), jnp.ones((2000, 300)), method="parallel_newton"
    )
    with pytest.warns(UserWarning, match="will take about 4.0 GiB"):
        jax.eval_shape(run)

"""Lanes of many numbers are moved as arrays: programs that do not grow, and the engine's promises."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxkit as jk
from jaxkit.compile import jit_cache
from jaxkit.dynamics.ode.engine import fitting

F = jnp.linspace(7.0, 8.0, 2)


def lorenz96(t, x, force):
    return (jnp.roll(x, -1) - jnp.roll(x, 2)) * jnp.roll(x, 1) - x + force


def starts(n, lanes=2):
    return 8.0 + 0.1 * np.random.default_rng(0).standard_normal((lanes, n))


def network(width):
    r = np.random.default_rng(1)
    first, second = r.standard_normal((4, width)), r.standard_normal((width, 4)) / width
    return lambda t, x, _: jnp.tanh(x @ first) @ second - x


def equations(verb, field, x0s, args, **options):
    program = jax.make_jaxpr(lambda x: verb(field, x, (0.0, 0.1), args, **options))(x0s)
    return str(program).count("\n")


@pytest.mark.slow
@pytest.mark.parametrize(("method", "verb"), [("taylor", jk.ensemble), ("tsit5", jk.sensitivity)])
def test_programs_do_not_grow_with_the_state(method, verb):
    few, many = (equations(verb, lorenz96, starts(n), F, method=method) for n in (300, 3000))
    assert many < 1.2 * few


def test_what_is_taken_apart():
    shapes = lambda n: (jnp.zeros(()), jnp.zeros(n), jnp.zeros(()))
    read = lambda method, field, n, rtol=1e-6: fitting.fitted(method, rtol, (field,), shapes(n), (False,))
    taylor, pair = jk.Taylor(), jk.RungeKutta("tsit5")
    assert read(taylor, lorenz96, 4) == (taylor, False)
    assert read(taylor, lorenz96, 40) == (jk.RungeKutta("dopri8"), False)
    assert read(pair, lorenz96, 40) == (pair, False)
    assert read(pair, lorenz96, 100) == (pair, True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read(taylor, network(64), 4) == (jk.RungeKutta("dopri8"), True)
        assert read(pair, network(64), 4) == (pair, True)


@pytest.mark.slow
@pytest.mark.parametrize("event", [None, lambda t, x, a: x[0] - 8.6])
def test_arrays_and_numbers_agree(monkeypatch, event):
    x0s, ts = jnp.asarray(starts(4)), jnp.array([0.0, 0.2, 0.5])
    settings = {"method": "bosh3", "rtol": 1e-7, "atol": 1e-9}

    def everything():
        def loss(x0s):
            found = jk.ensemble(lorenz96, x0s, ts, F, event=event, **settings)
            return jnp.sum(jnp.sin(found.final) * jnp.arange(4.0)[None]) + jnp.sum(found.end), found

        gradient, found = jax.grad(loss, has_aux=True)(x0s)
        return gradient, found.xs, found.end, found.final, found.event, found.status

    numbers = everything()
    monkeypatch.setattr(fitting, "NUMBERS", 0)
    monkeypatch.setattr(jit_cache, "_PROGRAMS", jit_cache._Programs())
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=1e-4), numbers, everything())


@pytest.mark.slow
def test_tangents_set_the_steps_of_wide_lanes():
    x0s, own = starts(80), jk.RungeKutta("tsit5", control="tangents")
    found = jk.sensitivity(lorenz96, x0s, (0.0, 0.5), F, method=own, rtol=1e-6)
    exact = jk.sensitivity(lorenz96, x0s, (0.0, 0.5), F, method="dopri8", rtol=1e-11, atol=1e-12)
    assert found.ensemble.ok.all()
    np.testing.assert_allclose(found.x0s, exact.x0s, atol=1e-4)
    np.testing.assert_allclose(found.args, exact.args, atol=1e-4)


@pytest.mark.slow
def test_gradients_of_a_vmapped_solve_with_an_event():
    x0s = jnp.array([[1.0, 2.0], [1.5, 3.0]])

    def loss(x0s):
        found = jax.vmap(
            lambda x: jk.solve(lambda t, x, _: -x, x, jnp.array([0.0, 1.0]), event=lambda t, x, _: x[0] - 0.7)
        )(x0s)
        return jnp.sum(found.final) + jnp.sum(found.end)

    exact = jnp.stack([1 / x0s[:, 0] - 0.7 * x0s[:, 1] / x0s[:, 0] ** 2, 0.7 / x0s[:, 0]], axis=1)
    np.testing.assert_allclose(jax.grad(loss)(x0s), exact, rtol=1e-5)

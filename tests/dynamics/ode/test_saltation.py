"""Derivatives where the state meets a switch of its field: tangents jump as the velocity does."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxkit as jk
from jaxkit.dynamics.ode.saltation import across, has_switches

STEP = lambda t, x, a: jnp.where(x < a, 1.0, 2.0) + 0 * x  # x(3) = 6 - a from 0, and 6 - a + 2 dx from dx
H = 1e-9


def stepped(field, x0, velocity):
    """The derivatives of a step of length 2 H, by a velocity that is given, with respect to start and parameter."""
    fn = lambda x0, a: across(field, jnp.zeros(()), x0, jnp.asarray(2 * H), x0 + 2 * H * velocity, a)
    return jax.jacfwd(fn, (0, 1)), jax.jacrev(fn, (0, 1)), jnp.asarray(x0)


# Field, start, velocity before and behind the switch, as a function of the parameter 1 at which each switches.
SWITCHES = {
    "where": (STEP, 1 - H, 1.0, 2.0),
    "where, from above": (lambda t, x, a: jnp.where(x > a, -3.0, -1.0) * jnp.ones_like(x), 1 + H, -3.0, -1.0),
    "sign": (lambda t, x, a: 2 + jnp.sign(x - a), 1 - H, 1.0, 3.0),
    "floor": (lambda t, x, a: 1 + jnp.floor(x / a), 1 - H, 1.0, 2.0),
    "remainder": (lambda t, x, a: 1 + jnp.mod(x, a), 1 - H, 2.0, 1.0),
    "truth value": (lambda t, x, a: 3 - (x >= a).astype(x.dtype) * x, 1 - H, 3.0, 2.0),
    "two comparisons": (lambda t, x, a: 1 + jnp.heaviside(x - a, 0.5), 1 - H, 1.0, 2.0),
    "cond": (lambda t, x, a: jax.lax.cond(x > a, lambda: 2 * x, lambda: x), 1 - H, 1.0, 2.0),
    "and": (lambda t, x, a: jnp.where((x > a) & (x < 5), 2.0, 1.0) + 0 * x, 1 - H, 1.0, 2.0),
    "bent: a power": (lambda t, x, a: jnp.where(x > a, 2.0, 1.0) ** 2 + 0 * x, 1 - H, 1.0, 4.0),
    "bent: a quotient": (lambda t, x, a: x / jnp.where(x > a, 4.0 * x, x), 1 - H, 1.0, 0.25),
    "bent: a product": (lambda t, x, a: jnp.where(x > a, 2.0, 1.0) * jnp.where(x > a, 3.0, 1.0) * x, 1 - H, 1.0, 6.0),
    "bent: a bound": (lambda t, x, a: jnp.clip(jnp.where(x > a, 4.0, 1.0), 0.5, 2.0) + 0 * x, 1 - H, 1.0, 2.0),
    "bent: squares": (
        lambda t, x, a: jnp.sum(jnp.where(x > a * jnp.ones(3), 2.0, 1.0) ** 2),
        1 - H,
        3.0,
        12.0,
    ),
    "a switch that another one turns": (lambda t, x, a: jnp.where(jnp.sign(x - a) > 0.5, 4.0, 1.0), 1 - H, 1.0, 4.0),
    "beside a rule of its own": (lambda t, x, a: jnp.where(x > a, 2.0, 1.0) + jax.nn.relu(x - a), 1 - H, 1.0, 2.0),
    "kink": (lambda t, x, a: jnp.where(x > a, 1 + 5 * (x - a), 1.0), 1 - H, 1.0, 1.0),
}


@pytest.mark.parametrize("name", SWITCHES)
def test_tangents_jump_by_the_velocity(name):
    field, x0, before, behind = SWITCHES[name]
    assert has_switches(field, 0.0, 1.0, 1.0)
    forward, back, start = stepped(field, x0, before)
    for by_x, by_a in (forward(start, jnp.asarray(1.0)), back(start, jnp.asarray(1.0))):
        np.testing.assert_allclose(by_x, behind / before, rtol=1e-6)
        np.testing.assert_allclose(by_a, 1 - behind / before, atol=1e-6)


def test_each_entry_of_an_array_meets_its_own_switch():
    field = lambda t, x, a: jnp.where(x > a, 3.0, 1.0) + jnp.where(jnp.any(x > 4), x, 0.0)
    forward, back, x0 = stepped(field, [1 - H, 2 - H, 2.5], 1.0)
    a = jnp.array([1.0, 2.0, 3.0])
    for by_x, by_a in (forward(x0, a), back(x0, a)):
        np.testing.assert_allclose(by_x, np.diag([3.0, 3.0, 1.0]), rtol=1e-6)
        np.testing.assert_allclose(by_a, np.diag([-2.0, -2.0, 0.0]), atol=1e-6)


def test_second_derivatives_are_not_known_where_the_velocity_jumps_and_are_elsewhere():
    hessian = lambda field, x0: jax.hessian(lambda x: across(field, 0.0, x, 2 * H, x**2 + 2 * H, 1.0))(x0)
    assert jnp.isnan(hessian(STEP, jnp.asarray(1 - H)))
    assert hessian(STEP, jnp.asarray(0.5)) == 2
    assert hessian(SWITCHES["kink"][0], jnp.asarray(1 - H)) == pytest.approx(2)


@pytest.mark.parametrize("field", [lambda t, x, a: jnp.maximum(x, a), lambda t, x, a: jnp.where(t < a, x, 1.0)])
def test_kinks_and_times_are_no_switches_of_the_state(field):
    assert not has_switches(field, 0.0, 1.0, 1.0)


@pytest.mark.parametrize("method", ["taylor", "tsit5"])
def test_derivatives_of_ensembles_through_a_switch(method):
    found = jk.sensitivity(STEP, jnp.zeros(2), (0.0, 3.0), jnp.array([1.0, 1.5]), method=method)
    assert found.ensemble.ok.all()
    np.testing.assert_allclose(found.x0s.ravel(), [2, 2], rtol=1e-6)
    np.testing.assert_allclose(found.args.ravel(), [-1, -1], rtol=1e-6)


def test_many_directions_are_pulled_back_through_a_switch():
    field = lambda t, x, p: jnp.where(x < p[0], 1.0, 2.0) + 0.01 * jnp.sum(p[1:] ** 2) * x
    p = jnp.concatenate([jnp.ones(1), jnp.full(24, 0.1)])
    last = lambda p: jk.ensemble(field, jnp.zeros((1, 1)), (0.0, 3.0), p[None]).final[0, 0]
    back, ahead = jax.grad(last)(p), jax.jvp(last, (p,), (jnp.eye(25)[0],))[1]
    np.testing.assert_allclose(back[0], ahead, rtol=1e-6)
    assert -1.01 < back[0] < -1  # -1 without growth


@pytest.mark.parametrize("method", ["tsit5", "kvaerno5", "rodas5p", "auto"])
def test_derivatives_of_solve_through_a_switch(method):
    last = lambda x0, a: jk.solve(STEP, x0, jnp.array([0.0, 3.0]), a, method=method).final
    for mode in (jax.grad, jax.jacfwd):
        np.testing.assert_allclose(mode(last, (0, 1))(0.0, 1.0), [2, -1], rtol=1e-5)


def test_backwards_through_a_switch():
    last = lambda x0, a: jk.solve(STEP, x0, jnp.array([3.0, 0.0]), a, method="tsit5").final
    np.testing.assert_allclose(jax.grad(last, (0, 1))(5.0, 1.0), [0.5, 0.5], rtol=1e-5)

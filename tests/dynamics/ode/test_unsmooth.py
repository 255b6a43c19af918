"""Fields with kinks, switches, branches and steep rises: right to the tolerance, or not ok, by their true reason."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxkit as jk
from jaxkit.dynamics.ode.field import held_where_not_finite
from jaxkit.dynamics.ode.tolerance import absolute, control

# Field, start, end of the time span, answer.
RIGHT = {
    "harvest": (lambda t, x, _: 1 - 5 * jnp.maximum(x - 1, 0), 0.0, 4.0, 1.2 - 0.2 * np.exp(-15.0)),
    "dose": (lambda t, x, _: jnp.where(t < 1, 2.0, 0.0) - x, 0.0, 5.0, 2 * (1 - np.exp(-1.0)) * np.exp(-4.0)),
    "a wall": (lambda t, x, _: jnp.abs(x - 1) + 1, 0.0, 2.0, np.exp(2.0) / 2),
    "gaps in the series": (lambda t, x, _: -3 * t**2 * x, 1.0, 2.0, np.exp(-8.0)),
    "flat at the start": (lambda t, x, _: t**20 + 0 * x, 0.0, 2.0, 2.0**21 / 21),
    "a steep rise": (lambda t, x, _: jax.nn.sigmoid(50 * (t - 5)) + 0 * x, 0.0, 10.0, 5.0),
    "a folding arcsine": (lambda t, x, _: jnp.arcsin(jnp.sin(t)) + 0 * x, 0.0, np.pi, np.pi**2 / 4),
}


@pytest.mark.parametrize("name", RIGHT)
def test_taylor_does_not_go_straight_through(name):
    field, start, end, answer = RIGHT[name]
    found = jk.ensemble(field, jnp.array([start]), (0.0, end)).checked()
    np.testing.assert_allclose(found.final[0], answer, rtol=1e-5, atol=1e-6)


def test_the_tank_does_not_fill_again():
    found = jk.ensemble(lambda t, x, _: -jnp.sqrt(x), jnp.ones(2), jnp.array([[0.0, 1.0], [0.0, 3.0]]))
    assert found.status[0] == jk.Status.ok
    np.testing.assert_allclose(found.final, [0.25, 0.0], atol=1e-6)  # (1 - t/2)^2 until it is empty
    more = jk.ensemble(lambda t, x, _: -jnp.sqrt(x), jnp.ones(1), (0.0, 3.0), max_steps=20_000).checked()
    np.testing.assert_allclose(more.final, 0, atol=1e-6)
    assert found.status[1] == jk.Status.max_steps  # near its bottom steps are short: they are only many


@pytest.mark.parametrize("method", ["taylor", "tsit5"])
def test_each_failure_has_its_own_reason(method):
    field = lambda t, x, a: -x + a * jnp.log(x - 2)
    found = jk.ensemble(field, jnp.array([3.0, jnp.nan, 1.0]), (0.0, 0.1), jnp.array([0.1, 0.1, 0.1]), method=method)
    assert found.status.tolist() == [jk.Status.ok, jk.Status.start_not_finite, jk.Status.velocity_not_finite]


@pytest.mark.parametrize("method", ["taylor", "tsit5"])
def test_zero_times_nan_is_nan(method):
    for field in (lambda t, x, _: -x + 0.0 * jnp.log(-1 - x * x), lambda t, x, p: -x + 0.0 * jnp.sqrt(p)):
        found = jk.ensemble(field, jnp.ones(2), (0.0, 1.0), -jnp.ones(2), method=method)
        assert found.status.tolist() == [jk.Status.velocity_not_finite] * 2


def test_solve_gives_the_true_reason():
    """One field of several kinds: decay, blow-up, a tank that is empty at t = 2, stiffness."""

    def field(t, x, a):
        return -a[0] * x + a[1] * x * x - a[2] * jnp.sqrt(x) - 1e6 * a[3] * (x - jnp.cos(t))

    x0 = jnp.array([1.0, jnp.nan, 1.0, 1.0, 1.0, 1.0])
    args = jnp.array([[1.0, 0, 0, 0], [1, 0, 0, 0], [jnp.nan, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    found = jax.vmap(lambda x, a: jk.solve(field, x, jnp.array([0.0, 3.0]), a).status)(x0, args)
    names = ["ok", "start_not_finite", "velocity_not_finite", "step_too_small", "velocity_not_finite", "stiff"]
    assert [jk.Status(int(code)).name for code in found] == names


@pytest.mark.parametrize("derive", [jax.grad, jax.jacfwd])
def test_a_failed_solve_has_no_derivative(derive):
    field, direct = lambda t, x, a: a * x * x, jk.RungeKutta("tsit5", adjoint="direct")
    assert np.isnan(
        derive(lambda a: jk.solve(field, 1.0, jnp.array([0.0, 3.0]), a, method=direct, max_steps=16).final)(1.0)
    )

    def last(a, *, left_out):
        found = jk.ensemble(field, jnp.array([0.1, 1.0]), (0.0, 3.0), a)  # the second blows up at t = 1
        return jnp.sum(jnp.where(found.ok, found.final, 0.0) if left_out else found.final)

    assert np.isnan(derive(lambda a: last(a, left_out=False))(1.0))
    np.testing.assert_allclose(derive(lambda a: last(a, left_out=True))(1.0), 0.1**2 * 3 / 0.7**2, rtol=1e-6)


def overflows(t, x, k):
    """A stiff field whose first step by an explicit method overflows; x = cos(t)."""
    return -k * (jnp.exp(5 * x) - jnp.exp(5 * jnp.cos(t))) - jnp.sin(t)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["tsit5", "dopri8", "auto"])
def test_after_a_step_that_overflows_comes_a_shorter_one(method):
    solve = lambda k: jk.solve(overflows, 1.0, jnp.array([0.0, 2e-3]), k, method=method, max_steps=3000)
    sol = solve(1e3).checked()
    assert float(sol.final) == pytest.approx(np.cos(2e-3), abs=1e-7)
    assert sol.rejected > 1
    back, forth = (derive(lambda k: solve(k).final)(1e3) for derive in (jax.grad, jax.jacfwd))
    np.testing.assert_allclose(back, forth, rtol=1e-6, atol=1e-13)  # no NaN from the refused steps


@pytest.mark.parametrize("atol", [1e-9, {"x": 1e-9}])
def test_a_refused_step_that_overflows_leaves_a_length(atol):
    steps = control(1e-7, absolute(atol), {"x": jnp.ones(2)})
    one, wild = {"x": jnp.ones(2)}, {"x": jnp.array([-jnp.inf, jnp.nan])}
    state = (jnp.ones(()), jnp.ones(()), None)
    keep, start, end, *_ = steps.adapt_step_size(jnp.zeros(()), jnp.ones(()), one, wild, None, wild, 5.0, state)
    assert (bool(keep), float(start)) == (False, 0.0)
    assert 0 < float(end) < 1


def test_a_field_has_no_derivative_where_it_is_not_finite():
    field = held_where_not_finite(lambda t, x, a: jnp.exp(a * x))
    slopes = lambda x: jax.grad(lambda x, a: 0.0 * field(0.0, x, a), (0, 1))(x, 2.0)
    assert np.array(slopes(1e3)).tolist() == [0, 0]
    np.testing.assert_allclose(jax.grad(field, (1, 2))(0.0, 1.0, 2.0), np.exp(2.0) * np.array([2.0, 1.0]))

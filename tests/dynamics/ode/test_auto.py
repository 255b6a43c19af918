"""Stiffness without asking: the method changes where it pays, and every answer and derivative is right."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxkit as jk
from jaxkit.dynamics.ode.auto import Path

TS = jnp.array([0.0, 1.0, 3.0])


def pulled(t, x, rate):
    """Pulled to `cos(t)` by a rate, so that `x = cos(t)` from 1; the second number is the first's integral."""
    return jnp.stack([-rate * (x[0] - jnp.cos(t)) - jnp.sin(t), x[0]])


@jax.jit
def many(x0, rates):
    return jax.vmap(lambda x, k: jk.solve(pulled, jnp.stack([x, 0.0]), TS, k, method="auto"))(x0, rates)


def fixed(method, rate):
    return jk.solve(pulled, jnp.array([1.0, 0.0]), TS, rate, method=method)


def test_stiff_lanes_and_others_are_right_side_by_side():
    found = many(jnp.ones(4), jnp.array([1.0, 1e3, 1e6, 1e9]))
    assert found.ok.all()
    np.testing.assert_allclose(found.xs[..., 0], np.broadcast_to(np.cos(TS), (4, 3)), atol=1e-6)
    np.testing.assert_allclose(found.xs[..., 1], np.broadcast_to(np.sin(TS), (4, 3)), atol=1e-6)
    assert (found.steps < 200).all()  # stability would ask for a billion


def test_a_lane_does_not_see_its_neighbours():
    together = many(jnp.ones(4), jnp.array([1.0, 1e6, 2.0, 1e3]))
    alone = [many(jnp.ones(4), jnp.full(4, k)) for k in (1.0, 1e6, 2.0, 1e3)]
    assert together.steps.tolist() == [int(a.steps[0]) for a in alone]
    np.testing.assert_allclose(together.final, [a.final[0] for a in alone], rtol=1e-9, atol=1e-9)


@pytest.mark.slow
def test_a_motion_that_is_not_stiff_takes_the_steps_of_tsit5():
    auto, tsit5 = fixed("auto", 1.0), fixed("tsit5", 1.0)
    assert (int(auto.steps), int(auto.rejected)) == (int(tsit5.steps), int(tsit5.rejected))
    np.testing.assert_allclose(auto.xs, tsit5.xs, rtol=1e-10)


def test_lanes_that_fail_have_their_own_reason():
    found = many(jnp.array([1.0, jnp.nan, 1.0, 1.0]), jnp.array([1e6, 1.0, jnp.nan, 1.0]))
    names = ["ok", "start_not_finite", "velocity_not_finite", "ok"]
    assert [jk.Status(int(code)).name for code in found.status] == names


SHORT = jnp.array([0.0, 0.5])


def ended(rate, x0, end):
    ts = jnp.stack([jnp.zeros_like(end), end])
    return jk.solve(pulled, jnp.stack([x0, 0.0 * x0]), ts, rate, method="auto", rtol=1e-8, max_steps=256).final[1]


def integral(rate, x0, end):
    """The integral of `cos(t) + (x0 - 1) exp(-rate t)`."""
    return jnp.sin(end) - (x0 - 1) * jnp.expm1(-rate * end) / rate


POINT = (jnp.asarray(2e3), jnp.asarray(1.5), jnp.asarray(0.5))


@pytest.mark.slow
@pytest.mark.parametrize("derive", [jax.grad, jax.jacfwd])
def test_derivatives_go_through_the_change(derive):
    ours, right = (jax.jit(derive(f, (0, 1, 2)))(*POINT) for f in (ended, integral))
    np.testing.assert_allclose(ours, right, rtol=1e-4, atol=1e-11)


@pytest.mark.slow
@pytest.mark.parametrize("outer", [jax.jacfwd, jax.jacrev])
def test_second_derivatives_go_through_the_change(outer):
    ours, right = (jax.jit(outer(jax.grad(f, (0, 1, 2)), (0, 1, 2)))(*POINT) for f in (ended, integral))
    np.testing.assert_allclose(np.array(ours), np.array(right), rtol=1e-3, atol=1e-9)


@pytest.mark.slow
def test_derivatives_side_by_side_are_those_of_each_lane():
    """In the stiff lane the explicit pair's formulas, which are evaluated for the other, are infinite."""
    field = lambda t, x, k: -k * (jnp.exp(5 * x) - jnp.exp(5 * jnp.cos(t))) - jnp.sin(t)
    end = lambda k, x0, method: jnp.sum(jk.solve(field, x0, TS, k, method=method, max_steps=800).final)
    rates, starts = jnp.array([1e-2, 1e4]), jnp.array([1.0, 1.0])
    slopes = jax.jit(jax.vmap(jax.grad(lambda k, x0: end(k, x0, "auto"), (0, 1))))(rates, starts)
    alone = jax.jit(jax.grad(lambda k, x0: end(k, x0, "tsit5"), (0, 1)))(rates[0], starts[0])
    np.testing.assert_allclose([s[0] for s in slopes], alone, rtol=1e-4, atol=1e-9)
    np.testing.assert_allclose([s[1] for s in slopes], 0, atol=1e-6)


@pytest.mark.slow
def test_an_event_of_a_stiff_motion():
    event = lambda t, x, k: x[0] - 0.5
    found = jk.solve(pulled, jnp.array([1.0, 0.0]), TS, 1e6, method="auto", event=event).checked()
    assert float(found.end) == pytest.approx(np.pi / 3, abs=1e-6)
    np.testing.assert_allclose(found.final, [0.5, np.sin(np.pi / 3)], atol=1e-6)


def test_a_field_without_a_jacobian_is_solved_as_before():
    @jax.custom_vjp
    def reverse_only(x):
        return -x

    reverse_only.defvjp(lambda x: (-x, None), lambda _, v: (-v,))
    found = jk.solve(lambda t, x, _: reverse_only(x), 1.0, TS, method="auto").checked()
    np.testing.assert_allclose(found.xs, np.exp(-TS), rtol=1e-6)


@pytest.mark.slow
def test_a_large_state_is_left_to_the_explicit_pair():
    k = jnp.where(jnp.arange(300) == 0, 1e6, 1.0)
    found = jk.solve(lambda t, x, k: -k * (x - jnp.cos(t)), jnp.ones(300), TS, k, method="auto", max_steps=512)
    assert found.status == jk.Status.stiff


def test_bad_methods_are_one_sentence():
    with pytest.raises(ValueError, match="`dt` must be left out with the scheme 'auto'"):
        fixed(jk.RungeKutta("auto", dt=0.1), 1.0)
    noise = jk.SDE(pulled, pulled, jax.random.key(0))
    with pytest.raises(ValueError, match="`scheme` must be one for noise"):
        jk.solve(noise, jnp.ones(2), TS, 1.0, method=jk.RungeKutta("rodas5p", dt=0.1))


@pytest.mark.parametrize("method", ["auto", "rodas5p"])
def test_two_crossings_within_a_step_are_seen(method):
    ts, line = jnp.array([0.0, 3.0]), lambda t, x, _: -jnp.ones_like(x)  # one step is enough for it
    pair = lambda t, x, _: jnp.square(x - 0.5) - 1e-4
    found = jk.solve(line, 1.0, ts, method=method, event=pair).checked()
    np.testing.assert_allclose(found.end, 0.49, rtol=1e-9)


def test_the_state_within_a_step_moves_at_its_end_too():
    h, y0, y1 = jnp.asarray(0.5), jnp.asarray(1.0), jnp.asarray(2.0)
    parts = tuple(jnp.asarray(v) for v in (0.1, 0.2, 0.3, 0.4, 0.0, 0.0, 0.0))
    path = Path(t0=jnp.zeros(()), t1=h, y0=y0, y1=y1, h=h, stiff=jnp.asarray(True), parts=parts)
    value, speed = jax.jvp(path.evaluate, (h,), (jnp.ones(()),))
    assert value == y1
    np.testing.assert_allclose(speed, (0.1 + 2 * 0.2 + 3 * 0.3 + 4 * 0.4) / 0.5)

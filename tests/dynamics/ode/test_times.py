"""Times: backwards, repeated, all the same; events backwards; what is out of order."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxkit as jk
from jaxkit.dynamics.ode.onward import moving_on

slow = pytest.mark.slow
FIELD = lambda t, x, a: -a * x * jnp.cos(t)
METHODS = ["tsit5", *(pytest.param(m, marks=slow) for m in ("taylor", "dopri5", "dopri8", "bosh3", "kvaerno5", "auto"))]
TIMES = np.array([[2.0, 1.2, 1.2, 0.3], [0.0, 0.0, 1.2, 1.2], [1.2, 1.2, 1.2, 1.2], [0.3, 1.0, 2.0, 2.0], [1, 1, 0, 0]])


def exact(ts, a):
    return np.exp(-a * (np.sin(ts) - np.sin(ts[..., :1])))


def slopes(ts, a):
    """d x(ts[i]) / d ts[j], and d x(ts[i]) / d a."""
    x, start = exact(ts, a), np.eye(len(ts))[0]
    by_ts = np.diag(-a * x * np.cos(ts)) + np.outer(a * x * np.cos(ts[0]), start)
    return by_ts, -(np.sin(ts) - np.sin(ts[0])) * x


@pytest.mark.parametrize("method", METHODS)
def test_states_and_derivatives_at_times_of_any_order(method):
    accuracy = {"rtol": 1e-8, "atol": 1e-10}
    states = lambda ts, a: jk.solve(FIELD, 1.0, ts, a, method=method, **accuracy).xs
    found = jax.jit(jax.vmap(lambda ts: (states(ts, 1.3), jax.jacrev(states, (0, 1))(ts, 1.3))))(TIMES)
    forward = jax.jit(jax.vmap(jax.jacfwd(states, (0, 1)), (0, None)))(TIMES, 1.3)
    off = {"bosh3": 3e-6, "kvaerno5": 1e-5}.get(method, 1e-6)  # between steps these two interpolate by cubics
    np.testing.assert_allclose(found[0], exact(TIMES, 1.3), rtol=off)
    for derivative in (found[1], forward):
        for i, ts in enumerate(TIMES):
            for ours, truth in zip(derivative, slopes(ts, 1.3), strict=True):
                np.testing.assert_allclose(ours[i], truth, atol=300 * off)


@pytest.mark.parametrize("method", ["taylor", pytest.param("tsit5", marks=slow)])
def test_ensembles_and_sensitivities_at_times_of_any_order(method):
    rates = jnp.array([1.3, 0.4])
    for ts in TIMES:
        s = jk.sensitivity(FIELD, jnp.ones(2), ts, rates, method=method)
        assert s.ensemble.ok.all()
        np.testing.assert_allclose(s.ensemble.xs, [exact(ts, 1.3), exact(ts, 0.4)], rtol=2e-5)
        np.testing.assert_allclose(s.xs_args[..., 0], [slopes(ts, a)[1] for a in rates], atol=2e-5)
        np.testing.assert_allclose(s.xs_x0s[..., 0, 0], [exact(ts, 1.3), exact(ts, 0.4)], rtol=2e-5)
        np.testing.assert_allclose(s.args, s.xs_args[:, -1])


@slow
def test_second_derivatives_by_times_that_are_all_the_same():
    end = lambda ts: jk.solve(FIELD, 1.0, ts, 1.3).final
    hessian = jax.hessian(end)(jnp.array([1.0, 1.0]))
    f, c = -1.3 * np.cos(1.0), 1.3 * np.sin(1.0)
    np.testing.assert_allclose(hessian, [[f * f - c, -f * f], [-f * f, f * f + c]], rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["tsit5", "taylor", "kvaerno5", "bosh3", "auto"])
def test_an_event_backwards_is_the_first_change_in_the_direction_of_motion(method):
    # The sine has its zeros at whole multiples of pi: from t = 7 backwards the first is at 2 pi; 4 is a later one.
    turn = lambda t, x, w: (x[1], -(w**2) * x[0])
    event = lambda t, x, w: x[0]

    def end(w):
        start = (jnp.sin(w * 7.0), w * jnp.cos(w * 7.0))
        found = jk.solve(turn, start, jnp.array([7.0, 6.5, 1.0]), w, method=method, event=event, rtol=1e-9, atol=1e-11)
        return found.end, found

    (at, slope), found = jax.jit(lambda w: (jax.value_and_grad(lambda w: end(w)[0])(w), end(w)[1]))(1.0)
    assert found.ok
    assert float(at) == pytest.approx(2 * np.pi, abs=1e-6)
    assert float(slope) == pytest.approx(-2 * np.pi, abs=1e-4)
    np.testing.assert_allclose(found.xs[0], [np.sin(7.0), np.sin(6.5), np.inf], atol=1e-6)


def test_switches_backwards():
    pulse = lambda t, x, a: jnp.where((t > a) & (t < a + 1e-3), 1e3, 0.0) - 0 * x
    start = lambda a, method: jk.solve(pulse, 1.0, jnp.array([3.0, 0.0]), a, method=method).checked().final
    for method in ("tsit5", "taylor"):
        np.testing.assert_allclose(start(1.7, method), 0.0, atol=1e-6)


def test_times_that_turn_back_are_one_sentence_or_a_status():
    field = lambda t, x, _: -x
    for ts in ([0.0, 2.0, 1.0], [0.0, 1.0, 0.0]):
        with pytest.raises(ValueError, match=r"Argument `ts` must not decrease, but ts\[2\] < ts\[1\]"):
            jk.solve(field, 1.0, jnp.array(ts))
        with pytest.raises(ValueError, match="`ts` must not decrease"):
            jk.ensemble(field, jnp.ones(1), ts)
    with pytest.raises(ValueError, match=r"`ts` must not increase, but ts\[2\] > ts\[1\]"):
        jk.sensitivity(field, jnp.ones(1), [2.0, 0.0, 1.0])
    noisy = jk.SDE(field, lambda t, x, _: x, jax.random.key(0))
    with pytest.raises(ValueError, match="`ts` must not decrease"):
        jk.solve(noisy, 1.0, jnp.array([1.0, 0.0]), method=jk.RungeKutta("euler", dt=0.1))


def test_noise_over_no_time_is_none():
    noisy = jk.SDE(lambda t, x, _: -x, lambda t, x, _: x, jax.random.key(0))
    found = jk.solve(noisy, 2.0, jnp.array([1.0, 1.0, 1.0]), method=jk.RungeKutta("euler", dt=0.1)).checked()
    np.testing.assert_allclose(found.xs, 2.0)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["tsit5", "kvaerno5", "taylor"])
def test_second_derivatives_by_all_times(method):
    """By the beginning, by a time on the way, by the end, and by the parameter."""

    def found(p):
        start = 1.0 + 0.5 * p[0]
        return jk.solve(FIELD, start, p[:3], p[3], method=method, rtol=1e-10, atol=1e-12).xs[1:]

    known = lambda p: (1.0 + 0.5 * p[0]) * jnp.exp(-p[3] * (jnp.sin(p[1:3]) - jnp.sin(p[0])))
    p = jnp.array([0.3, 1.0, 2.5, 0.7])
    np.testing.assert_allclose(jax.jit(jax.hessian(found))(p), jax.hessian(known)(p), atol=2e-6)


def test_a_moment_that_is_zero_has_derivatives():
    """x' = a x^2: x(s) = x / (1 - a s x)."""
    field, known = lambda t, x, a: a * x**2, lambda s, x, a: x / (1 - a * s * x)
    on = lambda s, x, a: moving_on(field, s, jnp.asarray(0.3), x, a)
    p = (jnp.zeros(()), jnp.asarray(0.8), jnp.asarray(1.5))
    assert float(on(*p)) == 0.8
    for n in (jax.jacfwd, jax.jacrev, jax.hessian):
        np.testing.assert_allclose(np.array(n(on, (0, 1, 2))(*p)), np.array(n(known, (0, 1, 2))(*p)), rtol=1e-12)

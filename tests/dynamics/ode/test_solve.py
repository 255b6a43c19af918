"""solve: closed forms, orders, gradients in both modes, events, noise, status, bad input."""

import functools

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import jaxkit as jk
from jaxkit.dynamics.ode.methods import SOLVERS

oscillator = lambda t, x, w: (x[1], -(w**2) * x[0])
TS = jnp.array([0.0, 0.4, 1.7, 3.0])
NOISY = jk.SDE(oscillator, oscillator, jax.random.key(0))


def exact(ts, w):
    return np.cos(w * ts), -w * np.sin(w * ts)


@pytest.mark.parametrize("method", ["tsit5", "dopri5", "dopri8", "kvaerno5"])
def test_oscillator_against_its_closed_form(method):
    sol = jk.solve(oscillator, (1.0, 0.0), TS, 2.0, method=method, rtol=1e-8, atol=1e-10).checked()
    for ours, truth in zip(sol.xs, exact(TS, 2.0), strict=True):
        np.testing.assert_allclose(ours, truth, atol=2e-6)
    np.testing.assert_allclose(sol.final[0], sol.xs[0][-1])
    assert float(sol.end) == 3.0


@pytest.mark.parametrize(("method", "order"), [("euler", 1), ("heun", 2), ("midpoint", 2), ("bosh3", 3)])
def test_fixed_steps_show_the_order(method, order):
    run = jax.jit(
        lambda dt: jk.solve(lambda t, x, _: -x * jnp.cos(t), 1.0, TS[::3], method=jk.RungeKutta(method, dt=dt)).final,
        static_argnums=0,
    )
    steps = np.array([0.02, 0.01, 0.005])
    errors = [abs(float(run(float(dt))) - np.exp(-np.sin(3.0))) for dt in steps]
    slope = np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert abs(slope - order) < 0.2, errors


@pytest.mark.parametrize("rtol", [1e-4, 1e-6, 1e-8])
def test_error_follows_the_tolerance(rtol):
    sol = jk.solve(oscillator, (1.0, 0.0), TS, 2.0, rtol=rtol, atol=rtol)
    assert abs(float(sol.final[0]) - np.cos(6.0)) <= 50 * rtol


@functools.partial(jax.jit, static_argnums=3)
def final(x0, w, end, adjoint):
    ts = jnp.stack([jnp.zeros_like(end), end])
    sol = jk.solve(
        oscillator,
        (x0, jnp.zeros_like(x0)),
        ts,
        w,
        method=jk.RungeKutta("dopri8", adjoint=adjoint),
        rtol=1e-12,
        atol=1e-13,
        max_steps=256,
    )
    return sol.final[0]


@pytest.mark.slow
def test_gradients_of_order_two_in_both_modes():
    check_grads(lambda *a: final(*a, "direct"), (1.2, 1.5, 2.0), order=2, modes=("fwd", "rev"), atol=1e-5, rtol=1e-5)


@pytest.mark.slow
def test_every_adjoint_gives_the_closed_form():
    # x(t) = x0 cos(w t): d/dw = -x0 t sin(w t), d/dt = -x0 w sin(w t)
    truth = [np.cos(3.0), -1.2 * 2.0 * np.sin(3.0), -1.2 * 1.5 * np.sin(3.0)]
    for adjoint, derive in (("checkpointed", jax.grad), ("direct", jax.grad), ("forward", jax.jacfwd)):
        ours = derive(lambda *a, adjoint=adjoint: final(*a, adjoint), argnums=(0, 1, 2))(1.2, 1.5, 2.0)
        np.testing.assert_allclose(ours, truth, rtol=1e-7)


def test_vmap_is_the_loop():
    one = lambda w: jk.solve(oscillator, (1.0, 0.0), TS, w).xs[0]
    ws = jnp.array([0.5, 1.0, 3.0])
    np.testing.assert_allclose(jax.vmap(one)(ws), jnp.stack([one(w) for w in ws]), rtol=1e-12, atol=1e-12)


def test_event_stops_at_the_crossing():
    fall = lambda t, x, g: (x[1], -g)
    sol = jk.solve(fall, (10.0, 0.0), jnp.array([0.0, 5.0]), 9.81, event=lambda t, x, g: x[0]).checked()
    assert abs(float(sol.end) - np.sqrt(2 * 10 / 9.81)) < 1e-12
    assert abs(float(sol.final[0])) < 1e-12


def test_a_lane_that_blows_up_does_not_stop_the_others():
    explode = lambda t, x, _: x**2  # x = x0 / (1 - x0 t)
    sols = jax.vmap(lambda x0: jk.solve(explode, x0, jnp.array([0.0, 1.0]), max_steps=512))(jnp.array([0.5, 2.0, 0.25]))
    assert sols.ok.tolist() == [True, False, True]
    np.testing.assert_allclose(sols.final[::2], [1.0, 1 / 3], rtol=1e-6)
    with pytest.raises(jk.SolverError, match="1 of 3 lanes failed, the first at index 1"):
        sols.checked()


def test_too_few_steps_is_a_status():
    sol = jk.solve(oscillator, (1.0, 0.0), jnp.array([0.0, 100.0]), 2.0, max_steps=10)
    assert int(sol.status) == jk.Status.max_steps


def test_noise_has_the_law_of_an_ornstein_uhlenbeck_process():
    run = lambda key: (
        jk.solve(
            jk.SDE(lambda t, x, _: -x, lambda t, x, _: 0.5 * jnp.ones_like(x), key),
            2.0,
            jnp.array([0.0, 1.0]),
            method=jk.RungeKutta("euler", dt=0.01),
        ).final
    )
    ends = jax.jit(jax.vmap(run))(jax.random.split(jax.random.key(1), 2000))
    assert abs(float(ends.mean()) - 2 * np.exp(-1)) < 0.03
    assert abs(float(ends.var()) - 0.125 * (1 - np.exp(-2))) < 0.012


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"ts": jnp.array([0.0, 2.0, 1.0])}, r"`ts` must not decrease"),
        ({"ts": jnp.array([0.0])}, r"`ts` must have shape \(n,\), n >= 2, but has shape \(1,\)"),
        ({"x0": (1.0, jnp.nan)}, "`x0` must be finite"),
        ({"x0": (1.0,)}, "return the structure of the state|index"),
        ({"method": "rk99"}, "`method` must be one of 'taylor', 'euler'"),
        ({"method": jk.RungeKutta("rk99")}, "`scheme` must be one of 'euler'"),
        ({"field": jk.SDE(oscillator, oscillator, None)}, "`method` must have a fixed step `dt` for an SDE"),
        (
            {"field": jk.SDE(oscillator, oscillator, None), "method": "taylor"},
            "`method` must have a fixed step for an SDE",
        ),
        ({"field": 3}, "`field` must be a function"),
        ({"field": lambda t, x, w: x[0]}, "`field` must return the structure of the state"),
        ({"field": lambda t, x, w: (x[0][None], x[1])}, "`field` must return the shapes of the state"),
    ],
)
def test_bad_input_is_one_sentence(change, sentence):
    arguments = {"field": oscillator, "x0": (1.0, 0.0), "ts": TS, "args": 2.0} | change
    with pytest.raises((ValueError, IndexError), match=sentence):
        jk.solve(arguments.pop("field"), arguments.pop("x0"), arguments.pop("ts"), arguments.pop("args"), **arguments)


def test_an_unknown_adjoint_is_one_sentence():
    with pytest.raises(ValueError, match="`adjoint` must be one of 'auto', 'direct'"):
        jk.RungeKutta(adjoint="backsolve")


def test_a_tolerance_below_the_dtype_is_said():
    with pytest.warns(UserWarning, match="below what float32 can resolve"):
        jk.solve(lambda t, x, _: -x, jnp.float32(1.0), jnp.array([0.0, 1.0], jnp.float32), rtol=1e-8)


def test_every_named_method_runs():
    assert len(SOLVERS) >= 10
    for name in ("implicit_euler", "kvaerno3"):
        sol = jk.solve(lambda t, x, _: -50 * x, 1.0, jnp.array([0.0, 0.2]), method=name, rtol=1e-4, atol=1e-6).checked()
        assert abs(float(sol.final) - np.exp(-10)) < 1e-3


@pytest.mark.parametrize("method", ["tsit5", "bosh3", "taylor", "kvaerno5"])
def test_times_that_are_no_times_are_never_ok(method):
    run = jax.jit(lambda ts: jk.solve(lambda t, x, _: -x, 1.0, ts, method=method))
    no_numbers = ([0.0, jnp.nan, 2.0], [jnp.nan, 1.0, 2.0], [0.0, 1.0, jnp.inf], [-jnp.inf, 0.0, 1.0])
    no_order = ([0.0, 2.0, 1.0], [1.0, 2.0, 0.0], [1.0, 0.0, 0.5])
    wrong = [(ts, jk.Status.not_finite) for ts in no_numbers] + [(ts, jk.Status.not_applicable) for ts in no_order]
    for ts, status in (([0.0, 1.0, 2.0], jk.Status.ok), *wrong):
        found = run(jnp.array(ts))
        assert int(found.status) == status
        bad = status != jk.Status.ok
        assert np.isnan([*found.xs, found.final, found.end]).all() == bad
        assert bad or abs(float(found.xs[1]) - np.exp(-1)) < 1e-6
    with pytest.raises(ValueError, match=r"Argument `ts` must not decrease, but ts\[2\] < ts\[1\]"):
        jk.solve(lambda t, x, _: -x, 1.0, jnp.array([0.0, 2.0, 1.0]), method=method)


def test_times_of_no_use_have_no_derivative():
    def lost(rate, ts):
        found = jk.solve(lambda t, x, a: -a * x, 1.0, ts, rate, method="taylor")
        return jnp.sum(found.xs), jnp.where(found.ok, found.final, 0.0)

    for ts in ([0.0, 2.0, 1.0], [0.0, jnp.nan, 1.0]):
        by_states, by_chosen = jax.jit(jax.jacrev(lost, argnums=(0, 1)))(1.0, jnp.array(ts))
        assert np.isnan(by_states[0])
        assert np.isnan(by_states[1]).any()
        assert by_chosen[0] == 0  # a loss that leaves it out


def test_taylor_goes_backwards():
    sol = jk.solve(lambda t, x, _: -x, 1.0, jnp.array([1.0, 0.5, 0.0]), method="taylor").checked()
    np.testing.assert_allclose(sol.xs, np.exp([0.0, 0.5, 1.0]), rtol=1e-7)


def test_implicit_methods_and_numbers_that_are_not_finite():
    ts = jnp.array([0.0, 1.0])
    decay = lambda a: jk.solve(lambda t, x, a: jnp.log(a - x), 0.9, ts, a, method="kvaerno3").final
    values, slopes = jax.jit(jax.vmap(jax.value_and_grad(decay)))(jnp.array([3.0, jnp.nan, 0.5, 2.0]))
    alone = jax.value_and_grad(decay)(2.0)
    np.testing.assert_allclose((values[3], slopes[3]), alone, rtol=1e-12)
    np.testing.assert_array_equal(jnp.isnan(values), [False, True, True, False])
    np.testing.assert_array_equal(jnp.isfinite(slopes), [True, False, False, True])


TANK = lambda t, x, a: -jnp.sqrt(x - a)  # x = a + (sqrt(1 - a) - t/2)^2 until it arrives at a with an infinite slope
RATE = lambda t, x, a: -x * jnp.sqrt(a)


def to_the_end(field, x0, a, *, adjoint="checkpointed", closed=False):
    method, ts = jk.RungeKutta("kvaerno3", adjoint=adjoint), jnp.array([0.0, 2.5])
    options = {"method": method, "max_steps": 300}
    if closed:
        return jk.solve(lambda t, x, _: field(t, x, a), x0, ts, **options).final
    return jk.solve(field, x0, ts, a, **options).final


@pytest.mark.parametrize(
    ("adjoint", "closed"),
    [
        ("checkpointed", False),
        pytest.param("checkpointed", True, marks=pytest.mark.slow),
        pytest.param("forward", False, marks=pytest.mark.slow),
    ],
)
def test_no_derivative_of_an_implicit_solve_raises(adjoint, closed):
    derivative = jax.jacfwd if adjoint == "forward" else jax.grad
    end = lambda a: to_the_end(TANK, 1.0, a, adjoint=adjoint, closed=closed)
    slopes = jax.jit(jax.vmap(derivative(end)))(jnp.array([0.0, -1.0, 0.5]))
    np.testing.assert_array_equal(jnp.isnan(slopes), [True, False, True])
    assert float(slopes[1]) == pytest.approx(1.25 / np.sqrt(2), rel=1e-5)


@pytest.mark.slow
def test_an_infinite_slope_by_a_parameter_is_that_parameters_alone():
    both = jax.grad(lambda given: to_the_end(RATE, *given))
    by_start, by_rate = jax.jit(jax.vmap(both))((jnp.ones(2), jnp.array([0.0, 0.25])))
    np.testing.assert_allclose(by_start, [1, np.exp(-1.25)], rtol=1e-5)
    np.testing.assert_allclose(by_rate, [np.nan, -2.5 * np.exp(-1.25)], rtol=1e-5)


def test_implicit_methods_take_fixed_steps():
    ts = jnp.array([0.0, 1.0])
    for scheme in ("implicit_euler", diffrax.Kvaerno4()):
        euler = scheme == "implicit_euler"
        run = lambda dt, scheme=scheme: (
            jk.solve(lambda t, x, _: -x, 1.0, ts, method=jk.RungeKutta(scheme, dt=dt)).checked().final
        )
        right = 1.1**-10 if euler else jnp.exp(-1.0)
        np.testing.assert_allclose(run(0.1), right, rtol=1e-6 if euler else 1e-4)

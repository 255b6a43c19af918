"""Ensembles: accuracy, statuses, saves, events, devices, derivatives."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from scipy.integrate import solve_ivp

import jaxkit as jk
from jaxkit.dynamics.ode import schemes
from jaxkit.dynamics.ode.methods import EMBEDDED

OSCILLATOR = lambda t, x, w: (x[1], -(w**2) * x[0])
W = jnp.linspace(1.0, 3.0, 7)
START = (jnp.ones(7), jnp.zeros(7))


@pytest.mark.parametrize("method", ["taylor", "tsit5", "dopri8"])
@pytest.mark.parametrize("direction", [1.0, -1.0])
def test_saved_states_of_an_oscillator(method, direction):
    ts = direction * jnp.linspace(0.0, 5.0, 11)
    found = jk.ensemble(OSCILLATOR, START, ts, W, method=method, rtol=1e-9, atol=1e-9).checked()
    np.testing.assert_allclose(found.xs[0], jnp.cos(W[:, None] * ts[None, :]), atol=5e-9)
    np.testing.assert_allclose(found.final[1], -W * jnp.sin(W * ts[-1]), atol=2e-8)


@pytest.mark.parametrize("method", ["taylor", "dopri8"])
def test_event_stops_each_lane_at_its_own_time(method):
    events = (lambda t, x, w: x[1] + 100.0, lambda t, x, w: x[0])
    found = jk.ensemble(OSCILLATOR, START, (0.0, 5.0), W, method=method, rtol=1e-10, atol=1e-10, event=events).checked()
    np.testing.assert_allclose(found.end, jnp.pi / 2 / W, rtol=1e-9)
    assert found.event.tolist() == [1] * 7


def test_a_lane_that_blows_up_is_reported_and_hurts_nobody():
    x0 = jnp.linspace(-2.0, -0.5, 10_000).at[7137].set(1.0)  # x(2) = x0 / (1 - 2 x0); the positive one ends at t = 1
    found = jk.ensemble(lambda t, x, a: x * x, x0, (0.0, 2.0))
    assert np.flatnonzero(found.status).tolist() == [7137]
    assert abs(float(found.end[7137]) - 1.0) < 1e-6
    np.testing.assert_allclose(np.delete(found.final, 7137), np.delete(x0 / (1 - 2 * x0), 7137), rtol=1e-5)
    with pytest.raises(jk.SolverError, match=r"1 of 10000 lanes failed, the first at index 7137"):
        found.checked()


def lorenz(t, x, rho):
    return jnp.stack([10 * (x[1] - x[0]), x[0] * (rho - x[2]) - x[1], x[0] * x[1] - 8 / 3 * x[2]])


@pytest.mark.parametrize("method", ["taylor", "dopri8"])
def test_lorenz_against_scipy(method):
    x0, rho = np.array([[1.0, 1.0, 1.0], [-8.0, 7.0, 27.0], [0.1, 0.0, 0.0]]), np.array([28.0, 28.0, 14.0])
    found = jk.ensemble(lorenz, x0, (0.0, 10.0), rho, method=method, rtol=1e-13, atol=1e-13).checked()
    for i in range(3):
        other = solve_ivp(lambda t, x, i=i: lorenz_numpy(x, rho[i]), (0, 10), x0[i], "DOP853", rtol=1e-13, atol=1e-13)
        np.testing.assert_allclose(found.final[i], other.y[:, -1], atol=1e-7)  # errors grow by e^9 on the way


def lorenz_numpy(x, rho):
    return 10 * (x[1] - x[0]), x[0] * (rho - x[2]) - x[1], x[0] * x[1] - 8 / 3 * x[2]


@pytest.mark.parametrize("method", ["taylor", "tsit5"])
def test_a_stiff_lane_is_sent_to_an_implicit_method(method):
    oscillator = lambda t, x, mu: (x[1], mu * (1 - x[0] ** 2) * x[1] - x[0])  # van der Pol's
    mu, end = jnp.array([1e3, 0.5, 0.5]), jnp.array([2e3, 20.0, 2e3])
    found = jk.ensemble(oscillator, (2.0, 0.0), jnp.stack([jnp.zeros(3), end], -1), mu, method=method, max_steps=1000)
    assert found.status.tolist() == [jk.Status.stiff, jk.Status.ok, jk.Status.max_steps]  # the third is only long
    with pytest.raises(jk.SolverError, match=r'the problem is stiff.*method="rodas5p"'):
        found.checked()


def test_robertson_is_stiff_and_the_advice_helps():
    def rates(t, x, k):
        a, b, c = k[0] * x[0], k[1] * x[1] ** 2, k[2] * x[1] * x[2]
        return jnp.stack([c - a, a - b - c, b])

    k, start = jnp.array([0.04, 3e7, 1e4]), jnp.array([1.0, 0.0, 0.0])
    found = jk.ensemble(rates, start[None], (0.0, 40.0), k[None], max_steps=1000)
    assert found.status.tolist() == [jk.Status.stiff]
    sol = jk.solve(rates, start, jnp.array([0.0, 40.0]), k, method="rodas5p", rtol=1e-8, atol=1e-12).checked()
    # By scipy's Radau at rtol = 1e-11.
    np.testing.assert_allclose(sol.final, [0.7158270688, 9.185534764e-6, 0.2841637457], rtol=1e-5)


def test_not_finite_start_and_max_steps():
    found = jk.ensemble(lambda t, x, a: jnp.log(x), jnp.array([2.0, -1.0]), (0.0, 1.0))
    assert found.status.tolist() == [jk.Status.ok, jk.Status.velocity_not_finite]
    found = jk.ensemble(OSCILLATOR, START, (0.0, 1e4), W, max_steps=10)
    assert set(found.status.tolist()) == {int(jk.Status.max_steps)}


@pytest.mark.parametrize("method", ["taylor", "dopri8"])
def test_derivatives_in_both_modes(method):
    ts = jnp.linspace(0.0, 3.0, 4)

    def loss(x, w, t1):
        times = jnp.append(ts, t1)
        found = jk.ensemble(OSCILLATOR, (x, jnp.zeros(7)), times, w, method=method, rtol=1e-12, atol=1e-12)
        return jnp.sum(found.final[0] ** 2) + jnp.sum(jnp.sin(found.xs[1][:, :-1]))

    check_grads(loss, (jnp.ones(7), W, 3.2), order=1, modes=("fwd", "rev"), rtol=1e-6, atol=1e-6)


def test_derivative_of_the_time_of_an_event():
    end = lambda w: jnp.sum(jk.ensemble(OSCILLATOR, START, (0.0, 9.0), w, rtol=1e-10, event=lambda t, x, w: x[0]).end)
    np.testing.assert_allclose(jax.grad(end)(W), -jnp.pi / 2 / W**2, rtol=1e-7)


def test_lanes_do_not_depend_on_order_chunks_or_devices():
    settings = {"rtol": 1e-8, "atol": 1e-8}
    w = jnp.exp(jnp.linspace(-2.0, 2.0, 300))[np.random.default_rng(0).permutation(300)]
    start = (jnp.ones(300), jnp.zeros(300))
    one = jk.ensemble(OSCILLATOR, start, (0.0, 5.0), w, **settings).checked()
    np.testing.assert_allclose(one.final[0], jnp.cos(5 * w), atol=2e-7)
    shared = jk.ensemble(
        OSCILLATOR, start, (0.0, 5.0), w, method=jk.Taylor(width=16), run=jk.Run(devices=jax.devices()), **settings
    )
    assert shared.final[0].sharding.device_set == set(jax.devices())
    np.testing.assert_allclose(shared.final[0], one.final[0], rtol=0, atol=1e-12)


def test_a_field_without_a_recurrence_falls_back_with_a_sentence():
    solve = lambda t, x, a: -jnp.linalg.solve(jnp.eye(2) * a, x)
    with pytest.warns(UserWarning, match="has no recurrence for .* 'dopri8'"):
        found = jk.ensemble(solve, jnp.ones((3, 2)), (0.0, 1.0), jnp.array([1.0, 2.0, 4.0]))
    np.testing.assert_allclose(found.checked().final[:, 0], np.exp([-1.0, -0.5, -0.25]), rtol=1e-5)


def test_bad_arguments():
    with pytest.raises(ValueError, match="`args` must have 7 lanes, as `x0s` has"):
        jk.ensemble(OSCILLATOR, START, (0.0, 1.0), W[:5])
    with pytest.raises(ValueError, match="Argument `method` must be one of 'taylor'"):
        jk.ensemble(OSCILLATOR, START, (0.0, 1.0), W, method="magic")


def test_solve_with_taylor():
    ts = jnp.linspace(0.0, 4.0, 9)
    sol = jk.solve(lambda t, x, a: -a * x, 1.0, ts, 0.5, method="taylor", rtol=1e-9).checked()
    np.testing.assert_allclose(sol.xs, jnp.exp(-0.5 * ts), rtol=1e-8)


@pytest.mark.parametrize("method", ["taylor", "tsit5"])
def test_derivative_by_a_value_that_the_field_closes_over(method):
    def last(a):
        found = jk.ensemble(
            lambda t, x, b: -a * b * x, jnp.ones(2), (0.0, 1.0), jnp.array([1.0, 2.0]), method=method, rtol=1e-9
        )
        return jnp.sum(found.final)

    wanted = -jnp.exp(-0.5) - 2 * jnp.exp(-1.0)
    for derivative in (jax.grad(last), lambda a: jax.jvp(last, (a,), (jnp.ones(()),))[1]):
        np.testing.assert_allclose(derivative(jnp.asarray(0.5)), wanted, rtol=1e-8)
        np.testing.assert_allclose(jax.jit(derivative)(jnp.asarray(0.5)), wanted, rtol=1e-8)


def test_gradient_of_solve_with_taylor_inside_jit():
    ts, event = jnp.array([0.0, 9.0]), lambda t, x, _: x - 0.25
    end = lambda a: jk.solve(lambda t, x, _: -a * x, 1.0, ts, method="taylor", event=event).end  # log(4) / a
    np.testing.assert_allclose(jax.jit(jax.grad(end))(jnp.asarray(0.5)), -jnp.log(4.0) / 0.25, rtol=1e-6)


def test_derivatives_are_as_exact_as_the_tolerance():
    """Lanes near a separatrix, whose derivatives are large: each within 100 tolerances of its largest derivative."""
    field = lambda t, x, p: x * (p[0] * (1 - x / p[1])) - p[2] * x * x[::-1]
    draw = lambda middle, seed: jnp.asarray(np.array(middle) * np.random.default_rng(seed).uniform(0.5, 1.5, (40, 2)))
    p = draw([1.0, 1.2], 0), draw([100.0, 80.0], 1), draw([0.008, 0.01], 2)
    solved = [
        jk.sensitivity(field, jnp.full((1, 2), 10.0), (0.0, 20.0), p, rtol=tol, atol=tol) for tol in (1e-8, 1e-13)
    ]
    for found, exact in zip(*(jax.tree.leaves(s.args) for s in solved), strict=True):
        size = jnp.max(jnp.abs(exact), axis=(1, 2), keepdims=True)
        assert float(jnp.max(jnp.abs(found - exact) / size)) < 1e-6


@pytest.mark.slow
def test_many_parameters_by_going_back():
    """Four species with 24 directions, gone back; the same by the 16 directions of one parameter, gone forward."""
    rng = np.random.default_rng(0)
    x0, r = rng.uniform(0.1, 1.0, (5, 4)), rng.uniform(0.5, 1.5, (5, 4))
    a = rng.uniform(0.0, 1.0, (5, 4, 4)) + np.eye(4)
    field = lambda t, x, p: x * (p[0] - jnp.sum(p[1] * x[None], axis=1))
    settings = {"method": "tsit5", "rtol": 1e-8, "atol": 1e-8}
    back = jk.sensitivity(field, x0, (0.0, 3.0), (r, a), **settings)
    there = jax.grad(lambda a: jnp.sum(jk.ensemble(field, x0, (0.0, 3.0), (r, a), **settings).final))(a)
    np.testing.assert_allclose(jnp.sum(back.args[1], axis=1), there, atol=1e-6)
    up, down = (jk.ensemble(field, x0 + h * np.eye(4)[1], (0.0, 3.0), (r, a), **settings).final for h in (1e-4, -1e-4))
    np.testing.assert_allclose((up - down) / 2e-4, back.x0s[:, :, 1], atol=1e-5)


def test_a_parameter_without_effect_does_not_shorten_the_steps():
    field = lambda t, x, p: -p[0] * x + 0 * p[1]
    found = jk.sensitivity(field, jnp.ones(2), (0.0, 1e-3), (jnp.array([0.5, 1.0]), jnp.ones(2)), rtol=1e-9)
    assert found.ensemble.steps.tolist() == [1, 1]
    assert not found.args[1].any()


@pytest.mark.parametrize("event", [None, lambda t, x, w: x[0]])
def test_two_times_give_both_ends(event):
    found = jk.ensemble(OSCILLATOR, START, (0.0, 1.0), W, rtol=1e-9, event=event).checked()
    many = jk.ensemble(OSCILLATOR, START, (0.0, 0.5, 1.0), W, rtol=1e-9, event=event).checked()
    for ours, theirs in zip(found.xs, many.xs, strict=True):
        assert ours.shape == (7, 2)
        np.testing.assert_allclose(ours, theirs[:, ::2], rtol=1e-7, atol=1e-9)


def test_each_lane_has_a_span_of_its_own():
    ends = jnp.array([1.0, -2.0, 0.0])
    found = jk.ensemble(OSCILLATOR, (1.0, 0.0), jnp.stack([jnp.zeros(3), ends], -1), 2.0, rtol=1e-10).checked()
    np.testing.assert_allclose(found.final[0], jnp.cos(2 * ends), atol=1e-8)
    with pytest.raises(ValueError, match="`x0s` must have a leading axis of lanes"):
        jk.ensemble(OSCILLATOR, (1.0, 0.0), (0.0, 1.0), 2.0)


def test_no_lanes():
    found = jk.ensemble(OSCILLATOR, (jnp.ones(0), 0.0), (0.0, 1.0, 2.0), 2.0).checked()
    assert found.xs[1].shape == (0, 3)
    assert jax.grad(lambda w: jnp.sum(jk.ensemble(OSCILLATOR, (jnp.ones(0), 0.0), (0.0, 1.0), w).final[0]))(2.0) == 0


def test_times_in_no_order_are_no_answer():
    with pytest.raises(ValueError, match="`ts` must not decrease"):
        jk.ensemble(OSCILLATOR, START, (0.0, 2.0, 1.0), W)
    run = jax.jit(lambda ts: jk.ensemble(OSCILLATOR, START, ts, W).status)
    for ts, status in (([0.0, 2.0, 1.0], jk.Status.not_applicable), ([0.0, jnp.nan, 1.0], jk.Status.not_finite)):
        assert set(run(jnp.array(ts)).tolist()) == {int(status)}
    with pytest.raises(ValueError, match="`ts` must be finite"):
        jk.ensemble(OSCILLATOR, START, (0.0, jnp.inf), W)


def test_a_lane_without_times_is_one_lane_alone():
    ts = jnp.array([[0.0, 1.0], [1.0, 0.0], [0.0, 0.0], [0.0, jnp.nan], [jnp.inf, 1.0]])
    s = jk.sensitivity(lambda t, x, a: -a * x, jnp.ones(5), ts, 1.0)
    found = s.ensemble
    assert found.status.tolist() == [0, 0, 0, 2, 2]
    np.testing.assert_allclose(found.final, [np.exp(-1), np.exp(1), 1, np.nan, np.nan], rtol=1e-5)
    np.testing.assert_allclose(s.args[:, 0], [-np.exp(-1), np.exp(1), 0, np.nan, np.nan], rtol=1e-5)
    assert np.isnan(found.xs[3:]).all()


def test_lanes_put_in_order_by_a_measure_of_likeness():
    w = jnp.exp(jnp.linspace(-2.0, 2.0, 300))[np.random.default_rng(0).permutation(300)]
    alike = lambda x, w: (w, x[0])
    plain, sorted_ = (
        jk.ensemble(OSCILLATOR, (1.0, 0.0), (0.0, 5.0), w, method=jk.RungeKutta("dopri5", width=16, alike=a))
        for a in (None, alike)
    )
    np.testing.assert_allclose(sorted_.final[0], plain.final[0], rtol=0, atol=1e-12)
    np.testing.assert_array_equal(sorted_.steps, plain.steps)


@pytest.mark.parametrize(
    ("method", "sentence"),
    [
        (jk.RungeKutta("tsit5", dt=0.1), "`dt` must be left out in ensembles"),
        (jk.RungeKutta(adjoint="direct"), "`adjoint` must be left out in ensembles"),
        (jk.RungeKutta("kvaerno5"), "`scheme` must be one of"),
        (3, "`method` must be a name"),
    ],
)
def test_methods_that_an_ensemble_does_not_have(method, sentence):
    with pytest.raises(ValueError, match=sentence):
        jk.ensemble(OSCILLATOR, START, (0.0, 1.0), W, method=method)
    with pytest.raises(ValueError, match="`run` must have nothing but `devices` for an ensemble, but has progress"):
        jk.ensemble(OSCILLATOR, START, (0.0, 1.0), W, run=jk.Run(progress=True))


@pytest.mark.parametrize(
    ("method", "max_steps"), [*((m, 1) for m in ("taylor", *EMBEDDED)), ("taylor", 2), ("taylor", 3)]
)
def test_no_more_steps_than_max_steps(method, max_steps):
    found = jk.ensemble(lambda t, x, a: -x, jnp.ones(2), (0.0, 100.0), method=method, max_steps=max_steps)
    assert (found.steps + found.rejected).tolist() == [max_steps] * 2
    assert found.status.tolist() == [jk.Status.max_steps] * 2


def test_a_scheme_of_the_users_own():
    named, *others = (
        jk.ensemble(OSCILLATOR, START, (0.0, 1.0), W, method=method).checked().final[0]
        for method in ("bosh3", diffrax.Bosh3(), jk.RungeKutta(schemes.get("bosh3")))
    )
    for other in others:
        np.testing.assert_array_equal(other, named)


def test_second_derivatives():
    decay = lambda t, x, a: {"x": -a * x["x"]}

    def total(a, x):
        found = jk.ensemble(decay, {"x": x}, (0.0, 0.5, 1.0), a, rtol=1e-9)
        return jnp.sum(found.final["x"]) + jnp.sum(found.xs["x"][:, 1])

    (by_a, mixed), _ = jax.jit(jax.hessian(total, (0, 1)))(jnp.array([0.5, 1.0]), jnp.ones(2))
    whole, half = jnp.exp(-jnp.array([0.5, 1.0])), jnp.exp(-jnp.array([0.25, 0.5]))
    for found, wanted in ((by_a, whole + half / 4), (mixed, -whole - half / 2)):
        np.testing.assert_allclose(found, jnp.diag(wanted), atol=1e-6)


@pytest.mark.parametrize("method", ["taylor", "tsit5"])
def test_one_lanes_bad_times_are_its_status(method):
    spans = jnp.array([[0.0, 1.0], [0.0, jnp.nan], [jnp.nan, 1.0], [0.0, jnp.inf], [0.0, 2.0]])
    found = jk.ensemble(lambda t, x, a: -x, jnp.ones(5), spans, method=method, rtol=1e-9)
    bad = int(jk.Status.not_finite)
    assert found.status.tolist() == [0, bad, bad, bad, 0]
    np.testing.assert_allclose(found.final[jnp.array([0, 4])], jnp.exp(-jnp.array([1.0, 2.0])), rtol=1e-8)

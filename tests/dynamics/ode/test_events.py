"""Events: the first change of sign after the start, whatever the method."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxkit as jk
from jaxkit.dynamics.ode.engine import events as watching

G = 9.81
fall = lambda t, x, a: (x[1], -G + 0 * x[0])
height = lambda t, x, a: (x[0] - a[0]) * a[1]  # over a level, in some unit

# Start, speed, level, unit, end of the time, and when the level is met first.
THROWN = np.array(
    [
        [0.0, 10.0, 0.0, 1.0, 1e3, 20 / G],  # from the level itself
        [100.0, 0.0, 0.0, 1.0, 1e6, np.sqrt(200 / G)],  # in a step that is very much longer
        [0.0, 10.0, 50 / G - 1e-6, 1.0, 1e3, 10 / G - np.sqrt(2e-6 / G)],  # twice, near the top
        [0.0, 10.0, 2.0, 1e-200, 10.0, (10 - np.sqrt(100 - 4 * G)) / G],  # products of values are zero
        [-1e-17, 10.0, 0.0, 1.0, 1e3, 20 / G],  # from below by rounding, as after an event
        [0.0, 10.0, 45 / G, 1.0, 1e5, (10 - np.sqrt(10.0)) / G],  # twice, in a hundred-thousandth of a step
        [0.0, 10.0, 50 / G + 1e-3, 1.0, 1.0, 1.0],  # never
    ]
)


@pytest.mark.parametrize("method", ["taylor", "tsit5", "dopri8"])
def test_the_first_change_of_sign_after_the_start(method):
    x0, v0, level, unit, end, met = map(jnp.asarray, THROWN.T)
    spans = jnp.stack([jnp.zeros_like(end), end], -1)
    found = jk.ensemble(fall, (x0, v0), spans, (level, unit), method=method, rtol=1e-9, event=height).checked()
    np.testing.assert_allclose(found.end, met, rtol=1e-9)
    assert found.event.tolist() == [0] * 6 + [-1]


@functools.partial(jax.jit, static_argnums=1)
def _wave(angle, method):
    """An oscillator from an angle, stopped at a height that its greatest height passes by 2e-5."""
    at = angle + jnp.array([0.0, 2.0, 4.0])
    field, event = lambda t, x, a: (x[1], -x[0]), lambda t, x, a: x[0] - jnp.cos(1e-2)
    start = (jnp.cos(at), -jnp.sin(at))
    settings = {"method": method, "rtol": 1e-11, "atol": 1e-11, "event": event}
    there = jk.ensemble(field, start, (0.0, 30.0), **settings)
    return there.end, jk.ensemble(field, there.final, (0.0, 30.0), **settings).end


@pytest.mark.parametrize("method", ["taylor", "dopri8"])
def test_a_start_on_the_events_own_point_is_no_event(method):
    first, second = _wave(0.3, method)
    np.testing.assert_allclose(first, 2 * np.pi - 0.3 - np.array([0.0, 2.0, 4.0]) - 1e-2, atol=1e-7)
    np.testing.assert_allclose(second, 2e-2, atol=1e-6)


def test_states_are_kept_until_the_event_only():
    ts = jnp.array([0.0, 1.0, 2.0, 3.0])
    found = jk.ensemble(fall, (jnp.zeros(1), 10.0), ts, (jnp.zeros(1), 1.0), event=height).checked()
    np.testing.assert_allclose(found.xs[0][0], [0.0, 10 - G / 2, 20 - 2 * G, np.inf], rtol=1e-9)


def test_an_event_function_that_is_not_a_number_is_never_ok():
    found = jk.ensemble(fall, (jnp.zeros(1), 10.0), (0.0, 3.0), event=lambda t, x, a: jnp.sqrt(1.5 - t) + 1)
    assert found.status.tolist() == [jk.Status.not_finite]


def test_an_event_function_that_becomes_a_number_within_the_first_step():
    late = lambda t, x, a: jnp.sqrt(t - a) - 0.3
    found = jk.ensemble(lambda t, x, a: -x, jnp.ones(2), (0.0, 5.0), jnp.array([0.3, 2.0]), event=late).checked()
    np.testing.assert_allclose(found.end, [0.39, 2.09], rtol=1e-9)


@pytest.mark.parametrize("verb", [jk.solve, jk.ensemble])
@pytest.mark.parametrize("method", ["taylor", "tsit5"])
def test_earths_orbit_in_metres_and_seconds(verb, method):
    """From the perihelion to the aphelion: half a year."""
    mass, axis, eccentricity = 1.32712440018e20, 1.495978707e11, 0.0167
    near, fast = axis * (1 - eccentricity), np.sqrt(mass / axis * (1 + eccentricity) / (1 - eccentricity))
    pull = lambda x, y: -mass / (x * x + y * y) ** 1.5
    field = lambda t, x, a: (x[2], x[3], x[0] * pull(x[0], x[1]), x[1] * pull(x[0], x[1]))
    start = jax.tree.map(jnp.asarray, (near, 0.0, 0.0, fast))
    start = start if verb is jk.solve else jax.tree.map(lambda v: v[None], start)
    found = verb(field, start, jnp.array([0.0, 1e9]), method=method, event=lambda t, x, a: x[1]).checked()
    np.testing.assert_allclose(found.end, np.pi * np.sqrt(axis**3 / mass), rtol=2e-6)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["dopri8", "kvaerno5"])
def test_solve_has_the_same_meaning_and_its_derivative(method):
    def thrown(x, speed, end, g):
        ts = jnp.stack([jnp.zeros_like(end), end / 1e3, end])
        field = lambda t, x, _: (x[1], -g + 0 * x[0])
        sol = jk.solve(field, (x, speed), ts, method=method, event=lambda t, x, _: x[0] * 1e-200)
        return sol.end, (sol.status, sol.xs[0])

    both = jax.jit(jax.vmap(jax.value_and_grad(thrown, argnums=3, has_aux=True), (0, 0, 0, None)))
    (end, (status, xs)), by_g = both(jnp.array([0.0, 100.0]), jnp.array([10.0, 0.0]), jnp.array([1e3, 1e6]), G)
    np.testing.assert_allclose(end, [20 / G, (200 / G) ** 0.5], rtol=1e-9)
    np.testing.assert_allclose(by_g, [-20 / G**2, -0.5 * (200 / G**3) ** 0.5], rtol=1e-6)
    assert status.tolist() == [0, 0]
    np.testing.assert_allclose(xs[0], [0.0, 10 - G / 2, np.inf], rtol=1e-9)


def test_an_implicit_method_with_fixed_steps():
    method = jk.RungeKutta("implicit_euler", dt=0.1)
    sol = jk.solve(lambda t, x, _: -x, 1.0, jnp.array([0.0, 1.0]), method=method).checked()
    assert abs(float(sol.final) - 1.1**-10) < 1e-8


def test_an_event_of_solve_behind_a_switch():
    dose = lambda t, x, a: jnp.where(t < a, 1.0, 3.0)
    found = jk.solve(dose, 0.0, jnp.array([0.0, 5.0]), 1.0, event=lambda t, x, a: x - 2.5).checked()
    np.testing.assert_allclose(found.end, 1.5, rtol=1e-12)  # 1 until t = 1, then 3 a unit of time


@pytest.mark.parametrize("method", ["taylor", "dopri8"])
def test_sensitivity_at_the_event_and_of_its_time(method):
    """Thrown from a height, from the ground itself, and never down: landing time `(v + r) / g`, landing speed `-r`."""
    h, v, g = jnp.array([3.0, 0.0, 3.0]), jnp.array([5.0, 10.0, 5.0]), jnp.array([G, G, 1e-3])
    field = lambda t, x, a: (x[1], -a["g"] + 0 * x[0])
    args = {"g": g, "count": jnp.array(2)}
    found = jk.sensitivity(field, (h, v), (0.0, 9.0), args, event=lambda t, x, a: x[0], method=method, rtol=1e-10)
    r = np.sqrt(v**2 + 2 * g * h)
    time = np.array([1 / r, (1 + v / r) / g, h / (g * r) - (v + r) / g**2]).T
    state = np.zeros((3, 2, 3))
    state[:, 1] = -np.array([g / r, v / r, h / r]).T
    time[2], state[2] = 0, [[1, 9, -40.5], [0, 1, -9]]
    np.testing.assert_allclose(found.ensemble.checked().end, [(5 + r[0]) / G, 20 / G, 9.0], rtol=1e-9)
    np.testing.assert_allclose(found.end_x0s, time[:, :2], rtol=1e-8)
    np.testing.assert_allclose(found.end_args["g"], time[:, 2], rtol=1e-8)
    np.testing.assert_allclose(found.x0s, state[:, :, :2], atol=1e-8)
    np.testing.assert_allclose(found.args["g"], state[:, :, 2], atol=1e-8)


def test_sensitivity_of_the_event_that_was_met():
    """One oscillator meets a time of its own, the other comes down to 0.3."""
    field = lambda t, x, w: (x[1], -(w**2) * x[0])
    events = (lambda t, x, w: t * w - 0.5, lambda t, x, w: x[0] - 0.3)
    w, shift = jnp.array([1.0, 2.0]), jnp.array([0.0, 1.0])
    start = (jnp.cos(shift), -w * jnp.sin(shift))
    found = jk.sensitivity(field, start, (0.0, 9.0), w, event=events, rtol=1e-10)
    at = np.array([0.5 / w[0], (np.arccos(0.3) - 1) / w[1]])
    np.testing.assert_allclose(found.ensemble.checked().end, at, rtol=1e-9)
    assert found.ensemble.event.tolist() == [0, 1]
    np.testing.assert_allclose(found.end_args[0], -0.5, rtol=1e-8)  # the start stays: x = cos(w t), w t = 0.5
    np.testing.assert_allclose(found.args[0], [0.0, -np.sin(0.5)], atol=1e-8)
    # x = cos(w t) cos 1 + (v0 / w) sin(w t), whose v0 = -2 sin 1 is held.
    c, s = np.cos(2 * at[1]), np.sin(2 * at[1])
    speed = -2 * (np.cos(1) * s + np.sin(1) * c)
    by_w = -(np.cos(1) * s + np.sin(1) * c) * at[1] + np.sin(1) * s / 2
    np.testing.assert_allclose(found.end_args[1], -by_w / speed, rtol=1e-7)
    np.testing.assert_allclose(found.args[1][0], 0.0, atol=1e-8)


U = (41**0.5 - 1) / 2  # x = 1 / (1 + p t) meets p t / 10 at p t = U


def _met(p, method):
    event = lambda t, x, _: x - 0.1 * p * t
    sol = jk.solve(lambda t, x, _: -p * x**2, 1.0, jnp.array([0.0, 9.0]), method=method, event=event, rtol=1e-10)
    return jnp.stack([sol.end, sol.final])


SECOND = {
    "both": lambda f: jax.jacfwd(jax.jacrev(f)),
    "and back": lambda f: jax.jacrev(jax.jacfwd(f)),
    "reverse": lambda f: jax.jacrev(jax.jacrev(f)),
    "third": lambda f: lambda p: jax.jacfwd(jax.jacfwd(jax.jacfwd(f)))(p) * -p / 3,  # of a multiple of 1 / p
}


@pytest.mark.slow
@pytest.mark.parametrize("method", ["taylor", jk.RungeKutta("dopri8", adjoint="direct")])
@pytest.mark.parametrize("order", SECOND)
def test_second_derivatives_at_an_event_in_any_order(order, method):
    found = jax.jit(SECOND[order](lambda p: _met(p, method)))(2.0)
    np.testing.assert_allclose(found, [2 * U / 2.0**3, 0.0], atol=1e-7)


@pytest.mark.slow
def test_second_derivatives_at_an_event():
    found = jax.jit(jax.jacfwd(jax.jacfwd(lambda p: _met(p, jk.RungeKutta("midpoint", dt=0.01, adjoint="forward")))))(
        2.0
    )
    np.testing.assert_allclose(found, [2 * U / 2.0**3, 0.0], atol=1e-4)


@pytest.mark.slow
def test_with_noise_an_event_has_first_derivatives_only():
    def met(p):
        walk = jk.SDE(lambda t, x, p: -p * x, lambda t, x, _: 0.0 * x, jax.random.key(0))
        method, event = jk.RungeKutta("euler", dt=2e-3, adjoint="forward"), lambda t, x, _: x - 0.5
        return jk.solve(walk, 1.0, jnp.array([0.0, 3.0]), p, method=method, event=event).end

    both = lambda p: jax.jvp(jax.jacfwd(met), (p,), (1.0,))
    first, second = jax.jit(both)(0.5)
    np.testing.assert_allclose(first, -np.log(2) / 0.25, rtol=2e-3)
    assert np.isnan(second)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["tsit5", "kvaerno5"])
def test_an_event_function_of_solve_that_is_no_number_any_more_is_never_ok(method):
    ts, event = jnp.array([0.0, 3.0]), lambda t, x, a: jnp.sqrt(x - 0.2) + 1
    assert jk.solve(lambda t, x, a: -x, 1.0, ts, method=method, event=event).status == jk.Status.not_finite


@pytest.mark.slow
def test_the_event_of_a_stiff_field():
    """On a slow motion whose dense output, by the velocity at the steps' ends, is wrong by a hundred-thousandth."""
    field, event = lambda t, x, k: -k * (x - jnp.cos(t)), lambda t, x, k: x + 0.4
    found = jk.solve(field, 0.9, jnp.array([0.0, 8.0]), 1e6, method="kvaerno5", rtol=1e-8, atol=1e-8, event=event)
    np.testing.assert_allclose(found.checked().end, np.arccos(-0.4) + 1e-6, atol=1e-7)  # x = cos(t - 1 / k)


@pytest.mark.parametrize("verb", ["ensemble", pytest.param("solve", marks=pytest.mark.slow)])
def test_a_motion_that_is_over_in_an_instant(verb):
    """Half of it has decayed after 1e-300 of the time, where rounding of the times explains nothing."""
    level, rate = lambda t, x, a: x - 0.5, jnp.array(1e300)
    if verb == "ensemble":
        found = jk.ensemble(lambda t, x, a: -a * x, jnp.ones(1), (0.0, 1.0), rate, event=level)
    else:
        found = jk.solve(lambda t, x, a: -a * x, 1.0, jnp.array([0.0, 1.0]), rate, event=level)
    right = np.allclose(found.end, np.log(2) / 1e300, rtol=1e-5, atol=0)
    assert right or not jnp.any(found.ok)  # the series' coefficients overflow, and steps of such a length are too small


@pytest.mark.slow
@pytest.mark.parametrize("method", ["taylor", "tsit5", "kvaerno5"])
def test_a_start_is_no_zero_because_the_motion_is_fast(method):
    """Beside the rates, the level is nothing; but neither time nor state is rounded at zero."""
    fast = lambda t, x, rate: rate * jnp.ones_like(x)
    level = lambda t, x, rate: x - 0.7
    sol = jk.solve(fast, 0.0, jnp.array([0.0, 1.0]), 1e300, method=method, event=level)
    assert float(sol.end) == pytest.approx(7e-301, rel=1e-12) or int(sol.status) != 0
    assert method == "kvaerno5" or int(sol.status) == 0


def test_which_values_may_be_rounded_zeros():
    """A value that time and state do not contribute keeps its sign; one that they do takes that to which it moves."""
    value, rate, size = (
        np.array([[-0.7], [-1e-16], [-1e-16]]),
        np.full((3, 1), 1e300),
        np.array([[0.0], [1e-16], [0.0]]),
    )
    watch = watching.begin(value, rate, 0 * rate, size, jnp.zeros(1), jnp.ones(1))
    assert watch.sign[:, 0].tolist() == [-1, 1, -1]


@pytest.mark.parametrize("method", ["taylor", "tsit5", "dopri8"])
def test_an_event_that_oscillates_within_a_step_ends_at_its_first_crossing(method):
    """A slow field has steps much longer than the event's period: each lane's event is `sin(w t + phase) - c`."""
    w, phase, c = (jnp.asarray(v) for v in zip(*_WAVES, strict=True))
    event = lambda t, x, a: jnp.sin(a[0] * t + a[1]) - a[2]
    found = jk.ensemble(
        lambda t, x, a: -0.01 * x, jnp.ones(len(w)), (0.0, 10.0), (w, phase, c), method=method, event=event
    )
    rises, falls = np.arcsin(c), np.pi - np.arcsin(c)
    first = np.min(np.mod(np.stack([rises, falls]) - phase[None], 2 * np.pi), axis=0) / np.asarray(w)
    assert found.ok.all()
    np.testing.assert_allclose(found.end, first, rtol=1e-9)


def test_an_event_at_an_extremum_is_seen_through_a_period_by_solve():
    found = jk.solve(
        lambda t, x, a: -0.01 * x, 1.0, jnp.array([0.0, 10.0]), event=lambda t, x, a: jnp.sin(3 * t + 0.001)
    )
    assert found.ok
    np.testing.assert_allclose(found.end, (np.pi - 0.001) / 3, rtol=1e-9)


_WAVES = [(7.0, 0.1, 0.0), (50.0, 0.1, 0.0), (100.0, 0.3, 0.0), (3.0, 0.001, 0.0), (0.66, 1.446, -0.18)]
_WAVES += [(3.06, 4.711, 0.72), (45.32, 1.528, -0.734), (0.62, 1.765, -0.291), (2.0, 4.495, -0.9)]

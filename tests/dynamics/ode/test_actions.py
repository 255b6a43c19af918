"""Jumps at given times, and motions that go on behind an event: balls, doses and sections, whose answers are known."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxkit as jk

G = 2.0
fall = lambda t, x, a: (x[1], -G * jnp.ones_like(x[1]))
floor = lambda t, x, a: x[0]
bounce = lambda t, x, a: (x[0], -a * x[1])
turn = lambda t, x, a: (x[1], -x[0])
decay = lambda t, x, a: -a * x
METHODS = ["taylor", "tsit5", pytest.param("dopri8", marks=pytest.mark.slow), "kvaerno5"]


def bounces(height, kept, count):
    """The times of a ball's bounces: the fall, then each flight shorter by what is kept of the speed."""
    down = jnp.sqrt(2 * height / G)
    return down * (1 + 2 * jnp.cumsum(kept ** jnp.arange(float(count))) - 2)


@functools.partial(jax.jit, static_argnums=(2, 3))
def dropped(height, kept, method, repeats=10):
    """A ball whose bounces pile up at time `9 * down` for `kept = 0.8`."""
    ts = jnp.array([0.0, 0.5, 2.0, 8.0])
    ball = jk.Event(floor, change=bounce, repeats=repeats)
    return jk.solve(fall, (height, jnp.zeros_like(height)), ts, kept, method=method, event=ball, rtol=1e-9, atol=1e-11)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_ten_bounces_in_one_call(method):
    one, kept = jnp.ones(()), jnp.array(0.8)
    sol = dropped(one, kept, method).checked()
    known = bounces(1.0, 0.8, 10)
    assert int(sol.events.count) == 10
    np.testing.assert_allclose(sol.events.ts, known, rtol=1e-9)
    np.testing.assert_allclose(sol.events.xs[1], -2 * 0.8 ** np.arange(10), rtol=1e-8)
    np.testing.assert_allclose(sol.xs[0][:3], [1.0, 0.75, 1.6 - 1], rtol=1e-9)  # behind the first bounce: 1.6 s - s^2
    assert float(sol.end) == 8.0


@pytest.mark.slow
@pytest.mark.parametrize("method", ["taylor", "tsit5", "kvaerno5"])
def test_bounces_have_their_derivatives_in_both_modes_and_second_ones(method):
    times = lambda p: dropped(p[0], p[1], method, 4).events.ts[:3]
    known, p = lambda p: bounces(p[0], p[1], 3), jnp.array([1.0, 0.5])
    for mode in (jax.jacfwd, jax.jacrev):
        np.testing.assert_allclose(mode(times)(p), mode(known)(p), rtol=1e-7)
    np.testing.assert_allclose(jax.hessian(times)(p), jax.hessian(known)(p), rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["taylor", "tsit5"])
def test_more_bounces_than_allowed_are_never_ok(method):
    """They pile up at 9: with 3 allowed the fourth is too many, and a ball that stays down bounces without end."""
    found = dropped(jnp.ones(()), jnp.array(0.8), method, 3)
    assert int(found.status) == jk.Status.too_many_events
    np.testing.assert_allclose(found.end, bounces(1.0, 0.8, 4)[3], rtol=1e-9)
    assert jnp.isinf(found.xs[0]).tolist() == [False, False, False, True]
    piled = dropped(jnp.ones(()), jnp.array(0.1), method, 60)
    assert int(piled.status) == jk.Status.too_many_events
    np.testing.assert_allclose(piled.end, 1 + 0.2 / 0.9, rtol=1e-6)
    assert int(dropped(jnp.ones(()), jnp.zeros(()), method, 5).status) == jk.Status.too_many_events


@pytest.mark.slow
def test_too_many_events_are_one_sentence():
    with pytest.raises(jk.SolverError, match="too_many_events: more events were met than"):
        dropped(jnp.ones(()), jnp.array(0.8), "taylor", 3).checked()


@pytest.mark.parametrize(
    ("direction", "first"), [(1, 1.5), *(pytest.param(*c, marks=pytest.mark.slow) for c in ((-1, 0.5), (0, 0.5)))]
)
def test_a_section_in_one_direction(direction, first):
    section = jk.Event(floor, direction=direction, repeats=3)
    sol = jk.solve(turn, (1.0, 0.0), jnp.array([0.0, 100.0]), method="taylor", event=section, rtol=1e-9).checked()
    step = 1 if direction == 0 else 2
    np.testing.assert_allclose(sol.events.ts / np.pi, first + step * np.arange(3), rtol=1e-8)
    assert float(sol.end) == float(sol.events.ts[-1])
    assert sol.events.which.tolist() == [0, 0, 0]


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_a_section_from_its_own_point(method):
    """Up through zero at the start, which is no crossing: the next ones are whole turns later."""
    section = jk.Event(floor, direction=1, repeats=2)
    start = (jnp.array(1e-17), jnp.ones(()))
    sol = jk.solve(turn, start, jnp.array([0.0, 50.0]), method=method, event=section, rtol=1e-9, atol=1e-11).checked()
    np.testing.assert_allclose(sol.events.ts / (2 * np.pi), [1, 2], rtol=1e-8)
    np.testing.assert_allclose(sol.final[1], 1.0, rtol=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["taylor", "dopri8"])
def test_the_period_of_van_der_pols_oscillator(method):
    van_der_pol = lambda t, x, mu: (x[1], mu * (1 - x[0] ** 2) * x[1] - x[0])
    section, ts = jk.Event(floor, direction=-1, repeats=8), jnp.array([0.0, 100.0])
    settings = {"method": method, "event": section, "rtol": 1e-12, "atol": 1e-12}
    sol = jk.solve(van_der_pol, (2.0, 0.0), ts, 1.0, **settings).checked()
    np.testing.assert_allclose(sol.events.ts[-1] - sol.events.ts[-2], 6.663286859323130, rtol=1e-10)


@pytest.mark.slow
def test_fewer_crossings_than_asked_for():
    section = jk.Event(floor, repeats=5)
    sol = jk.solve(turn, (1.0, 0.0), jnp.array([0.0, 5.0]), method="taylor", event=section).checked()
    np.testing.assert_allclose(sol.events.ts / np.pi, [0.5, 1.5, np.inf, np.inf, np.inf], rtol=1e-6)
    assert (float(sol.end), int(sol.events.count)) == (5.0, 2)
    assert sol.events.which.tolist() == [0, 0, -1, -1, -1]


@functools.partial(jax.jit, static_argnums=2)
def dosed(times, doses, method="taylor"):
    given = jk.Jumps(times, lambda t, x, a, dose: x + dose, doses)
    ts = jnp.array([0.0, 1.0, 2.0, 3.0])
    return jk.solve(decay, jnp.ones(()), ts, 0.5, method=method, event=given, rtol=1e-9, atol=1e-11)


def level(t, times, doses):
    """The level at a time: what is left of the start, and of each dose until then."""
    left = jnp.where(times <= t, doses * jnp.exp(-0.5 * (t - times)), 0)
    return jnp.exp(-0.5 * t) + jnp.sum(left)


@pytest.mark.parametrize("method", ["taylor", pytest.param("tsit5", marks=pytest.mark.slow)])
def test_states_saved_at_a_jump_are_those_after_it(method):
    """Out of order, twice at one time, at both ends, and at times that are never met."""
    times = jnp.array([2.0, 0.0, 1.4, 2.0, 3.0, -1.0, 4.0, jnp.inf])
    doses = jnp.arange(1.0, 9.0)
    sol = dosed(times, doses, method).checked()
    np.testing.assert_allclose(sol.xs, [level(t, times[:5], doses[:5]) for t in sol.ts], rtol=1e-8)
    np.testing.assert_allclose(sol.final, sol.xs[-1], rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["taylor", "tsit5", "kvaerno5"])
def test_doses_have_their_derivatives_in_both_modes_and_second_ones(method):
    found = lambda p: dosed(*p, method).xs[1:]
    known = lambda p: jnp.stack([level(t, *p) for t in (1.0, 2.0, 3.0)])
    p = (jnp.array([0.1, 1.3, 0.4]), jnp.array([0.5, 2.0, 1.0]))
    for mode in (jax.jacfwd, jax.jacrev):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-8), mode(found)(p), mode(known)(p)
        )
    second = jax.hessian(found)(p), jax.hessian(known)(p)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), *second)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["taylor", "tsit5"])
@pytest.mark.parametrize("inner", [jax.jacrev, jax.jacfwd])
def test_the_time_of_a_jump_at_the_start_has_a_second_derivative(method, inner):
    """x(1) = (exp(-t / 2) + d) exp(-(1 - t) / 2), whose second derivative by t is d exp(-1 / 2) / 4 at t = 0."""
    second = jax.jit(jax.jacfwd(inner(lambda t: dosed(t[None], jnp.array([2.0]), method).xs[1])))(jnp.zeros(()))
    np.testing.assert_allclose(second, 0.5 * np.exp(-0.5), rtol=1e-7)


@pytest.mark.slow
def test_each_lane_has_its_own_times():
    times = jnp.array([[0.5, 1.5, jnp.inf], [2.0, 1.0, 0.1]])
    doses = jnp.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    given = jk.Jumps(times, lambda t, x, a, dose: x + dose, doses)
    ts = jnp.array([0.0, 1.0, 2.0, 3.0])
    known = np.array([[level(t, *lane) for t in ts] for lane in zip(times, doses, strict=True)])
    for method in ("taylor", "tsit5"):
        found = jk.ensemble(decay, jnp.ones(2), ts, 0.5, method=method, event=given, rtol=1e-9).checked()
        np.testing.assert_allclose(found.xs, known, rtol=1e-7)
    mapped = jax.vmap(lambda t, d: dosed(t, d, "tsit5").xs)(times, doses)
    np.testing.assert_allclose(mapped, known, rtol=1e-7)
    lanes = jk.ensemble(decay, 1.0, (0.0, 3.0), 0.5, event=given, rtol=1e-9).checked()  # the times tell the lanes
    np.testing.assert_allclose(lanes.final, known[:, -1], rtol=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["taylor", "dopri8"])
def test_sensitivity_behind_jumps_and_bounces(method):
    """A dose at 1 whose size is a parameter; and how the second bounce's time moves."""
    given = jk.Jumps(jnp.array([1.0]), lambda t, x, a: x + a["dose"])
    args = {"rate": jnp.array([0.5, 1.0]), "dose": jnp.array(2.0), "count": jnp.array(1)}
    field = lambda t, x, a: -a["rate"] * x
    found = jk.sensitivity(field, jnp.ones(2), (0.0, 3.0), args, event=given, method=method, rtol=1e-9)
    r = np.array([0.5, 1.0])
    np.testing.assert_allclose(found.ensemble.checked().final, np.exp(-3 * r) + 2 * np.exp(-2 * r), rtol=1e-8)
    np.testing.assert_allclose(found.x0s[:, 0, 0], np.exp(-3 * r), rtol=1e-7)
    np.testing.assert_allclose(found.args["dose"][:, 0], np.exp(-2 * r), rtol=1e-7)
    np.testing.assert_allclose(found.args["rate"][:, 0], -3 * np.exp(-3 * r) - 4 * np.exp(-2 * r), rtol=1e-7)
    ball = [jk.Event(floor, change=bounce, repeats=9), lambda t, x, a: t - 2 + 0 * x[0]]
    ball = [ball[0], jk.Event(lambda t, x, a: x[1], direction=-1, repeats=1)]  # the top behind the first bounce
    found = jk.sensitivity(fall, (jnp.ones(1), 0.0), (0.0, 9.0), 0.5, event=ball, method=method, rtol=1e-9)
    # It falls for sqrt(h), then rises for e sqrt(h) with v = 2 e sqrt(h), to e^2 h.
    np.testing.assert_allclose(found.ensemble.checked().end, 1.5, rtol=1e-9)
    np.testing.assert_allclose(found.end_args, [1.0], rtol=1e-8)
    np.testing.assert_allclose(found.args[0], [1.0, 0.0], atol=1e-8)
    np.testing.assert_allclose(found.end_x0s[0, 0], 0.75, rtol=1e-8)
    np.testing.assert_allclose(found.x0s[0, :, 0], [0.25, 0.0], atol=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["ensemble", "solve"])
def test_events_at_one_time_are_all_met(verb):
    """Two balls that land together, one of them as seen from below; and a jump at that time."""
    field = lambda t, x, a: (x[1], -G * jnp.ones_like(x[1]), x[3], -G * jnp.ones_like(x[3]))
    left = jk.Event(lambda t, x, a: x[0], change=lambda t, x, a: (x[0], -x[1], x[2], x[3]), repeats=3)
    right = jk.Event(lambda t, x, a: -x[2], change=lambda t, x, a: (x[0], x[1], x[2], -x[3]), repeats=3)
    kick = jk.Jumps(jnp.array([1.0]), lambda t, x, a: (x[0], x[1] + 1, x[2], x[3]))

    def landed(heights):
        start, happens = (heights[0], 0.0, heights[1], 0.0), [left, right, kick]
        if verb == "solve":
            return jk.solve(field, start, jnp.array([0.0, 1.5]), method="tsit5", rtol=1e-9, event=happens)
        start = jax.tree.map(lambda v: jnp.asarray(v)[None], start)
        return jax.tree.map(lambda v: v[0], jk.ensemble(field, start, (0.0, 1.5), event=happens, rtol=1e-9))

    h = jnp.ones(2)
    sol = landed(h)
    assert int(sol.status) == 0
    assert sol.events.which[:2].tolist() == [0, 1]
    np.testing.assert_allclose(sol.events.ts[:2], [1.0, 1.0], rtol=1e-9)
    np.testing.assert_allclose(jnp.stack(sol.final), [1.5 - 0.25, 2.0, 0.75, 1.0], rtol=1e-7)
    # Each ball's time moves with its own height alone: sqrt(h); then v = 2 sqrt(h), and x = v (t - sqrt(h)) - (...)^2.
    times = jax.jacfwd(lambda h: landed(h).events.ts[:2])(h)
    np.testing.assert_allclose(times, 0.5 * np.eye(2), atol=1e-7)
    by_right = jax.jacrev(lambda h: landed(h).final[2])(h)
    np.testing.assert_allclose(
        by_right, [0.0, jax.grad(lambda h: 2 * h**0.5 * (1.5 - h**0.5) - (1.5 - h**0.5) ** 2)(1.0)], atol=1e-6
    )


@pytest.mark.slow
def test_one_function_in_two_directions():
    both = [jk.Event(floor, direction=1, repeats=4), jk.Event(floor, direction=-1, repeats=2)]
    for method in ("taylor", "tsit5"):
        sol = jk.solve(turn, (1.0, 0.0), jnp.array([0.0, 50.0]), method=method, rtol=1e-9, event=both).checked()
        assert sol.events.which.tolist()[:3] == [1, 0, 1]
        np.testing.assert_allclose(sol.events.ts[:3] / np.pi, [0.5, 1.5, 2.5], rtol=1e-7)
        np.testing.assert_allclose(sol.end / np.pi, 2.5, rtol=1e-7)


@pytest.mark.slow
def test_backwards_in_time():
    """From 3 to 0: the dose is met on the way, and the direction is that along the motion."""
    given = jk.Jumps(jnp.array([1.0, 2.0]), lambda t, x, a: x + t)
    sol = jk.solve(decay, 1.0, jnp.array([3.0, 2.0, 0.5]), 0.5, method="taylor", event=given, rtol=1e-9).checked()
    at_two = np.exp(0.5) + 2
    np.testing.assert_allclose(sol.xs, [1.0, at_two, (at_two * np.exp(0.5) + 1) * np.exp(0.25)], rtol=1e-8)
    section = jk.Event(floor, direction=1, repeats=2)
    sol = jk.solve(turn, (1.0, 0.0), jnp.array([0.0, -20.0]), method="taylor", event=section, rtol=1e-9).checked()
    np.testing.assert_allclose(sol.events.ts / np.pi, [-1.5, -3.5], rtol=1e-7)


@pytest.mark.slow
def test_noise_and_fixed_steps_behind_a_jump():
    quiet = jk.SDE(lambda t, x, a: -a * x, lambda t, x, a: jnp.zeros_like(x), jax.random.key(0))
    given = jk.Jumps(jnp.array([0.5]), lambda t, x, a: x + 1)
    method = jk.RungeKutta("euler", dt=0.1)
    sol = jk.solve(quiet, 1.0, jnp.array([0.0, 1.0]), 1.0, method=method, event=given).checked()
    np.testing.assert_allclose(sol.final, (0.9**5 + 1) * 0.9**5, rtol=1e-12)


@pytest.mark.slow
def test_single_precision_and_pytrees():
    start = {"x": jnp.array([1.0, 2.0], jnp.float32), "v": jnp.zeros(2, jnp.float32)}
    field = lambda t, x, a: {"x": x["v"], "v": jnp.full(2, -2, jnp.float32)}
    ball = jk.Event(lambda t, x, a: x["x"][0], change=lambda t, x, a: {"x": x["x"], "v": -a * x["v"]}, repeats=3)
    ts, half = jnp.array([0.0, 2.5], jnp.float32), jnp.array(0.5, jnp.float32)
    sol = jk.solve(field, start, ts, half, method="taylor", event=ball, rtol=1e-5, atol=1e-6).checked()
    assert (sol.final["x"].dtype, sol.events.ts.dtype, sol.events.xs["v"].shape) == (jnp.float32, jnp.float32, (3, 2))
    np.testing.assert_allclose(sol.events.ts[:2], [1.0, 2.0], rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["taylor", "tsit5"])
def test_numbers_that_are_none_are_never_ok(method):
    ts, nan = jnp.array([0.0, 2.0]), jnp.array(jnp.nan)
    given = lambda time, kick: jk.Jumps(time[None], lambda t, x, a, v: x + v, kick[None])
    run = jax.jit(lambda time, kick: jk.solve(decay, 1.0, ts, 1.0, method=method, event=given(time, kick)).status)
    assert int(run(nan, jnp.ones(()))) == jk.Status.not_finite
    assert int(run(jnp.ones(()), nan)) == jk.Status.not_finite
    assert int(run(jnp.ones(()), jnp.ones(()))) == jk.Status.ok


def test_one_sentence_for_each_fault():
    ts = jnp.array([0.0, 1.0])
    for make, sentence in (
        (lambda: jk.Event(floor, direction=2), "`direction` must be one of -1, 0, 1, but is 2"),
        (lambda: jk.Event(floor, repeats=0), "`repeats` must be a whole number of at least 1, but is 0"),
        (lambda: jk.Event(floor, change=1), "`change` must be a function"),
        (lambda: jk.solve(decay, 1.0, ts, 1.0, event=3), "`event` must be a function"),
        (
            lambda: jk.solve(decay, 1.0, ts, 1.0, event=jk.Jumps(jnp.ones((2, 2)), decay)),
            r"`times` must have shape \(j,\)",
        ),
        (
            lambda: jk.solve(decay, 1.0, ts, 1.0, event=jk.Jumps([jnp.nan], decay)),
            "`times` must be numbers, but has NaN",
        ),
        (
            lambda: jk.solve(decay, 1.0, ts, 1.0, event=jk.Jumps([0.5], decay, [1.0, 2.0])),
            r"`amounts` must have the leading axes \(1,\) of the times, but has \(2,\)",
        ),
        (
            lambda: jk.solve(decay, 1.0, ts, 1.0, event=jk.Jumps([0.5], lambda t, x, a: (x, x))),
            "`change` must return the structure of the state",
        ),
        (
            lambda: jk.ensemble(decay, jnp.ones(3), ts, 1.0, event=jk.Jumps(jnp.ones((2, 1)), decay)),
            r"`times` must have shape \(j,\) or \(3, j\), but has shape \(2, 1\)",
        ),
    ):
        with pytest.raises(ValueError, match=sentence):
            make()


@pytest.mark.slow
def test_a_change_that_rounds_the_state_is_no_crossing():
    """A point between two slanted walls far from the origin; each reflection turns the axes there and back."""
    c, s = np.cos(0.7), np.sin(0.7)
    there, back = np.array([[c, s], [-s, c]]), np.array([[c, -s], [s, c]])
    along = lambda x: c * x[0][0] + s * x[0][1]

    def reflect(t, x, a):
        place, speed = there @ x[0], there @ x[1]
        return back @ place, back @ (speed * np.array([-1.0, 1.0]))

    walls = [jk.Event(lambda t, x, a: along(x) - 1000, change=reflect, repeats=20)]
    walls += [jk.Event(lambda t, x, a: 1001 - along(x), change=reflect, repeats=20)]
    start = (jnp.asarray(back @ np.array([1000.5, 300.0])), jnp.asarray(back @ np.array([1.0, 0.1])))
    field = lambda t, x, a: (x[1], jnp.zeros(2))
    sol = jk.solve(field, start, jnp.array([0.0, 12.0]), method="taylor", event=walls).checked()
    assert sol.events.which[:13].tolist() == [1, 0] * 6 + [-1]
    np.testing.assert_allclose(sol.events.ts[:12], 0.5 + np.arange(12), rtol=1e-9)
    np.testing.assert_allclose(there @ sol.final[0], [1000.5, 301.2], rtol=1e-12)

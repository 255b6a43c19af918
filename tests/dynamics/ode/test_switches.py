"""Fields that compare time with constants: steps end there, whatever the method; derivatives by these times."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxkit as jk
from jaxkit.dynamics.ode.stops import with_stops

END = 6.0
# Forces on `x' = force - x`: with a parameter of 3, and where they are how large.
FORCES = {
    "dose": (lambda t, a: jnp.where(t < 1, 2.0, 0.0), [(0, 1, 2.0)]),
    "pulse": (lambda t, a: jnp.where((t >= a) & (t < a + 0.05), 100.0, 0.0), [(3, 3.05, 100.0)]),
    "left open": (lambda t, a: jnp.where((t > a) & (t <= a + 0.05), 100.0, 0.0), [(3, 3.05, 100.0)]),
    "far": (lambda t, a: jnp.where(jnp.abs(2 * t - 7) < 0.02, 50.0, 0.0), [(3.49, 3.51, 50.0)]),
    "floor": (lambda t, a: jnp.floor(t / 2), [(2, 4, 1.0), (4, 6, 2.0)]),
    "whole": (lambda t, a: (2 * t).astype(int).astype(float), [(k / 2, (k + 1) / 2, k * 1.0) for k in range(12)]),
    "day": (lambda t, a: jnp.where(t % 2.5 < 0.1 * a, 5.0, 0.0), [(k, k + 0.3, 5.0) for k in (0, 2.5, 5)]),
    "saw": (lambda t, a: jnp.where(t - 4 * jnp.floor(t / 4) > 1.5, 1.0, 0.0), [(1.5, 4, 1.0), (5.5, 6, 1.0)]),
    "sine": (
        lambda t, a: jnp.sign(jnp.sin(a * t)),
        [(k * np.pi / 3, min((k + 1) * np.pi / 3, END), (-1.0) ** k) for k in range(6)],
    ),
    "branch": (lambda t, a: jax.lax.cond(t * a < 6, lambda: 1.0, lambda: 5.0), [(0, 2, 1.0), (2, 6, 5.0)]),
    "either": (lambda t, a: jnp.clip(jnp.round(t), 1, 2), [(0, 1.5, 1.0), (1.5, 6, 2.0)]),
}
ANSWERS = [sum(f * (np.exp(hi - END) - np.exp(lo - END)) for lo, hi, f in parts) for _, parts in FORCES.values()]


def field(t, x, a):
    return jnp.stack([force(t, a) for force, _ in FORCES.values()]) - x


@pytest.mark.parametrize("method", ["taylor", "tsit5", "dopri8"])
def test_steps_end_where_a_field_switches_by_time(method):
    start = np.stack([np.zeros(len(FORCES)), ANSWERS])
    spans = jnp.array([[0.0, END], [END, 0.0]])  # there, and back
    found = jk.ensemble(field, start, spans, 3.0, method=method, rtol=1e-9, atol=1e-9).checked()
    np.testing.assert_allclose(found.final[0], ANSWERS, atol=1e-6)
    np.testing.assert_allclose(found.final[1], 0, atol=1e-6 * np.exp(END))


def some(t, x, a):
    return jnp.stack([FORCES[name][0](t, a) for name in ("pulse", "left open", "day")]) - x


def test_steps_of_solve_end_there_too():
    def last(a):
        sol = jk.solve(some, jnp.zeros(3), jnp.array([0.0, 3.025, END]), a)
        return sol.final[0], sol

    (_, sol), grad = jax.value_and_grad(last, has_aux=True)(3.0)
    wanted = [ANSWERS[list(FORCES).index(name)] for name in ("pulse", "left open", "day")]
    np.testing.assert_allclose(sol.checked().final, wanted, atol=1e-6)
    np.testing.assert_allclose(sol.xs[1, :2], 100 * (1 - np.exp(-0.025)), rtol=1e-6)  # inside of the pulse
    assert float(sol.end) == END
    np.testing.assert_allclose(grad, wanted[0], rtol=1e-6)  # a pulse that comes later


def test_a_field_without_switches_keeps_its_controller():
    wave = lambda t, x, a: jnp.sin(a * t) * jnp.maximum(x, 0) + jnp.abs(x)
    controller = diffrax.PIDController(1e-6, 1e-6)
    assert with_stops(controller, wave, jnp.arange(2.0), jnp.ones(2), jnp.array(1.0)) is controller


def test_a_smooth_ramp_needs_few_steps():
    """Where time alone decides, no step is refused."""
    ramp = lambda t, x, a: jnp.clip(t - a, 0, 1) + 0 * x
    found = jk.ensemble(ramp, jnp.zeros(3), (0.0, 5.0), jnp.array([0.0, 1.0, 4.5])).checked()
    np.testing.assert_allclose(found.final, [4.5, 3.5, 0.125], rtol=1e-12)
    assert int(found.rejected.max()) == 0
    assert int(found.steps.max()) <= 8


@pytest.mark.parametrize("method", ["taylor", "tsit5"])
def test_derivatives_by_the_time_of_a_switch(method):
    day = lambda t, x, p: jnp.where(t % p[0] < p[1], 1.0, 0.0) - x
    settings = {"method": method, "rtol": 1e-10, "atol": 1e-10}

    def exact(period, width):
        return sum(jnp.exp(k * period + width - 5) - jnp.exp(k * period - 5) for k in range(4))

    p = (jnp.array([1.3, 1.5]), jnp.array([0.4, 0.3]))
    loss = lambda p: jnp.sum(jk.ensemble(day, jnp.zeros(2), (0.0, 5.0), p, **settings).final)
    for ours, truth in zip(jax.grad(loss)(p), jax.grad(lambda p: jnp.sum(exact(*p)))(p), strict=True):
        np.testing.assert_allclose(ours, truth, rtol=1e-7)


def test_derivatives_by_the_time_of_a_switch_by_going_back():
    dose = lambda t, x, p: jnp.where(t < p[0], 2.0, 0.0) - jnp.sum(p[1:]) * x
    p = jnp.full((2, 25), 1 / 24).at[:, 0].set(jnp.array([1.0, 2.0]))
    found = jk.sensitivity(dose, jnp.zeros(2), (0.0, 5.0), p, method="tsit5", rtol=1e-9)
    np.testing.assert_allclose(found.args[:, 0, 0], 2 * np.exp(np.array([-4.0, -3.0])), rtol=1e-6)
    second = jax.hessian(lambda p: jk.ensemble(dose, jnp.zeros(1), (0.0, 5.0), p[None]).final[0])(jnp.array([1.0, 1.0]))
    assert bool(jnp.isnan(second[0, 0]))  # not known: never a wrong number

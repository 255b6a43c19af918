"""The iteration of implicit methods: steps are not given up for it, and its tolerance is that of the state."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import optimistix
import pytest

import jaxkit as jk
from jaxkit.dynamics.ode.chord import MOST, StageChord

SETTINGS = {"rtol": 1e-6, "atol": 1e-9, "norm": optimistix.rms_norm}


def stage(*, step, rate, unit=1.0):
    """Solve `k = -rate * unit * sin((x + step k / 4) / unit)` for the velocity, with the Jacobian at x = unit."""
    args = (jnp.array(1), jnp.array(0.25), None, lambda v, h: v * h, None, unit * jnp.ones(2), None, step)
    relation = lambda k, a: k + rate * unit * jnp.sin((a[5] + a[1] * k * a[7]) / unit)
    chord = StageChord(**SETTINGS | {"atol": 1e-9 * unit})
    start = -rate * unit * jnp.sin(jnp.ones(2))
    found = optimistix.root_find(relation, chord, start, args, max_steps=MOST, throw=False)
    return found, found.value + rate * unit * jnp.sin((unit + 0.25 * found.value * step) / unit)


@pytest.mark.parametrize("step", [1e-3, 1.0, 1e9])
@pytest.mark.parametrize("unit", [1e-9, 1.0, 1e20])
def test_a_stage_is_solved_to_the_tolerance_of_the_state(step, unit):
    found, residual = stage(step=step, rate=2.0 / step, unit=unit)
    assert found.result == optimistix.RESULTS.successful
    assert 2 < int(found.stats["num_steps"]) < MOST  # two are not enough
    np.testing.assert_array_less(jnp.abs(residual) * step, 1e-7 * unit)


def test_what_does_not_converge_is_given_up():
    found, _ = stage(step=1.0, rate=50.0)
    assert found.result != optimistix.RESULTS.successful
    assert int(found.stats["num_steps"]) < MOST


@pytest.mark.slow
def test_few_steps_of_a_stiff_motion_are_refused():
    field = lambda t, x, mu: jnp.stack([x[1], mu * (1 - x[0] ** 2) * x[1] - x[0]])
    run = lambda method: jk.solve(field, jnp.array([2.0, 0.0]), jnp.array([0.0, 20.0]), 30.0, method=method, rtol=1e-5)
    ours, theirs = jax.jit(run, static_argnums=0)("kvaerno3"), jax.jit(run, static_argnums=0)(diffrax.Kvaerno3())
    np.testing.assert_allclose(ours.checked().final, theirs.checked().final, rtol=1e-3)
    assert ours.rejected < 0.2 * ours.steps
    assert theirs.rejected > 0.5 * theirs.steps

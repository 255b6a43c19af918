"""Far from time 0 a step is one that the time can make, and where there is none the status says so."""

import jax.numpy as jnp
import numpy as np
import pytest

import jaxkit as jk


@pytest.mark.parametrize("method", ["taylor", "tsit5", "dopri8"])
def test_a_state_comes_to_the_time_that_it_says(method):
    t0 = jnp.array([0.0, 1e13, 3e15])
    found = jk.ensemble(lambda t, x, _: -x, jnp.ones(3), jnp.stack([t0, t0 + 1], 1), method=method)
    ok = np.asarray(found.ok)
    assert ok[:2].all()
    np.testing.assert_allclose(found.final[ok], np.exp(-1), rtol=1e-6)
    assert set(np.asarray(found.status)[~ok].tolist()) <= {int(jk.Status.step_too_small)}


@pytest.mark.parametrize("method", ["taylor", "tsit5"])
def test_single_precision_a_day_from_the_start(method):
    ts = jnp.array([86400.0, 86401.0], jnp.float32)
    found = jk.ensemble(lambda t, x, _: -x, jnp.ones(1, jnp.float32), ts, method=method, rtol=1e-4, atol=1e-6).checked()
    np.testing.assert_allclose(found.final, np.exp(-1), rtol=1e-4)


def test_a_table_in_the_field_is_left_to_dopri8():
    table = jnp.linspace(0.0, 10.0, 11)
    field = lambda t, x, _: jnp.interp(t, table, 2 * table) - x  # a straight line: x = 2 (t - 1) + 3 exp(-t) from 1
    with pytest.warns(UserWarning, match="no recurrence for `sub of whole numbers`: solving with 'dopri8'"):
        found = jk.ensemble(field, jnp.ones(1), (0.0, 5.0)).checked()
    np.testing.assert_allclose(found.final, 8 + 3 * np.exp(-5.0), rtol=1e-7)

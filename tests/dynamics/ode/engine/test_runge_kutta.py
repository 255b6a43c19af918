"""The Runge-Kutta pairs of the lean loop: a wide field compiles in seconds; events of several kinds are placed."""

import time

import jax.numpy as jnp
import numpy as np
import pytest

import jaxkit as jk

OSCILLATORS = lambda t, x, w: (*x[4:], *(-((w + i) ** 2) * x[i] / (1 + 0.1 * jnp.sin(x[0]) ** 2) for i in range(4)))


def test_a_wide_field_compiles_in_seconds():
    n, w = 5, jnp.linspace(1.0, 2.0, 5)
    start = (*(jnp.full(n, 0.1 * (i + 1)) for i in range(4)), *(jnp.zeros(n) for _ in range(4)))
    events = (lambda t, x, w: x[0] - 9.0, lambda t, x, w: x[3] + 0.2)
    begin = time.process_time()
    found = jk.ensemble(
        OSCILLATORS, start, (0.0, 9.0), w, method="dopri8", rtol=1e-9, atol=1e-9, event=events
    ).checked()
    assert time.process_time() - begin < 20  # stages written out: 60 to 130
    assert found.event.tolist() == [1] * n
    np.testing.assert_allclose(found.final[3], -0.2, atol=1e-8)


def test_the_earlier_of_two_events_in_one_step_counts():
    # One step of Tsit5 goes to the end: both functions change their sign in it.
    events = (lambda t, x, a: x - 0.7, lambda t, x, a: x - a)
    a = jnp.array([0.3, 0.9])
    found = jk.ensemble(lambda t, x, a: jnp.ones_like(x), 0.0, (0.0, 1.0), a, method="tsit5", event=events).checked()
    assert found.event.tolist() == [1, 0]
    np.testing.assert_allclose(found.end, [0.3, 0.7], rtol=1e-12)


def test_states_are_saved_up_to_an_event():
    ts, wall = jnp.linspace(0.0, 1.0, 11), lambda t, x, a: x - 1.1
    found = jk.ensemble(
        lambda t, x, a: a,
        jnp.zeros(2),
        ts,
        jnp.array([1.0, 2.0]),
        method="tsit5",
        event=wall,
    ).checked()
    assert jnp.isfinite(found.xs).sum(1).tolist() == [11, 6]
    np.testing.assert_allclose(found.xs[1, :6], 2 * ts[:6], atol=1e-12)


def test_the_error_is_a_mean_over_the_state():
    """Nine equal unknowns are as hard as one."""
    field = lambda t, x, a: -a * x * x
    one, nine = (
        jk.ensemble(field, jnp.ones((1, k)), (0.0, 20.0), jnp.ones(1), method="tsit5", rtol=1e-9).steps.tolist()
        for k in (1, 9)
    )
    assert one == nine


@pytest.mark.parametrize("method", ["tsit5", "dopri5"])
def test_stages_have_times_of_their_own(method):
    """A field of time alone is a quadrature: `3 t^2` is exact in few steps, whatever the tolerance."""
    found = jk.ensemble(lambda t, x, a: a * t * t, jnp.zeros(1), (0.0, 2.0), 3.0, method=method, rtol=1e-9).checked()
    np.testing.assert_allclose(found.final, 8.0, rtol=1e-13)
    assert int(found.steps[0]) < 15

"""Hamiltonian motions beside the oscillator's closed form."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxkit.dynamics.ode.symplectic import hamiltonian


@pytest.mark.parametrize(("method", "order"), [("midpoint", 2), ("tao4", 4)])
def test_an_oscillator_to_the_order_of_the_method(method, order):
    energy = lambda q, p, w: 0.5 * jnp.sum(p**2 + (w * q) ** 2)
    errors = []
    for steps in (40, 80):
        found = hamiltonian(
            energy, jnp.ones(1), jnp.zeros(1), 2.0, dt=4.0 / steps, steps=steps, keep=10, method=method
        ).checked()
        np.testing.assert_allclose(found.ts, np.linspace(0.0, 4.0, steps // 10 + 1), rtol=1e-12)
        errors.append(
            float(jnp.max(jnp.hypot(found.q[:, 0] - jnp.cos(2 * found.ts), found.p[:, 0] / 2 + jnp.sin(2 * found.ts))))
        )
    assert np.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.3)


def test_the_copies_of_a_motion_stay_together_where_positions_and_momenta_mix():
    """`H = (q^2 + 1)(p^2 + 1)/2` (Tao 2016): unbound, or bound with the wrong sense, the copies drift apart."""
    energy = lambda q, p, _: 0.5 * jnp.sum((q**2 + 1) * (p**2 + 1))
    found = hamiltonian(
        energy, jnp.array([-3.0]), jnp.zeros(1), dt=0.01, steps=20_000, keep=200, method="tao4", binding=20.0
    ).checked()
    assert float(jnp.max(jnp.abs(found.energy - 5.0))) < 1e-2

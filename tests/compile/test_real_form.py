"""Functions with complex numbers inside, in real numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxkit.compile.real_form import in_real_numbers

U = jnp.array([[0.3 - 0.2j, 1.1 + 0.7j], [-0.4 + 0.1j, 0.2 + 0.9j]])
V = jnp.array([[0.5 + 0.3j, -0.2 + 0.1j], [0.8 - 0.6j, 0.4 + 0.2j]])
FUNCTIONS = {
    "sums": lambda u, v: u - 2j * v + jnp.conj(u) - v.T,
    "products": lambda u, v: u * v + u @ v - jnp.einsum("ij,ik->jk", u, v),
    "quotients": lambda u, v: u / v + 1 / (1j + u),
    "powers": lambda u, v: u**3 + v**-2 + jnp.square(u),
    "exponentials": lambda u, v: jnp.exp(1j * u) + jnp.exp(v),
    "moves": lambda u, v: (
        jnp.concatenate([u[:1], v[1:, ::-1]]) + jnp.where(u.real > 0, u, v).sum(0)[None].astype(complex)
    ),
    "calls": lambda u, v: jax.jit(lambda a: a * v)(u),
    "without a rule": lambda u, v: jnp.sqrt(u) + jax.lax.fori_loop(0, 3, lambda _, w: w * v, u),
    "real": lambda u, v: jnp.abs(u) + jnp.angle(v) + (u * jnp.conj(v)).real,
}


@pytest.mark.parametrize("name", list(FUNCTIONS))
def test_the_same_without_complex_numbers(name):
    fn = FUNCTIONS[name]

    def parts(a, b, c, d):
        found = fn(jax.lax.complex(a, b), jax.lax.complex(c, d))
        return jnp.real(found), jnp.imag(found)

    given = (U.real, U.imag, V.real, V.imag)
    ours = in_real_numbers(parts)
    np.testing.assert_allclose(ours(*given), parts(*given), rtol=1e-13, atol=1e-14)
    derivative = lambda fn: jax.jacfwd(fn, (0, 1, 2, 3))(*given)
    for a, b in zip(jax.tree.leaves(derivative(ours)), jax.tree.leaves(derivative(parts)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13)
    text = str(jax.make_jaxpr(ours)(*given))
    assert ("c128" in text) == (name in ("without a rule", "real"))

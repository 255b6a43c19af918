"""Logarithms and powers from bits keep to the errors they promise."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxkit.compile.fast_log import fast_exp2, fast_log2


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_errors_are_as_promised(dtype):
    x = jnp.asarray(np.geomspace(1e-30, 1e30, 4001), dtype)
    np.testing.assert_allclose(fast_log2(x), jnp.log2(x), rtol=0, atol=0.01)
    y = jnp.asarray(np.linspace(-100.0, 100.0, 4001), dtype)
    np.testing.assert_allclose(fast_exp2(y), jnp.exp2(y), rtol=0.005)

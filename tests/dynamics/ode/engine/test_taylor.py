"""Each recurrence against Taylor coefficients by nested forward derivatives along the flow."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxkit as jk
from jaxkit.compile.scalars import SHARED, ScalarField
from jaxkit.dynamics.ode.engine.series import TaylorSeries

NAMES = "exp exp2 expm1 log log1p sin cos tan sinh cosh tanh arcsin arccos arctan arcsinh arctanh sqrt cbrt square abs"
FIELDS = {
    **{name: getattr(jnp, name) for name in NAMES.split()},
    "erf": jax.scipy.special.erf,
    "erfc": jax.scipy.special.erfc,
    "rsqrt": jax.lax.rsqrt,
    "power": lambda x: x**1.7,
    "negative power": lambda x: x**-3,
    "x^x": lambda x: x**x,
    "sigmoid": jax.nn.sigmoid,
    "quotient": lambda x: (1 + x) / (2 - x * x),
    "atan2": lambda x: jnp.arctan2(x * x, 1 + x),
    "lgamma": lambda x: jax.lax.lgamma(1.3 + x),
    "where": lambda x: jnp.where(x > 0.4, x * x, x),
    "maximum": lambda x: jnp.maximum(x * x, 0.1 + x),
    "cond": lambda x: jax.lax.cond(jnp.sum(x) > 0.8, lambda y: y * y, jnp.sin, x),
    "loop": lambda x: jax.lax.fori_loop(0, 3, lambda i, y: jnp.sin(y) * x, x),
    "competition": lambda x: x * (1 - x / 3) - 0.2 * x * x[::-1],
    "product": lambda x: (1 + 2 * x) * (3 - x) * (x[::-1] + 0.5),
    "kepler": lambda x: x / jnp.linalg.norm(x) ** 3,
    "matrix": lambda x: jnp.array([[0.0, 1.0], [-1.0, 0.1]]) @ x,
}


@pytest.mark.parametrize("name", FIELDS)
def test_coefficients(name):
    fn, x, order = FIELDS[name], jnp.array([0.3, 0.55]), 5
    scalar = ScalarField(lambda t, x, a: fn(x), jnp.array(0.0), x, (), [])
    series = TaylorSeries(scalar, scalar.outputs)
    constants = scalar.constants(SHARED, [], {}, series.roots)
    found = jax.jit(lambda x: series.coefficients(jnp.array(0.0), (x[0], x[1]), order, constants))(x)
    expected, along = [x], fn
    for k in range(1, order + 1):
        expected.append(along(x) / math.factorial(k))
        along = lambda y, g=along: jax.jvp(g, (y,), (fn(y),))[1]
    np.testing.assert_allclose(np.array(found), np.array(expected).T, rtol=1e-10, atol=1e-10)


def test_no_step_of_many_lanes_is_shared_out_over_threads():
    """XLA on the CPU cuts a loop in two where it thinks it dear; handing it over costs more than the step."""

    def rivals(t, x, p):
        return x * (p[0] * (1 - x / p[1])) - p[2] * x * x[::-1]

    parameters = tuple(jnp.full((64, 2), v) for v in (1.0, 100.0, 0.01))
    total = lambda p: jnp.sum(jk.ensemble(rivals, jnp.full((64, 2), 10.0), (0.0, 5.0), p, rtol=1e-8).final)
    program = jax.jit(jax.grad(total)).lower(parameters).compile().as_text()
    assert "while" in program
    assert "outer_dimension_partitions" not in program

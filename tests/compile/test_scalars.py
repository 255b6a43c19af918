"""compile.scalars: a field taken apart computes what the field computes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxkit.compile.scalars import SHARED, ScalarField

FIELDS = {
    "cumsum of a vector": lambda t, x, a: jnp.cumsum(x) * a[0] + t,
    "cumprod of a vector": lambda t, x, a: jnp.cumprod(x) + a[0],
    "cumsum from behind": lambda t, x, a: jax.lax.cumsum(x, reverse=True) * a[0],
    "cumsum of a matrix": lambda t, x, a: jnp.cumsum(x[:, None] * a[None, :3], 0).sum(1),
    "checkpoint": jax.checkpoint(lambda t, x, a: jnp.sin(x) * a[0] + t),
    "scan": lambda t, x, a: jax.lax.scan(lambda c, row: (c * a[0] + row, c), x, jnp.ones((4, 3)))[1].sum(0),
    "jit": jax.jit(lambda t, x, a: jnp.sin(x) * a[0] + t),
}


@pytest.mark.parametrize("name", FIELDS)
def test_scalars_compute_the_field(name):
    field = FIELDS[name]
    t, x, a = jnp.asarray(0.3), jnp.asarray([0.4, -1.2, 2.0]), jnp.asarray([1.5, -0.5, 0.7])
    scalars = ScalarField(field, t, x, a, [False])
    assert not scalars.opaque
    constants = scalars.constants(SHARED, [a], {}, scalars.outputs)
    np.testing.assert_allclose(jnp.stack(scalars(t, list(x), constants)), field(t, x, a), rtol=1e-14)


def test_a_branch_that_calls_the_host_is_run_where_it_is_chosen_alone():
    """As in the checks of other libraries, which raise from there."""

    def field(t, x, a):
        def complain(x):
            def fail(v):
                raise AssertionError(v)

            return jax.pure_callback(fail, jax.ShapeDtypeStruct((), x.dtype), x)

        return jax.lax.cond(jnp.any(t > 9), complain, jnp.sin, x)

    one = jnp.ones(())
    scalars = ScalarField(field, one, one, (), [])
    assert scalars.opaque == ["cond"]
    np.testing.assert_allclose(scalars(one, [one], {})[0], np.sin(1))

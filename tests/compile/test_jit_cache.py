"""Kept programs: used for values, also under `grad` and `vmap`, and never inside of larger programs."""

import jax
import jax.numpy as jnp

from jaxkit.compile import jit_cache


def test_where_a_kept_program_is_used(monkeypatch):
    used = []
    monkeypatch.setattr(
        jit_cache, "_kept", lambda fn, *static: lambda *arrays: (used.append(1), fn(*static, *arrays))[1]
    )
    double = lambda by, x: by * x
    constant = lambda x: x + jit_cache.run(double, (2.0,), (jnp.ones(()),))
    for transform, uses in ((lambda f: f, 1), (jax.grad, 1), (jax.vmap, 1), (jax.jit, 0)):
        used.clear()
        transform(constant)(jnp.ones(3 if transform is jax.vmap else ()))
        assert len(used) == uses
    assert not jit_cache.staged()
    used.clear()
    jax.grad(lambda x: jit_cache.run(double, (2.0,), (x,)))(1.0)  # traced arrays
    jit_cache.run(double, (2.0,), (1.0,), keep=False)
    assert not used
    jax.lax.scan(lambda c, _: (constant(c), None), jnp.ones(()), length=2)
    assert not used

"""half_square_gradient: the identity against the native double backward."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxkit.learn.gradients import half_square_gradient, value_and_half_square_gradient


def energy(params, x):
    hidden = jnp.tanh(jnp.einsum("b...,...h->bh", x, params["w"]) + params["b"][None])
    return jnp.einsum("bh,h->b", hidden**2, params["v"]) + 0.1 * jnp.sum(x**3, axis=tuple(range(1, x.ndim)))


def problem(shape=(6, 3, 2), width=5):
    keys = jax.random.split(jax.random.key(1), 5)
    params = {
        "w": jax.random.normal(keys[0], (*shape[1:], width)),
        "b": jax.random.normal(keys[1], (width,)),
        "v": jax.random.normal(keys[2], (width,)),
    }
    return params, jax.random.normal(keys[3], shape), jax.random.normal(keys[4], shape)


def native(params, x, target):
    gradient = jax.grad(lambda y: jnp.sum(energy(params, y)))(x) - target
    return 0.5 * jnp.sum(gradient**2, axis=tuple(range(1, x.ndim)))


@pytest.mark.parametrize("mode", ["forward", "reverse"])
@pytest.mark.parametrize("with_target", [False, True])
def test_value_and_gradient_are_those_of_the_double_backward(mode, with_target):
    params, x, target = problem()
    given = target if with_target else None
    total = lambda p, x: jnp.sum(jnp.sin(half_square_gradient(energy, p, x, target=given, mode=mode)))
    wanted = lambda p, x: jnp.sum(jnp.sin(native(p, x, target if with_target else jnp.zeros_like(target))))
    value, gradients = jax.value_and_grad(total, argnums=(0, 1))(params, x)
    value_wanted, gradients_wanted = jax.value_and_grad(wanted, argnums=(0, 1))(params, x)
    np.testing.assert_allclose(value, value_wanted, rtol=1e-14)
    for ours, theirs in zip(jax.tree.leaves(gradients), jax.tree.leaves(gradients_wanted), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-15 * float(jnp.abs(theirs).max()) * 20)


def test_gradient_in_the_target_and_in_forward_mode():
    params, x, target = problem()
    ours = lambda t: jnp.sum(half_square_gradient(energy, params, x, target=t))
    theirs = lambda t: jnp.sum(native(params, x, t))
    np.testing.assert_allclose(jax.grad(ours)(target), jax.grad(theirs)(target), rtol=1e-12)
    push = lambda total: jax.jvp(total, (target,), (jnp.ones_like(target),))[1]
    np.testing.assert_allclose(push(ours), push(theirs), rtol=1e-12)


def test_values_come_along():
    params, x, _ = problem()
    values, half = value_and_half_square_gradient(energy, params, x)
    np.testing.assert_allclose(values, energy(params, x), rtol=1e-15)
    np.testing.assert_allclose(half, native(params, x, jnp.zeros_like(x)), rtol=1e-14)


def test_sentences():
    params, x, target = problem()
    with pytest.raises(ValueError, match="Argument `mode` must be one of"):
        half_square_gradient(energy, params, x, mode="backward")
    with pytest.raises(ValueError, match=r"Argument `fn` must give one number a sample, shape \(6,\), but gives \(\)"):
        half_square_gradient(lambda p, x: jnp.sum(energy(p, x)), params, x)
    with pytest.raises(ValueError, match="Argument `target` must have shape"):
        half_square_gradient(energy, params, x, target=target[:2])

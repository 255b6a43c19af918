"""Networks: plain functions, types, spectral norms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxkit.learn import nets
from jaxkit.learn.nets.mlp import ACTIVATIONS, spectral_norm


def test_an_mlp_is_what_it_says(key):
    x = jax.random.normal(key, (5, 3))
    net = nets.plain(nets.MLP((8, 2), activation="tanh"), x)
    params = net.init(key)
    first, second = params["layer0"], params["layer1"]
    by_hand = np.tanh(x @ first["kernel"] + first["bias"][None]) @ second["kernel"] + second["bias"][None]
    np.testing.assert_allclose(net.apply(params, x), by_hand, rtol=1e-14)
    assert nets.count(params) == 3 * 8 + 8 + 8 * 2 + 2


def test_inputs_are_joined(key):
    x, z = jax.random.normal(key, (4, 3)), jnp.ones((4, 2))
    net = nets.plain(nets.MLP((6, 1), scalar=True), x, z)
    params = net.init(key)
    assert net.apply(params, x, z).shape == (4,)
    assert params["layer0"]["kernel"].shape == (5, 6)


@pytest.mark.parametrize("name", ["float32", "float64", "bfloat16"])
def test_types_follow_the_input(key, name):
    example = jax.ShapeDtypeStruct((1, 2), name)
    net = nets.plain(nets.MLP((4, 1)), example)
    params = net.init(key)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(params)} == {name}
    mixed = nets.plain(nets.MLP((4, 1), param_dtype=jnp.float32), example)
    weights = mixed.init(key)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(weights)} == {"float32"}
    assert mixed.apply(weights, jnp.ones((3, 2), name)).dtype.name == name


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_activations_agree_with_jax(name, key):
    x = jax.random.normal(key, (50,))
    wanted = {"leaky_relu": lambda v: jax.nn.leaky_relu(v, 0.2), "tanh": jnp.tanh, "identity": lambda v: v}
    np.testing.assert_allclose(ACTIVATIONS[name](x), wanted.get(name, getattr(jax.nn, name, None))(x), rtol=1e-12)


def test_spectral_norm_and_its_gradient(key):
    matrix = jax.random.normal(key, (7, 5))
    top = lambda m: jnp.linalg.svd(m, compute_uv=False)[0]
    norm, slope = jax.jit(jax.value_and_grad(lambda m: spectral_norm(m, iterations=200)))(matrix)
    value, wanted = jax.jit(jax.value_and_grad(top))(matrix)
    np.testing.assert_allclose(norm, value, rtol=1e-10)
    np.testing.assert_allclose(slope, wanted, atol=1e-8)
    assert 0.97 < float(spectral_norm(matrix) / top(matrix)) <= 1 + 1e-12


@pytest.mark.parametrize("shape", [(64, 64), (300, 64), (3, 200)])
def test_spectral_norm_is_right_where_singular_values_lie_close(shape, key):
    matrix = jax.random.normal(key, shape)
    assert float(spectral_norm(matrix)) == pytest.approx(np.linalg.norm(matrix, 2), rel=1e-4)
    assert float(spectral_norm(1e-200 * matrix)) == pytest.approx(1e-200 * np.linalg.norm(matrix, 2), rel=1e-4)
    assert float(spectral_norm(jnp.zeros(shape))) == 0


def test_frequencies_are_seen_beside_the_first_input(key):
    x, z = jax.random.normal(key, (3, 2)), jnp.ones((3, 1))
    net = nets.plain(nets.MLP((1,), frequencies=(2.0, 5.0)), x, z)
    params = net.init(key)
    plain = nets.plain(nets.MLP((1,)), jnp.zeros((3, 11)))
    seen = jnp.concatenate([x, jnp.sin(2 * x), jnp.sin(5 * x), jnp.cos(2 * x), jnp.cos(5 * x), z], axis=1)
    np.testing.assert_allclose(net.apply(params, x, z), plain.apply(params, seen), rtol=1e-12)


def test_a_spectral_mlp_is_lipschitz(key):
    x = jax.random.normal(key, (64, 3))
    net = nets.plain(nets.MLP((32, 32, 1), activation="leaky_relu", spectral=True, scalar=True), x)

    @jax.jit
    def steepest(key):
        params = jax.tree.map(lambda v: 5 * v, net.init(key))  # the scale of a kernel does not matter
        return jnp.max(jnp.linalg.norm(jax.vmap(jax.grad(lambda v: net.apply(params, v)))(x), axis=1))

    assert float(steepest(key)) < 1.1


def test_state_and_wrong_arguments_are_refused(key):
    with pytest.raises(ValueError, match="`module` must keep parameters alone, but also keeps batch_stats"):
        nets.plain(nn.BatchNorm(use_running_average=False), jnp.zeros((2, 3), jnp.float32)).init(key)
    with pytest.raises(ValueError, match="`activation` must be one of"):
        nets.plain(nets.MLP((2, 1), activation="nonsense"), jnp.zeros((2, 3))).init(key)
    with pytest.raises(ValueError, match="`features` must end with 1"):
        nets.plain(nets.MLP((2, 2), scalar=True), jnp.zeros((2, 3))).init(key)

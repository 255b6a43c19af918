"""Layers and networks for pictures, against Flax's own layers and closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxkit.learn import nets
from jaxkit.learn.nets import unet


def agree(ours, theirs, x, key):
    """Both layers give the same for the same parameters."""
    net = nets.plain(ours, x)
    params = jax.tree.map(lambda v: v + 0.1, jax.jit(net.init)(key))
    with jax.numpy_dtype_promotion("standard"):
        want = theirs.apply({"params": params}, x)
    np.testing.assert_allclose(jax.jit(net.apply)(params, x), want, atol=1e-11)


def test_layers_agree_with_flax(key):
    x = jax.random.normal(key, (2, 6, 5, 4))
    options = {"param_dtype": jnp.float64, "dtype": jnp.float64}
    agree(nets.Conv(3, 3, 2), nn.Conv(3, (3, 3), 2, **options), x, key)
    agree(nets.Conv(6, (3, 2), groups=2), nn.Conv(6, (3, 2), feature_group_count=2, **options), x, key)
    agree(nets.Conv(5, 1), nn.Conv(5, (1, 1), **options), x, key)
    agree(nets.ConvTranspose(3), nn.ConvTranspose(3, (4, 4), (2, 2), transpose_kernel=True, **options), x, key)
    agree(nets.GroupNorm(2), nn.GroupNorm(2, epsilon=1e-5, **options), x, key)
    line = jax.random.normal(key, (2, 9, 4))
    agree(nets.Conv(3, (3,), dilation=2), nn.Conv(3, (3,), kernel_dilation=2, **options), line, key)
    agree(nets.GroupNorm(2, space=1), nn.GroupNorm(2, epsilon=1e-5, **options), line, key)


def test_leading_axes(key):
    x = jax.random.normal(key, (2, 3, 6, 6, 4))
    for layer in (nets.Conv(3, stride=2), nets.ConvTranspose(3), nets.GroupNorm(2), nets.ResBlock(8)):
        net = nets.plain(layer, x)
        params = jax.jit(net.init)(key)
        many, one = jax.jit(lambda p, net=net: (net.apply(p, x), net.apply(p, x[1, 2])))(params)
        np.testing.assert_allclose(one, many[1, 2], atol=1e-12)


def test_resampling(key):
    x = jax.random.normal(key, (2, 6, 4, 3))
    with jax.numpy_dtype_promotion("standard"):
        mean, most = nn.avg_pool(x, (2, 2), (2, 2)), nn.max_pool(x[:, :, :3], (3, 3), (3, 3))
    np.testing.assert_allclose(nets.avg_pool(x), mean, atol=1e-13)
    np.testing.assert_allclose(nets.max_pool(x, 3), most, atol=0)
    assert nets.avg_pool(x[:, :5]).shape == (2, 2, 2, 3)
    for method in ("nearest", "bilinear"):
        with jax.numpy_dtype_promotion("standard"):
            want = jax.image.resize(x, (2, 12, 8, 3), method)
        np.testing.assert_allclose(nets.upsample(x, 2, method), want, atol=1e-12)
    with pytest.raises(ValueError, match="`by` must be 2"):
        nets.upsample(x, 3, "bilinear")
    with pytest.raises(ValueError, match="`method` must be one of"):
        nets.upsample(x, 2, "cubic")


def test_spectral_layers(key):
    x = jax.random.normal(key, (2, 6, 6, 4))
    for layer in (nets.Conv(3, spectral=True), nets.ConvTranspose(3, spectral=True)):
        net = nets.plain(layer, x)
        params = net.init(key)
        np.testing.assert_allclose(
            net.apply(jax.tree.map(lambda v: 7 * v, params), x), net.apply(params, x), atol=1e-12
        )
        kernel = params["kernel"]
        matrix = kernel.reshape(-1, 3) if isinstance(layer, nets.Conv) else jnp.moveaxis(kernel, -2, 0).reshape(3, -1)
        plain = nets.plain(type(layer)(3), x)
        ratio = plain.apply(params, x) / net.apply(params, x)
        np.testing.assert_allclose(ratio, jnp.linalg.norm(matrix, 2), rtol=5e-3)


def test_a_residual_block_starts_as_its_skip(key):
    x = jax.random.normal(key, (2, 5, 5, 4))
    net = nets.plain(nets.ResBlock(), x)
    np.testing.assert_array_equal(net.apply(net.init(key), x), x)
    with pytest.raises(ValueError, match="`groups` must divide 4 channels"):
        nets.plain(nets.ResBlock(groups=3), x).init(key)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_networks_for_pictures(key, dtype):
    shape = (10, 7, 3)
    z, x = jax.random.normal(key, (2, 5), dtype), jax.random.normal(key, (2, *shape), dtype)
    generator = nets.plain(nets.Generator(shape, channels=(6, 4), resample="bilinear"), z)
    critic = nets.plain(nets.Critic((4, 6)), x)
    energy = nets.plain(nets.EnergyNet((4, 6), cheap=False), x)

    @jax.jit
    def everything(key):
        g, c, e = generator.init(key), critic.init(key), energy.init(key)
        made = generator.apply(g, z)

        def penalty(c):
            slopes = jax.grad(lambda x: jnp.sum(critic.apply(c, x)))(x)
            return jnp.mean(jnp.sum(slopes**2, (1, 2, 3)))

        return made, critic.apply(c, made), energy.apply(e, made), jax.grad(penalty)(c)

    made, scores, energies, gradient = everything(key)
    assert made.shape == (2, *shape)
    assert made.dtype == scores.dtype == energies.dtype == dtype
    assert scores.shape == energies.shape == (2,)
    assert float(jnp.abs(made).max()) <= 1
    assert all(leaf.dtype == dtype for leaf in jax.tree.leaves(gradient))
    assert float(jnp.abs(gradient["down0"]["kernel"]).max()) > 0


def test_group_norm_takes_a_scale_and_a_shift_of_each_picture(key):
    x = jax.random.normal(key, (3, 4, 5, 6)) + 2.0
    scale, shift = jax.random.normal(key, (2, 3, 6))
    layer = nets.GroupNorm(3)
    params = {"params": {"scale": jnp.arange(1.0, 7.0), "bias": jnp.arange(6.0)}}
    plain = layer.apply(params, x)
    wanted = plain * (1 + scale[:, None, None]) + shift[:, None, None]
    assert jnp.allclose(layer.apply(params, x, scale, shift), wanted)
    assert jnp.allclose(layer.apply(params, x, None, shift), plain + shift[:, None, None])


def test_join_is_the_product_of_joined_channels(key):
    coarse, fine = jax.random.normal(key, (2, 3, 4, 5)), jax.random.normal(key, (2, 6, 8, 3))
    join = unet.Join(7)
    params = join.init(key, coarse, fine)["params"]
    joined = jnp.concatenate([nets.upsample(coarse), fine], -1)
    params = params | {"bias": jnp.arange(7.0)}
    wanted = nets.Dense(7).apply({"params": params}, joined)
    assert jnp.allclose(join.apply({"params": params}, coarse, fine), wanted)

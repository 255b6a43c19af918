"""Layers over sequences: three forms of one convolution, no leak from padding, how far a place sees."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxkit.learn import nets
from jaxkit.learn.nets import text


@pytest.mark.parametrize("form", ["unfolded", "winograd"])
@pytest.mark.parametrize(("size", "dilation"), [(32, 1), (33, 2), (7, 4), (40, 16)])
def test_forms_are_the_same_convolution(key, form, size, dilation):
    x, kernel = jax.random.normal(key, (2, size, 3)), jax.random.normal(jax.random.key(1), (3, 3, 4))
    np.testing.assert_allclose(text.FORMS[form](x, kernel, dilation), text.direct(x, kernel, dilation), atol=1e-12)
    value = lambda form: lambda x, k: jnp.sum(jnp.sin(text.FORMS[form](x, k, dilation)))
    ours, theirs = (jax.grad(value(f), argnums=(0, 1))(x, kernel) for f in (form, "direct"))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-12), ours, theirs)


def stack(x, mask, dilations=(1, 2, 4, 8, 16, 1), **options):
    layers = [nets.plain(nets.GatedDilatedConv(d, **options), x, mask) for d in dilations]
    params = [net.init(jax.random.key(i)) for i, net in enumerate(layers)]

    def apply(params, x, mask, key=None):
        for net, p in zip(layers, params, strict=True):
            x = net.apply(p, x, mask, key)
        return x

    return params, jax.jit(apply)


def test_a_place_sees_32_tokens_to_each_side_and_no_more(key):
    x, mask = jax.random.normal(key, (1, 96, 4)), jnp.ones((1, 96), bool)
    params, apply = stack(x, mask)
    slope = jax.jit(jax.grad(lambda x: jnp.sum(apply(params, x, mask)[0, 47])))(x)
    seen = np.flatnonzero(np.any(np.asarray(slope[0]) != 0, axis=-1))
    assert (seen.min(), seen.max()) == (47 - 32, 47 + 32)


def test_nothing_leaks_from_padding(key):
    mask = jnp.arange(40)[None, :] < jnp.array([25, 40])[:, None]
    x = jax.random.normal(key, (2, 40, 4))
    params, apply = stack(x, mask)
    pool = nets.plain(nets.AttentionPool(), x, mask)
    weights = pool.init(key)
    both = jax.jit(lambda x: (apply(params, x, mask), pool.apply(weights, x, mask)))
    other = jnp.where(mask[..., None], x, 1e6)
    jax.tree.map(np.testing.assert_array_equal, both(x), both(other))
    assert not np.any(np.asarray(both(x)[0])[~np.asarray(mask)])
    # The same without the padding at all.
    short = apply(params, x[:1, :25], mask[:1, :25])
    np.testing.assert_allclose(both(x)[0][0, :25], short[0], atol=1e-12)


def test_a_row_of_padding_is_finite_and_zero(key):
    mask = jnp.array([[False] * 8, [True] * 8])
    x = jax.random.normal(key, (2, 8, 4))
    params, apply = stack(x, mask, (1, 2))
    pool = nets.plain(nets.AttentionPool(), x, mask)
    weights = pool.init(key)
    value = jax.jit(lambda p, w, x: (apply(p, x, mask), pool.apply(w, x, mask)))
    out = value(params, weights, x)
    assert not any(np.any(v[0]) for v in out)
    loss = lambda *a: sum(jnp.sum(v**2) for v in value(*a))
    slopes = jax.jit(jax.grad(loss, argnums=(0, 1, 2)))(params, weights, x)
    assert all(np.all(np.isfinite(v)) for v in jax.tree.leaves(slopes))


def test_attention_pool_is_a_mean_with_positive_weights(key):
    x, mask = jax.random.normal(key, (1, 5, 3)), jnp.ones((1, 5), bool)
    weights = nets.masked_softmax(x[..., 0], mask)
    np.testing.assert_allclose(weights, jax.nn.softmax(x[..., 0]), atol=1e-12)
    pool = nets.plain(nets.AttentionPool(), x, mask)
    same = jnp.broadcast_to(x[:, :1], x.shape)
    np.testing.assert_allclose(pool.apply(pool.init(key), same, mask), x[:, 0], atol=1e-12)


def test_noise_only_with_a_key_and_closed_gates_pass(key):
    x, mask = jax.random.normal(key, (1, 8, 4)), jnp.ones((1, 8), bool)
    params, apply = stack(x, mask, (1,), noise=0.1, drop=0.2)
    np.testing.assert_array_equal(apply(params, x, mask), apply(params, x, mask))
    assert np.any(np.asarray(apply(params, x, mask, jax.random.key(3))) != np.asarray(apply(params, x, mask)))
    closed = [params[0] | {"bias": jnp.array([0.0] * 4 + [-1e3] * 4)}]
    np.testing.assert_allclose(apply(closed, x, mask), x, atol=1e-12)


def test_products_with_their_own_derivatives_are_products(key):
    x, kernel = jax.random.normal(key, (2, 5, 3)), jax.random.normal(jax.random.key(1), (3, 4))
    value = lambda product: lambda x, k: jnp.sum(jnp.sin(product(x, k)))
    ours, theirs = (jax.grad(value(f), argnums=(0, 1))(x, kernel) for f in (text.product, jnp.matmul))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-12), ours, theirs)
    value = lambda shifted: lambda x, b: jnp.sum(jnp.sin(shifted(x, b)))
    plain = lambda x, b: x + b[None, None, :]
    ours, theirs = (jax.grad(value(f), argnums=(0, 1))(x, kernel[:, 0]) for f in (text.shifted, plain))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-12), ours, theirs)
    np.testing.assert_array_equal(jax.grad(lambda x: jnp.sum(jnp.sin(text.settled(x))))(x), jnp.cos(x))


def test_what_is_the_same_everywhere_need_not_be_repeated(key):
    x, same = jax.random.normal(key, (2, 6, 3)), jax.random.normal(jax.random.key(1), (2, 4))
    mask = jnp.arange(6)[None, :] < jnp.array([6, 4])[:, None]
    pool = nets.AttentionPool()
    wide = jnp.concatenate([x, jnp.broadcast_to(same[:, None], (2, 6, 4))], axis=-1)
    params = pool.init(key, wide, mask)
    np.testing.assert_allclose(pool.apply(params, x, mask, same), pool.apply(params, wide, mask), atol=1e-12)

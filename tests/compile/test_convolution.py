"""The closed family of convolutions against XLA's own, to third order, in both modes, batched and sharded."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxkit.compile.convolution import conv, conv_transpose, correlation

# size, window, channels in, out, options
CASES = {
    "plain": ((6, 5), (3, 3), 2, 3, {}),
    "strided": ((8, 8), (4, 4), 2, 3, {"stride": 2}),
    "odd": ((7, 6), (3, 2), 2, 4, {"stride": (2, 3), "padding": ((2, 0), (1, 2))}),
    "valid": ((9, 7), (3, 4), 1, 2, {"padding": "valid", "stride": 2}),
    "dilated": ((9, 8), (3, 2), 2, 3, {"dilation": (2, 3), "stride": (1, 2)}),
    "grouped": ((6, 6), (3, 3), 4, 6, {"groups": 2, "stride": 2}),
    "depthwise": ((5, 5), (3, 3), 3, 3, {"groups": 3}),
    "stride beyond the window": ((7, 7), (2, 2), 2, 2, {"stride": 3, "padding": 0}),
    "one by one": ((5, 4), (1, 1), 3, 2, {"stride": 2}),
    "one by one, padded": ((5, 4), (1, 1), 3, 2, {"padding": 1}),
    "line": ((11,), (3,), 2, 4, {"dilation": 2, "groups": 2}),
    "space": ((4, 3, 5), (2, 3, 2), 2, 2, {"stride": (1, 2, 2)}),
}


def native(x, w, *, stride=1, padding="same", dilation=1, groups=1):
    """The same by JAX's public operation and its own derivatives."""
    n = x.ndim - 2
    many = lambda v: (v,) * n if isinstance(v, int) else tuple(v)
    pads = (
        padding.upper() if isinstance(padding, str) else ((padding,) * 2,) * n if isinstance(padding, int) else padding
    )
    axes = "XYZ"[:n]
    names = (f"N{axes}C", f"{axes}IO", f"N{axes}C")
    return jax.lax.conv_general_dilated(
        x, w, many(stride), pads, None, many(dilation), names, feature_group_count=groups
    )  # fmt: skip


def inputs(case, dtype=jnp.float64, batch=2):
    size, window, c, out, options = CASES[case]
    a, b = jax.random.split(jax.random.key(1))
    x = jax.random.normal(a, (batch, *size, c), dtype)
    return x, jax.random.normal(b, (*window, c // options.get("groups", 1), out), dtype), options


THIRD = ("strided", "odd", "grouped")  # one more order costs as much as all before it


def derivatives(convolve, x, w, third):
    """Values, and derivatives of orders one to three that mix both arguments."""
    value = lambda x, w: jnp.sum(jnp.tanh(convolve(x, w)))
    first = jax.grad(value, (0, 1))

    def penalty(x, w):
        dx, dw = first(x, w)
        return jnp.sum(dx**2) + jnp.sum(jnp.sin(dw))

    second = jax.grad(penalty, (0, 1))
    done = [convolve(x, w), first(x, w), second(x, w)]
    if third:
        done.append(jax.grad(lambda x, w: sum(jnp.sum(jnp.cos(g)) for g in second(x, w)), (0, 1))(x, w))
    return done


@pytest.mark.parametrize("case", CASES)
def test_derivatives_equal_the_native_ones(case):
    x, w, options = inputs(case)

    @jax.jit
    def both(x, w):
        return [derivatives(partial(f, **options), x, w, case in THIRD) for f in (conv, native)]

    ours, theirs = both(x, w)
    for have, want in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(have, want, rtol=0, atol=1e-11 * max(1, float(jnp.abs(want).max())))


@pytest.mark.parametrize("case", CASES)
def test_the_three_are_transposes_of_each_other(case):
    x, w, options = inputs(case)
    y = jax.random.normal(jax.random.key(2), conv(x, w, **options).shape)

    @jax.jit
    def three(x, w, y):
        back = conv_transpose(y, w, size=x.shape[1:-1], **options)
        kernel = correlation(x, y, window=w.shape[:-2], **options)
        return jnp.vdot(conv(x, w, **options), y), jnp.vdot(back, x), jnp.vdot(kernel, w)

    np.testing.assert_allclose(three(x, w, y), jnp.full(3, three(x, w, y)[0]), rtol=1e-12)


def test_transposed_and_correlated_are_differentiable_in_both_modes():
    x, w, options = inputs("strided", batch=1)
    y = jax.random.normal(jax.random.key(2), (1, 4, 4, 3))
    functions = {
        "transposed": (lambda y, w: jnp.sum(jnp.sin(conv_transpose(y, w, **options))), (y, w)),
        "correlated": (lambda x, y: jnp.sum(jnp.sin(correlation(x, y, window=(4, 4), **options))), (x, y)),
        "conv": (lambda x, w: jnp.sum(jnp.sin(conv(x, w, **options))), (x, w)),
    }
    for name, (f, at) in functions.items():
        along = jax.tree.map(lambda v: jnp.cos(jnp.arange(v.size, dtype=v.dtype)).reshape(v.shape), at)

        @jax.jit
        def slopes(at, along, f=f):
            forward = lambda at: jax.jvp(f, at, along)[1]
            reverse = lambda at: sum(jnp.vdot(g, d) for g, d in zip(jax.grad(f, (0, 1))(*at), along, strict=True))
            second = [jax.jvp(g, (at,), (along,))[1] for g in (forward, reverse)]
            back = sum(jnp.vdot(g, d) for g, d in zip(jax.grad(forward)(at), along, strict=True))
            return f(*at), forward(at), reverse(at), *second, back

        _, forward, reverse, *second = slopes(at, along)
        step = 1e-5
        moved = lambda s, at=at, along=along: jax.tree.map(lambda v, d: v + s * d, at, along)
        shifted = [slopes(moved(step), along), slopes(moved(-step), along)]
        np.testing.assert_allclose([forward, reverse], (shifted[0][0] - shifted[1][0]) / (2 * step), rtol=1e-6)
        np.testing.assert_allclose(second, (shifted[0][1] - shifted[1][1]) / (2 * step), rtol=1e-5, err_msg=name)


def test_transposed_sizes():
    y = jnp.ones((1, 5, 5, 3))
    w = jnp.ones((4, 4, 2, 3))
    assert conv_transpose(y, w, stride=2).shape == (1, 10, 10, 2)
    assert conv_transpose(y, w, stride=2, padding="valid").shape == (1, 12, 12, 2)
    assert conv_transpose(y, w, stride=2, padding=1).shape == (1, 10, 10, 2)
    assert conv_transpose(y, w, stride=2, padding=1, size=(11, 10)).shape == (1, 11, 10, 2)
    lax = jax.lax.conv_transpose(y, w.swapaxes(2, 3), (2, 2), "VALID")
    np.testing.assert_allclose(conv_transpose(y, w, stride=2, padding="valid"), lax, atol=1e-12)
    with pytest.raises(ValueError, match=r"`y` must have the shape of the convolution's output"):
        conv_transpose(y, w, stride=2, padding=1, size=(13, 10))


@pytest.mark.parametrize("which", ["x", "w", "both"])
def test_vmap_and_gradients_of_vmap(which):
    x, w, options = inputs("grouped")
    xs = jnp.stack([x, 2 * x, -x]) if which != "w" else x
    ws = jnp.stack([w, w + 1, -w]) if which != "x" else w
    axes = (0 if which != "w" else None, 0 if which != "x" else None)

    def loss(convolve, xs, ws):
        single = lambda x, w: jnp.sum(jax.grad(lambda x: jnp.sum(jnp.tanh(convolve(x, w))))(x) ** 2)
        return jnp.sum(jax.vmap(single, axes)(xs, ws))

    @jax.jit
    def both(xs, ws):
        return [jax.grad(partial(loss, partial(f, **options)), (0, 1))(xs, ws) for f in (conv, native)]

    ours, theirs = both(xs, ws)
    for have, want in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(have, want, atol=1e-11 * float(jnp.abs(want).max()))


@pytest.mark.parametrize(("dtype", "digits"), [(jnp.float32, 1e-5), (jnp.bfloat16, 0.05)])
def test_types(dtype, digits):
    x, w, options = inputs("strided", dtype)
    value, gradient = jax.value_and_grad(lambda w: jnp.sum(conv(x, w, **options) ** 2))(w)
    wide = jax.grad(lambda w: jnp.sum(conv(x.astype(jnp.float64), w, **options) ** 2))(w.astype(jnp.float64))
    assert value.dtype == gradient.dtype == dtype
    np.testing.assert_allclose(gradient.astype(jnp.float64), wide, atol=digits * float(jnp.abs(wide).max()))


def penalty(convolve, w, x):
    """A gradient penalty on a strided convolution: the mean over pictures."""
    slopes = jax.grad(lambda x: jnp.sum(jnp.tanh(convolve(x, w, stride=2))))(x)
    return jnp.mean(jnp.sum(slopes**2, axis=(1, 2, 3)))


def test_sharded_batches_give_the_same_gradient():
    x, w, _ = inputs("strided", batch=4)
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
    want = jax.jit(jax.grad(partial(penalty, native)))(w, x)
    split = jax.device_put(x, NamedSharding(mesh, PartitionSpec("data")))
    whole = jax.device_put(w, NamedSharding(mesh, PartitionSpec()))
    np.testing.assert_allclose(jax.jit(jax.grad(partial(penalty, conv)))(whole, split), want, atol=1e-11)
    mapped = jax.shard_map(
        lambda w, x: jax.grad(lambda w: jax.lax.pmean(penalty(conv, w, x), "data"))(w),
        mesh=mesh,
        in_specs=(PartitionSpec(), PartitionSpec("data")),
        out_specs=PartitionSpec(),
    )
    np.testing.assert_allclose(jax.jit(mapped)(w, x), want, atol=1e-11)
    each = jax.pmap(lambda w, x: jax.lax.pmean(jax.grad(partial(penalty, conv))(w, x), "d"), "d", in_axes=(None, 0))
    np.testing.assert_allclose(each(w, x[:, None])[0], want, atol=1e-11)


@pytest.mark.parametrize("case", ["plain", "strided", "grouped"])
def test_large_batches_are_summed_in_parts(case):
    """32 pictures and more are taken eight at a time on a CPU; of devices, each takes its own."""
    x, w, options = inputs(case, batch=128)
    of = lambda convolve: jax.jit(jax.grad(lambda w, x: jnp.sum(jnp.tanh(convolve(x, w, **options)))))
    want = of(native)(w, x)
    np.testing.assert_allclose(of(conv)(w, x), want, atol=1e-10)
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
    split = jax.device_put(x, NamedSharding(mesh, PartitionSpec("data")))
    program = of(conv).lower(w, split).compile()
    np.testing.assert_allclose(program(w, split), want, atol=1e-10)
    if case != "grouped":  # XLA brings the pictures together for a grouped convolution, in one part as well
        assert "all-gather" not in program.as_text()
    each = (PartitionSpec(), PartitionSpec("data"))
    mapped = jax.shard_map(of(conv), mesh=mesh, in_specs=each, out_specs=PartitionSpec())  # the sum over devices
    np.testing.assert_allclose(jax.jit(mapped)(w, x), want, atol=1e-10)


def test_remat_and_scan(key):
    x, w, _ = inputs("plain")
    w = w[..., :2]
    deep = lambda w, wrap: jnp.sum(
        jax.lax.scan(lambda h, _: (wrap(lambda h: jnp.tanh(conv(h, w)))(h), None), x, None, length=3)[0]
    )
    want = jax.grad(lambda w: jnp.sum(jnp.tanh(native(jnp.tanh(native(jnp.tanh(native(x, w)), w)), w))))(w)
    for wrap in (lambda f: f, jax.checkpoint):
        np.testing.assert_allclose(jax.jit(jax.grad(lambda w: deep(w, wrap)))(w), want, atol=1e-11)  # noqa: B023


def test_wrong_arguments_are_named():
    x, w = jnp.zeros((2, 6, 6, 4)), jnp.zeros((3, 3, 4, 2))
    with pytest.raises(ValueError, match="`w` must have 4 / 1 input channels"):
        conv(x, w[:, :, :3])
    with pytest.raises(ValueError, match="`w` must have the type of the pictures, float64, but has float32"):
        conv(x, w.astype(jnp.float32))
    with pytest.raises(ValueError, match="`groups` must divide the channels"):
        conv(x, w, groups=3)
    with pytest.raises(ValueError, match="`stride` must be a positive integer or 2 of them"):
        conv(x, w, stride=(1, 2, 3))
    with pytest.raises(ValueError, match="`padding` must be one of 'same', 'valid'"):
        conv(x, w, padding="reflect")
    with pytest.raises(ValueError, match="`w` must not be larger than the padded pictures"):
        conv(x[:, :2], w, padding="valid")
    with pytest.raises(ValueError, match="`w` must have 4 axes"):
        conv(x, w[0])
    with pytest.raises(ValueError, match=r"`y` must have shape \(2, 3, 3, 'out'\)|`y` must have shape"):
        correlation(x, x, window=3, stride=2)


@pytest.mark.parametrize("case", ["strided", "grouped"])
def test_every_convolution_names_its_axes_in_the_usual_order(case):
    # Inside a loop XLA runs a convolution with any other order fifty times slower.
    x, w, options = inputs(case)
    loss = lambda x, w: jnp.sum(conv(x, w, **options) ** 3)
    text = jax.jit(jax.grad(loss, (0, 1))).lower(x, w).as_text()
    numbers = [
        line.split("dim_numbers = ")[1].split(",  window")[0] for line in text.splitlines() if "dim_numbers" in line
    ]
    assert numbers
    assert all(n.startswith("[b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f]") for n in numbers)

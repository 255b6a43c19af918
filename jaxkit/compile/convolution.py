"""A closed family of three convolutions: each one's derivatives are the other two.

A convolution is trilinear: `<conv(x, w), y>` is linear in the picture `x`, the kernel `w` and the output `y`. Its three
gradients are

    conv(x, w) -> y,    conv_transpose(y, w) -> x,    correlation(x, y) -> w,

and the derivative of each of these, in either argument, is again one of the three. JAX's own rules leave the family:
they differentiate the transposed convolution as a convolution of a picture with holes, and XLA's CPU compiler is slow
at the kernel gradient of that (https://github.com/jax-ml/jax/issues/31662). Training with transposed convolutions, and
every gradient penalty through a strided convolution, would suffer. Here the three are primitives of JAX, each with the
other two as its derivatives: forward mode, reverse mode and any mixture, to any order, at the cost of the three
kernels.

Pictures are `(n, *space, channels)` and kernels `(*window, in / groups, out)`, with any number of spatial axes.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxkit.core import checks
from jaxkit.core.jax_internals import Primitive, batched, bilinear, primitive, varying

Padding = str | int | Sequence[tuple[int, int]]
Spread = int | Sequence[int]
BLOCK = 8  # pictures for which a CPU computes the kernel's derivative at once


@dataclasses.dataclass(frozen=True)
class Geometry:
    """What the three convolutions have in common.

    Attributes:
        size: Lengths of the picture's spatial axes.
        window: Lengths of the kernel's spatial axes.
        stride: Steps of the kernel, one for each spatial axis.
        padding: Zeros before and after, a pair for each spatial axis.
        dilation: Distances between neighbouring entries of the kernel.
        groups: Number of groups of channels that do not mix.
    """

    size: tuple[int, ...]
    window: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    groups: int = 1

    @property
    def reach(self) -> tuple[int, ...]:
        """Lengths of the dilated kernel."""
        return tuple(d * (k - 1) + 1 for d, k in zip(self.dilation, self.window, strict=True))

    @property
    def output(self) -> tuple[int, ...]:
        """Lengths of the output's spatial axes."""
        each = zip(self.size, self.reach, self.stride, self.padding, strict=True)
        return tuple((n + low + high - reach) // step + 1 for n, reach, step, (low, high) in each)


def conv(
    x: Float[Array, "n *space c"],
    w: Float[Array, "*window c_in_group out"],
    *,
    stride: Spread = 1,
    padding: Padding = "same",
    dilation: Spread = 1,
    groups: int = 1,
) -> Float[Array, "n *smaller out"]:
    """Convolution (in the sense of networks: the kernel is not flipped).

    Args:
        x: Pictures, shape `(n, *space, channels)`.
        w: Kernel, shape `(*window, channels / groups, out)`, of the dtype of `x`.
        stride: Step of the kernel: one for all spatial axes, or one for each.
        padding: `"same"` (output `ceil(size / stride)`, the odd zero at the end), `"valid"` (none), a number of zeros
            on every side, or a pair an axis.
        dilation: Distance between neighbouring entries of the kernel.
        groups: Number of groups of channels that do not mix; it must divide both numbers of channels.

    Returns:
        Pictures with `out` channels.

    Raises:
        ValueError: The shapes, dtypes or options do not fit together.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxkit.compile.convolution import conv
        >>> x, w = jnp.ones((1, 4, 4, 1)), jnp.ones((2, 2, 1, 3))
        >>> conv(x, w, stride=2).shape
        (1, 2, 2, 3)
        >>> penalty = lambda w: jnp.sum(jax.grad(lambda x: jnp.sum(conv(x, w, stride=2) ** 2))(x) ** 2)
        >>> float(jax.grad(penalty)(w).sum())
        36864.0
    """
    geometry = _geometry(x, w, stride, padding, dilation, groups)
    checks.require(
        x.shape[-1] == w.shape[-2] * groups,
        "w",
        f"have {x.shape[-1]} / {groups} input channels",
        f"has shape {w.shape}",
    )
    if _is_product(geometry):
        # Faster than a convolution on the CPU, and as one matrix: see `nets.mlp.Dense`.
        x = x[(slice(None), *(slice(None, None, s) for s in geometry.stride))]
        return (x.reshape(-1, x.shape[-1]) @ w.reshape(w.shape[-2:])).reshape(*x.shape[:-1], -1)
    return _bind(conv_p, x, w, geometry)


def conv_transpose(
    y: Float[Array, "n *space out"],
    w: Float[Array, "*window c_in_group out"],
    *,
    stride: Spread = 1,
    padding: Padding = "same",
    dilation: Spread = 1,
    groups: int = 1,
    size: Sequence[int] | None = None,
) -> Float[Array, "n *larger c"]:
    """The transpose of `conv` in its pictures, with the same kernel and options: it scales up by `stride`.

    Args:
        y: Pictures with the channels of the *output* of `conv`.
        w: Kernel of that `conv`, shape `(*window, c / groups, out)`: `c` is the number of channels of the result.
        stride: As for `conv`, like the next three.
        padding: As for `conv`.
        dilation: As for `conv`.
        groups: As for `conv`.
        size: Lengths of the spatial axes of the result: several are possible where `stride > 1`. The default is the
            smallest, or `stride` times the size of `y` where the padding is `"same"`.

    Returns:
        Pictures with `c` channels.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxkit.compile.convolution import conv_transpose
        >>> conv_transpose(jnp.ones((1, 7, 7, 8)), jnp.ones((4, 4, 3, 8)), stride=2).shape
        (1, 14, 14, 3)
    """
    space = y.ndim - 2
    steps, spread = _each("stride", stride, space), _each("dilation", dilation, space)
    if size is None:
        reach = [d * (k - 1) + 1 for d, k in zip(spread, w.shape[:space], strict=True)]
        if padding == "same":
            size = tuple(n * s for n, s in zip(y.shape[1:-1], steps, strict=True))
        else:
            zeros = [sum(pair) for pair in _padding(padding, y.shape[1:-1], reach, steps)]
            size = tuple((n - 1) * s + r - z for n, s, r, z in zip(y.shape[1:-1], steps, reach, zeros, strict=True))
    shape = jax.ShapeDtypeStruct((y.shape[0], *size, w.shape[-2] * groups), y.dtype)
    geometry = _geometry(shape, w, stride, padding, dilation, groups)
    checks.require(
        y.shape[1:] == (*geometry.output, w.shape[-1]),
        "y",
        f"have the shape of the convolution's output, {(y.shape[0], *geometry.output, w.shape[-1])}",
        f"has {y.shape}",
    )
    return _bind(conv_transpose_p, y, w, geometry)


def correlation(
    x: Float[Array, "n *space c"],
    y: Float[Array, "n *smaller out"],
    *,
    window: Spread,
    stride: Spread = 1,
    padding: Padding = "same",
    dilation: Spread = 1,
    groups: int = 1,
) -> Float[Array, "*window c_in_group out"]:
    """The transpose of `conv` in its kernel: how pictures correlate with outputs, summed over the batch.

    Args:
        x: Pictures.
        y: Outputs of `conv` with these options.
        window: Lengths of the kernel's spatial axes.
        stride: As for `conv`, like the next three.
        padding: As for `conv`.
        dilation: As for `conv`.
        groups: As for `conv`.

    Returns:
        A kernel, shape `(*window, channels / groups, out)`.
    """
    kernel = jax.ShapeDtypeStruct((*_each("window", window, x.ndim - 2), x.shape[-1] // groups, y.shape[-1]), y.dtype)
    geometry = _geometry(x, kernel, stride, padding, dilation, groups)
    wanted = (x.shape[0], *geometry.output)
    checks.require(y.shape[:-1] == wanted, "y", f"have shape {(*wanted, 'out')}", f"has {y.shape}")
    return _bind(correlation_p, x, y, geometry)


# The three kernels, as XLA runs them.


def _axes(space: int) -> str:
    return "DHW"[3 - space :] if space <= 3 else "".join(map(chr, range(97, 97 + space)))


def _numbers(space: int) -> tuple[str, str, str]:
    axes = _axes(space)
    return f"N{axes}C", f"{axes}IO", f"N{axes}C"


def _conv(x: Array, w: Array, *, geometry: Geometry) -> Array:
    g = geometry
    return jax.lax.conv_general_dilated(
        x,
        w,
        g.stride,
        g.padding,
        rhs_dilation=g.dilation,
        dimension_numbers=_numbers(len(g.size)),
        feature_group_count=g.groups,
    )


def _conv_transpose(y: Array, w: Array, *, geometry: Geometry) -> Array:
    """A convolution of `y`, with holes, with the flipped kernel, whose channels are exchanged group by group."""
    g, space = geometry, len(geometry.size)
    flipped = jnp.flip(w, tuple(range(space)))
    per, out = w.shape[-2:]
    split = flipped.reshape(*g.window, per, g.groups, out // g.groups)
    exchanged = jnp.moveaxis(split, -3, -1).swapaxes(-3, -2).reshape(*g.window, out // g.groups, g.groups * per)
    pairs = []
    for n, have, reach, step, (low, _) in zip(g.size, g.output, g.reach, g.stride, g.padding, strict=True):
        before = reach - 1 - low
        pairs.append((before, n + reach - 1 - (step * (have - 1) + 1) - before))
    return jax.lax.conv_general_dilated(
        y,
        exchanged,
        (1,) * space,
        pairs,
        lhs_dilation=g.stride,
        rhs_dilation=g.dilation,
        dimension_numbers=_numbers(space),
        feature_group_count=g.groups,
    )


def _correlation(x: Array, y: Array, *, geometry: Geometry) -> Array:
    """A sum over a few pictures at a time, which stay in a CPU's cache while all windows are taken.

    Each turn takes one picture from each eighth of the batch: a batch that is shared out over devices stays in place.
    """
    n = x.shape[0]
    if jax.default_backend() != "cpu" or n % BLOCK or n < 4 * BLOCK or x.ndim < 4:
        return _correlate(x, y, geometry)
    rows = [v.reshape(BLOCK, n // BLOCK, *v.shape[1:]) for v in (x, y)]
    at = lambda v, i: jax.lax.dynamic_index_in_dim(v, i, 1, keepdims=False)
    part = lambda i: _correlate(at(rows[0], i), at(rows[1], i), geometry)
    shape = jax.eval_shape(part, 0)
    zero = _vary(jnp.zeros(shape.shape, shape.dtype), varying(x) | varying(y))
    return jax.lax.fori_loop(0, n // BLOCK, lambda i, w: w + part(i), zero)


def _correlate(x: Array, y: Array, geometry: Geometry) -> Array:
    """A convolution in which batch and channels change places: `y` is the kernel, with holes where `stride > 1`.

    They change places by a transposition, not by naming axes: inside a loop (`lax.scan`, `lax.while_loop`) XLA does not
    bring a convolution with unusual axes into the order that its fast kernel needs.
    """
    g, space = geometry, len(geometry.size)
    pairs = []
    for n, have, reach, step, (low, _) in zip(g.size, g.output, g.reach, g.stride, g.padding, strict=True):
        pairs.append((low, step * (have - 1) + reach - n - low))
    w = jax.lax.conv_general_dilated(
        jnp.swapaxes(x, 0, -1),
        jnp.moveaxis(y, 0, -2),
        g.dilation,
        pairs,
        rhs_dilation=g.stride,
        dimension_numbers=_numbers(space),
        batch_group_count=g.groups,
    )
    return jnp.moveaxis(w, 0, -2)


# The three primitives, and what JAX must know of them: shapes, programs, derivatives, batches.


def _primitive(name: str, program: Callable[..., Array]) -> Primitive:
    def shape(a: Any, b: Any, *, geometry: Geometry) -> Any:
        sizes = {
            "conv": (a.shape[0], *geometry.output, b.shape[-1]),
            "conv_transpose": (a.shape[0], *geometry.size, b.shape[-2] * geometry.groups),
            "correlation": (*geometry.window, a.shape[-1] // geometry.groups, b.shape[-1]),
        }
        # `update` keeps the rest of the type: the axes of `shard_map` along which values differ.
        return a.update(shape=sizes[name], weak_type=False)

    return primitive(name, program, shape, static="geometry")


conv_p = _primitive("conv", _conv)
conv_transpose_p = _primitive("conv_transpose", _conv_transpose)
correlation_p = _primitive("correlation", _correlation)

# <conv(x, w), y> differentiated with respect to the first argument, then to the second.
bilinear(
    conv_p,
    lambda ct, x, w, *, geometry: conv_transpose_p.bind(ct, w, geometry=geometry),
    lambda ct, x, w, *, geometry: correlation_p.bind(x, ct, geometry=geometry),
)
bilinear(
    conv_transpose_p,
    lambda ct, y, w, *, geometry: conv_p.bind(ct, w, geometry=geometry),
    lambda ct, y, w, *, geometry: correlation_p.bind(ct, y, geometry=geometry),
)
bilinear(
    correlation_p,
    lambda ct, x, y, *, geometry: conv_transpose_p.bind(y, ct, geometry=geometry),
    lambda ct, x, y, *, geometry: conv_p.bind(x, ct, geometry=geometry),
)


def _batch(primitive: Any, args: tuple, dims: tuple, *, geometry: Geometry) -> tuple[Array, int]:
    """`vmap`: pictures of several batches are one batch; several kernels are taken one after another."""
    a, b = args
    i, j = dims
    run = partial(primitive.bind, geometry=geometry)
    if primitive is not correlation_p and j is None:
        a = jnp.moveaxis(a, i, 0)
        done = run(a.reshape(-1, *a.shape[2:]), b)
        return done.reshape(*a.shape[:2], *done.shape[1:]), 0
    fixed = {n for n, d in enumerate(dims) if d is None}
    mapped = tuple(jnp.moveaxis(v, d, 0) for v, d in zip(args, dims, strict=True) if d is not None)

    def one(parts: tuple) -> Array:
        rest = iter(parts)
        return run(*(args[n] if n in fixed else next(rest) for n in range(2)))

    return jax.lax.map(one, mapped), 0


for _each_one in (conv_p, conv_transpose_p, correlation_p):
    batched(_each_one, partial(_batch, _each_one))


def _bind(primitive: Any, a: Array, b: Array, geometry: Geometry) -> Array:
    """Call a primitive; inside `shard_map`, values that are equal on all devices are first declared to differ."""
    along = varying(a) | varying(b)
    a, b = _vary(a, along), _vary(b, along)
    return primitive.bind(a, b, geometry=geometry)


def _vary(value: Array, along: frozenset) -> Array:
    """A value that is declared to differ along axes of `shard_map`."""
    missing = tuple(along - varying(value))
    return jax.lax.pcast(value, missing, to="varying") if missing else value


# Arguments.


def _each(name: str, value: Spread, space: int) -> tuple[int, ...]:
    each = (value,) * space if isinstance(value, int) else tuple(value)
    checks.require(
        len(each) == space and min(each) > 0, name, f"be a positive integer or {space} of them", f"is {value}"
    )
    return each


def _padding(
    padding: Padding, size: Sequence[int], reach: Sequence[int], stride: Sequence[int]
) -> tuple[tuple[int, int], ...]:
    if isinstance(padding, str):
        checks.one_of("padding", padding, ("same", "valid"))
        if padding == "valid":
            return ((0, 0),) * len(size)
        needed = [max((math.ceil(n / s) - 1) * s + r - n, 0) for n, r, s in zip(size, reach, stride, strict=True)]
        return tuple((z // 2, z - z // 2) for z in needed)
    pairs = ((padding, padding),) * len(size) if isinstance(padding, int) else tuple((p[0], p[1]) for p in padding)
    checks.require(len(pairs) == len(size), "padding", f"have {len(size)} pairs", f"has {len(pairs)}")
    return pairs


def _geometry(x: Any, w: Any, stride: Spread, padding: Padding, dilation: Spread, groups: int) -> Geometry:
    space = x.ndim - 2 if hasattr(x, "ndim") else len(x.shape) - 2
    checks.require(space >= 1, "x", "have shape (n, *space, channels)", f"has {x.shape}")
    checks.require(len(w.shape) == space + 2, "w", f"have {space + 2} axes, like the pictures", f"has shape {w.shape}")
    checks.require(w.dtype == x.dtype, "w", f"have the type of the pictures, {x.dtype}", f"has {w.dtype}")
    fits = groups > 0 and x.shape[-1] % groups == 0 and w.shape[-1] % groups == 0
    checks.require(
        fits, "groups", f"divide the channels, {x.shape[-1]} and {w.shape[-1]}, of input and output", f"is {groups}"
    )
    size, window = tuple(x.shape[1:-1]), tuple(w.shape[:-2])
    steps, spread = _each("stride", stride, space), _each("dilation", dilation, space)
    reach = [d * (k - 1) + 1 for d, k in zip(spread, window, strict=True)]
    geometry = Geometry(size, window, steps, _padding(padding, size, reach, steps), spread, groups)
    checks.require(
        min(geometry.output) > 0, "w", "not be larger than the padded pictures", f"has shape {w.shape} for {x.shape}"
    )
    return geometry


def _is_product(g: Geometry) -> bool:
    """Whether the convolution is one matrix product for each pixel."""
    return set(g.window) == {1} and g.groups == 1 and all(pair == (0, 0) for pair in g.padding)

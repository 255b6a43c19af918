"""Curvature by automatic differentiation: from `g`, `dg` and `ddg` to every tensor in one pass."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxkit.compile.jit_cache import run_kept
from jaxkit.compile.nodes import SHARED
from jaxkit.compile.scalars import ScalarField
from jaxkit.core.checks import require
from jaxkit.core.struct import struct
from jaxkit.gravity.metrics import Metric, Params, as_metric, bare, inverse_of, lorentzian, matrix

Field = Callable[[Array], Array]


@struct
class Curvature:
    """All tensors at a point (or at a batch of points along leading axes).

    Attributes:
        metric: `g_ab`.
        inverse: `g^ab`.
        christoffel: `Γ^a_bc`, symmetric in the last two.
        riemann: `R_abcd`, all indices down.
        ricci: `R_ab`.
        scalar: `R`.
    """

    metric: Float[Array, "... d d"]
    inverse: Float[Array, "... d d"]
    christoffel: Float[Array, "... d d d"]
    riemann: Float[Array, "... d d d d"]
    ricci: Float[Array, "... d d"]
    scalar: Float[Array, "..."]

    @property
    def einstein(self) -> Float[Array, "... d d"]:
        """`G_ab = R_ab - R g_ab / 2`."""
        return self.ricci - 0.5 * self.scalar[..., None, None] * self.metric

    @property
    def weyl(self) -> Float[Array, "... d d d d"]:
        """The trace-free part of `R_abcd` (three dimensions or more)."""
        g, ricci, size = self.metric, self.ricci, self.metric.shape[-1]
        pair = lambda s, t: jnp.einsum("...ac,...bd->...abcd", s, t)
        wedge = lambda s, t: _antisymmetric(pair(s, t)) + _antisymmetric(pair(t, s))
        scalar = self.scalar[..., None, None, None, None]
        return self.riemann - wedge(g, ricci) / (size - 2) + 0.5 * scalar * wedge(g, g) / ((size - 1) * (size - 2))

    @property
    def kretschmann(self) -> Float[Array, "..."]:
        """`R_abcd R^abcd`."""
        up = self.inverse
        first = jnp.einsum("...ae,...bf,...efcd->...abcd", up, up, self.riemann)
        last = jnp.einsum("...abcd,...ce,...df->...abef", self.riemann, up, up)
        return jnp.sum(first * last, axis=(-4, -3, -2, -1))


def _antisymmetric(t: Array) -> Array:
    """`t_abcd - t_abdc` of `t`, a product such as `t_ac t_bd` of two symmetric tensors."""
    return t - jnp.swapaxes(t, -1, -2)


def curvature(metric: Metric | Callable[..., Array]) -> Callable[..., Curvature]:
    """The curvature of a metric, in any number of dimensions.

    Args:
        metric: A `Metric`, or a function `(x, params) -> (4, 4)`.

    Returns:
        A function of `(x, params)`, with `x` of shape `(4,)`, that returns a `Curvature`; `vmap` it over many points.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxkit import gravity
        >>> at = gravity.curvature(gravity.kerr(a=0.9))(jnp.array([0.0, 4.0, 1.1, 0.0]))
        >>> round(float(at.kretschmann), 15)
        0.009309675136753
    """
    metric = as_metric(metric)

    def at(x: Float[Array, "4"], params: Params = None) -> Curvature:
        size = len(metric.coordinates)
        require(jnp.shape(x) == (size,), "x", f"have shape ({size},)", f"has shape {jnp.shape(x)}")
        lorentzian(metric, x, params)
        return run_kept(_curvature, (bare(metric),), (metric.resolve(params), jnp.asarray(x)))

    return at


def _curvature(metric: Metric, params: Params, x: Array) -> Curvature:
    g, dg, ddg = slopes(lambda x: metric(x, params))(x)
    if len(metric.coordinates) != 4:
        return assemble(g, dg, ddg)
    return assemble(g, dg, ddg, matrix(inverse_of(metric)(tuple(x), params)))


def curvatures(
    metric: Metric | Callable[..., Array], of: Callable[[Curvature], Any], *, width: int = 256
) -> Callable[..., Any]:
    """Selected parts of the curvature at many points, faster than `vmap(curvature(metric))`.

    The function is decomposed into scalar operations at trace time: what is zero by symmetry, or not asked for, is not
    computed, and the points stay in the processor's cache.

    Args:
        metric: A `Metric`, or a function `(x, params) -> (4, 4)`.
        of: What to keep of a point's `Curvature`, e.g. `lambda k: (k.einstein, k.kretschmann)`.
        width: Number of points that are computed together.

    Returns:
        A compiled function of `(points, params)`, with `points` of shape `(n, 4)`, that returns the pytree of `of`
        with a leading axis of points; it is differentiable in both.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxkit import gravity
        >>> scalar = gravity.curvatures(gravity.kehagias_sfetsos(1.0), lambda k: k.scalar)
        >>> at = scalar(jnp.array([[0.0, 2.0, 1.1, 0.0], [0.0, 3.0, 1.1, 0.0]]))
        >>> at.shape, round(float(at[0]), 12)
        ((2,), -0.058737503932)
    """
    metric = as_metric(metric)
    return lambda points, params=None: run_kept(
        _curvatures, (bare(metric), of, width), (jax.tree.map(jnp.asarray, metric.resolve(params)), points)
    )


def _curvatures(metric: Metric, of: Callable[[Curvature], Any], width: int, params: Params, points: Array) -> Any:
    at = curvature(metric)
    plain = lambda points, own: jax.lax.map(lambda x: of(at(x, own)), points, batch_size=width)

    @jax.custom_jvp
    def apart(points: Array, own: Params) -> Any:
        leaves = jax.tree.leaves(own)
        number, point = jnp.zeros((), points.dtype), jax.ShapeDtypeStruct(points.shape[1:], points.dtype)
        wanted = lambda _, x, p: of(at(x, p))
        field = ScalarField(wanted, number, point, own, [False] * len(leaves))
        parts, structure = jax.tree.flatten(jax.eval_shape(wanted, number, point, own))
        constants = field.constants(SHARED, leaves, {}, field.outputs)
        one = lambda x: jnp.stack([jnp.asarray(v, points.dtype) for v in field(number, tuple(x), constants)])
        rows = jnp.split(jax.lax.map(one, points, batch_size=width), np.cumsum([v.size for v in parts])[:-1], axis=1)
        return structure.unflatten([v.reshape(-1, *part.shape) for v, part in zip(rows, parts, strict=True)])

    apart.defjvp(lambda primals, tangents: jax.jvp(plain, primals, tangents))
    return apart(points, params)


def from_field(g: Field) -> Callable[[Array], Curvature]:
    """The same for any matrix function `g(x)` of shape `(d, d)`: a metric of any dimension."""
    at = slopes(g)
    return lambda x: assemble(*at(x))


def slopes(g: Field) -> Callable[[Array], tuple[Array, Array, Array]]:
    """`g_ab`, `∂_c g_ab` and `∂_c ∂_d g_ab` at a point, with the new indices last."""

    def first(x: Array) -> tuple[Array, tuple[Array, Array]]:
        value = lambda y: (lambda m: (m, m))(g(y))
        slope, here = jax.jacfwd(value, has_aux=True)(x)
        return slope, (slope, here)

    def at(x: Array) -> tuple[Array, Array, Array]:
        second, (slope, here) = jax.jacfwd(first, has_aux=True)(x)
        return here, slope, second

    return at


def assemble(g: Array, dg: Array, ddg: Array, inverse: Array | None = None) -> Curvature:
    """Tensors from `g_ab`, `dg[a, b, c] = ∂_c g_ab` and `ddg[a, b, c, d] = ∂_c ∂_d g_ab`."""
    up = jnp.linalg.inv(g) if inverse is None else inverse
    up = 0.5 * (up + up.T)
    lowered = 0.5 * (jnp.einsum("abc->abc", dg) + jnp.einsum("acb->abc", dg) - jnp.einsum("bca->abc", dg))
    gamma = jnp.einsum("ae,ebc->abc", up, lowered)
    # R_abcd = (∂_b ∂_c g_ad + ∂_a ∂_d g_bc - ∂_a ∂_c g_bd - ∂_b ∂_d g_ac) / 2 + g_ef (Γ^e_bc Γ^f_ad - Γ^e_bd Γ^f_ac)
    half = 0.5 * (jnp.einsum("adbc->abcd", ddg) - jnp.einsum("bdac->abcd", ddg))
    product = jnp.einsum("ebc,ead->abcd", gamma, lowered)
    riemann = _antisymmetric(half + product)
    ricci = jnp.einsum("ac,abcd->bd", up, riemann)
    return Curvature(g, up, gamma, riemann, ricci, jnp.sum(up * ricci))


def levi_civita(size: int) -> np.ndarray:
    """The alternating symbol, `+1` for even permutations."""
    symbol = np.zeros((size,) * size)
    for index in np.ndindex(symbol.shape):
        if len(set(index)) == size:
            symbol[index] = np.sign(np.prod([b - a for i, a in enumerate(index) for b in index[i + 1 :]]))
    return symbol


def covariant_derivative(tensor: Field, christoffel: Array, x: Array) -> Array:
    """`∇_c T_ab...` of a tensor field with all indices down; the new index comes last."""
    value, slope = tensor(x), jax.jacfwd(tensor)(x)
    for axis in range(value.ndim):
        moved = jnp.tensordot(value, christoffel, ((axis,), (0,)))  # indices: rest..., (axis, c)
        slope = slope - jnp.moveaxis(moved, -2, axis)
    return slope


def cotton(g: Field) -> Callable[[Array], Array]:
    """The Cotton tensor `C^ij = ε^ikl ∇_k (R^j_l - R δ^j_l / 4)` (no density) of a three-dimensional metric `g(x)`.

    Args:
        g: `(3,) -> (3, 3)`.

    Returns:
        A function of `x` that returns `C^ij`, symmetric and trace-free; zero where `g` is conformally flat.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxkit import gravity
        >>> nil = lambda x: jnp.array([[1.0, 0, 0], [0, 1 + x[0] ** 2, -x[0]], [0, -x[0], 1.0]])
        >>> c = gravity.cotton(nil)(jnp.array([0.3, 0.1, 0.0]))
        >>> round(float(jnp.sum((nil([0.3]) @ c @ nil([0.3])) * c)), 12)
        1.5
    """
    tensors = from_field(g)

    def schouten(x: Array) -> Array:
        at = tensors(x)
        return at.ricci - 0.25 * at.scalar * at.metric

    def at(x: Array) -> Array:
        here = tensors(x)
        require(here.metric.shape == (3, 3), "g", "return shape (3, 3)", f"returns {here.metric.shape}")
        gradient = covariant_derivative(schouten, here.christoffel, x)  # [j, l, k]
        epsilon = jnp.asarray(levi_civita(3)) / jnp.sqrt(jnp.linalg.det(here.metric))
        return jnp.einsum("ikl,mlk,mj->ij", epsilon, gradient, here.inverse)

    return at

"""Horava's full action in Arnowitt-Deser-Misner variables, for any lapse, shift and spatial metric."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxkit.gravity.curvature import Curvature, cotton, from_field
from jaxkit.gravity.metrics import Params

# kappa, w, mu, lam, Lw as in Horava's action; omega adds the soft breaking omega kappa² mu² R / (8 (3 lam - 1))
HORAVA: Mapping[str, float] = MappingProxyType(
    {"kappa": 1.3, "w": 0.9, "mu": 0.7, "lam": 1.5, "Lw": -0.4, "omega": 0.0}
)


def extrinsic_curvature(
    lapse: Callable[[Array, Array], Array],
    shift: Callable[[Array, Array], Array],
    metric: Callable[[Array, Array], Array],
) -> Callable[[Array, Array], Float[Array, "3 3"]]:
    """`K_ij = (dg_ij/dt - D_i N_j - D_j N_i) / 2N`, from functions of `(t, x)`; `shift` has its index up.

    The covariant derivatives are the Lie derivative of the metric along the shift: no connection is needed.
    """

    def at(t: Array, x: Array) -> Array:
        g, v = metric(t, x), shift(t, x)
        rate = jax.jacfwd(metric)(t, x)
        dg = jax.jacfwd(metric, argnums=1)(t, x)
        dv = jax.jacfwd(shift, argnums=1)(t, x)  # [k, i] = d_i v^k
        along = jnp.einsum("ijk,k->ij", dg, v) + g @ dv + (g @ dv).T
        return (rate - along) / (2 * lapse(t, x))

    return at


def kinetic(g: Array, inverse: Array, k: Array, params: Params) -> Array:
    """`(2/kappa²) (K_ij K^ij - lam K²)`."""
    mixed = inverse @ k
    return 2 / params["kappa"] ** 2 * (jnp.sum(mixed * mixed.T) - params["lam"] * jnp.trace(mixed) ** 2)


def potential(at: Curvature, cotton_tensor: Array, params: Params) -> Array:
    """The potential part of Horava's density, term by term (with its sign in the action).

    Args:
        at: Curvature of the three-dimensional metric.
        cotton_tensor: `C^ij`.
        params: See `HORAVA`.
    """
    kappa2, mu, w2, lam, lw = params["kappa"] ** 2, params["mu"], params["w"] ** 2, params["lam"], params["Lw"]
    g, ricci, scalar = at.metric, at.ricci, at.scalar
    raised = at.inverse @ ricci @ at.inverse
    square = jnp.sum((g @ cotton_tensor @ g) * cotton_tensor)
    mixed = jnp.sum(cotton_tensor * ricci)  # epsilon^ijk R_il D_j R^l_k = C^ij R_ij
    bulk = (1 - 4 * lam) / 4 * scalar**2 + (lw - params["omega"]) * scalar - 3 * lw**2
    return (
        -kappa2 / (2 * w2**2) * square
        + kappa2 * mu / (2 * w2) * mixed
        - kappa2 * mu**2 / 8 * jnp.sum(raised * ricci)
        + kappa2 * mu**2 / (8 * (1 - 3 * lam)) * bulk
    )


def detailed_balance_potential(at: Curvature, cotton_tensor: Array, params: Params) -> Array:
    """The same (for `omega = 0`) in Horava's original form: `-(kappa²/8) E^ij G_ijkl E^kl`, a square."""
    lam, lw = params["lam"], params["Lw"]
    g = at.metric
    raised = at.inverse @ at.ricci @ at.inverse
    bulk = raised - 0.5 * at.scalar * at.inverse + lw * at.inverse
    e = 2 / params["w"] ** 2 * cotton_tensor - params["mu"] * bulk
    lowered = g @ e @ g
    return -(params["kappa"] ** 2) / 8 * (jnp.sum(lowered * e) - lam / (3 * lam - 1) * jnp.sum(g * e) ** 2)


def density(
    lapse: Callable[[Array, Array], Array],
    shift: Callable[[Array, Array], Array],
    metric: Callable[[Array, Array], Array],
    params: Params,
) -> Callable[[Array, Float[Array, "3"]], Array]:
    """Horava's Lagrangian density `sqrt(g) N (kinetic + potential)` for any lapse, shift and spatial metric.

    Args:
        lapse: `(t, x) -> N`.
        shift: `(t, x) -> N^i`, shape `(3,)`.
        metric: `(t, x) -> g_ij`, shape `(3, 3)`.
        params: Couplings, see `HORAVA`.

    Returns:
        A function of `(t, x)`.

    References:
        Horava, PRD 79, 084008 (2009), eq. 4.5.
    """
    extrinsic = extrinsic_curvature(lapse, shift, metric)

    def at(t: Array, x: Array) -> Array:
        slice_metric = lambda y: metric(t, y)
        tensors = from_field(slice_metric)(x)
        moving = kinetic(tensors.metric, tensors.inverse, extrinsic(t, x), params)
        resting = potential(tensors, cotton(slice_metric)(x), params)
        return jnp.sqrt(jnp.linalg.det(tensors.metric)) * lapse(t, x) * (moving + resting)

    return at

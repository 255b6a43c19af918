"""Theory: equilibria, regimes by invasion, certificates that exclude cycles."""

import enum
from collections.abc import Callable
from typing import cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Complex, Float, Int

from jaxkit.core import checks
from jaxkit.core.numerics import safe_divide
from jaxkit.core.struct import struct
from jaxkit.dynamics.analysis.divergence import divergence
from jaxkit.dynamics.analysis.linearize import Kind, linearize
from jaxkit.models.lotka_volterra import Params, Rates, as_two_species, lotka_volterra

NAMES = ("both extinct", "species 2 alone", "species 1 alone", "coexistence")


@struct
class RestPoints:
    """The equilibria of two species, in the order of `NAMES`.

    Attributes:
        x: Points, shape `(4, 2)`; zeros where `exists` is false.
        exists: Whether the point lies in the closed positive quadrant, shape `(4,)`.
        J: Jacobians, shape `(4, 2, 2)`.
        eigenvalues: Eigenvalues of the Jacobians, shape `(4, 2)`, by decreasing real part.
        kind: `jaxkit.Kind` codes, shape `(4,)`; 0 where there is no point.
    """

    x: Float[Array, "4 2"]
    exists: Bool[Array, " 4"]
    J: Float[Array, "4 2 2"]
    eigenvalues: Complex[Array, "4 2"]
    kind: Int[Array, " 4"]

    @property
    def stable(self) -> Bool[Array, " 4"]:
        """Whether small disturbances decay."""
        return (self.kind == int(Kind.stable_node)) | (self.kind == int(Kind.stable_focus))


def equilibria(p: Params | Rates) -> RestPoints:
    """The four equilibria with their linearizations; differentiable, and works under `vmap`.

    Example:
        >>> from jaxkit import Kind, competition as comp
        >>> eq = comp.equilibria(comp.Params(r=(0.1, 0.3), N=(500.0, 1000 / 3), a=(1e-4, 2e-4)))
        >>> for x, kind in zip(eq.x, eq.kind):
        ...     print([round(float(v), 4) for v in x], Kind(int(kind)).label)
        [0.0, 0.0] unstable node
        [0.0, 333.3333] saddle
        [500.0, 0.0] saddle
        [375.0, 250.0] stable node

    References:
        Su Jianlin (kexue.fm/archives/3120).
    """
    return _equilibria(as_two_species(p))


@jax.jit
def _equilibria(p: Params) -> RestPoints:
    zero = jnp.zeros_like(p.N[0])
    inside, exists = interior(p)
    x = jnp.stack([jnp.stack([zero, zero]), jnp.stack([zero, p.N[1]]), jnp.stack([p.N[0], zero]), inside])
    linear = jax.vmap(lambda point: linearize(lotka_volterra, point, p.rates))(x)
    there = jnp.array([True, True, True, False]).at[3].set(exists)
    jacobian = cast(Array, linear.jacobian)
    return RestPoints(x, there, jacobian, linear.eigenvalues, jnp.where(there, linear.kind, int(Kind.none)))


def interior(p: Params | Rates) -> tuple[Float[Array, " 2"], Bool[Array, ""]]:
    """The point of coexistence, and whether it lies inside the positive quadrant (zeros if not)."""
    p = as_two_species(p)
    i1, i2 = invasion(p)
    det = p.r[0] * p.r[1] - p.a[0] * p.a[1] * p.N[0] * p.N[1]
    # E = (N1 r2 i1, N2 r1 i2) / det: inside if and only if both invasion rates have the sign of det.
    exists = (i1 * det > 0) & (i2 * det > 0)
    point = jnp.stack([safe_divide(p.N[0] * p.r[1] * i1, det), safe_divide(p.N[1] * p.r[0] * i2, det)])
    return jnp.where(exists, point, 0), exists


def invasion(p: Params | Rates) -> Float[Array, " 2"]:
    """Growth rates of each species when rare, the other at its capacity: `r1 - a1 N2`, `r2 - a2 N1`, per unit time."""
    p = as_two_species(p)
    return p.r - p.a * p.N[::-1]


def nullclines(p: Params | Rates, x1: ArrayLike) -> tuple[Array, Array]:
    """The interior nullclines as functions of `x1`: where species 1 rests, and where species 2 rests.

    They are the lines `x2 = (r1 - r1 x1/N1) / a1` and `x2 = N2 (1 - a2 x1 / r2)`; the axes are nullclines too.
    The lines cross at the point of coexistence.

    Example:
        >>> from jaxkit import competition as comp
        >>> p = comp.Params(r=(0.1, 0.3), N=(500.0, 1000 / 3), a=(1e-4, 2e-4))
        >>> [round(float(x2), 6) for x2 in comp.nullclines(p, 375.0)]
        [250.0, 250.0]
    """
    p, x1 = as_two_species(p), checks.floating("x1", x1)
    return (p.r[0] - p.r[0] * x1 / p.N[0]) / p.a[0], p.N[1] * (1 - p.a[1] * x1 / p.r[1])


class Regime(enum.IntEnum):
    """Who is left in the end."""

    coexistence = 0
    bistable = 1
    species_1_wins = 2
    species_2_wins = 3
    degenerate = 4


def regime(p: Params | Rates) -> Int[Array, ""]:
    """The regime as an integer code of `Regime`, by the signs of the invasion rates; for `jit` and `vmap`."""
    return _regime(as_two_species(p))


@jax.jit
def _regime(p: Params) -> Int[Array, ""]:
    up, down = _growing(p)
    code = jnp.where(up[0] & up[1], int(Regime.coexistence), int(Regime.degenerate))
    code = jnp.where(down[0] & down[1], int(Regime.bistable), code)
    code = jnp.where(up[0] & down[1], int(Regime.species_1_wins), code)
    return jnp.where(down[0] & up[1], int(Regime.species_2_wins), code)


def _growing(p: Params) -> tuple[Bool[Array, " 2"], Bool[Array, " 2"]]:
    """Which species grow when rare, and which shrink, beyond the rounding of their invasion rates."""
    rates = invasion(p)
    rounding = 8 * float(jnp.finfo(rates.dtype).eps) * (p.r + p.a * p.N[::-1])
    return rates > rounding, rates < -rounding


def outcome(p: Params | Rates) -> Regime:
    """The regime of these parameters as a `Regime`; on the host.

    Example:
        >>> from jaxkit import competition as comp
        >>> comp.outcome(comp.Params(r=(1.0, 1.0), N=(1.0, 1.0), a=(2.0, 3.0)))
        <Regime.bistable: 1>
    """
    return Regime(int(regime(p)))


def explain(p: Params | Rates) -> str:
    """The regime in one sentence, with the invasion rates that decide it."""
    which, rates = outcome(p), invasion(p)
    ends = {
        Regime.coexistence: "each species grows when rare, so both survive",
        Regime.bistable: "neither species grows when rare, so the first to be common wins",
        Regime.species_1_wins: "species 1 grows when rare and species 2 does not, so species 1 wins",
        Regime.species_2_wins: "species 2 grows when rare and species 1 does not, so species 2 wins",
    }
    up, down = _growing(as_two_species(p))
    flat = [str(i + 1) for i in range(2) if not (up[i] or down[i])]
    neither = "neither grows nor shrinks" if len(flat) == 1 else "neither grow nor shrink"
    tie = f"species {' and '.join(flat)} {neither} when rare: a border between regimes"
    return f"{ends.get(which, tie)} (invasion rates {float(rates[0]):.4g}, {float(rates[1]):.4g} per unit time)."


def dulac(p: Params | Rates) -> Callable[[ArrayLike], Array]:
    """Divergence of the field weighted by `1/(x1 x2)`, by automatic differentiation: negative inside the quadrant.

    A divergence of one sign excludes cycles (Bendixson-Dulac). Its closed form is `-r1/(N1 x2) - r2/(N2 x1)`.

    Returns:
        A function of `x`, shape `(2,)`.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxkit import competition as comp
        >>> p = comp.Params(r=(1.0, 1.0), N=(2.0, 4.0), a=(1.0, 1.0))
        >>> float(comp.dulac(p)(jnp.array([1.0, 1.0])))
        -0.75
    """
    rates = as_two_species(p).rates
    weighted = divergence(lotka_volterra, lambda x: 1 / (x[0] * x[1]))
    return lambda x: weighted(jnp.asarray(x), rates)


def lyapunov(p: Params | Rates) -> tuple[Callable[[ArrayLike], Array], Bool[Array, ""]]:
    """A Lyapunov function of the point of coexistence, and whether it proves global stability.

    `V(x) = a2 g(x1, E1) + a1 g(x2, E2)`, `g(x, e) = x - e - e log(x/e)`. Along the motion, `dV/dt = -y' M y` with
    `y = x - E` and the symmetric `M = [[a2 r1/N1, a1 a2], [a1 a2, a1 r2/N2]]`: it falls everywhere if M is
    positive definite, which is the condition of coexistence.

    Returns:
        `V` as a function of `x > 0`, shape `(2,)`, and the certificate.

    References:
        Goh (1977), Global stability in many-species systems, American Naturalist 111, 135.
    """
    p = as_two_species(p)
    point, exists = interior(p)
    weights = p.a[::-1]
    matrix = weights[:, None] * p.rates.A
    safe = jnp.where(exists, point, 1)

    def value(x: ArrayLike) -> Array:
        x = jnp.asarray(x)
        return jnp.sum(weights * (x - safe - safe * jnp.log(x / safe)))

    definite = (matrix[0, 0] > 0) & (jnp.linalg.det(matrix) > 0)
    return value, exists & definite

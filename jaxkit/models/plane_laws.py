"""Laws in the plane whose samples *and* densities are exact: generative models are measured against them.

There are three kinds: mixtures of Gaussians; curves blurred by Gaussian noise, whose densities are integrals along the
curve by Gauss-Legendre quadrature with several nodes per standard deviation (exact to rounding); and closed forms. A
new law is one entry of `PLANE_LAWS`, and the one test of all laws covers it.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, DTypeLike, Float

from jaxkit.core import checks
from jaxkit.models.mixtures import Mixture, mixture, ring


@dataclasses.dataclass(frozen=True, eq=False)
class PlaneLaw:
    """A law in the plane.

    Attributes:
        name: Name of the law.
        sample: `sample(key, n, dtype=None) -> x`, shape `(n, 2)`.
        log_prob: Log density in nats, shapes `(..., 2) -> (...)`; it computes in the dtype of its argument.
        box: The square `[-box, box]^2` holds practically all of the law; for figures and quadrature.
        width: Smallest length over which the density changes.
        mixture: The law as a mixture, or None where it is not one.
    """

    name: str
    sample: Callable[..., Float[Array, "n 2"]]
    log_prob: Callable[[Float[Array, "... 2"]], Float[Array, "..."]]
    box: float
    width: float
    mixture: Mixture | None = None

    @classmethod
    def of(cls, law: Mixture, *, name: str = "mixture", box: float | None = None) -> "PlaneLaw":
        """The law of a mixture in the plane; by default its box reaches six standard deviations beyond the means."""
        checks.shape("law.means", law.means, ("k", 2))
        sd = np.asarray(law.sd, float)
        box = float(np.abs(np.asarray(law.means)).max() + 6 * sd.max()) if box is None else box
        return cls(name, law.sample, law.log_prob, box, float(sd.min()), law)

    @property
    def centers(self) -> Float[Array, "k 2"] | None:
        """Means of the components, or None where there are none."""
        return None if self.mixture is None else self.mixture.means

    @property
    def weights(self) -> Float[Array, " k"] | None:
        """Weights of the components, or None where there are none."""
        return None if self.mixture is None else self.mixture.weights

    @property
    def modes(self) -> int:
        """Number of components; 0 where the law has none."""
        return 0 if self.mixture is None else len(self.mixture.means)


def plane_law(name: str) -> PlaneLaw:
    """One of the laws by name, with its usual settings; the functions in `jaxkit.models.plane_laws` take others.

    Args:
        name: `"ring8"`, `"grid25"` (the scaled mixtures from maximum entropy generators), `"rings"`, `"checkerboard"`,
            `"funnel"`, `"moons"`, `"swissroll"`, `"pinwheel"` or `"spirals"`.

    Returns:
        A `PlaneLaw`.

    Raises:
        ValueError: The name is unknown.

    Example:
        >>> import jax, jaxkit as jk
        >>> grid = jk.models.plane_law("grid25")
        >>> x = grid.sample(jax.random.key(0), 1000)
        >>> x.shape, grid.log_prob(x).shape, grid.modes
        ((1000, 2), (1000,), 25)

    References:
        Kumar et al. (2019), Maximum entropy generators for energy-based models (scaling of the mixtures);
        Grathwohl et al. (2019), FFJORD (spirals, pinwheel); Neal (2003), Slice sampling (funnel).
    """
    checks.one_of("name", name, PLANE_LAWS)
    return PLANE_LAWS[name]()


def ring8(radius: float = 2 / math.sqrt(2), sd: float = 0.02 / math.sqrt(2)) -> PlaneLaw:
    """Eight Gaussians on a circle."""
    return PlaneLaw.of(ring(8, radius, sd), name="ring8")


def grid25(spacing: float = 2 / 2.828, sd: float = 0.05 / 2.828) -> PlaneLaw:
    """Twenty-five Gaussians on a square grid; the standard deviation is a fortieth of the spacing."""
    ticks = spacing * np.arange(-2, 3)
    return PlaneLaw.of(
        mixture(np.stack(np.meshgrid(ticks, ticks, indexing="ij"), -1).reshape(-1, 2), sd), name="grid25"
    )


def rings(radii: tuple[float, ...] = (0.5, 1.0, 1.5, 2.0), sd: float = 0.06) -> PlaneLaw:
    """Concentric circles of equal weight, blurred: the radii are Rice distributed."""

    def sample(key: Array, n: int, dtype: DTypeLike | None = None) -> Array:
        dtype = jnp.result_type(float) if dtype is None else dtype
        pick, turn, noise = jax.random.split(key, 3)
        radius = jax.random.choice(pick, jnp.asarray(radii, dtype), (n,))
        angle = jax.random.uniform(turn, (n,), dtype, 0, 2 * math.pi)
        on = radius[:, None] * jnp.stack([jnp.cos(angle), jnp.sin(angle)], 1)
        return on + sd * jax.random.normal(noise, (n, 2), dtype)

    @_pointwise
    def log_prob(x: Array) -> Array:
        r, radius = jnp.sqrt(jnp.sum(x**2) + jnp.finfo(x.dtype).tiny), jnp.asarray(radii, x.dtype)
        bessel = jnp.log(jax.scipy.special.i0e(r * radius / sd**2))
        each = bessel - 0.5 * ((r - radius) / sd) ** 2
        return jax.nn.logsumexp(each) - math.log(2 * math.pi * sd**2 * len(radii))

    return PlaneLaw("rings", sample, log_prob, max(radii) + 6 * sd, sd)


def checkerboard(squares: int = 4, side: float = 1.0) -> PlaneLaw:
    """Uniform on the dark squares of a board of `squares` by `squares`, each of the given side."""
    checks.require(squares % 2 == 0, "squares", "be even", f"is {squares}")
    half = squares * side / 2

    def sample(key: Array, n: int, dtype: DTypeLike | None = None) -> Array:
        dtype = jnp.result_type(float) if dtype is None else dtype
        pick, within = jax.random.split(key)
        square = jax.random.randint(pick, (n,), 0, squares * squares // 2)
        row = square // (squares // 2)
        column = 2 * (square % (squares // 2)) + row % 2
        corner = jnp.stack([column, row], 1).astype(dtype)
        return side * (corner + jax.random.uniform(within, (n, 2), dtype)) - half

    @_pointwise
    def log_prob(x: Array) -> Array:
        cell = jnp.floor((x + half) / side)
        dark = (jnp.sum(cell) % 2 == 0) & jnp.all((cell >= 0) & (cell < squares))
        return jnp.where(dark, -math.log(squares * squares / 2 * side**2), -jnp.inf).astype(x.dtype)

    return PlaneLaw("checkerboard", sample, log_prob, half, side)


def funnel(sd: float = 3.0) -> PlaneLaw:
    """Neal's funnel: `v ~ N(0, sd^2)` along the second axis, `N(0, e^v)` along the first."""

    def sample(key: Array, n: int, dtype: DTypeLike | None = None) -> Array:
        dtype = jnp.result_type(float) if dtype is None else dtype
        normal = jax.random.normal(key, (n, 2), dtype)
        v = sd * normal[:, 1]
        return jnp.stack([jnp.exp(v / 2) * normal[:, 0], v], 1)

    @_pointwise
    def log_prob(x: Array) -> Array:
        v = x[1]
        return -0.5 * (x[0] ** 2 * jnp.exp(-v) + v + (v / sd) ** 2) - math.log(2 * math.pi * sd)

    return PlaneLaw("funnel", sample, log_prob, 4 * sd, 0.1)


def moons(sd: float = 0.1) -> PlaneLaw:
    """Two interleaving half circles of radius 1, blurred."""
    upper = lambda m, t: (m.cos(t) - 0.5, m.sin(t) - 0.25)
    lower = lambda m, t: (0.5 - m.cos(t), 0.25 - m.sin(t))
    return _curves("moons", (upper, lower), (0.0, math.pi), sd, box=1.5 + 6 * sd, nodes=160)


def swissroll(sd: float = 0.25 / 7.5) -> PlaneLaw:
    """The spiral `t (cos t, sin t) / 7.5`, `t` uniform on `[1.5 pi, 4.5 pi]`, blurred."""
    roll = lambda m, t: (t * m.cos(t) / 7.5, t * m.sin(t) / 7.5)
    return _curves("swissroll", (roll,), (1.5 * math.pi, 4.5 * math.pi), sd, box=1.9 + 6 * sd, nodes=768)


def spirals(sd: float = 0.1) -> PlaneLaw:
    """Two blurred spirals of one and a half turns, denser outside: the angle is `3 pi sqrt(u)` with `u` uniform."""
    one = lambda m, t: (-t * m.cos(t) / 3, t * m.sin(t) / 3)
    two = lambda m, t: (t * m.cos(t) / 3, -t * m.sin(t) / 3)
    return _curves("spirals", (one, two), (0.0, 3 * math.pi), sd, box=math.pi + 6 * sd, nodes=384, growing=True)


def pinwheel(arms: int = 5, radial: float = 0.3, tangential: float = 0.1, rate: float = 0.25) -> PlaneLaw:
    """Elongated Gaussians around the origin, twisted by the angle `rate * exp(radius)`.

    The twist preserves areas, so that the density is exact (the usual one twists by the first coordinate and has no
    closed density).
    """
    turns = 2 * np.pi * np.arange(arms) / arms

    def sample(key: Array, n: int, dtype: DTypeLike | None = None) -> Array:
        dtype = jnp.result_type(float) if dtype is None else dtype
        pick, noise = jax.random.split(key)
        arm = jax.random.choice(pick, jnp.asarray(turns, dtype), (n,))
        a, b = jax.random.normal(noise, (2, n), dtype)
        a, b = 1 + radial * a, tangential * b
        angle = arm + rate * jnp.exp(jnp.sqrt(a**2 + b**2))
        return 2 * jnp.stack([a * jnp.cos(angle) - b * jnp.sin(angle), a * jnp.sin(angle) + b * jnp.cos(angle)], 1)

    @_pointwise
    def log_prob(x: Array) -> Array:
        p, q = 0.5 * x[0], 0.5 * x[1]
        radius = jnp.sqrt(p**2 + q**2 + jnp.finfo(x.dtype).tiny)
        angle = jnp.asarray(turns, x.dtype) + rate * jnp.exp(radius)
        a, b = p * jnp.cos(angle) + q * jnp.sin(angle), q * jnp.cos(angle) - p * jnp.sin(angle)
        each = -0.5 * (((a - 1) / radial) ** 2 + (b / tangential) ** 2)
        return jax.nn.logsumexp(each) - math.log(4 * 2 * math.pi * radial * tangential * arms)

    return PlaneLaw("pinwheel", sample, log_prob, 2 * (1 + 6 * radial), tangential)


PLANE_LAWS: dict[str, Callable[..., PlaneLaw]] = {
    "ring8": ring8,
    "grid25": grid25,
    "rings": rings,
    "checkerboard": checkerboard,
    "funnel": funnel,
    "moons": moons,
    "swissroll": swissroll,
    "pinwheel": pinwheel,
    "spirals": spirals,
}
"""Every law by name."""


def _pointwise(log_prob: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """A function of one point, applied over any leading axes."""
    return functools.wraps(log_prob)(jnp.vectorize(log_prob, signature="(d)->()"))


def _curves(
    name: str,
    curves: tuple[Callable[[Any, Any], tuple[Any, Any]], ...],
    span: tuple[float, float],
    sd: float,
    *,
    box: float,
    nodes: int,
    growing: bool = False,
) -> PlaneLaw:
    """Blurred curves of equal weight; the parameter is uniform on `span`, or has a density like itself (`growing`).

    `curve(m, t)` computes with the module `m`: numpy in double precision for the nodes, jax.numpy for samples.
    """
    low, high = span
    t, weight = np.polynomial.legendre.leggauss(nodes)
    t, weight = low + (high - low) * (t + 1) / 2, weight / 2
    weight = weight * 2 * t / high if growing else weight
    points = np.concatenate([np.stack(curve(np, t), 1) for curve in curves])
    weights = np.tile(weight, len(curves)) / len(curves)

    def sample(key: Array, n: int, dtype: DTypeLike | None = None) -> Array:
        dtype = jnp.result_type(float) if dtype is None else dtype
        pick, along, noise = jax.random.split(key, 3)
        u = jax.random.uniform(along, (n,), dtype)
        t = low + (high - low) * (jnp.sqrt(u) if growing else u)
        every = jnp.stack([jnp.stack(curve(jnp, t), 1) for curve in curves])
        which = jax.random.randint(pick, (n,), 0, len(curves))
        return every[which, jnp.arange(n)] + sd * jax.random.normal(noise, (n, 2), dtype)

    return PlaneLaw(name, sample, mixture(points, sd, weights).log_prob, box, sd)

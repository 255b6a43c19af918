"""Laws in the plane whose samples *and* densities are exact: what generative models are measured against.

Three kinds: mixtures of Gaussians; curves blurred by Gaussian noise, whose densities are integrals along the curve by
Gauss-Legendre quadrature with several nodes a standard deviation (exact to rounding); and closed forms. A new law is
one entry of `TOYS`, and the one test of them all covers it.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, DTypeLike, Float

from jaxkit.core import checks


@dataclasses.dataclass(frozen=True)
class Toy:
    """A law in the plane.

    Attributes:
        name: Its name.
        sample: `sample(key, n, dtype=None) -> x`, shape `(n, 2)`.
        log_prob: Log-density in nats, shapes `(..., 2) -> (...)`; it computes in the type of its argument.
        box: The square `[-box, box]^2` holds practically all of it: for figures and quadrature.
        width: Smallest length over which the density changes.
        centers: Means of the components, shape `(k, 2)`, or None where there are none.
        weights: Their weights, shape `(k,)`.
    """

    name: str
    sample: Callable[..., Float[Array, "n 2"]]
    log_prob: Callable[[Float[Array, "... 2"]], Float[Array, "..."]]
    box: float
    width: float
    centers: np.ndarray | None = None
    weights: np.ndarray | None = None

    @property
    def modes(self) -> int:
        """How many components there are; 0 where the law has none."""
        return 0 if self.centers is None else len(self.centers)


def toy(name: str, **options: Any) -> Toy:
    """One of the laws by name.

    Args:
        name: `"ring8"`, `"grid25"` (the scaled mixtures of maximum entropy generators), `"rings"`, `"checkerboard"`,
            `"funnel"`, `"moons"`, `"swissroll"`, `"pinwheel"` or `"spirals"`.
        **options: Of that law, see its function.

    Returns:
        A `Toy`.

    Example:
        >>> import jax
        >>> from jaxkit import models
        >>> grid = models.toy("grid25")
        >>> x = grid.sample(jax.random.key(0), 1000)
        >>> x.shape, grid.log_prob(x).shape, grid.modes
        ((1000, 2), (1000,), 25)

    References:
        Kumar et al. (2019), Maximum entropy generators for energy-based models (scaling of the mixtures);
        Grathwohl et al. (2019), FFJORD (spirals, pinwheel); Neal (2003), Slice sampling (funnel).
    """
    checks.one_of("name", name, TOYS)
    return TOYS[name](**options)


def mixture(
    centers: ArrayLike, sd: float, weights: ArrayLike | None = None, *, name: str = "mixture", box: float | None = None
) -> Toy:
    """A mixture of round Gaussians.

    Args:
        centers: Means, shape `(k, 2)`.
        sd: Standard deviation of each.
        weights: Weights, shape `(k,)`; equal if None. They are divided by their sum.
        name: Name of the law.
        box: Half-width of the square that holds it.
    """
    means = np.asarray(centers, float)
    checks.shape("centers", means, ("k", 2))
    checks.positive("sd", sd)
    shares = np.ones(len(means)) if weights is None else np.asarray(weights, float)
    checks.shape("weights", shares, (len(means),))
    checks.positive("weights", shares)
    shares = shares / shares.sum()

    def sample(key: Array, n: int, dtype: DTypeLike | None = None) -> Array:
        dtype = jnp.result_type(float) if dtype is None else dtype
        pick, noise = jax.random.split(key)
        which = jax.random.choice(pick, len(means), (n,), p=jnp.asarray(shares, dtype))
        return jnp.asarray(means, dtype)[which] + sd * jax.random.normal(noise, (n, 2), dtype)

    box = float(np.abs(means).max() + 6 * sd) if box is None else box
    return Toy(name, sample, _blurred(means, shares, sd), box, sd, means, shares)


def ring8(radius: float = 2 / math.sqrt(2), sd: float = 0.02 / math.sqrt(2), weights: ArrayLike | None = None) -> Toy:
    """Eight Gaussians on a circle."""
    angles = np.arange(8) * np.pi / 4
    return mixture(radius * np.stack([np.cos(angles), np.sin(angles)], 1), sd, weights, name="ring8")


def grid25(spacing: float = 2 / 2.828, sd: float = 0.05 / 2.828, weights: ArrayLike | None = None) -> Toy:
    """Twenty-five Gaussians on a square grid; the width is a fortieth of the spacing: hard."""
    ticks = spacing * np.arange(-2, 3)
    return mixture(np.stack(np.meshgrid(ticks, ticks, indexing="ij"), -1).reshape(-1, 2), sd, weights, name="grid25")


def rings(radii: tuple[float, ...] = (0.5, 1.0, 1.5, 2.0), sd: float = 0.06) -> Toy:
    """Concentric circles of equal weight, blurred: radii follow the law of Rice."""

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

    return Toy("rings", sample, log_prob, max(radii) + 6 * sd, sd)


def checkerboard(squares: int = 4, side: float = 1.0) -> Toy:
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

    return Toy("checkerboard", sample, log_prob, half, side)


def funnel(sd: float = 3.0) -> Toy:
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

    return Toy("funnel", sample, log_prob, 4 * sd, 0.1)


def moons(sd: float = 0.1) -> Toy:
    """Two interleaving half circles of radius 1, blurred."""
    upper = lambda m, t: (m.cos(t) - 0.5, m.sin(t) - 0.25)
    lower = lambda m, t: (0.5 - m.cos(t), 0.25 - m.sin(t))
    return _curves("moons", (upper, lower), (0.0, math.pi), sd, box=1.5 + 6 * sd, nodes=160)


def swissroll(sd: float = 0.25 / 7.5) -> Toy:
    """The spiral `t (cos t, sin t) / 7.5`, `t` uniform on `[1.5 pi, 4.5 pi]`, blurred."""
    roll = lambda m, t: (t * m.cos(t) / 7.5, t * m.sin(t) / 7.5)
    return _curves("swissroll", (roll,), (1.5 * math.pi, 4.5 * math.pi), sd, box=1.9 + 6 * sd, nodes=768)


def spirals(sd: float = 0.1) -> Toy:
    """Two spirals of one and a half turns, denser outside: the angle is `3 pi sqrt(u)`, `u` uniform; blurred."""
    one = lambda m, t: (-t * m.cos(t) / 3, t * m.sin(t) / 3)
    two = lambda m, t: (t * m.cos(t) / 3, -t * m.sin(t) / 3)
    return _curves("spirals", (one, two), (0.0, 3 * math.pi), sd, box=math.pi + 6 * sd, nodes=384, growing=True)


def pinwheel(arms: int = 5, radial: float = 0.3, tangential: float = 0.1, rate: float = 0.25) -> Toy:
    """Elongated Gaussians around the origin, twisted by the angle `rate * exp(radius)`.

    The twist keeps areas, so that the density is exact (the usual pinwheel twists by the first coordinate, and has no
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

    return Toy("pinwheel", sample, log_prob, 2 * (1 + 6 * radial), tangential)


TOYS: dict[str, Callable[..., Toy]] = {
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
    """A function of one point, over any leading axes."""
    return functools.wraps(log_prob)(jnp.vectorize(log_prob, signature="(d)->()"))


def _blurred(points: np.ndarray, weights: np.ndarray, sd: float) -> Callable[[Array], Array]:
    """Log-density of weighted points blurred by round Gaussian noise."""

    @_pointwise
    def log_prob(x: Array) -> Array:
        squares = jnp.sum((x[None, :] - jnp.asarray(points, x.dtype)) ** 2, axis=1)
        each = jnp.asarray(np.log(weights), x.dtype) - squares / (2 * sd**2)
        return jax.nn.logsumexp(each) - math.log(2 * math.pi * sd**2)

    return log_prob


def _curves(
    name: str,
    curves: tuple[Callable[[Any, Any], tuple[Any, Any]], ...],
    span: tuple[float, float],
    sd: float,
    *,
    box: float,
    nodes: int,
    growing: bool = False,
) -> Toy:
    """Curves of equal weight, blurred; the parameter is uniform on `span`, or (`growing`) has a density like itself.

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

    return Toy(name, sample, _blurred(points, weights, sd), box, sd)

"""Couplings from data: what measurements say about `omega`, singly and jointly, and a fit of any metric to rays."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from jaxkit.compile.jit_cache import run_kept
from jaxkit.core.checks import double_precision, floating, require
from jaxkit.dynamics.mcmc.sample import Chains
from jaxkit.dynamics.roots.least_squares import LeastSquares, least_squares
from jaxkit.gravity.bending import deflection, precession, shapiro
from jaxkit.gravity.data import (
    AU,
    COSMOLOGICAL_CONSTANT,
    MEASUREMENTS,
    MERCURY,
    S2,
    SUN,
    SUN_RADIUS,
    mercury_semilatus_rectum,
    per_century,
    s2_semilatus_rectum,
)
from jaxkit.gravity.horava import kehagias_sfetsos
from jaxkit.gravity.metrics import Metric, Params, as_metric, bare
from jaxkit.gravity.observables import shadow_radius
from jaxkit.inverse.posterior import sample_posterior

Data = tuple[Float[Array, " n"], Float[Array, " n"], Float[Array, " n"]]

_NO_BREAKING = 1e60  # omega M² at which the Kehagias-Sfetsos metric is Schwarzschild's to the last digit


class Bound(NamedTuple):
    """What one measurement says about Kehagias and Sfetsos' coupling.

    Attributes:
        name: The measurement.
        omega0: Least `omega M²` allowed, with `M` the mass of that source; 0 if every black hole is allowed.
        omega: The same in 1/m², comparable among sources.
        sigmas: Standard deviations of the bound.
        source: Where the measurement is from.
        note: What a reader should know.
    """

    name: str
    omega0: float
    omega: float
    sigmas: float
    source: str
    note: str


@functools.cache
def _predictions() -> Mapping[str, Callable[[Array], Array]]:
    """Each measured number as a function of `log10(omega M²)` of its own source."""
    hole = kehagias_sfetsos()
    limb = SUN_RADIUS / SUN

    def both(fn: Callable[..., Any], x: Array, **at: Any) -> tuple[Array, Array]:
        values = (fn(hole, {"omega": omega}, **at).value for omega in (10.0**x, _NO_BREAKING))
        return tuple(values)  # pyright: ignore[reportReturnType]

    def mercury(x: Array) -> Array:
        turn, turn_gr = both(precession, x, p=mercury_semilatus_rectum(), e=MERCURY["e"])
        return per_century(turn - turn_gr)

    def deflected(x: Array) -> Array:
        bent, bent_gr = both(deflection, x, r0=limb)
        return 2 * (bent / bent_gr - 1)

    def cassini(x: Array) -> Array:
        legs = [both(shapiro, x, r0=1.6 * limb, r1=r) for r in (AU / SUN, 8.43 * AU / SUN)]
        late, late_gr = (sum(leg[i] for leg in legs) for i in (0, 1))
        return 2 * (late / late_gr - 1)  # pyright: ignore[reportReturnType]

    def star(x: Array) -> Array:
        turn, turn_gr = both(precession, x, p=s2_semilatus_rectum(), e=S2["e"])
        return turn / turn_gr

    shadow = lambda x: shadow_radius(hole, {"omega": 10.0**x}).value
    rows = {"mercury": mercury, "limb": deflected, "cassini": cassini, "s2": star, "eht": shadow}
    return {name: jax.jit(row) for name, row in rows.items()}


def predictions(omega0: ArrayLike) -> dict[str, Array]:
    """What Kehagias and Sfetsos' metric predicts for every entry of `MEASUREMENTS`, for `omega M²` of its source.

    Example:
        >>> from jaxkit import gravity
        >>> round(float(gravity.predictions(1e-12)["mercury"]), 6)  # seconds of arc a century beside Einstein's
        -0.06158
    """
    double_precision("gravity.predictions")
    x = jnp.log10(jnp.asarray(omega0, float))
    return {name: row(x) for name, row in _predictions().items()}


def _least_allowed(predicted: Callable[[float], float], low: float, high: float) -> float:
    """The `log10(omega0)` at which the prediction is just `sigmas` low, by bisection: every deviation is monotonic."""
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if not predicted(middle) else (low, middle)
    return 10.0**high


def bounds(sigmas: float = 1.0) -> list[Bound]:
    """The least `omega` that each measurement allows, recomputed from the data with the exact integrals.

    Args:
        sigmas: Number of standard deviations below the measured value that are still allowed.

    Returns:
        One `Bound` per measurement, with its note.
    """
    predict, rows = _predictions(), []
    ranges = {"mercury": (-16, 2), "limb": (-16, 2), "cassini": (-16, 2), "s2": (-8, 4), "eht": (-0.41, 6)}
    for key, m in MEASUREMENTS.items():
        allowed = lambda x, key=key, m=m: bool(predict[key](jnp.asarray(x, float)) >= m.value - sigmas * m.error)
        low, high = ranges[key]
        always = allowed(float(low) if key != "eht" else np.log10(0.5))
        omega0 = 0.0 if key == "eht" and always else _least_allowed(allowed, low, high)
        note = m.note or f"value: {m.checked}"
        note = note if omega0 else "every Kehagias-Sfetsos black hole (omega M² >= 1/2) is allowed"
        rows.append(Bound(key, omega0, omega0 / (m.mass * SUN) ** 2, sigmas, m.source, note))
    return rows


def joint_log_likelihood(omega: ArrayLike) -> Array:
    """Log-likelihood of one universal `omega` (1/m²) over all measurements: differentiable, up to a constant."""
    total = jnp.zeros(())
    for key, m in MEASUREMENTS.items():
        predicted = _predictions()[key](jnp.log10(jnp.asarray(omega, float) * (m.mass * SUN) ** 2))
        # Without a shadow or a bound orbit, the likelihood is practically zero.
        miss = jnp.where(jnp.isfinite(predicted), (predicted - m.value) / m.error, 1e3)
        total = total - 0.5 * miss**2
    return total


class Posterior(NamedTuple):
    """What all measurements together say about omega.

    Attributes:
        omega: Grid, 1/m².
        density: Probability density of `1/omega`, m², at the grid.
        least68: `omega` is above this with probability 0.68, 1/m².
        least95: The same with 0.95.
    """

    omega: Array
    density: Array
    least68: float
    least95: float


def posterior(*, points: int = 240) -> Posterior:
    """The posterior of one universal `omega` over all measurements, by quadrature.

    The prior is flat in `1/omega`, to which every deviation from general relativity is proportional. A flat prior in
    `omega` or its logarithm has no end towards general relativity, so its bound would be that of the grid.

    Args:
        points: Number of grid points for `omega` between 1e-21 and 1e-13 (in 1/m²).

    Returns:
        A `Posterior`.
    """
    double_precision("gravity.posterior")
    omega = jnp.logspace(-13, -21, points)  # 1/omega increases
    x = 1 / omega
    logs = run_kept(_logs, (), (omega,))
    weight = jnp.exp(logs - jnp.max(logs))
    steps = 0.5 * (weight[1:] + weight[:-1]) * jnp.diff(x)
    mass = weight[0] * x[0] + jnp.concatenate([jnp.zeros(1), jnp.cumsum(steps)])
    below = lambda share: float(1 / jnp.interp(share * mass[-1], mass, x))
    return Posterior(omega, weight / mass[-1], below(0.68), below(0.95))


def _logs(omega: Float[Array, " n"]) -> Float[Array, " n"]:
    return jax.lax.map(joint_log_likelihood, omega)


def balance_left(omega: ArrayLike) -> Array:
    """How much of detailed balance is left by an `omega` (in 1/m²): `1 - epsilon² = |Lw| / omega`.

    In Lu, Mei and Pope's relaxed balance, `omega = |Lw| / (1 - epsilon²)`, and `|Lw| = 2 L / 3` with the measured
    cosmological constant `L`.

    Example:
        >>> from jaxkit import gravity
        >>> f"{float(gravity.balance_left(3.3e-16)):.1e}"
        '2.2e-37'
    """
    return 2 / 3 * COSMOLOGICAL_CONSTANT / jnp.asarray(omega, float)


class PublishedBound(NamedTuple):
    """A published bound, and what the same formula gives when it is recomputed."""

    source: str
    published: float
    recomputed: float
    verdict: str


def published_bounds() -> list[PublishedBound]:
    """Published bounds on `omega M²`, recomputed; some do not hold."""
    sun = SUN / SUN_RADIUS

    def light(compactness: float, precision: float) -> float:
        """From the deflection `4/b (1 - 15 pi/(32 omega0 b³))`: a relative precision bounds `omega0` from below."""
        return float(15 * np.pi / 32 * compactness**3 / precision)

    jupiter, earth = 1.41 / 7.1492e7, 4.435e-3 / 6.3781e6  # masses over radii, both in metres
    per_square_cm = (100 * SUN) ** 2
    shift = lambda key, omega0: float(_predictions()[key](jnp.log10(omega0)))
    reference = shift("mercury", 1e-12)  # in the linear regime the excess is proportional to 1/omega0
    liu, harko = "Liu et al., arXiv 1010.6149", "Harko et al., PRSA 467, 1390"
    perihelion, limb, radar = (w * per_square_cm for w in (3.212e-26, 4.589e-26, 9.179e-26))
    needed = {row.name: row.omega0 for row in bounds()}
    nothing, iorio = float("nan"), -reference * 1e-12 / 0.0036
    off = lambda published, compactness, precision: f"within {abs(light(compactness, precision) / published - 1):.1%}"
    wrong = lambda published, precision: f"agrees {off(published, sun, precision)} with the Sun's M/R, not its own"
    return [
        PublishedBound(f"{liu}, Sun", 8.27650e-15, light(sun, 0.0017), f"agrees {off(8.27650e-15, sun, 0.0017)}"),
        PublishedBound(f"{liu}, 'Jupiter'", 8.27649e-17, light(jupiter, 0.17), wrong(8.27649e-17, 0.17)),
        PublishedBound(f"{liu}, 'Earth'", 1.1725e-16, light(earth, 0.12), wrong(1.1725e-16, 0.12)),
        PublishedBound(
            f"{harko}, perihelion",
            perihelion,
            -reference * 1e-12 / 0.24,
            f'at that omega0 Mercury would turn by {shift("mercury", perihelion) + 42.98060:.2f}"/century',
        ),
        PublishedBound(
            f"{harko}, limb", limb, needed["limb"], f"light would be bent {-50 * shift('limb', limb):.2g}% less there"
        ),
        PublishedBound(
            f"{harko}, radar", radar, needed["cassini"], f"gamma - 1 would be {shift('cassini', radar):.1e} to Cassini"
        ),
        PublishedBound(
            "Iorio, Ruggiero, arXiv 0909.2562, Mercury", 1e-12, iorio, f"an estimate; {iorio / 1e-12:.0f} times as much"
        ),
        PublishedBound(
            "Iorio, Ruggiero, arXiv 1012.2822, range of Mercury", 7.2e-10, nothing, "from ranging: not recomputed"
        ),
        PublishedBound("Iorio, Ruggiero, arXiv 0909.5355, HD 209458 b", 1.4e-18, nothing, "weaker: not recomputed"),
    ]


def fit_metric(
    metric: Metric,
    observable: Callable[[Metric, Any, Array], Array],
    params0: dict[str, ArrayLike],
    data: Data,
) -> LeastSquares:
    """Fit parameters of any metric to any observable, by Levenberg-Marquardt through the observable's derivatives.

    Args:
        metric: The metric.
        observable: `(metric, params, at_i) -> value`, e.g. a deflection angle at `r0 = at_i`.
        params0: First guess of the parameters to fit, name -> number; the others keep the metric's values.
        data: `(at, values, errors)`: where each value was measured, the values and their standard deviations, each of
            shape `(n,)`.

    Returns:
        A `LeastSquares` of residuals in units of the errors.

    Raises:
        ValueError: Shapes differ.
    """
    residuals, known = _residuals(metric, observable, data)
    return least_squares(residuals, params0, known, rtol=1e-8, gtol=1e-8)


def posterior_metric(
    metric: Metric,
    observable: Callable[[Metric, Any, Array], Array],
    params0: dict[str, ArrayLike],
    data: Data,
    *,
    key: Array,
    chains: int = 8,
    steps: int = 400,
    warmup: int = 100,
) -> Chains[dict[str, Array]]:
    """Draw couplings of any metric from their posterior, given measurements with Gaussian errors (and a flat prior).

    This is `fit_metric` followed by `jk.inverse.sample_posterior`. Draws for which the observable does not exist count
    as a thousand standard deviations off.

    Args:
        metric: The metric.
        observable: `(metric, params, at_i) -> value`.
        params0: First guess of the couplings, name -> number.
        data: As for `fit_metric`.
        key: Random key.
        chains: Chains that move at once.
        steps: Draws per chain.
        warmup: Draws that are discarded before these.

    Returns:
        `Chains`: `xs[name]` of shape `(steps, chains)`, `rhat`, `ess`, and a status per chain.

    Raises:
        ValueError: Shapes differ.
    """
    best = fit_metric(metric, observable, params0, data)
    residuals, known = _residuals(metric, observable, data)
    return sample_posterior(residuals, best, known, key=key, chains=chains, steps=steps, warmup=warmup)


def _residuals(
    metric: Metric, observable: Callable[[Metric, Any, Array], Array], data: Data
) -> tuple[Callable[[Any, Any], Array], tuple[Params, Array, Array, Array]]:
    """Prediction minus measurement in units of the errors, as a function of parameters and data; and these data."""
    double_precision("gravity.fit_metric")
    triple = isinstance(data, Sequence) and len(data) == 3
    require(triple, "data", "be `(at, values, errors)`", f"is a {type(data).__name__}")
    at, values, errors = (floating("data", v) for v in data)
    shapes = [v.shape for v in (at, values, errors)]
    require(at.ndim == 1 and len(set(shapes)) == 1, "data", "hold three arrays of shape (n,)", f"holds {shapes}")
    metric = as_metric(metric)
    shape = bare(metric)

    def residuals(p: Any, data: tuple[Params, Array, Array, Array]) -> Array:
        own, at, values, errors = data
        full = dataclasses.replace(shape, params=own)
        return (jax.vmap(lambda x: observable(full, p, x))(at) - values) / errors

    return residuals, (metric.params, at, values, errors)

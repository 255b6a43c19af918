"""Couplings from data: what measurements say of `omega`, one by one and together, and a fit of any metric to rays."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from jaxkit.core.checks import double_precision, require
from jaxkit.gravity.bending import deflection, precession, shapiro
from jaxkit.gravity.data import (
    AU,
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
from jaxkit.gravity.metrics import Metric
from jaxkit.gravity.observables import shadow_radius
from jaxkit.learn.least_squares import LeastSquares, least_squares

_NO_BREAKING = 1e60  # omega M² at which the Kehagias-Sfetsos metric is Schwarzschild's to the last digit


class Bound(NamedTuple):
    """What one measurement says of Kehagias and Sfetsos' coupling.

    Attributes:
        name: The measurement.
        omega0: Least `omega M²` allowed, `M` the mass of that source; 0 where every black hole is allowed.
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
def _predictions() -> Callable[[Array], dict[str, Array]]:
    hole = kehagias_sfetsos()

    def predict(log_omega0: Array) -> dict[str, Array]:
        """Each measured number as a function of `log10(omega M²)` of its own source."""
        omega, gr = {"omega": 10.0**log_omega0}, {"omega": _NO_BREAKING}
        both = lambda fn, **at: (fn(hole, omega, **at).value, fn(hole, gr, **at).value)
        limb = SUN_RADIUS / SUN
        turn, turn_gr = both(precession, p=mercury_semilatus_rectum(), e=MERCURY["e"])
        bent, bent_gr = both(deflection, r0=limb)
        star, star_gr = both(precession, p=s2_semilatus_rectum(), e=S2["e"])
        nearest, planet = 1.6 * limb, (AU / SUN, 8.43 * AU / SUN)
        late, late_gr = (sum(v) for v in zip(*[both(shapiro, r0=nearest, r1=r) for r in planet], strict=True))
        return {
            "mercury": per_century(turn - turn_gr),  # pyright: ignore[reportArgumentType]
            "limb": 2 * (bent / bent_gr - 1),
            "cassini": 2 * (late / late_gr - 1),  # pyright: ignore[reportReturnType]
            "s2": star / star_gr,
            "eht": shadow_radius(hole, omega).value,
        }

    return jax.jit(predict)


def predictions(omega0: ArrayLike) -> dict[str, Array]:
    """What Kehagias and Sfetsos' metric predicts for every entry of `MEASUREMENTS`, for `omega M²` of its source."""
    double_precision("gravity.predictions")
    return _predictions()(jnp.log10(jnp.asarray(omega0, float)))


def _least_allowed(predicted: Callable[[float], float], low: float, high: float) -> float:
    """Bisection of `log10(omega0)` for where the prediction is just `sigmas` low; every deviation is monotonic."""
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if not predicted(middle) else (low, middle)
    return 10.0**high


def bounds(sigmas: float = 1.0) -> list[Bound]:
    """The least `omega` that each measurement allows, recomputed from the data with the exact integrals.

    Args:
        sigmas: How many standard deviations below the measured value still count.

    Returns:
        One `Bound` a measurement, and their notes.
    """
    predict, rows = _predictions(), []
    ranges = {"mercury": (-16, 2), "limb": (-16, 2), "cassini": (-16, 2), "s2": (-8, 4), "eht": (-0.41, 6)}
    for key, m in MEASUREMENTS.items():
        allowed = lambda x, key=key, m=m: bool(predict(jnp.asarray(x, float))[key] >= m.value - sigmas * m.error)
        low, high = ranges[key]
        always = allowed(float(low) if key != "eht" else np.log10(0.5))
        omega0 = 0.0 if key == "eht" and always else _least_allowed(allowed, low, high)
        note = m.note if omega0 else "every Kehagias-Sfetsos black hole (omega M² >= 1/2) is allowed"
        rows.append(Bound(key, omega0, omega0 / (m.mass * SUN) ** 2, sigmas, m.source, note))
    return rows


def joint_log_likelihood(omega: ArrayLike) -> Array:
    """Log-likelihood of one universal `omega` (1/m²) over all measurements: differentiable, up to a constant."""
    total = jnp.zeros(())
    for key, m in MEASUREMENTS.items():
        predicted = _predictions()(jnp.log10(jnp.asarray(omega, float) * (m.mass * SUN) ** 2))[key]
        # No shadow, no bound orbit: as unlikely as it gets.
        miss = jnp.where(jnp.isfinite(predicted), (predicted - m.value) / m.error, 1e3)
        total = total - 0.5 * miss**2
    return total


class Claim(NamedTuple):
    """A published bound and what the same formula gives when it is computed again."""

    source: str
    published: float
    recomputed: float
    verdict: str


def published_bounds() -> list[Claim]:
    """Published bounds on `omega M²`, recomputed; some do not survive."""
    sun = SUN / SUN_RADIUS

    def light(compactness: float, precision: float) -> float:
        """Deflection: `4/b (1 - 15 pi/(32 omega0 b³))`, so a precision bounds `omega0` from below."""
        return float(15 * np.pi / 32 * compactness**3 / precision)

    jupiter, earth = 1.41 / 7.1492e7, 4.435e-3 / 6.3781e6  # masses over radii, both in metres
    mercury = lambda omega0: float(predictions(omega0)["mercury"])
    reference = mercury(1e-12)  # in the linear regime the excess is proportional to 1/omega0
    source = "Liu et al., arXiv 1010.6149"
    return [
        Claim(f"{source}, Sun", 8.27650e-15, light(sun, 0.0017), "agrees"),
        Claim(f"{source}, 'Jupiter'", 8.27649e-17, light(jupiter, 0.17), "the Sun's M/R was used"),
        Claim(f"{source}, 'Earth'", 1.1725e-16, light(earth, 0.12), "the Sun's M/R was used"),
        Claim(
            "Harko et al., PRSA 467, 1390, perihelion",
            7.0e-16,
            -reference * 1e-12 / 0.24,
            f'at that omega0 Mercury would go backwards, {mercury(7.003e-16) + 42.98060:.2f}"/century',
        ),
        Claim("Iorio, Ruggiero, arXiv 0909.2562, Mercury", 1e-12, -reference * 1e-12 / 0.0036, "order of magnitude"),
    ]


def fit_metric(
    metric: Metric,
    observable: Callable[[Metric, Any, Array], Array],
    at: Float[Array, " n"],
    values: Float[Array, " n"],
    errors: Float[Array, " n"],
    params0: dict[str, ArrayLike],
) -> LeastSquares:
    """Fit parameters of any metric to any observable, by Levenberg-Marquardt through the observable's derivatives.

    Args:
        metric: The metric.
        observable: `(metric, params, at_i) -> value`, e.g. a deflection angle at `r0 = at_i`.
        at: Where each value was measured, shape `(n,)`.
        values: Measured values.
        errors: Their standard deviations.
        params0: First guess of the parameters to fit; the others keep the metric's values.

    Returns:
        A `LeastSquares` of residuals in units of the errors.

    Raises:
        ValueError: Shapes differ.
    """
    double_precision("gravity.fit_metric")
    require(jnp.shape(values) == jnp.shape(at), "values", f"have shape {jnp.shape(at)}", f"has {jnp.shape(values)}")
    predict = lambda p: jax.vmap(lambda x: observable(metric, p, x))(at)
    return least_squares(lambda p, _: (predict(p) - values) / errors, params0, rtol=1e-8, gtol=1e-8)

"""How data drown in noise: the processes `x_t = scale(t) (x_0 + sigma(t) n)`.

Every Gaussian diffusion process is fixed by two functions of time, how much of the data is left and how much noise is
added relative to it (Karras et al. 2022, table 1). Drift and diffusion follow, so that one denoiser serves them all.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from jaxkit.core import checks
from jaxkit.core.struct import static, struct


class Noise:
    """A process `x_t = scale(t) (x_0 + sigma(t) n)` with `n` standard normal, and its equation `dx = f dt + g dW`.

    Members are `VE`, `VP`, `SubVP` and `EDM`; a new one states `scale`, `sigma`, `time`, `low` and `high`.

    Example:
        >>> from jaxkit import score
        >>> noise = score.VP()
        >>> t = jax.numpy.asarray(0.5)
        >>> bool(abs(noise.scale(t) ** 2 * (1 + noise.sigma(t) ** 2) - 1) < 1e-5)  # the variance is preserved
        True
    """

    @property
    def low(self) -> float:
        """The time at which the noise is negligible, and paths end."""
        raise NotImplementedError

    @property
    def high(self) -> float:
        """The time at which hardly anything is left of the data."""
        raise NotImplementedError

    def scale(self, t: ArrayLike) -> Float[Array, "..."]:
        """How much of the data is left at `t`."""
        return jnp.ones_like(jnp.asarray(t))

    def sigma(self, t: ArrayLike) -> Float[Array, "..."]:
        """Noise relative to the data at `t`."""
        raise NotImplementedError

    def time(self, sigma: ArrayLike) -> Float[Array, "..."]:
        """The inverse of `sigma`."""
        raise NotImplementedError

    def rates(self, t: Array) -> tuple[Array, Array]:
        """The rates of change of `log scale` and of `log sigma` at a scalar `t`."""
        one = jnp.ones_like(t)
        log = lambda fn: jax.jvp(lambda t: jnp.log(fn(t)), (t,), (one,))[1]
        return log(self.scale), log(self.sigma)

    def drift(self, t: Array, x: Array) -> Array:
        """The drift `f(t, x)` at a scalar `t`."""
        return self.rates(t)[0] * x

    def diffusion(self, t: Array) -> Array:
        """The diffusion `g(t)` at a scalar `t`: `g^2 = scale^2 d(sigma^2)/dt`."""
        return self.scale(t) * self.sigma(t) * jnp.sqrt(2 * self.rates(t)[1])

    def velocity(self, t: Array, x: Array, denoised: Array) -> Array:
        """Velocity of the probability-flow ODE, given the denoised `x / scale` at a scalar `t`.

        `f - g^2/2 grad log p_t` with Tweedie's `grad log p_t(x) = (denoised - x / scale) / (scale sigma^2)`.
        """
        fading, growing = self.rates(t)
        return (fading + growing) * x - growing * self.scale(t) * denoised


@struct
class VE(Noise):
    """Exploding variance: `sigma = low (high / low)^t`, `scale = 1`, `t` in [0, 1].

    Attributes:
        least: Smallest noise.
        most: Largest noise.

    References:
        Song et al. (2021), Score-based generative modeling through stochastic differential equations, eq. 9.
    """

    least: float = static(default=0.002)
    most: float = static(default=80.0)

    low = property(lambda self: 0.0)
    high = property(lambda self: 1.0)

    def sigma(self, t: ArrayLike) -> Float[Array, "..."]:
        """Noise relative to the data at `t`."""
        return self.least * (self.most / self.least) ** jnp.asarray(t)

    def time(self, sigma: ArrayLike) -> Float[Array, "..."]:
        """The inverse of `sigma`."""
        return jnp.log(jnp.asarray(sigma) / self.least) / jnp.log(self.most / self.least)


@struct
class EDM(Noise):
    """The noise is the time: `sigma = t`, `scale = 1`.

    Attributes:
        least: Smallest noise.
        most: Largest noise.

    References:
        Karras et al. (2022), Elucidating the design space of diffusion-based generative models.
    """

    least: float = static(default=0.002)
    most: float = static(default=80.0)

    low = property(lambda self: self.least)
    high = property(lambda self: self.most)

    def sigma(self, t: ArrayLike) -> Float[Array, "..."]:
        """Noise relative to the data at `t`."""
        return jnp.asarray(t)

    def time(self, sigma: ArrayLike) -> Float[Array, "..."]:
        """The inverse of `sigma`."""
        return jnp.asarray(sigma)


@struct
class _Beta(Noise):
    """Processes whose drift is `-beta(t) x / 2`, `beta` growing linearly on `t` in [0, 1]."""

    beta_low: float = static(default=0.1)
    beta_high: float = static(default=20.0)
    least: float = static(default=1e-5)

    low = property(lambda self: self.least)
    high = property(lambda self: 1.0)

    def integral(self, t: ArrayLike) -> Float[Array, "..."]:
        """The integral of `beta` from 0 to `t`."""
        t = jnp.asarray(t)
        return t * (self.beta_low + 0.5 * t * (self.beta_high - self.beta_low))

    def scale(self, t: ArrayLike) -> Float[Array, "..."]:
        """How much of the data is left at `t`."""
        return jnp.exp(-0.5 * self.integral(t))

    def _time(self, integral: Array) -> Array:
        slope = self.beta_high - self.beta_low  # the stable root of slope t^2 / 2 + beta_low t = integral
        return 2 * integral / (self.beta_low + jnp.sqrt(self.beta_low**2 + 2 * slope * integral))


@struct
class VP(_Beta):
    """Preserved variance (the continuous limit of DDPM): `f = -beta x / 2`, `g^2 = beta`.

    Attributes:
        beta_low: `beta(0)`.
        beta_high: `beta(1)`.
        least: The smallest time.

    References:
        Song et al. (2021), eq. 11.
    """

    def sigma(self, t: ArrayLike) -> Float[Array, "..."]:
        """Noise relative to the data at `t`."""
        return jnp.sqrt(jnp.expm1(self.integral(t)))

    def time(self, sigma: ArrayLike) -> Float[Array, "..."]:
        """The inverse of `sigma`."""
        return self._time(jnp.log1p(jnp.asarray(sigma) ** 2))


@struct
class SubVP(_Beta):
    """Variance below VP's: `f = -beta x / 2`, `g^2 = beta (1 - exp(-2 int beta))`.

    Attributes:
        beta_low: `beta(0)`.
        beta_high: `beta(1)`.
        least: The smallest time.

    References:
        Song et al. (2021), eq. 13.
    """

    least: float = static(default=1e-3)

    def sigma(self, t: ArrayLike) -> Float[Array, "..."]:
        """Noise relative to the data at `t`."""
        return 2 * jnp.sinh(0.5 * self.integral(t))

    def time(self, sigma: ArrayLike) -> Float[Array, "..."]:
        """The inverse of `sigma`."""
        return self._time(2 * jnp.arcsinh(0.5 * jnp.asarray(sigma)))


# One line makes a process known, and covers it by the invariant tests.
NOISES: Mapping[str, Any] = MappingProxyType({"ve": VE, "vp": VP, "sub_vp": SubVP, "edm": EDM})


def karras(steps: int, low: float = 0.002, high: float = 80.0, *, rho: float = 7.0) -> Float[Array, " steps"]:
    """Noise levels from `high` down to `low`, evenly spaced in `sigma^(1 / rho)`: shorter steps at low noise.

    Args:
        steps: How many levels, at least 2.
        low: The last.
        high: The first.
        rho: 1 is linear; large values approach a geometric sequence.

    Example:
        >>> from jaxkit import score
        >>> [round(float(s), 2) for s in score.karras(4)]
        [80.0, 9.72, 0.47, 0.0]

    References:
        Karras et al. (2022), eq. 5.
    """
    checks.require(steps >= 2, "steps", "be at least 2", f"is {steps}")
    checks.require(0 < low < high, "low", "be positive and below `high`", f"is {low:g} with high {high:g}")
    share = jnp.linspace(0.0, 1.0, steps)
    return (high ** (1 / rho) + share * (low ** (1 / rho) - high ** (1 / rho))) ** rho


def geometric(steps: int, low: float = 0.002, high: float = 80.0) -> Float[Array, " steps"]:
    """Noise levels from `high` down to `low` with a constant ratio.

    Args:
        steps: How many levels, at least 2.
        low: The last.
        high: The first.
    """
    checks.require(steps >= 2, "steps", "be at least 2", f"is {steps}")
    checks.require(0 < low < high, "low", "be positive and below `high`", f"is {low:g} with high {high:g}")
    return high * (low / high) ** jnp.linspace(0.0, 1.0, steps)

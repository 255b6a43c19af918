"""Noising processes, `x_t = scale(t) (x_0 + sigma(t) n)`.

Every Gaussian diffusion process is determined by two functions of time: how much of the data is left, and how much
noise is added relative to it (Karras et al. 2022, table 1). Drift and diffusion follow, so one denoiser serves all.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from jaxkit.core import checks
from jaxkit.core.struct import static, struct


class Noise:
    """A process `x_t = scale(t) (x_0 + sigma(t) n)` with `n` standard normal, and its equation `dx = f dt + g dW`.

    The processes are `VE`, `VP`, `SubVP` and `EDM`; a new one defines `scale`, `sigma`, `time`, `t_min` and `t_max`.

    Example:
        >>> from jaxkit import score
        >>> noise = score.VP()
        >>> t = jax.numpy.asarray(0.5)
        >>> bool(abs(noise.scale(t) ** 2 * (1 + noise.sigma(t) ** 2) - 1) < 1e-5)  # the variance is preserved
        True
    """

    if TYPE_CHECKING:  # an attribute of some processes, a property of others

        @property
        def t_min(self) -> float:
            """The time at which the noise is negligible, where paths end."""
            ...

        @property
        def t_max(self) -> float:
            """The time at which hardly anything is left of the data."""
            ...

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
    """Variance exploding: `sigma = sigma_min (sigma_max / sigma_min)^t`, `scale = 1`, `t` in [0, 1].

    Attributes:
        sigma_min: Smallest noise.
        sigma_max: Largest noise.

    References:
        Song et al. (2021), Score-based generative modeling through stochastic differential equations, eq. 9.
    """

    sigma_min: float = static(default=0.002)
    sigma_max: float = static(default=80.0)

    t_min = property(lambda self: 0.0)
    t_max = property(lambda self: 1.0)

    def sigma(self, t: ArrayLike) -> Float[Array, "..."]:
        """Noise relative to the data at `t`."""
        return self.sigma_min * (self.sigma_max / self.sigma_min) ** jnp.asarray(t)

    def time(self, sigma: ArrayLike) -> Float[Array, "..."]:
        """The inverse of `sigma`."""
        return jnp.log(jnp.asarray(sigma) / self.sigma_min) / jnp.log(self.sigma_max / self.sigma_min)


@struct
class EDM(Noise):
    """The noise is the time: `sigma = t`, `scale = 1`.

    Attributes:
        sigma_min: Smallest noise.
        sigma_max: Largest noise.

    References:
        Karras et al. (2022), Elucidating the design space of diffusion-based generative models.
    """

    sigma_min: float = static(default=0.002)
    sigma_max: float = static(default=80.0)

    t_min = property(lambda self: self.sigma_min)
    t_max = property(lambda self: self.sigma_max)

    def sigma(self, t: ArrayLike) -> Float[Array, "..."]:
        """Noise relative to the data at `t`."""
        return jnp.asarray(t)

    def time(self, sigma: ArrayLike) -> Float[Array, "..."]:
        """The inverse of `sigma`."""
        return jnp.asarray(sigma)


@struct
class _Beta(Noise):
    """Processes with the drift `-beta(t) x / 2`, where `beta` grows linearly for `t` in [0, 1]."""

    beta_min: float = static(default=0.1)
    beta_max: float = static(default=20.0)
    t_min: float = static(default=1e-5)

    t_max = property(lambda self: 1.0)

    def integral(self, t: ArrayLike) -> Float[Array, "..."]:
        """The integral of `beta` from 0 to `t`."""
        t = jnp.asarray(t)
        return t * (self.beta_min + 0.5 * t * (self.beta_max - self.beta_min))

    def scale(self, t: ArrayLike) -> Float[Array, "..."]:
        """How much of the data is left at `t`."""
        return jnp.exp(-0.5 * self.integral(t))

    def _time(self, integral: Array) -> Array:
        slope = self.beta_max - self.beta_min  # the stable root of slope t^2 / 2 + beta_min t = integral
        return 2 * integral / (self.beta_min + jnp.sqrt(self.beta_min**2 + 2 * slope * integral))


@struct
class VP(_Beta):
    """Variance preserving (the continuous limit of DDPM): `f = -beta x / 2`, `g^2 = beta`.

    Attributes:
        beta_min: `beta(0)`.
        beta_max: `beta(1)`.
        t_min: Smallest time.

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
        beta_min: `beta(0)`.
        beta_max: `beta(1)`.
        t_min: Smallest time.

    References:
        Song et al. (2021), eq. 13.
    """

    t_min: float = static(default=1e-3)

    def sigma(self, t: ArrayLike) -> Float[Array, "..."]:
        """Noise relative to the data at `t`."""
        return 2 * jnp.sinh(0.5 * self.integral(t))

    def time(self, sigma: ArrayLike) -> Float[Array, "..."]:
        """The inverse of `sigma`."""
        return self._time(2 * jnp.arcsinh(0.5 * jnp.asarray(sigma)))


# A line here makes a process known, and includes it in the invariant tests.
NOISES: Mapping[str, Any] = MappingProxyType({"ve": VE, "vp": VP, "sub_vp": SubVP, "edm": EDM})


def karras(
    steps: int, sigma_min: float = 0.002, sigma_max: float = 80.0, *, rho: float = 7.0
) -> Float[Array, " steps"]:
    """Noise levels from `sigma_max` to `sigma_min`, evenly spaced in `sigma^(1 / rho)`: shorter steps at low noise.

    Args:
        steps: Number of levels, at least 2.
        sigma_min: The last level.
        sigma_max: The first level.
        rho: Exponent; 1 is linear, and large values approach a geometric sequence.

    Example:
        >>> from jaxkit import score
        >>> [round(float(s), 2) for s in score.karras(4)]
        [80.0, 9.72, 0.47, 0.0]

    References:
        Karras et al. (2022), eq. 5.
    """
    share = _shares(steps, sigma_min, sigma_max)
    return (sigma_max ** (1 / rho) + share * (sigma_min ** (1 / rho) - sigma_max ** (1 / rho))) ** rho


def geometric(steps: int, sigma_min: float = 0.002, sigma_max: float = 80.0) -> Float[Array, " steps"]:
    """Noise levels from `sigma_max` to `sigma_min` with a constant ratio; the arguments are as for `karras`."""
    return sigma_max * (sigma_min / sigma_max) ** _shares(steps, sigma_min, sigma_max)


SCHEDULES: Mapping[str, Any] = MappingProxyType({"karras": karras, "geometric": geometric})
"""Sequences of noise levels by name."""


def _shares(steps: int, sigma_min: float, sigma_max: float) -> Array:
    checks.require(steps >= 2, "steps", "be at least 2", f"is {steps}")
    ordered = 0 < sigma_min < sigma_max
    checks.require(
        ordered, "sigma_min", "be positive and below `sigma_max`", f"is {sigma_min:g} with sigma_max {sigma_max:g}"
    )
    return jnp.linspace(0.0, 1.0, steps)

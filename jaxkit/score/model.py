"""A denoiser with what one must know of its data: it draws samples, has a density, and can be saved."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, PyTree

from jaxkit.compile.jit_cache import run_kept
from jaxkit.core import checks
from jaxkit.core.struct import static, struct
from jaxkit.learn import saving
from jaxkit.learn.units import Units
from jaxkit.models.mixtures import Mixture
from jaxkit.score import likelihood, samplers
from jaxkit.score.likelihood import Carried, LogProb, ProbabilityFlow
from jaxkit.score.samplers import Drawn, Sampler


@struct
class Denoiser:
    """A denoiser of data of one shape: `r(y) = E[x | y = x + sigma n] = y + sigma^2 grad log p_sigma(y)`.

    The noise `sigma` is relative to the model's units: a coordinate gets `sigma` times its `units.scale`, which is the
    standard deviation of the data if the model was trained, and 1 if it is made by hand or exact.

    Attributes:
        params: Parameters of `apply`.
        mean: Mean of the data: a scalar, or an array of the data's shape.
        variance: Variance of each coordinate of the data: a scalar, or an array of the data's shape.
        apply: `apply(params, y, sigma)`, the mean of `x` given `y = x + sigma n`, for `y` of shape `(n, *shape)` and
            `sigma` of shape `(n,)`, with data and noise in the model's units.
        shape: Shape of one datum.
        units: Centre and scale of the data that `apply` sees.

    Example:
        >>> import jax, jax.numpy as jnp, jaxkit as jk
        >>> mixture = jk.models.ring(8)
        >>> model = jk.score.exact(mixture)
        >>> drawn = model.sample(jax.random.key(0), 500, sampler=jk.score.Heun(steps=12)).checked()
        >>> bool(-jnp.mean(mixture.log_prob(drawn.x)) < 2.0), int(drawn.evaluations)  # the entropy is 1.70
        (True, 23)

    References:
        Su, From denoising autoencoders to generative models (kexue.fm/archives/7038); Vincent (2011); Tweedie.
    """

    params: PyTree
    mean: Float[Array, "..."]
    variance: Float[Array, "..."]
    apply: Callable[[Any, Array, Array], Array] = static()
    shape: tuple[int, ...] = static()
    units: Units = Units()

    def denoise(self, y: Float[Array, "n ..."], sigma: ArrayLike) -> Float[Array, "n ..."]:
        """The mean of the clean data behind noisy ones.

        Args:
            y: Noisy data, shape `(n, *shape)`.
            sigma: Noise in the model's units: a scalar, or one value per datum, shape `(n,)`.

        Raises:
            ValueError: `y` does not have the shape of the model's data.

        Example:
            >>> import jax.numpy as jnp, jaxkit as jk
            >>> normal = jk.score.exact(jk.models.mixture([[0.0, 0.0]], 1.0))
            >>> normal.denoise(jnp.array([[2.0, -4.0]]), 1.0).tolist()  # y / (1 + sigma^2)
            [[1.0, -2.0]]
        """
        return self.units.outside(self._inner(y, sigma)[0])

    def score(self, y: Float[Array, "n ..."], sigma: ArrayLike) -> Float[Array, "n ..."]:
        """Score of the noisy density, `grad log p_sigma(y)`, by Tweedie's identity."""
        clean, noisy, levels = self._inner(y, sigma)
        return Units(0.0, self.units.scale).inside((clean - noisy) / over(levels, y) ** 2)

    def _inner(self, y: Float[Array, "n ..."], sigma: ArrayLike) -> tuple[Array, Array, Array]:
        """The denoised and the noisy data in the model's units, and the noise of each datum."""
        checks.shape("y", y, ("n", *self.shape))
        levels = jnp.broadcast_to(jnp.asarray(sigma, y.dtype), y.shape[:1])
        noisy = self.units.inside(y)
        return self.apply(self.params, noisy, levels), noisy, levels

    def standard(self) -> tuple["Denoiser", Units, Float[Array, ""]]:
        """The same model for data with mean 0 and mean variance 1, to which the levels of samplers and flows refer.

        Returns:
            That model, the units of its data, and the factor from its noise to this model's.
        """
        variance = self.variance / jnp.asarray(self.units.scale, self.variance.dtype) ** 2
        spread = jnp.sqrt(jnp.mean(variance))
        spread = jnp.where(spread > 0, spread, 1)
        shape = jnp.broadcast_shapes(jnp.shape(self.mean), jnp.shape(self.units.mean))
        middle = self.units.inside(jnp.broadcast_to(self.mean, shape))
        params = (self.params, Units(middle, spread))
        inner = Denoiser(params, jnp.zeros_like(self.mean), variance / spread**2, _Standard(self.apply), self.shape)
        return inner, Units(self.mean, self.units.scale * spread), spread

    def sample(
        self, key: Array, n: int, *, sampler: str | Sampler = "heun", start: Float[Array, "n ..."] | None = None
    ) -> Drawn:
        """Draw data.

        Args:
            key: Random key.
            n: Number of data.
            sampler: A name in `SAMPLERS`, or a sampler with its own settings, such as `Heun(steps=40, churn=8.0)`.
            start: States at the largest noise; by default drawn from the normal with the moments of the noisy data.

        Returns:
            A `Drawn`; a datum that is not finite has the status `not_finite`.

        Raises:
            ValueError: The sampler is unknown, or `start` has the wrong shape.
        """
        return run_kept(samplers.draw, (n, samplers.chosen(sampler)), (self, key, start))

    def log_prob(
        self, x: Float[Array, "n ..."], *, flow: ProbabilityFlow | None = None, key: Array | None = None
    ) -> LogProb:
        """Log density of data, by the change of variables along the probability-flow ODE.

        The flow carries the data, smoothed by the smallest noise, to the largest noise, where the density is nearly
        normal. That normal has the variance of the noise *and* of the data: without the latter, the result is off by
        1e-2 nats at a largest noise of 30. It is differentiable with respect to `x` and `params`.

        Args:
            x: Data, shape `(n, *shape)`.
            flow: The process and the settings of the solver.
            key: Random key of the probes, if the trace is not exact.

        Returns:
            A `LogProb`, with one lane per datum.

        Raises:
            ValueError: `x` does not have the shape of the model's data, or a key is needed but not given.

        Example:
            >>> import jax.numpy as jnp, jaxkit as jk
            >>> mixture = jk.models.ring(8)
            >>> x = jnp.array([[2.0, 0.0], [0.0, 1.5]])
            >>> found = jk.score.exact(mixture).log_prob(x).checked()
            >>> bool(jnp.all(jnp.abs(found.value - mixture.log_prob(x)) < 1e-3))
            True

        References:
            Song et al. (2021), section 4.3 and D.2; Chen et al. (2018); Grathwohl et al. (2019), for the probes.
        """
        return run_kept(likelihood.log_prob, (flow or ProbabilityFlow(),), (self, x, key))

    def encode(self, x: Float[Array, "n ..."], *, flow: ProbabilityFlow | None = None) -> Carried:
        """Carry data along the probability-flow ODE to standard normal codes; `decode` carries them back.

        Args:
            x: Data, shape `(n, *shape)`.
            flow: The process and the settings of the solver.

        Example:
            >>> import jax.numpy as jnp, jaxkit as jk
            >>> model, x = jk.score.exact(jk.models.ring(8)), jnp.array([[2.0, 0.1]])
            >>> back = model.decode(model.encode(x).checked().values).checked()
            >>> bool(jnp.max(jnp.abs(back.values - x)) < 1e-3)
            True
        """
        return run_kept(likelihood.encode, (flow or ProbabilityFlow(),), (self, x))

    def decode(self, codes: Float[Array, "n ..."], *, flow: ProbabilityFlow | None = None) -> Carried:
        """Carry standard normal codes along the probability-flow ODE back to data; for the arguments see `encode`."""
        return run_kept(likelihood.decode, (flow or ProbabilityFlow(),), (self, codes))


@dataclasses.dataclass(frozen=True)
class _Standard:
    """A denoiser of the same data in other units, with one scale for all coordinates and hence for the noise."""

    apply: Callable[[Any, Array, Array], Array]

    def __call__(self, params: Any, y: Float[Array, "n ..."], sigma: Float[Array, " n"]) -> Float[Array, "n ..."]:
        inner, units = params
        return units.inside(self.apply(inner, units.outside(y), sigma * units.scale))


def over(values: Float[Array, " n"], like: Array) -> Array:
    """`values`, one per datum, with trailing axes of length 1 to broadcast against `like`."""
    return values.reshape(values.shape + (1,) * (like.ndim - values.ndim))


def exact(law: Mixture) -> Denoiser:
    """The exact denoiser of a mixture of Gaussians, for anything that takes a denoiser.

    Example:
        >>> import jax.numpy as jnp, jaxkit as jk
        >>> normal = jk.score.exact(jk.models.mixture([[0.0, 0.0]], 1.0))
        >>> normal.denoise(jnp.array([[2.0, -4.0]]), 1.0).tolist()  # y / (1 + sigma^2)
        [[1.0, -2.0]]
    """
    return Denoiser(law, *law.moments(), Mixture.denoise, (law.means.shape[1],))


def save(path: str | Path, model: Denoiser) -> Path:
    """Write a model to one file: its parameters, its moments, the names of its code, and a checksum.

    Args:
        path: The file.
        model: The model; a user's own network must have a name, see `jk.learn.save`.

    Returns:
        The file.
    """
    return saving.save(path, model)


def load(path: str | Path) -> Denoiser:
    """Read a model that `save` wrote.

    Raises:
        FileNotFoundError: There is no such file.
        CheckpointError: The file is damaged, or holds something else.
    """
    return saving.load(path, Denoiser)

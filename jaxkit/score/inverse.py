"""Inverse problems: a denoiser that knows a measurement, by a gradient through the denoiser."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from jaxkit.core import checks
from jaxkit.score.model import Model, over

Measure = Callable[[Array], Array]
FEW = 8  # coordinates up to which a trace is taken exactly


@dataclasses.dataclass(frozen=True)
class _Guided:
    """The denoiser of the posterior: `D + sigma^2 grad log p(observed | y)`."""

    denoiser: Callable[[Any, Array, Array], Array]
    measure: Measure
    strength: float

    def __call__(self, params: Any, y: Float[Array, "n ..."], sigma: Float[Array, " n"]) -> Float[Array, "n ..."]:
        weights, observed, noise = params
        axes = lambda v: tuple(range(1, v.ndim))
        width = noise**2 + sigma**2 * _mean_slope(lambda y: self.denoiser(weights, y, sigma), y)

        def log_likelihood(y: Array) -> tuple[Array, Array]:
            clean = self.denoiser(weights, y, sigma)
            seen = self.measure(clean)
            wrong = seen - jnp.broadcast_to(observed, seen.shape)
            return jnp.sum(-0.5 * jnp.sum(wrong**2, axis=axes(wrong)) / width), clean

        slope, clean = jax.grad(log_likelihood, has_aux=True)(y)
        return clean + self.strength * over(sigma, y) ** 2 * slope


def _mean_slope(denoise: Callable[[Array], Array], y: Float[Array, "n ..."]) -> Float[Array, " n"]:
    """Trace of the denoiser's Jacobian over the number of coordinates: exact in few, by one probe in many."""
    size, axes = y[0].size, tuple(range(1, y.ndim))
    along = lambda v: jnp.sum(v * jax.jvp(denoise, (y,), (v,))[1], axis=axes)
    if size <= FEW:
        units = jnp.eye(size, dtype=y.dtype).reshape(size, 1, *y.shape[1:])
        trace = sum((along(jnp.broadcast_to(u, y.shape)) for u in units), jnp.zeros(y.shape[0], y.dtype))
    else:
        trace = along(jax.random.rademacher(jax.random.key(0), y.shape, y.dtype))
    return jax.lax.stop_gradient(jnp.clip(trace / size, 1e-4, 1.0))


def condition(
    model: Model, measure: Measure, observed: Array, *, noise: ArrayLike = 0.05, strength: float = 1.0
) -> Model:
    """The denoiser of data of which a measurement is known: it goes into every sampler in place of the model.

    Bayes' rule adds the score of `p(observed | y)`. Given noisy data `y`, the clean data scatter around the denoised
    ones with the covariance `sigma^2 D'(y)` (Tweedie's identity of second order). With its mean over the coordinates,
    `r^2`, `log p(observed | y) = -|measure(D(y)) - observed|^2 / 2 (noise^2 + r^2)`, differentiated through the
    denoiser. For normal data and a measurement of some of their coordinates this is exact; where a measurement must
    choose among separate modes it is an approximation, and the weights of the modes come out too equal.

    Args:
        model: A denoiser.
        measure: What the measurement sees: a differentiable function of data `(n, *shape)` with the leading axis kept.
            A mask gives inpainting, a blur deblurring, a block mean super-resolution.
        observed: The measurement of each datum to draw, of `measure`'s shape; a leading axis of 1 is shared by all.
        noise: Standard deviation of the measurement's noise.
        strength: Factor of the gradient; above 1 the measurement is obeyed more closely than it deserves.

    Returns:
        A `Model`, differentiable with respect to `observed` too.

    Raises:
        ValueError: `observed` is not what `measure` gives.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxkit import score
        >>> ring = score.ring(8)
        >>> above = score.condition(ring.model(), lambda x: x[:, 1:], jnp.array([[2.0]]), noise=0.1)
        >>> drawn = score.sample(above, jax.random.key(0), 200, steps=30, high=20.0).checked()
        >>> bool(jnp.all(drawn.x[:, 1] > 0.9))  # the three upper modes of eight
        True

    References:
        Chung et al. (2023), Diffusion posterior sampling; Boys et al. (2023), Tweedie moment projected diffusions, for
        the width.
    """
    checks.positive("noise", noise)
    dtype = jnp.result_type(model.mean)
    seen = jnp.asarray(observed, dtype)
    wanted = jax.eval_shape(measure, jax.ShapeDtypeStruct((1, *model.shape), dtype)).shape
    checks.shape("observed", seen, ("n", *wanted[1:]))
    params = (model.params, seen, jnp.asarray(noise, dtype))
    return Model(params, model.mean, model.variance, _Guided(model.apply, measure, strength), model.shape)

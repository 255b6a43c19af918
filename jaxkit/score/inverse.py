"""Inverse problems: a denoiser conditioned on a measurement, by a gradient through the denoiser."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from jaxkit.core import checks
from jaxkit.score.model import Denoiser, over

Measure = Callable[[Array], Array]


@dataclasses.dataclass(frozen=True)
class _Guided:
    """The denoiser of the posterior: `D + sigma^2 D'^T H^T (noise^2 + sigma^2 H D'^T H^T)^-1 (observed - H D)`."""

    denoiser: Callable[[Any, Array, Array], Array]
    measure: Measure
    strength: float
    moves: int
    damping: float
    bounds: tuple[float, float] | None

    def __call__(self, params: Any, y: Float[Array, "n ..."], sigma: Float[Array, " n"]) -> Float[Array, "n ..."]:
        weights, observed, noise, units = params
        clean, pull = jax.vjp(lambda y: self.denoiser(weights, y, sigma), y)
        seen, push = jax.linearize(lambda x: self.measure(units.outside(x)), clean)
        back = jax.linear_transpose(push, clean)
        spread = lambda v: over(sigma, y) ** 2 * pull(back(v)[0])[0]
        size = jnp.mean(jnp.asarray(units.scale, y.dtype) ** 2)
        loose = noise**2 + self.damping * size * over(sigma, seen) ** 2
        weight = _solve(lambda v: loose * v + push(spread(v)), observed - seen, self.moves)
        found = clean + self.strength * spread(weight)
        return found if self.bounds is None else units.inside(jnp.clip(units.outside(found), *self.bounds))


def _solve(apply: Callable[[Array], Array], right: Float[Array, "n ..."], moves: int) -> Float[Array, "n ..."]:
    """A few steps of conjugate gradients, datum by datum; a datum stops if the matrix is not positive."""
    axes = tuple(range(1, right.ndim))
    dot = lambda a, b: jnp.sum(a * b, axis=axes)
    tiny = jnp.finfo(right.dtype).tiny
    found, rest, along, size = jnp.zeros_like(right), right, right, dot(right, right)
    for _ in range(moves):
        image = apply(along)
        bend = dot(along, image)
        step = jnp.where(bend > tiny, size / jnp.where(bend > tiny, bend, 1), 0)
        found, rest = found + over(step, right) * along, rest - over(step, right) * image
        after = dot(rest, rest)
        # A system that is solved, or no longer positive, keeps its solution: its steps are zero from here on.
        go = (bend > tiny) & (size > tiny)
        along = jnp.where(over(go, right), rest + over(after / jnp.where(go, size, 1), right) * along, 0)
        size = after
    return found


def condition(
    model: Denoiser,
    measure: Measure,
    observed: Array,
    *,
    noise: ArrayLike = 0.05,
    strength: float = 1.0,
    moves: int = 5,
    damping: float = 0.0,
    bounds: tuple[float, float] | None = None,
) -> Denoiser:
    """The denoiser of data of which a measurement is known, to be used in place of the model.

    Given noisy data `y`, the clean data scatter around the denoised ones `D(y)` with the covariance `sigma^2 D'(y)`
    (Tweedie's identity of second order). If they do so normally, their mean given the measurement, with `H` to first
    order, is that of linear regression: `D + sigma^2 D'^T H^T (noise^2 + sigma^2 H D'^T H^T)^-1 (observed - H D)`. The
    system is solved by a few conjugate gradients, each with a backward pass through the denoiser. For normal data and
    linear measurements this is exact; if a measurement must decide between separate modes, their weights come out too
    equal. For pictures give `damping` and `bounds`: without them, some draws fail where the derivative of the
    network is not a covariance.

    Args:
        model: A denoiser.
        measure: What the measurement sees: a differentiable function of data `(n, *shape)` with the leading axis kept.
            A mask gives inpainting, a blur deblurring, a block mean super-resolution.
        observed: The measurement of each datum to draw, of the shape that `measure` gives; a leading axis of 1 is
            shared by all.
        noise: Standard deviation of the measurement's noise.
        strength: Factor of the correction; above 1, the measurement is obeyed more closely than its noise warrants.
        moves: Number of conjugate gradients; each costs one backward pass per evaluation.
        damping: Share of `sigma^2` that is added to the variance of the measurement. `sigma^2 D'` of a trained network
            is a covariance only up to such an error, which at large noise drowns the measurement: about 0.001 for
            pictures.
        bounds: Least and largest value of the data, (-1, 1) for pictures: denoised data are clipped to them.

    Returns:
        A `Denoiser`, differentiable with respect to `observed` too.

    Raises:
        ValueError: `observed` does not have the shape that `measure` gives.

    Example:
        >>> import jax, jax.numpy as jnp, jaxkit as jk
        >>> ring = jk.score.exact(jk.models.ring(8))
        >>> above = jk.score.condition(ring, lambda x: x[:, 1:], jnp.array([[2.0]]), noise=0.1)
        >>> drawn = above.sample(jax.random.key(0), 200, sampler=jk.score.Heun(steps=30, sigma_max=20.0)).checked()
        >>> bool(jnp.all(drawn.x[:, 1] > 0.9))  # the three upper modes of eight
        True

    References:
        Rozet et al. (2024), Learning diffusion priors from observations by expectation maximization (moment matching);
        Boys et al. (2023), Tweedie moment projected diffusions; Chung et al. (2023), Diffusion posterior sampling.
    """
    checks.positive("noise", noise)
    checks.positive("damping", damping, strict=False)
    checks.require(bounds is None or bounds[0] < bounds[1], "bounds", "be (least, largest)", f"is {bounds}")
    dtype = jnp.result_type(model.mean)
    seen = jnp.asarray(observed, dtype)
    wanted = jax.eval_shape(measure, jax.ShapeDtypeStruct((1, *model.shape), dtype)).shape
    checks.shape("observed", seen, ("n", *wanted[1:]))
    params = (model.params, seen, jnp.asarray(noise, dtype), model.units)
    guided = _Guided(model.apply, measure, strength, moves, damping, bounds)
    return Denoiser(params, model.mean, model.variance, guided, model.shape, model.units)

"""Samplers: from noise to data with one denoiser. A new sampler is one function and one line of `SAMPLERS`.

Each takes `(model, x, sigmas, key, **options)`: states `x` at the first of the falling noise levels `sigmas`, in the
frame where the data keep their scale (every process of `noise` has it: divide by its `scale`). Each ends with one
denoising step at the last level, and returns the data with the evaluations of the denoiser it took.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxkit.core import checks
from jaxkit.core.status import Outcome, Status
from jaxkit.core.struct import struct
from jaxkit.dynamics.mcmc import sample as chain
from jaxkit.dynamics.mcmc.annealed import Annealed
from jaxkit.dynamics.ode.methods import SDE, RungeKutta
from jaxkit.dynamics.ode.solve import solve
from jaxkit.score.model import Model
from jaxkit.score.noise import geometric, karras

Drawn = tuple[Array, Array]


@struct
class Samples(Outcome):
    """What a sampler drew.

    Attributes:
        x: Data, shape `(n, *shape)`.
        status: `Status` code of each datum.
        evaluations: Evaluations of the denoiser for each datum.
    """

    verb: ClassVar[str] = "score.sample"

    x: Float[Array, "n ..."]
    status: Int[Array, " n"]
    evaluations: Int[Array, ""]


def sample(
    model: Model,
    key: Array,
    n: int,
    *,
    sampler: str = "heun",
    steps: int = 18,
    low: float = 0.002,
    high: float = 80.0,
    schedule: str = "karras",
    start: Float[Array, "n ..."] | None = None,
    **options: Any,
) -> Samples:
    """Draw data from a denoiser.

    Args:
        model: A denoiser.
        key: Random key.
        n: How many.
        sampler: One of `SAMPLERS`.
        steps: Noise levels (steps of the solver for `"reverse_sde"`; `"pf_ode"` chooses its own).
        low: Least noise; of the order of a hundredth of the finest detail.
        high: Largest noise, many times the spread of the data.
        schedule: `"karras"` or `"geometric"` levels.
        start: States at the largest noise; drawn from the normal with the moments of the noisy data by default.
        **options: Of the sampler.

    Returns:
        A `Samples`; a datum that is not finite has the status `not_finite`.

    Raises:
        ValueError: The sampler or the schedule is unknown, or `start` has a wrong shape.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxkit import models, score
        >>> mixture = models.ring(8)
        >>> drawn = score.sample(score.exact(mixture), jax.random.key(0), 500, steps=12).checked()
        >>> bool(-jnp.mean(mixture.log_prob(drawn.x)) < 2.0), int(drawn.evaluations)  # the entropy is 1.70
        (True, 23)

    References:
        Karras et al. (2022); Song et al. (2021, ICLR) for DDIM; Lu et al. (2022) for DPM-Solver++; Song and Ermon
        (2019) for annealed Langevin; Song et al. (2021) for the reverse equation and predictor-corrector.
    """
    checks.one_of("sampler", sampler, SAMPLERS)
    checks.one_of("schedule", schedule, ("karras", "geometric"))
    first, path = jax.random.split(key)
    dtype = jnp.result_type(model.mean) if start is None else start.dtype
    sigmas = (karras if schedule == "karras" else geometric)(steps, low, high).astype(dtype)
    if start is None:
        noise = jax.random.normal(first, (n, *model.shape), dtype)
        start = _spread(model.mean, noise) + _spread(jnp.sqrt(model.variance + high**2), noise) * noise
    checks.shape("start", start, (n, *model.shape))
    x, evaluations = SAMPLERS[sampler](model, start, sigmas, path, **options)
    finite = jnp.all(jnp.isfinite(x.reshape(n, -1)), axis=1)
    return Samples(x, jnp.where(finite, int(Status.ok), int(Status.not_finite)), evaluations)


def _spread(moment: Array, like: Array) -> Array:
    return jnp.broadcast_to(jnp.asarray(moment, like.dtype), like.shape[1:])[None]


def heun(model: Model, x: Array, sigmas: Array, key: Array, *, churn: float = 0.0) -> Drawn:
    """Second-order steps of the probability-flow ODE `dx/dsigma = (x - D) / sigma`; `churn` adds noise and removes it.

    Two evaluations a level. With `churn` the states are noised by the factor `1 + churn / levels` before each step
    (Karras et al. 2022, algorithm 2).
    """
    raised = min(churn / sigmas.size, 2**0.5 - 1)

    def step(x: Array, at: tuple[Array, Array, Array]) -> tuple[Array, None]:
        sigma, after, key = at
        if churn:
            up = sigma * (1 + raised)
            x = x + jnp.sqrt(up**2 - sigma**2) * jax.random.normal(key, x.shape, x.dtype)
            sigma = up
        slope = (x - model.denoise(x, sigma)) / sigma
        guess = x + (after - sigma) * slope
        second = (guess - model.denoise(guess, after)) / after
        return x + 0.5 * (after - sigma) * (slope + second), None

    x, _ = jax.lax.scan(step, x, (sigmas[:-1], sigmas[1:], jax.random.split(key, sigmas.size - 1)))
    return model.denoise(x, sigmas[-1]), jnp.asarray(2 * sigmas.size - 1)


def ddim(model: Model, x: Array, sigmas: Array, key: Array, *, eta: float = 0.0) -> Drawn:
    """First-order steps; `eta` = 0 is the deterministic DDIM, 1 the ancestral sampling of DDPM."""

    def step(x: Array, at: tuple[Array, Array, Array]) -> tuple[Array, None]:
        sigma, after, key = at
        fresh = eta * after * jnp.sqrt(1 - (after / sigma) ** 2)
        kept = jnp.sqrt(after**2 - fresh**2)
        clean = model.denoise(x, sigma)
        x = clean + kept / sigma * (x - clean)
        return (x + fresh * jax.random.normal(key, x.shape, x.dtype) if eta else x), None

    x, _ = jax.lax.scan(step, x, (sigmas[:-1], sigmas[1:], jax.random.split(key, sigmas.size - 1)))
    return model.denoise(x, sigmas[-1]), jnp.asarray(sigmas.size)


def ancestral(model: Model, x: Array, sigmas: Array, key: Array) -> Drawn:
    """DDPM's ancestral sampling: `ddim` with `eta` = 1."""
    return ddim(model, x, sigmas, key, eta=1.0)


def dpmpp_2m(model: Model, x: Array, sigmas: Array, key: Array) -> Drawn:
    """DPM-Solver++(2M): second order in `log sigma` from the denoised state of the step before; one evaluation a level.

    `x' = (s'/s) x - (e^-h - 1) ((1 + 1/2r) D - 1/2r D_before)` with `h = log s/s'`, `r = h_before / h`.
    """
    del key

    def step(carry: tuple[Array, Array, Array], at: tuple[Array, Array]) -> tuple[tuple[Array, Array, Array], None]:
        x, before, last = carry
        sigma, after = at
        h = jnp.log(sigma / after)
        clean = model.denoise(x, sigma)
        half = 0.5 * h / jnp.where(last > 0, last, 1)
        ahead = jnp.where(last > 0, clean + half * (clean - before), clean)
        return (after / sigma * x - jnp.expm1(-h) * ahead, clean, h), None

    first = (x, jnp.zeros_like(x), jnp.zeros((), x.dtype))
    (x, _, _), _ = jax.lax.scan(step, first, (sigmas[:-1], sigmas[1:]))
    return model.denoise(x, sigmas[-1]), jnp.asarray(sigmas.size)


def langevin(model: Model, x: Array, sigmas: Array, key: Array, *, moves: int = 10, step: float = 0.2) -> Drawn:
    """Annealed Langevin: at each level `moves` steps `x + a/2 grad log p_sigma + sqrt(a) n`, `a = step sigma^2`.

    Around a single datum the variance of a level comes out `1 / (1 - step / 4)` times too large: the price of not
    asking whether to accept. The last denoising removes most of it. Weights of separate modes come out right when
    the levels are close (a ratio of 1.1, say) and `high` is not far above the spread of the data.
    """
    score = lambda x, model, sigma: model.score(x[None], sigma)[0]
    method = Annealed(sigmas, step * sigmas**2)
    found = chain.sample(chain.Score(score), x, model, key=key, steps=moves, method=method, thin=moves)
    return model.denoise(found.final, sigmas[-1]), jnp.asarray((moves + 1) * sigmas.size + 1)


def predictor_corrector(
    model: Model, x: Array, sigmas: Array, key: Array, *, snr: float = 0.16, moves: int = 1
) -> Drawn:
    """An ancestral step to the next level, then Langevin moves there of size `2 (snr |n| / |score|)^2`."""

    def step(x: Array, at: tuple[Array, Array, Array]) -> tuple[Array, None]:
        sigma, after, key = at
        predict, correct = jax.random.split(key)
        clean = model.denoise(x, sigma)
        kept = (after / sigma) ** 2
        fresh = after * jnp.sqrt(1 - kept)
        x = clean + kept * (x - clean) + fresh * jax.random.normal(predict, x.shape, x.dtype)

        def move(x: Array, key: Array) -> tuple[Array, None]:
            n = jax.random.normal(key, x.shape, x.dtype)
            score = (model.denoise(x, after) - x) / after**2
            size = 2 * snr**2 * jnp.mean(n**2) / jnp.mean(score**2)  # of the batch, as in the paper
            return x + size * score + jnp.sqrt(2 * size) * n, None

        return jax.lax.scan(move, x, jax.random.split(correct, moves))

    x, _ = jax.lax.scan(step, x, (sigmas[:-1], sigmas[1:], jax.random.split(key, sigmas.size - 1)))
    return model.denoise(x, sigmas[-1]), jnp.asarray((1 + moves) * (sigmas.size - 1) + 1)


def reverse_sde(model: Model, x: Array, sigmas: Array, key: Array) -> Drawn:
    """Euler-Maruyama steps of the reverse equation `dx = -g^2 score dt + g dW`, by diffrax, even in `log sigma`."""
    count = sigmas.size - 1
    ratio, high = jnp.log(sigmas[0] / sigmas[-1]), sigmas[0]
    level = lambda u: high * jnp.exp(-ratio * u)

    def drift(u: Array, x: Array, model: Model) -> Array:
        return 2 * ratio * (model.denoise(x, level(u)) - x)

    wander = lambda u, x, model: jnp.broadcast_to(jnp.sqrt(2 * ratio) * level(u), x.shape)
    ends = jnp.linspace(0.0, 1.0, 2, dtype=x.dtype)
    euler = RungeKutta("euler", dt=1 / count)
    found = solve(SDE(drift, wander, key), x, ends, model, method=euler, max_steps=2 * count)
    return model.denoise(found.final, sigmas[-1]), jnp.asarray(count + 1)


def pf_ode(
    model: Model, x: Array, sigmas: Array, key: Array, *, rtol: float = 1e-3, atol: float = 1e-3, method: str = "tsit5"
) -> Drawn:
    """The probability-flow ODE with adaptive steps of the whole batch, by diffrax."""
    del key
    ratio, high = jnp.log(sigmas[0] / sigmas[-1]), sigmas[0]

    def field(u: Array, x: Array, model: Model) -> Array:
        return ratio * (model.denoise(x, high * jnp.exp(-ratio * u)) - x)

    ends = jnp.linspace(0.0, 1.0, 2, dtype=x.dtype)
    found = solve(field, x, ends, model, method=method, rtol=rtol, atol=atol)
    x = jnp.where(found.ok, found.final, jnp.nan)  # a solve that gave up has drawn nothing
    return model.denoise(x, sigmas[-1]), STAGES.get(method, 1) * (found.steps + found.rejected) + 1


STAGES: Mapping[str, int] = MappingProxyType({"heun": 2, "bosh3": 3, "tsit5": 6, "dopri5": 6, "dopri8": 13})
SAMPLERS: Mapping[str, Callable[..., Drawn]] = MappingProxyType(
    {
        "heun": heun,
        "ddim": ddim,
        "ancestral": ancestral,
        "dpmpp_2m": dpmpp_2m,
        "langevin": langevin,
        "predictor_corrector": predictor_corrector,
        "reverse_sde": reverse_sde,
        "pf_ode": pf_ode,
    }
)

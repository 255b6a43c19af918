"""Samplers: from noise to data with one denoiser. A new sampler is a class and a line in `SAMPLERS`.

Each takes states at the first of decreasing noise levels, in the frame in which the data keep their scale (for every
process of `noise`, divide by its `scale`), and ends with one denoising step at the last level. The levels are relative
to the data's standard deviation: a sampler sees `Denoiser.standard`.
"""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxkit.core import checks
from jaxkit.core.status import Outcome, Status
from jaxkit.core.struct import struct
from jaxkit.dynamics.mcmc import sample as chain
from jaxkit.dynamics.mcmc.annealed import Annealed
from jaxkit.dynamics.ode.methods import SDE, Method, RungeKutta
from jaxkit.dynamics.ode.solve import solve
from jaxkit.score.noise import SCHEDULES

if TYPE_CHECKING:
    from jaxkit.score.model import Denoiser

Moved = tuple[Array, Array]


@struct
class Drawn(Outcome):
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


@dataclasses.dataclass(frozen=True)
class Sampler:
    """What all samplers share; the defaults of each are such that two modes keep their weights within 0.03.

    Attributes:
        steps: Number of noise levels (steps of the solver for `ReverseSDE`; `FlowODE` chooses its own).
        sigma_min: Least noise, in units of the data's standard deviation; about a hundredth of the finest detail.
        sigma_max: Largest noise, in the same units: many times the spread of the data.
        schedule: `"karras"` or `"geometric"` levels.
    """

    steps: int = 18
    sigma_min: float = 0.002
    sigma_max: float = 80.0
    schedule: str = "karras"

    def __post_init__(self) -> None:
        """Check the schedule."""
        checks.one_of("schedule", self.schedule, SCHEDULES)

    def move(self, model: "Denoiser", x: Array, sigmas: Array, key: Array) -> Moved:
        """Data from states `x` at the noise `sigmas[0]`, and the number of evaluations of the denoiser."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Heun(Sampler):
    """Second-order steps of the probability-flow ODE `dx/dsigma = (x - D) / sigma`, with two evaluations per level.

    Attributes:
        churn: Before each step the noise of the states is raised by the factor `1 + churn / steps` (at most the root of
            2); the step removes that noise and corrects errors of earlier steps.

    References:
        Karras et al. (2022), algorithm 2.
    """

    steps: int = 32
    churn: float = 0.0

    def move(self, model: "Denoiser", x: Array, sigmas: Array, key: Array) -> Moved:
        """See `Sampler.move`."""
        raised = min(self.churn / sigmas.size, 2**0.5 - 1)

        def step(x: Array, at: tuple[Array, Array, Array]) -> tuple[Array, None]:
            sigma, after, key = at
            if self.churn:
                up = sigma * (1 + raised)
                x = x + jnp.sqrt(up**2 - sigma**2) * jax.random.normal(key, x.shape, x.dtype)
                sigma = up
            slope = (x - model.denoise(x, sigma)) / sigma
            guess = x + (after - sigma) * slope
            second = (guess - model.denoise(guess, after)) / after
            return x + 0.5 * (after - sigma) * (slope + second), None

        x, _ = jax.lax.scan(step, x, (sigmas[:-1], sigmas[1:], jax.random.split(key, sigmas.size - 1)))
        return model.denoise(x, sigmas[-1]), jnp.asarray(2 * sigmas.size - 1)


@dataclasses.dataclass(frozen=True)
class DDIM(Sampler):
    """Steps to the next level along the denoised direction, with one evaluation per level.

    Attributes:
        eta: Share of the ancestral noise: 0 is deterministic, 1 is DDPM's ancestral sampling.

    References:
        Song, Meng and Ermon (2021), Denoising diffusion implicit models.
    """

    steps: int = 100
    eta: float = 0.0

    def move(self, model: "Denoiser", x: Array, sigmas: Array, key: Array) -> Moved:
        """See `Sampler.move`."""

        def step(x: Array, at: tuple[Array, Array, Array]) -> tuple[Array, None]:
            sigma, after, key = at
            fresh = self.eta * after * jnp.sqrt(1 - (after / sigma) ** 2)
            kept = jnp.sqrt(after**2 - fresh**2)
            clean = model.denoise(x, sigma)
            x = clean + kept / sigma * (x - clean)
            return (x + fresh * jax.random.normal(key, x.shape, x.dtype) if self.eta else x), None

        x, _ = jax.lax.scan(step, x, (sigmas[:-1], sigmas[1:], jax.random.split(key, sigmas.size - 1)))
        return model.denoise(x, sigmas[-1]), jnp.asarray(sigmas.size)


@dataclasses.dataclass(frozen=True)
class Ancestral(DDIM):
    """DDPM's ancestral sampling: `DDIM` with `eta` = 1 and more steps."""

    steps: int = 250
    eta: float = 1.0


@dataclasses.dataclass(frozen=True)
class DPMSolver(Sampler):
    """DPM-Solver++(2M): second order in `log sigma` by the previous denoised state, with one evaluation per level.

    `x' = (s'/s) x - (e^-h - 1) ((1 + 1/2r) D - 1/2r D_before)` with `h = log s/s'`, `r = h_before / h`.

    References:
        Lu et al. (2022), DPM-Solver++.
    """

    steps: int = 32

    def move(self, model: "Denoiser", x: Array, sigmas: Array, key: Array) -> Moved:
        """See `Sampler.move`."""
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


@dataclasses.dataclass(frozen=True)
class AnnealedLangevin(Sampler):
    """Langevin steps `x + a/2 grad log p_sigma + sqrt(a) n` at each level, `a = step_size sigma^2`.

    Around a single datum, the variance at a level comes out `1 / (1 - step_size / 4)` times too large, since no step is
    rejected; the last denoising removes most of the excess. The weights of separate modes come out right if the levels
    are close (a ratio of 1.1, say) and `sigma_max` is not far above the spread of the data.

    Attributes:
        moves: Langevin steps per level.
        step_size: Size of the steps in units of `sigma^2`.

    References:
        Song and Ermon (2019), Generative modeling by estimating gradients of the data distribution.
    """

    steps: int = 60
    sigma_min: float = 0.03
    sigma_max: float = 8.0
    schedule: str = "geometric"
    moves: int = 20
    step_size: float = 0.4

    def move(self, model: "Denoiser", x: Array, sigmas: Array, key: Array) -> Moved:
        """See `Sampler.move`."""
        score = lambda x, model, sigma: model.score(x[None], sigma)[0]
        method = Annealed(sigmas, self.step_size * sigmas**2)
        found = chain.sample(chain.Score(score), x, model, key=key, steps=self.moves, method=method, thin=self.moves)
        return model.denoise(found.final, sigmas[-1]), jnp.asarray((self.moves + 1) * sigmas.size + 1)


@dataclasses.dataclass(frozen=True)
class PredictorCorrector(Sampler):
    """An ancestral step to the next level, then Langevin steps of size `2 (snr |n| / |score|)^2` there.

    Attributes:
        snr: Ratio of the step by the score to that by the noise.
        moves: Langevin steps per level.

    References:
        Song et al. (2021), Score-based generative modeling through stochastic differential equations.
    """

    steps: int = 100
    snr: float = 0.16
    moves: int = 1

    def move(self, model: "Denoiser", x: Array, sigmas: Array, key: Array) -> Moved:
        """See `Sampler.move`."""

        def step(x: Array, at: tuple[Array, Array, Array]) -> tuple[Array, None]:
            sigma, after, key = at
            predict, correct = jax.random.split(key)
            clean = model.denoise(x, sigma)
            kept = (after / sigma) ** 2
            fresh = after * jnp.sqrt(1 - kept)
            x = clean + kept * (x - clean) + fresh * jax.random.normal(predict, x.shape, x.dtype)

            def correction(x: Array, key: Array) -> tuple[Array, None]:
                n = jax.random.normal(key, x.shape, x.dtype)
                score = (model.denoise(x, after) - x) / after**2
                size = 2 * self.snr**2 * jnp.mean(n**2) / jnp.mean(score**2)  # over the batch, as in the paper
                return x + size * score + jnp.sqrt(2 * size) * n, None

            return jax.lax.scan(correction, x, jax.random.split(correct, self.moves))

        x, _ = jax.lax.scan(step, x, (sigmas[:-1], sigmas[1:], jax.random.split(key, sigmas.size - 1)))
        return model.denoise(x, sigmas[-1]), jnp.asarray((1 + self.moves) * (sigmas.size - 1) + 1)


@dataclasses.dataclass(frozen=True)
class ReverseSDE(Sampler):
    """Euler-Maruyama steps of the reverse equation `dx = -g^2 score dt + g dW`, evenly spaced in `log sigma`."""

    steps: int = 300

    def move(self, model: "Denoiser", x: Array, sigmas: Array, key: Array) -> Moved:
        """See `Sampler.move`."""
        count = sigmas.size - 1
        ratio, high = jnp.log(sigmas[0] / sigmas[-1]), sigmas[0]
        level = lambda u: high * jnp.exp(-ratio * u)

        def drift(u: Array, x: Array, model: "Denoiser") -> Array:
            return 2 * ratio * (model.denoise(x, level(u)) - x)

        wander = lambda u, x, model: jnp.broadcast_to(jnp.sqrt(2 * ratio) * level(u), x.shape)
        ends = jnp.linspace(0.0, 1.0, 2, dtype=x.dtype)
        euler = RungeKutta("euler", dt=1 / count)
        found = solve(SDE(drift, wander, key), x, ends, model, method=euler, max_steps=2 * count)
        return model.denoise(found.final, sigmas[-1]), jnp.asarray(count + 1)


@dataclasses.dataclass(frozen=True)
class FlowODE(Sampler):
    """The probability-flow ODE, with adaptive steps for the whole batch.

    Attributes:
        rtol: Relative tolerance of a step.
        atol: Absolute tolerance of a step.
        method: Method of `jaxkit.solve`.
    """

    rtol: float = 1e-3
    atol: float = 1e-3
    method: str | Method = "tsit5"

    def move(self, model: "Denoiser", x: Array, sigmas: Array, key: Array) -> Moved:
        """See `Sampler.move`."""
        del key
        ratio, high = jnp.log(sigmas[0] / sigmas[-1]), sigmas[0]

        def field(u: Array, x: Array, model: "Denoiser") -> Array:
            return ratio * (model.denoise(x, high * jnp.exp(-ratio * u)) - x)

        ends = jnp.linspace(0.0, 1.0, 2, dtype=x.dtype)
        found = solve(field, x, ends, model, method=self.method, rtol=self.rtol, atol=self.atol)
        x = jnp.where(found.ok, found.final, jnp.nan)  # a failed solve has drawn nothing
        stages = STAGES.get(self.method, 1) if isinstance(self.method, str) else 1
        return model.denoise(x, sigmas[-1]), stages * (found.steps + found.rejected) + 1


STAGES: Mapping[str, int] = MappingProxyType({"heun": 2, "bosh3": 3, "tsit5": 6, "dopri5": 6, "dopri8": 13})
SAMPLERS: Mapping[str, type[Sampler]] = MappingProxyType(
    {
        "heun": Heun,
        "ddim": DDIM,
        "ancestral": Ancestral,
        "dpmpp_2m": DPMSolver,
        "langevin": AnnealedLangevin,
        "predictor_corrector": PredictorCorrector,
        "reverse_sde": ReverseSDE,
        "flow_ode": FlowODE,
    }
)
"""Name -> class of sampler."""


def chosen(sampler: str | Sampler) -> Sampler:
    """The sampler of that name, or the sampler itself."""
    if isinstance(sampler, str):
        checks.one_of("sampler", sampler, SAMPLERS)
        sampler = SAMPLERS[sampler]()
    checks.require(isinstance(sampler, Sampler), "sampler", "be a name or a `Sampler`", f"is {sampler!r}")
    return sampler


def draw(n: int, sampler: Sampler, model: "Denoiser", key: Array, start: Float[Array, "n ..."] | None = None) -> Drawn:
    """What `Denoiser.sample` returns."""
    first, path = jax.random.split(key)
    dtype = jnp.result_type(model.mean) if start is None else start.dtype
    sigmas = SCHEDULES[sampler.schedule](sampler.steps, sampler.sigma_min, sampler.sigma_max).astype(dtype)
    inner, units, _ = model.standard()
    if start is None:
        noise = jax.random.normal(first, (n, *model.shape), dtype)
        x = _broadcast(jnp.sqrt(inner.variance + sampler.sigma_max**2), noise) * noise
    else:
        checks.shape("start", start, (n, *model.shape))
        x = units.inside(start)
    x, evaluations = sampler.move(inner, x, sigmas, path)
    x = units.outside(x)
    finite = jnp.all(jnp.isfinite(x), axis=tuple(range(1, x.ndim)))
    return Drawn(x, jnp.where(finite, int(Status.ok), int(Status.not_finite)), evaluations)


def _broadcast(moment: Array, like: Array) -> Array:
    return jnp.broadcast_to(jnp.asarray(moment, like.dtype), like.shape[1:])[None]

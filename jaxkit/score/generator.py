"""A generator trained by two density estimators, without an adversary."""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PyTree

from jaxkit.core import checks
from jaxkit.core.run import Run
from jaxkit.core.status import Outcome
from jaxkit.core.struct import static, struct
from jaxkit.learn.nets import MLP, plain
from jaxkit.learn.play import play
from jaxkit.learn.units import Units
from jaxkit.score import losses, nets
from jaxkit.score.density import Density


@dataclasses.dataclass(frozen=True)
class GeneratorConfig:
    """A training run of a generator.

    Attributes:
        latent: Number of normal codes per point.
        features: Sizes of the generator's hidden layers.
        steps: Updates of the generator.
        batch_size: Points per step.
        learning_rate: Learning rate of the generator at the start; the density estimator's is three times as large.
        density_steps: Updates of the density estimator per update of the generator.
        ema: Decay of the averaged generator.
    """

    latent: int = 2
    features: tuple[int, ...] = (128, 128, 128)
    steps: int = 4000
    batch_size: int = 512
    learning_rate: float = 1e-3
    density_steps: int = 2
    ema: float = 0.998


@struct
class Generated(Outcome):
    """A generator trained without an adversary.

    Attributes:
        params: Parameters of `apply`, averaged.
        history: Estimate of `KL(q_sigma || p_sigma) + constant` before each step.
        status: `Status` code.
        apply: `apply(params, z)`, points from normal codes.
        latent: Number of codes per point.
    """

    verb: ClassVar[str] = "score.generator"

    params: PyTree
    history: Float[Array, " steps"]
    status: Int[Array, ""]
    apply: Callable[[Any, Array], Array] = static()
    latent: int = static()

    def sample(self, key: Array, n: int) -> Float[Array, "n d"]:
        """Draw `n` points."""
        return self.apply(self.params, jax.random.normal(key, (n, self.latent), self.params["mean"].dtype))


@dataclasses.dataclass(frozen=True)
class Shifted:
    """A network's output in the data's units: `mean + scale sd net(z)`."""

    net: Callable[..., Array]
    sd: float

    def __call__(self, params: PyTree, z: Float[Array, "n latent"]) -> Float[Array, "n d"]:
        """Points from codes."""
        return Units(params["mean"], params["scale"]).outside(self.sd * self.net(params["net"], z))


def generator(config: GeneratorConfig, target: Density, *, key: Array, run: Run | None = None) -> Generated:
    """Train a generator by the Kullback-Leibler divergence of its points from the data, both with noise.

    `KL(q_sigma || p_sigma) = E[log q_sigma(G(z) + e) - log p_sigma(G(z) + e)]` with a second density estimator for
    `q_sigma`, which follows the generator. There is no adversary: both estimators only learn to remove noise.

    Args:
        config: The run.
        target: The data's density.
        key: Random key.
        run: What the host does meanwhile.

    References:
        Bigdeli et al. (2020), section 3.2; Su, kexue.fm/archives/7038.
    """
    d, sigma, base = target.mean.size, target.sigma, target.apply
    checks.require(isinstance(base, nets.LogDensity), "target", "come from `score.density`", f"has {base!r}")
    own = nets.LogDensity(nets.scalar_net(d, leveled=False, dtype=target.mean.dtype), base.sd)
    maker = plain(MLP((*config.features, d)), jax.ShapeDtypeStruct((1, config.latent), target.mean.dtype))
    make = lambda params, z: base.sd * maker.apply(params, z)
    codes = lambda key: jax.random.normal(key, (config.batch_size, config.latent), target.mean.dtype)

    def follow(players: Any, _: Any, key: Array) -> Array:
        draw, noise = jax.random.split(key)
        x = jax.lax.stop_gradient(make(players["generator"], codes(draw)))
        return losses.dde(own, players["density"], x, jnp.full(config.batch_size, sigma, x.dtype), noise)

    def approach(players: Any, _: Any, key: Array) -> Array:
        draw, noise = jax.random.split(key)
        x = make(players["generator"], codes(draw))
        y, _ = losses.noised(x, jnp.full(config.batch_size, sigma, x.dtype), noise)
        return jnp.mean(own(players["density"], y) - base(target.params, y))

    one, two, rest = jax.random.split(key, 3)
    rate = config.learning_rate
    falling = optax.adam(optax.cosine_decay_schedule(rate, config.steps), b1=0.5, b2=0.99)
    done = play(
        {"density": follow, "generator": approach},
        {"density": own.net.init(one), "generator": maker.init(two)},
        optimizers={"density": optax.adam(3 * rate, b2=0.99), "generator": falling},
        turns={"density": config.density_steps},
        steps=config.steps,
        key=rest,
        ema={"generator": min(config.ema, 1 - 5 / (config.steps + 5))},
        run=run,
    )
    apply = Shifted(maker.apply, base.sd)
    params = {"net": done.ema["generator"], "mean": target.mean, "scale": target.scale}
    return Generated(params, done.history["generator"], done.status, apply, config.latent)

"""A training run as one frozen record, the same for points in the plane and for images."""

import dataclasses

from jaxkit.core import checks
from jaxkit.gan import losses, penalties
from jaxkit.learn import batches


@dataclasses.dataclass(frozen=True)
class Config:
    """A training run. The defaults are the modern recipe: RSGAN with R1 + R2, no momentum, no normalisation.

    Attributes:
        loss: Name in `LOSSES`, or a `Loss` of your own.
        all_pairs: Whether every real sample is paired with every fake one (losses of pairs only).
        penalty: Name in `PENALTIES`, or a `Penalty` of your own; None takes the loss's own if it has one (`"gp"` for
            `"wgan-gp"`), else `"r1+r2"`.
        gamma: Weight of the penalty at the start and at the end, annealed along a cosine; None takes the penalty's
            usual weight throughout. A large weight keeps the critic smooth while the modes are found; a small one lets
            it see fine structure.
        learning_rate: Adam's learning rate at the start and at the end, along a cosine.
        betas: Adam's decay rates. The default has no momentum, which overshoots the nearest data (Su,
            kexue.fm/archives/6316).
        critic_steps: Updates of the critic per update of the generator.
        steps: Number of steps.
        batch_size: Samples per batch.
        ema: Decay of the averaged generator, which makes the samples; None averages about the last tenth of the steps.
        latent: Noise dimensions per sample.
        prior: `"uniform"` on [-1, 1] or `"normal"`.
        width: Width of the hidden layers (points).
        depth: Number of hidden layers (points).
        frequencies: Angular frequencies at which the critic sees the coordinates (points): a plain network is slow to
            learn fine detail.
        generator_channels: Channels from the coarsest scale to half the resolution (images).
        critic_channels: Channels from half the resolution down (images).
        blocks: Residual blocks per scale of the generator and of the critic (images).
        resample: `"nearest"` or `"bilinear"`: how the generator doubles the resolution (images).
    """

    loss: str | losses.Loss = "rsgan"
    all_pairs: bool = False
    penalty: str | penalties.Penalty | None = None
    gamma: tuple[float, float] | None = (0.1, 0.0005)
    learning_rate: tuple[float, float] = (2e-3, 1e-4)
    betas: tuple[float, float] = (0.0, 0.99)
    critic_steps: int = 1
    steps: int = 10_000
    batch_size: int = 256
    ema: float | None = None
    latent: int = 2
    prior: str = "uniform"
    width: int = 64
    depth: int = 3
    frequencies: tuple[float, ...] = (4.0, 12.0)
    generator_channels: tuple[int, ...] = (32, 16)
    critic_channels: tuple[int, ...] = (16, 32, 64)
    blocks: tuple[int, int] = (1, 0)
    resample: str = "bilinear"

    def __post_init__(self) -> None:
        checks.one_of("prior", self.prior, batches.PRIORS)
        for name in ("critic_steps", "steps", "batch_size", "latent", "width", "depth"):
            checks.require(getattr(self, name) > 0, name, "be positive", f"is {getattr(self, name)}")
        _ = self.the_loss, self.the_penalty  # they raise if something does not fit

    @property
    def the_loss(self) -> losses.Loss:
        """The pair of losses."""
        loss = losses.find(self.loss)
        return losses.all_pairs(loss) if self.all_pairs else loss

    @property
    def the_penalty(self) -> penalties.Penalty:
        """The gradient penalty."""
        return penalties.find(self.penalty or losses.find(self.loss).penalty or "r1+r2")

    @property
    def decay(self) -> float:
        """Decay of the averaged generator."""
        return max(0.0, 1 - 10 / self.steps) if self.ema is None else self.ema

    @property
    def weights(self) -> tuple[float, float]:
        """The penalty's weight at the start and at the end."""
        usual = self.the_penalty.weight
        return (usual, usual) if self.gamma is None else self.gamma


IMAGES = Config(
    gamma=(1.0, 0.1),
    learning_rate=(2e-3, 1e-4),
    steps=40_000,
    batch_size=16,
    latent=64,
    prior="normal",
)
"""The recipe for small images: normal noise in 64 dimensions, residual networks, small batches and large steps.

On a CPU, many noisy steps of small networks achieve more than a few exact ones of large networks. Other settings:
`dataclasses.replace(gan.IMAGES, steps=4000)`.
"""

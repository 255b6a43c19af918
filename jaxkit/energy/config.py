"""Training runs of an energy: frozen records, one for a game with a generator, one for a replay buffer."""

import dataclasses

from jaxkit.core import checks
from jaxkit.energy.bounds import BOUNDS, Bound
from jaxkit.energy.digging import DIGGINGS, Digging
from jaxkit.learn import batches


@dataclasses.dataclass(frozen=True)
class Negatives:
    """Where a landscape is pushed up: how a generator's points are changed first.

    A generator that has found the pits stays in them, and nothing tells the energy how high it should be between them.
    Some points uniform in a box do, and some Langevin steps, which leave a pit as far as the energy lets them.

    Attributes:
        fresh: Share of the points that are replaced by ones uniform in `box`.
        moved: Share of the points that then make Langevin steps.
        moves: Number of these steps, under the energy as it is.
        step_size: Size of these steps.
        box: Bounds of each coordinate, in standard deviations from the mean (`train` centres and scales each coordinate
            by itself); what leaves the box is put on its edge.
    """

    fresh: float = 0.2
    moved: float = 0.6
    moves: int = 10
    step_size: float = 0.01
    box: tuple[float, float] = (-3.0, 3.0)


@dataclasses.dataclass(frozen=True)
class Config:
    """A training run of an energy against a generator. The defaults are those of a maximum entropy generator.

    Attributes:
        digging: How the landscape is dug: a name in `DIGGINGS`, or a `Digging` of your own.
        bound: Bound on the mutual information of `G(z)` and `z`, which is the generator's entropy: a name in `BOUNDS`
            (`train` does not take `"barber-agakov"`), or a `Bound` of your own; None leaves the entropy out.
        entropy: Weight of the bound.
        penalty: Weight of the squared gradient at real points, over all axes of a sample, and at the negatives if
            there are any.
        negatives: How the generator's points are changed before the landscape is pushed up there; not at all if None.
        steps: Number of steps of each of the energy and the generator.
        batch_size: Real points per step.
        learning_rate: Adam's learning rate at the start and at the end, along a cosine.
        betas: Adam's decay rates.
        ema: Decay of the averaged weights.
        latent: Noise dimensions per sample.
        prior: `"normal"`, N(0, 1), or `"uniform"` on [-1, 1].
        width: Width of the hidden layers.
        depth: Hidden layers of the energy and of the generator; the critic of the bound has two.
        frequencies: Angular frequencies at which the energy and the critic see the coordinates.
    """

    digging: str | Digging = "linear"
    bound: str | Bound | None = "jsd"
    entropy: float = 1.0
    penalty: float = 0.03
    negatives: Negatives | None = Negatives()
    steps: int = 8000
    batch_size: int = 256
    learning_rate: tuple[float, float] = (2e-3, 1e-4)
    betas: tuple[float, float] = (0.0, 0.99)
    ema: float = 0.998
    latent: int = 2
    prior: str = "uniform"
    width: int = 64
    depth: int = 3
    frequencies: tuple[float, ...] = (4.0, 12.0)

    def __post_init__(self) -> None:
        """Check the values."""
        if isinstance(self.digging, str):
            checks.one_of("digging", self.digging, DIGGINGS)
        if isinstance(self.bound, str):
            checks.one_of("bound", self.bound, BOUNDS)
        checks.one_of("prior", self.prior, batches.PRIORS)
        checks.positive("penalty", self.penalty, strict=False)
        for name in ("steps", "batch_size", "latent", "width", "depth"):
            checks.require(getattr(self, name) > 0, name, "be positive", f"is {getattr(self, name)}")

    @property
    def the_digging(self) -> Digging:
        """How the landscape is dug."""
        return DIGGINGS[self.digging] if isinstance(self.digging, str) else self.digging

    @property
    def the_bound(self) -> Bound | None:
        """The bound, or None."""
        return BOUNDS[self.bound] if isinstance(self.bound, str) else self.bound


LANDSCAPE = Config(
    bound=None,
    penalty=0.1,
    negatives=None,
    learning_rate=(1e-3, 1e-3),
    betas=(0.0, 0.9),
    prior="normal",
    depth=2,
    frequencies=(),
)
"""The plain game of the first article: digging and jumping, without entropy, with small networks."""


@dataclasses.dataclass(frozen=True)
class ReplayConfig:
    """A training run of an energy by Langevin chains with a replay buffer, without a generator.

    Attributes:
        steps: Number of steps.
        batch_size: Real points, and chains that move, per step.
        buffer_size: States in the buffer.
        moves: Langevin steps per training step.
        step_size: Size of these steps.
        fresh: Share of the chains that start anew, uniformly in `box`; the others continue from the buffer.
        box: Bounds of each coordinate, in standard deviations from the mean; what leaves the box is put on its edge.
        regulariser: Weight of `U_real^2 + U_fake^2`. (The article prints a minus sign, with which the loss is unbounded
            below in the energy of the fakes.)
        noise: Standard deviation of the Langevin noise in units of `sqrt(step_size)`; 1 is the true motion. Published
            image models use far less, a tempered motion.
        learning_rate: Adam's learning rate at the start and at the end, along a cosine.
        ema: Decay of the averaged weights.
        width: Width of the two hidden layers.
    """

    steps: int = 1500
    batch_size: int = 128
    buffer_size: int = 2048
    moves: int = 20
    step_size: float = 0.01
    fresh: float = 0.05
    box: tuple[float, float] = (-3.0, 3.0)
    regulariser: float = 0.01
    noise: float = 1.0
    learning_rate: tuple[float, float] = (2e-3, 1e-4)
    ema: float = 0.99
    width: int = 64

    def __post_init__(self) -> None:
        """Check the values."""
        checks.require(0 <= self.fresh <= 1, "fresh", "be a share", f"is {self.fresh}")
        checks.positive("regulariser", self.regulariser, strict=False)
        checks.positive("noise", self.noise)
        for name in ("steps", "batch_size", "buffer_size", "moves", "width"):
            checks.require(getattr(self, name) > 0, name, "be positive", f"is {getattr(self, name)}")

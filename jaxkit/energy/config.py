"""What a training of an energy is: frozen records, one for a game with a generator, one for a replay buffer."""

import dataclasses

from jaxkit.core import checks
from jaxkit.energy.bounds import BOUNDS, Bound
from jaxkit.energy.digging import DIGGINGS, Digging
from jaxkit.learn import batches


@dataclasses.dataclass(frozen=True)
class Negatives:
    """Where a landscape is pushed up: what is made of a generator's points before.

    A generator that has found the pits sits in them, and between them nothing tells the energy how high it should be.
    Some points uniform in a box and some Langevin moves, which leave a pit as far as the energy lets them, do.

    Attributes:
        fresh: Share of the points that are replaced by ones uniform in `box`.
        moved: Share of the points that then move.
        moves: Langevin steps they make, under the energy as it is.
        step_size: Size of these steps.
        box: Ends of each coordinate in deviations from the mean (`train` centres and scales each coordinate by itself);
            what leaves the box is put on its edge.
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
        bound: Bound of the mutual information of `G(z)` and `z`, the generator's entropy: a name in `BOUNDS` (to
            `train`, not `"barber-agakov"`), or a `Bound` of your own; None leaves the entropy out.
        entropy: Weight of the bound.
        penalty: Weight of the squared gradient at real points, over all axes of a sample, and at the negatives where
            there are some.
        negatives: What is made of the generator's points before the landscape is pushed up there; None: nothing.
        steps: Steps, of the energy and of the generator each.
        batch_size: Real points a step.
        learning_rate: Of Adam, at the start and at the end, along a cosine.
        betas: Of Adam.
        ema: Decay of the averaged weights.
        latent: Numbers of noise a sample.
        prior: `"normal"`, N(0, 1), or `"uniform"` on [-1, 1].
        width: Size of the hidden layers.
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
"""The plain game of the first article: digging and jumping, without entropy, small networks."""


@dataclasses.dataclass(frozen=True)
class ReplayConfig:
    """A training run of an energy by Langevin chains with a replay buffer, without a generator.

    Attributes:
        steps: Steps.
        batch_size: Real points, and chains moved, a step.
        buffer_size: States in the buffer.
        moves: Langevin steps a training step.
        step_size: Size of these.
        fresh: Share of the chains that start anew, uniformly in `box`; the others go on from the buffer.
        box: Ends of each coordinate in deviations from the mean; what leaves the box is put on its edge.
        regulariser: Weight of `U_real^2 + U_fake^2`. (The article prints a minus: then the loss is unbounded below in
            the fakes' energy.)
        noise: Standard deviation of the Langevin noise in units of `sqrt(step_size)`; 1 is the true motion. Published
            image models take far less, a tempered motion.
        learning_rate: Of Adam, at the start and at the end, along a cosine.
        ema: Decay of the averaged weights.
        width: Size of the two hidden layers.
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

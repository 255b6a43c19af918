"""Quality, variety and copying, from nearest neighbours."""

import numpy as np
from jaxtyping import ArrayLike, Float

from jaxkit.core import checks
from jaxkit.core.struct import struct
from jaxkit.learn.metrics.samples import pair, square_distances


@struct
class PrecisionRecall:
    """Quality and variety.

    Attributes:
        precision: Share of the generated samples that lie near real ones.
        recall: Share of the real samples that lie near generated ones.
    """

    precision: float
    recall: float


@struct
class DensityCoverage:
    """Quality and variety, robust against outliers.

    Attributes:
        density: Mean number of real neighbourhoods that hold a generated sample, divided by `k`; 1 for equal laws.
        coverage: Share of the real neighbourhoods that hold a generated sample.
    """

    density: float
    coverage: float


@struct
class Copying:
    """How near generated samples are to training samples, compared with test samples.

    Attributes:
        ratio: Median nearest distance of the generated samples over that of the test samples; far below 1 is copying.
        closest: Share of the generated samples that are nearer to a training sample than 99 % of the test samples are.
    """

    ratio: float
    closest: float


def precision_recall(real: Float[ArrayLike, "n d"], fake: Float[ArrayLike, "m d"], *, k: int = 3) -> PrecisionRecall:
    """Improved precision and recall: a set is the union of the balls that reach to its points' k-th neighbours.

    Args:
        real: Features of real pictures. Both results depend on the number of samples: compare at equal numbers.
        fake: Features of generated ones.
        k: Which neighbour.

    Example:
        >>> import numpy as np
        >>> from jaxkit.learn import metrics
        >>> x = np.random.default_rng(0).normal(size=(600, 2))
        >>> found = metrics.precision_recall(x[:300], 0.1 * x[300:])
        >>> found.precision > 0.95, found.recall < 0.3
        (True, True)

    References:
        Kynkäänniemi et al. (2019), Improved precision and recall metric for assessing generative models.
    """
    x, y = pair("real", real, "fake", fake, more_than=k)
    near_real, near_fake = np.zeros(len(y), bool), np.zeros(len(x), bool)
    reach, other = _reach(x, k), _reach(y, k)
    for rows, d in square_distances(x, y):
        near_real |= np.any(d <= reach[rows, None], 0)
        near_fake[rows] = np.any(d <= other, 1)
    return PrecisionRecall(float(near_real.mean()), float(near_fake.mean()))


def density_coverage(real: Float[ArrayLike, "n d"], fake: Float[ArrayLike, "m d"], *, k: int = 5) -> DensityCoverage:
    """Density and coverage: balls around real samples only.

    Args:
        real: Features of real pictures.
        fake: Features of generated ones.
        k: Which neighbour.

    References:
        Naeem et al. (2020), Reliable fidelity and diversity metrics for generative models.
    """
    x, y = pair("real", real, "fake", fake, more_than=k)
    reach, inside, covered = _reach(x, k), 0, 0
    for rows, d in square_distances(x, y):
        within = d <= reach[rows, None]
        inside += int(within.sum())
        covered += int(np.any(within, 1).sum())
    return DensityCoverage(inside / (k * len(y)), covered / len(x))


def copying(train: Float[ArrayLike, "n d"], test: Float[ArrayLike, "m d"], fake: Float[ArrayLike, "l d"]) -> Copying:
    """Whether generated samples are copies of training samples.

    Args:
        train: Training samples or their features.
        test: Samples of the same law that were not trained on.
        fake: Generated samples.
    """
    x, held = pair("train", train, "test", test)
    _, made = pair("train", x, "fake", fake)
    nearest = lambda v: np.sqrt(np.concatenate([d.min(1) for _, d in square_distances(v, x)]))
    apart, generated = nearest(held), nearest(made)
    checks.require(np.median(apart) > 0, "test", "differ from `train`", "is a part of it")
    return Copying(float(np.median(generated) / np.median(apart)), float(np.mean(generated < np.quantile(apart, 0.01))))


def _reach(x: np.ndarray, k: int) -> np.ndarray:
    """Squared distance of each point to its k-th neighbour, itself not counted."""
    return np.concatenate([np.partition(d, k, axis=1)[:, k] for _, d in square_distances(x, x)])

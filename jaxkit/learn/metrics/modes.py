"""Modes: how many of a mixture's components a sampler finds, and how evenly."""

import numpy as np
from jaxtyping import ArrayLike, Float, Int

from jaxkit.core import checks
from jaxkit.core.struct import struct
from jaxkit.learn.metrics.samples import points, square_distances


@struct
class Modes:
    """Modes of a sample.

    Attributes:
        found: Number of modes with at least one good sample.
        total: Number of modes of the mixture.
        good: Share of good samples: those within three standard deviations of a center (98.9 % for a perfect sampler
            in two dimensions). It is 1 where there are no centers.
        kl: Kullback-Leibler divergence of the modes' shares from what they should be, in nats.
        floor: Mean of `kl` for a perfect sampler with as many samples, about `(total - 1) / (2 n)`.
    """

    found: int
    total: int
    good: float
    kl: float
    floor: float


def modes(
    x: Float[ArrayLike, "n d"],
    centers: Float[ArrayLike, "k d"],
    sd: float,
    weights: Float[ArrayLike, " k"] | None = None,
    *,
    within: float = 3.0,
) -> Modes:
    """Find the modes of a mixture of Gaussians in a sample; every point belongs to its nearest center.

    Args:
        x: The sample.
        centers: Means of the components.
        sd: Their standard deviation.
        weights: Their weights; equal if None.
        within: A sample is good within this many standard deviations of its center.

    Example:
        >>> import jax
        >>> from jaxkit import models
        >>> from jaxkit.learn import metrics
        >>> law = models.plane_law("ring8")
        >>> found = metrics.modes(law.sample(jax.random.key(0), 2500), law.centers, law.width)
        >>> found.found, found.good > 0.98, found.kl < 0.01
        (8, True, True)

    References:
        Lin et al. (2018), PacGAN: the power of two samples in generative adversarial networks.
    """
    sample, means = points("x", x), points("centers", centers)
    checks.require(
        sample.shape[1] == means.shape[1], "centers", f"have {sample.shape[1]} columns, like `x`", "does not"
    )
    checks.positive("sd", sd)
    nearest, near = np.empty(len(sample), int), np.empty(len(sample), bool)
    for rows, d in square_distances(sample, means):
        nearest[rows] = d.argmin(1)
        near[rows] = d.min(1) <= (within * sd) ** 2
    return _modes(nearest, nearest[near], len(means), weights, float(near.mean()))


def stacked_modes(labels: Int[ArrayLike, "n 3"], *, classes: int = 10) -> Modes:
    """Modes of stacked digits: the classes of a picture's three channels make one mode of a thousand.

    Args:
        labels: Classes of the three channels.
        classes: Number of classes of one channel.

    References:
        Metz et al. (2017), Unrolled generative adversarial networks.
    """
    digits = np.asarray(labels)
    checks.require(digits.ndim == 2, "labels", "have shape (n, channels)", f"has shape {digits.shape}")
    checks.require(
        digits.min() >= 0 and digits.max() < classes, "labels", f"lie in 0..{classes - 1}", "holds other numbers"
    )
    numbers = digits @ classes ** np.arange(digits.shape[1])[::-1]
    return _modes(numbers, numbers, classes ** digits.shape[1], None, 1.0)


def _modes(every: np.ndarray, good: np.ndarray, total: int, weights: ArrayLike | None, share: float) -> Modes:
    wanted = np.full(total, 1 / total) if weights is None else np.asarray(weights, float) / np.sum(weights)
    checks.require(len(wanted) == total, "weights", f"have {total} entries", f"has {len(wanted)}")
    shares = np.bincount(every, minlength=total) / len(every)
    there = shares > 0
    kl = float(np.sum(shares[there] * np.log(shares[there] / wanted[there])))
    return Modes(len(np.unique(good)), total, share, kl, (total - 1) / (2 * len(every)))

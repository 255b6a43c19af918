"""The Fréchet distance of features, and what one needs to read it: its floor, and its limit for many samples."""

import numpy as np
from jaxtyping import ArrayLike, Float

from jaxkit.core import checks
from jaxkit.core.struct import struct
from jaxkit.learn.metrics.samples import pair


@struct
class Limit:
    """A distance extrapolated to infinitely many samples.

    Attributes:
        value: The limit: where the line meets 1/n = 0.
        slope: Slope of the distance in 1/n.
        sizes: Numbers of samples, shape `(k,)`.
        distances: Distances at these sizes, shape `(k,)`.
    """

    value: float
    slope: float
    sizes: np.ndarray
    distances: np.ndarray


def frechet(
    mean: Float[ArrayLike, " d"],
    covariance: Float[ArrayLike, "d d"],
    other_mean: Float[ArrayLike, " d"],
    other_covariance: Float[ArrayLike, "d d"],
) -> float:
    """Squared Wasserstein-2 distance of two Gaussians.

    `|m - m'|^2 + tr(S + S' - 2 (S^{1/2} S' S^{1/2})^{1/2})`, computed as the square `|S^{1/2} - S'^{1/2} U|^2` with the
    rotation `U` that minimises it: never negative, and zero up to rounding for equal moments of any rank.

    Args:
        mean: Mean of the first.
        covariance: Its covariance, of any rank.
        other_mean: Mean of the second.
        other_covariance: Its covariance.

    Raises:
        ValueError: A covariance is not positive semidefinite, or a number is not finite.

    Example:
        >>> import numpy as np
        >>> from jaxkit.learn import metrics
        >>> round(metrics.frechet(np.zeros(2), np.eye(2), np.array([3.0, 0.0]), 4 * np.eye(2)), 12)
        11.0

    References:
        Dowson, Landau (1982), The Fréchet distance between multivariate normal distributions.
    """
    m, s, n, t = (np.asarray(v, np.float64) for v in (mean, covariance, other_mean, other_covariance))
    for name, value in (("mean", m), ("covariance", s), ("other_mean", n), ("other_covariance", t)):
        checks.finite(name, value)
    one, other = _root("covariance", s), _root("other_covariance", t)
    left, _, right = np.linalg.svd(other.T @ one)
    return float(np.sum((m - n) ** 2) + np.sum((one - other @ left @ right) ** 2))


def _root(name: str, covariance: np.ndarray) -> np.ndarray:
    """The symmetric root of a covariance."""
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    least, most = values[0], np.abs(values).max()
    checks.require(least >= -1e-4 * most, name, "be positive semidefinite", f"has the eigenvalue {least:.3g}")
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T


def fid(real: Float[ArrayLike, "n d"], fake: Float[ArrayLike, "m d"]) -> float:
    """Fréchet distance of two sets of features.

    It is biased upwards by about a constant over the number of samples: compare only at equal numbers, and with the
    floor at that number (`fid_floor`).

    Args:
        real: Features of real pictures, at least two rows. With fewer rows than columns, their covariance does not have
            full rank, and the bias is large.
        fake: Features of generated ones, at least two rows.

    Raises:
        ValueError: Too few rows for a covariance, or values that are not finite.

    References:
        Heusel et al. (2017), GANs trained by a two time-scale update rule converge to a local Nash equilibrium.
    """
    x, y = pair("real", real, "fake", fake)
    _enough(x, y)
    return frechet(x.mean(0), np.cov(x.T).reshape(x.shape[1], -1), y.mean(0), np.cov(y.T).reshape(y.shape[1], -1))


def fid_infinity(
    real: Float[ArrayLike, "n d"], fake: Float[ArrayLike, "m d"], *, count: int = 10, repeats: int = 3, seed: int = 0
) -> Limit:
    """The distance for infinitely many generated samples: a line through distances at several sizes, against 1/size.

    Args:
        real: Features of real pictures.
        fake: Features of generated ones, at least `4 d` of them.
        count: Number of sizes, from a quarter of the samples (but more than `2 d`) to all of them.
        repeats: Random subsets per size.
        seed: Seed of the subsets.

    References:
        Chong, Forsyth (2020), Effectively unbiased FID and Inception score and where to find them.
    """
    x, y = pair("real", real, "fake", fake)
    _enough(x, y)
    enough = len(y) >= 4 * y.shape[1]
    checks.require(enough, "fake", f"have at least {4 * y.shape[1]} rows, four a column", f"has {len(y)}")
    rng = np.random.default_rng(seed)
    mean, covariance = x.mean(0), np.cov(x.T).reshape(x.shape[1], -1)
    sizes = np.linspace(max(len(y) // 4, 2 * y.shape[1]), len(y), count).astype(int)

    def distance(size: int) -> float:
        part = y[rng.permutation(len(y))[:size]]
        return frechet(mean, covariance, part.mean(0), np.cov(part.T).reshape(y.shape[1], -1))

    distances = np.array([np.mean([distance(int(s)) for _ in range(repeats if s < len(y) else 1)]) for s in sizes])
    slope, value = np.polyfit(1 / sizes, distances, 1)
    return Limit(float(value), float(slope), sizes, distances)


def fid_floor(
    train: Float[ArrayLike, "n d"], test: Float[ArrayLike, "m d"], size: int, *, repeats: int = 3, seed: int = 0
) -> float:
    """What a perfect generator would reach: the mean distance of `size` test samples from the training samples.

    Args:
        train: Features of the training split, to which generated samples are compared.
        test: Features of the test split.
        size: The number of generated samples to compare with; at most `m`.
        repeats: Random subsets over which the mean is taken.
        seed: Their seed.
    """
    x, y = pair("train", train, "test", test)
    checks.require(1 < size <= len(y), "size", f"lie in 2..{len(y)}", f"is {size}")
    rng = np.random.default_rng(seed)
    rounds = repeats if size < len(y) else 1
    return float(np.mean([fid(x, y[rng.permutation(len(y))[:size]]) for _ in range(rounds)]))


def _enough(*sets: np.ndarray) -> None:
    for name, rows in zip(("real", "fake"), sets, strict=True):
        checks.require(len(rows) > 1, name, "have at least two rows", f"has {len(rows)}")

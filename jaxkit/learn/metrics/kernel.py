"""Kernel distances: unbiased at any number of samples."""

import numpy as np
from jaxtyping import ArrayLike, Float

from jaxkit.core import checks
from jaxkit.core.struct import struct
from jaxkit.learn.metrics.samples import pair, square_distances


@struct
class Kid:
    """A kernel distance.

    Attributes:
        value: Unbiased estimate (it may be negative where the laws are equal).
        error: Its standard error, from the blocks; NaN where there is one block.
    """

    value: float
    error: float


@struct
class Mmd:
    """A maximum mean discrepancy.

    Attributes:
        value: Unbiased estimate of its square.
        p: Share of permutations of the joint sample that give at least as much: the p-value for equal laws.
    """

    value: float
    p: float


def kid(real: Float[ArrayLike, "n d"], fake: Float[ArrayLike, "m d"], *, block: int = 1000, seed: int = 0) -> Kid:
    """Kernel distance of features with the kernel `(x.y / d + 1)^3`, averaged over disjoint blocks.

    Args:
        real: Features of real pictures.
        fake: Features of generated ones.
        block: Rows per block; fewer if there are fewer samples.
        seed: Seed of the order in which blocks are cut.

    Example:
        >>> import numpy as np
        >>> from jaxkit.learn import metrics
        >>> x = np.random.default_rng(0).normal(size=(2000, 4))
        >>> found = metrics.kid(x[:1000], x[1000:])
        >>> abs(found.value) < 0.1
        True

    References:
        Bińkowski et al. (2018), Demystifying MMD GANs.
    """
    x, y = pair("real", real, "fake", fake, more_than=1)
    rng = np.random.default_rng(seed)
    size = min(block, len(x), len(y))
    count = min(len(x), len(y)) // size
    rows, others = (rng.permutation(len(v))[: size * count].reshape(count, size) for v in (x, y))
    kernel = lambda a, b: (a @ b.T / x.shape[1] + 1) ** 3
    each = []
    for i, j in zip(rows, others, strict=True):
        a, b = x[i], y[j]
        each.append(_inside(kernel(a, a)) + _inside(kernel(b, b)) - 2 * kernel(a, b).mean())
    error = np.std(each, ddof=1) / np.sqrt(count) if count > 1 else np.nan
    return Kid(float(np.mean(each)), float(error))


def mmd(
    x: Float[ArrayLike, "n d"],
    y: Float[ArrayLike, "m d"],
    *,
    widths: tuple[float, ...] = (0.5, 1.0, 2.0),
    permutations: int = 500,
    seed: int = 0,
) -> Mmd:
    """Unbiased squared maximum mean discrepancy with Gaussian kernels, and the p-value of its permutation test.

    Args:
        x: Samples of one law; `n + m` up to a few thousand (the whole kernel matrix is formed).
        y: Samples of the other.
        widths: Widths of the kernels, which are averaged, in medians of the distances in the joint sample.
        permutations: Number of permutations of the test; 0 for no test (`p` is NaN).
        seed: Their seed.

    References:
        Gretton et al. (2012), A kernel two-sample test.
    """
    a, b = pair("x", x, "y", y, more_than=1)
    checks.positive("widths", widths)
    joint = np.concatenate([a, b])
    squares = np.concatenate([part for _, part in square_distances(joint, joint)])
    median = np.sqrt(np.median(squares[np.triu_indices(len(joint), 1)]))
    checks.require(median > 0, "x", "hold different points", "holds one point many times")
    kernel = np.mean([np.exp(-squares / (2 * (w * median) ** 2)) for w in widths], axis=0)
    np.fill_diagonal(kernel, 0)
    n, m = len(a), len(b)
    member = np.zeros((permutations + 1, n + m))
    rng = np.random.default_rng(seed)
    member[0, :n] = 1
    for row in member[1:]:
        row[rng.permutation(n + m)[:n]] = 1
    towards = member @ kernel  # sums over the first sample, for every permutation at once
    within = np.sum(towards * member, 1)
    across = np.sum(towards, 1) - within
    beyond = kernel.sum() - within - 2 * across
    values = within / (n * (n - 1)) + beyond / (m * (m - 1)) - 2 * across / (n * m)
    p = (1 + np.sum(values[1:] >= values[0])) / (1 + permutations) if permutations else np.nan
    return Mmd(float(values[0]), float(p))


def _inside(kernel: np.ndarray) -> float:
    """Mean over pairs of different points."""
    n = len(kernel)
    return float((kernel.sum() - np.trace(kernel)) / (n * (n - 1)))

"""Sliced Wasserstein distance."""

import numpy as np
from jaxtyping import ArrayLike, Float

from jaxkit.core import checks
from jaxkit.learn.metrics.samples import pair


def sliced_wasserstein(
    x: Float[ArrayLike, "n d"], y: Float[ArrayLike, "m d"], *, projections: int = 100, order: float = 2, seed: int = 0
) -> float:
    """Root of the mean, over random directions, of the Wasserstein distance of the projections to the power `order`.

    Args:
        x: Samples of one law.
        y: Samples of the other; `n` and `m` may differ.
        projections: Number of directions.
        order: Power of the distance, at least 1.
        seed: Seed of the directions.

    Example:
        >>> import numpy as np
        >>> from jaxkit.learn import metrics
        >>> x = np.random.default_rng(0).normal(size=(500, 1))
        >>> round(metrics.sliced_wasserstein(x, x + 2.0), 6)
        2.0

    References:
        Bonneel et al. (2015), Sliced and Radon Wasserstein barycenters of measures.
    """
    a, b = pair("x", x, "y", y)
    checks.require(order >= 1, "order", "be at least 1", f"is {order}")
    directions = np.random.default_rng(seed).normal(size=(projections, a.shape[1]))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    first, second = np.sort(a @ directions.T, axis=0), np.sort(b @ directions.T, axis=0)
    n, m = len(a), len(b)
    # Both quantile functions are steps; they are constant between the ends i/n and j/m: counted in units of 1/(n m).
    ends = np.union1d(np.arange(1, n + 1) * m, np.arange(1, m + 1) * n)
    weights = np.diff(ends, prepend=0) / (n * m)
    gaps = np.abs(first[(ends - 1) // m] - second[(ends - 1) // n]) ** order
    return float(np.mean(weights @ gaps) ** (1 / order))

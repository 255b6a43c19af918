"""What the metrics share: checked arrays in double precision, distances in blocks."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import ArrayLike, Float

from jaxkit.core import checks


def points(name: str, value: ArrayLike, *, more_than: int = 0) -> Float[np.ndarray, "n d"]:
    """`value` as finite numbers `(n, d)` in double precision, with more than `more_than` rows."""
    array = np.asarray(value, np.float64)
    checks.require(array.ndim == 2, name, "have shape (n, d)", f"has shape {array.shape}")
    checks.finite(name, array)
    checks.require(len(array) > more_than, name, f"have more than {more_than} rows", f"has {len(array)}")
    return array


def pair(
    first: str, a: ArrayLike, second: str, b: ArrayLike, *, more_than: int = 0
) -> tuple[Float[np.ndarray, "n d"], Float[np.ndarray, "m d"]]:
    """Two sets of points in the same space."""
    x, y = points(first, a, more_than=more_than), points(second, b, more_than=more_than)
    same = x.shape[1] == y.shape[1]
    checks.require(same, second, f"have {x.shape[1]} columns, like `{first}`", f"has {y.shape[1]}")
    return x, y


def square_distances(
    x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "m d"], *, block: int = 1000
) -> Iterator[tuple[slice, Float[np.ndarray, "block m"]]]:
    """Blocks of rows of the matrix of squared distances, the whole of which need not fit into memory.

    In many dimensions they come from one product; what rounding leaves of the distance of a point to itself is set to
    zero by comparing it with the sizes of the numbers that cancel.
    """
    sizes = np.sum(y * y, 1)
    for start in range(0, len(x), block):
        rows = slice(start, start + block)
        part = x[rows]
        if x.shape[1] <= 3:  # exact, where that is cheap
            yield rows, np.sum((part[:, None, :] - y[None]) ** 2, -1)
            continue
        own = np.sum(part * part, 1)[:, None]
        d = own + sizes - 2 * part @ y.T
        yield rows, np.where(d > 1e-13 * (own + sizes), d, 0)

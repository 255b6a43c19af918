"""Data for a fit of competing species: your own observations in the form of Gause's."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike

from jaxkit.core import checks
from jaxkit.models.gause import Counts


def observations(
    ts: ArrayLike,
    xs: ArrayLike,
    *,
    start: float | None = None,
    names: tuple[str, ...] | None = None,
    unit: str = "time",
    quantity: str = "population",
) -> Counts:
    """Your own observations, in the form of Gause's.

    Args:
        ts: Times of the rows, shape `(k,)`.
        xs: Populations, shape `(k, n)`; NaN where nothing was measured.
        start: Time of the first state; `ts[0]` by default.
        names: Names of the species.
        unit: Unit of time.
        quantity: What was counted, with its unit: the label in figures.

    Returns:
        The observations, for `fit`.

    Raises:
        ValueError: Shapes do not match, a time is not finite, or nothing was measured.
    """
    times, values = np.asarray(checks.floating("ts", ts)), np.asarray(checks.floating("xs", xs))
    checks.shape("ts", times, ("k",))
    checks.finite("ts", times)
    checks.require(
        values.ndim == 2 and len(values) == len(times), "xs", f"have shape ({len(times)}, n)", f"has {values.shape}"
    )
    row, species = np.nonzero(np.isfinite(values))
    checks.require(row.size > 0, "xs", "hold at least one number", "is all NaN")
    names = names or tuple(f"species {i + 1}" for i in range(values.shape[1]))
    checks.require(len(names) == values.shape[1], "names", f"have {values.shape[1]} entries", f"has {len(names)}")
    first = float(times.min()) if start is None else start
    time, volume = jnp.asarray(times[row]), jnp.asarray(values[row, species])
    return Counts(time, jnp.asarray(species), volume, first, names, unit, "observations", quantity)

"""Gause's experiments, 1934: the data on which the theory of competition was first tried."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int

from jaxkit.core import checks
from jaxkit.core.struct import static, struct
from jaxkit.models.gause import counts

# Time to which the first state of a fit refers: the mixture was first counted on the second day.
STARTS = {"paramecium": 2.0}


@struct
class Data:
    """Observed populations, one entry an observation.

    Attributes:
        time: Shape `(m,)`.
        species: Which species was counted, shape `(m,)`.
        volume: What was found, shape `(m,)`.
        start: Time to which the first state `x0` of a fit refers.
        names: Names of the species.
        unit: Unit of time.
        name: Name of the experiment.
    """

    time: Float[Array, " m"]
    species: Int[Array, " m"]
    volume: Float[Array, " m"]
    start: float = static(default=0.0)
    names: tuple[str, ...] = static(default=("species 1", "species 2"))
    unit: str = static(default="time")
    name: str = static(default="data")


def gause(experiment: str = "paramecium") -> Data:
    """One of Gause's experiments.

    Args:
        experiment: `"paramecium"` (P. caudatum with P. aurelia, days), `"yeast"` (S. cerevisiae with S. kephir,
            hours), or one species alone: `"paramecium caudatum"`, `"paramecium aurelia"`, `"saccharomyces"`,
            `"schizosaccharomyces"`.

    Returns:
        The observations.

    Example:
        >>> from jaxkit import competition as comp
        >>> data = comp.gause("paramecium")
        >>> data.names, data.volume.size, data.unit
        (('P. caudatum', 'P. aurelia'), 46, 'days')

    References:
        Gause (1934), Science 79, 16; The Struggle for Existence, appendix table 1; digitised in gauseR.
    """
    found = counts(experiment)
    time, species, volume = (jnp.asarray(v) for v in (found.time, found.species, found.volume))
    return Data(time, species, volume, STARTS.get(experiment, 0.0), found.names, found.unit, experiment)


def observations(
    ts: ArrayLike,
    xs: ArrayLike,
    *,
    start: float | None = None,
    names: tuple[str, ...] | None = None,
    unit: str = "time",
) -> Data:
    """Your own observations as `Data`.

    Args:
        ts: Times of the rows, shape `(k,)`.
        xs: Populations, shape `(k, n)`; NaN where nothing was measured.
        start: Time of the first state; `ts[0]` by default.
        names: Names of the species.
        unit: Unit of time.

    Raises:
        ValueError: Shapes do not fit, a time is not finite, or nothing was measured.
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
    return Data(time, jnp.asarray(species), volume, first, names, unit, "observations")

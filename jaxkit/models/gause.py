"""Gause's experiments of 1934, the few numbers that jaxkit ships; gause.txt says where they come from."""

import csv
import functools
from importlib.resources import files

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxkit.core import checks
from jaxkit.core.struct import static, struct

# experiment -> (species in the order of the models, unit of time, the time to which the first state of a fit refers)
EXPERIMENTS = {
    "paramecium": (("P. caudatum", "P. aurelia"), "days", 2.0),
    "paramecium caudatum": (("P. caudatum",), "days", 0.0),
    "paramecium aurelia": (("P. aurelia",), "days", 0.0),
    "yeast": (("S. cerevisiae", "S. kephir"), "hours", 0.0),
    "saccharomyces": (("S. cerevisiae",), "hours", 0.0),
    "schizosaccharomyces": (("S. kephir",), "hours", 0.0),
}
# The published fit of "paramecium" (nls in the vignette of the R package gauseR, A. T. Clark and others): estimate and
# standard error. It is in the form dn_j = n_j (r_j + sum_i n_i A_ij); the signs of A are reversed here.
PUBLISHED = {
    "x0": ((0.574824, 4.533909), (0.683, 3.276)),
    "r": ((1.734873, 0.810376), (0.4005, 0.2182)),
    "A": (((0.007675, 0.010787), (0.001688, 0.005377)), ((0.002237, 0.002324), (0.001048, 0.001317))),
}
PUBLISHED_SSE = 3874.23


@struct
class Counts:
    """Populations that were counted, one entry for each observation.

    Attributes:
        time: Time of each observation, shape `(m,)`, in `unit`.
        species: Which species was counted, an index into `names`, shape `(m,)`.
        volume: The amount that was found, shape `(m,)`.
        start: The time to which the first state of a fit refers.
        names: Names of the species.
        unit: Unit of time.
        name: Name of the experiment.
        quantity: What was counted, with its unit, as figures name it.
    """

    time: Float[Array, " m"]
    species: Int[Array, " m"]
    volume: Float[Array, " m"]
    start: float = static(default=0.0)
    names: tuple[str, ...] = static(default=("species 1", "species 2"))
    unit: str = static(default="time")
    name: str = static(default="data")
    quantity: str = static(default="population")

    def table(self) -> tuple[np.ndarray, np.ndarray]:
        """The distinct times, shape `(k,)`, and a row of populations for each, shape `(k, n)`: NaN where none was."""
        times = np.unique(self.time)
        values = np.full((times.size, len(self.names)), np.nan)
        values[np.searchsorted(times, np.asarray(self.time)), np.asarray(self.species)] = self.volume
        return times, values


def gause(experiment: str = "paramecium") -> Counts:
    """One of Gause's experiments.

    Args:
        experiment: `"paramecium"` (P. caudatum with P. aurelia, days), `"yeast"` (S. cerevisiae with S. kephir,
            hours), or one species alone: `"paramecium caudatum"`, `"paramecium aurelia"`, `"saccharomyces"`,
            `"schizosaccharomyces"`.

    Returns:
        The counts.

    Raises:
        ValueError: There is no such experiment.

    Example:
        >>> from jaxkit import models
        >>> data = models.gause("paramecium")
        >>> data.names, data.volume.size, data.unit
        (('P. caudatum', 'P. aurelia'), 46, 'days')

    References:
        Gause (1934), Science 79, 16; The Struggle for Existence, appendix table 1; digitised in gauseR.
    """
    checks.one_of("experiment", experiment, EXPERIMENTS)
    names, unit, start = EXPERIMENTS[experiment]
    rows = [row for row in _rows() if row["experiment"] == experiment]
    species = jnp.asarray([names.index(row["species"]) for row in rows])
    time, volume = (jnp.asarray([float(row[column]) for row in rows]) for column in ("time", "volume"))
    return Counts(time, species, volume, start, names, unit, experiment, "volume (Gause's units)")


@functools.cache
def _rows() -> tuple[dict[str, str], ...]:
    with (files("jaxkit.models") / "gause.csv").open(encoding="utf-8") as lines:
        return tuple(csv.DictReader(lines))

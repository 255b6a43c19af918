"""Gause's experiments of 1934, the few numbers that jaxkit ships; where they come from is said in gause.txt."""

import csv
import functools
from importlib.resources import files
from typing import NamedTuple

import numpy as np

from jaxkit.core import checks

# experiment -> (species in the order of the models, unit of time)
EXPERIMENTS = {
    "paramecium": (("P. caudatum", "P. aurelia"), "days"),
    "paramecium caudatum": (("P. caudatum",), "days"),
    "paramecium aurelia": (("P. aurelia",), "days"),
    "yeast": (("S. cerevisiae", "S. kephir"), "hours"),
    "saccharomyces": (("S. cerevisiae",), "hours"),
    "schizosaccharomyces": (("S. kephir",), "hours"),
}


class Counts(NamedTuple):
    """What was counted, one entry an observation.

    Attributes:
        time: Shape `(m,)`, in `unit`.
        species: Index into `names`, shape `(m,)`.
        volume: Volume of the population, shape `(m,)`.
        names: The species.
        unit: Unit of time.
    """

    time: np.ndarray
    species: np.ndarray
    volume: np.ndarray
    names: tuple[str, ...]
    unit: str


@functools.cache
def counts(experiment: str) -> Counts:
    """The observations of one experiment.

    Args:
        experiment: A key of `EXPERIMENTS`.

    Raises:
        ValueError: There is no such experiment.

    Example:
        >>> from jaxkit.models.gause import counts
        >>> counts("paramecium").volume.size
        46

    References:
        Gause (1934), Science 79, 16; The Struggle for Existence, appendix table 1; digitised in gauseR.
    """
    checks.one_of("experiment", experiment, EXPERIMENTS)
    names, unit = EXPERIMENTS[experiment]
    with (files("jaxkit.models") / "gause.csv").open(encoding="utf-8") as lines:
        rows = [row for row in csv.DictReader(lines) if row["experiment"] == experiment]
    species = np.array([names.index(row["species"]) for row in rows])
    time, volume = (np.array([float(row[column]) for row in rows]) for column in ("time", "volume"))
    for array in (time, species, volume):
        array.setflags(write=False)  # cached, so shared
    return Counts(time, species, volume, names, unit)

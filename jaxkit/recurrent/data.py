"""Data for inference: the article's seven points, and Gause's Paramecium."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from jaxkit.models.gause import gause
from jaxkit.models.lotka_volterra import lotka_volterra, two_species_rates
from jaxkit.recurrent.problem import Observations


class Experiment(NamedTuple):
    """Observations with the parameters behind them.

    Attributes:
        times: Shape `(m,)`.
        values: Populations, shape `(m, 2)`.
        guess: First guess of the parameters.
        truth: Parameters that generated the values.
    """

    times: np.ndarray
    values: np.ndarray
    guess: dict[str, np.ndarray]
    truth: dict[str, np.ndarray]


# The article's seven points (kexue.fm 5643); `c` is 1 / N.
ARTICLE = Experiment(
    times=np.array([0.0, 10.0, 15.0, 30.0, 36.0, 40.0, 42.0]),
    values=np.array(
        [[100.0, 150.0], [165.0, 283.0], [197.0, 290.0], [280.0, 276.0], [305.0, 269.0], [318.0, 266.0], [324.0, 264.0]]
    ),
    guess={"r": np.array([0.1, 0.1]), "c": np.array([0.001, 0.001]), "a": np.array([0.001, 0.001])},
    truth={"r": np.array([0.1, 0.3]), "c": np.array([0.002, 0.003]), "a": np.array([1e-4, 2e-4])},
)


def two_species(t: ArrayLike, x: Float[Array, "2"], params: dict[str, Array]) -> Float[Array, "2"]:
    """Two competing species in the article's parameters, `dx_i/dt = r_i x_i (1 - c_i x_i) - a_i x_1 x_2`.

    Args:
        t: Time; not used.
        x: Populations, shape `(2,)`.
        params: `r` (growth, per unit of time), `c` (`1 / N`, the reciprocal capacity) and `a` (competition), each of
            shape `(2,)`.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxkit.recurrent import ARTICLE, two_species
        >>> velocity = two_species(0.0, jnp.array([375.0, 250.0]), ARTICLE.truth)  # the coexistence point
        >>> bool(jnp.max(jnp.abs(velocity)) < 1e-5)
        True
    """
    r, c, a = (jnp.asarray(params[name]) for name in ("r", "c", "a"))
    return lotka_volterra(t, x, two_species_rates(r, r * c, a))


def paramecium() -> Observations:
    """Gause's mixture of Paramecium caudatum and P. aurelia: volumes on days 2 to 24.

    Example:
        >>> from jaxkit.recurrent import paramecium
        >>> paramecium().values.shape
        (23, 2)

    References:
        Gause (1934), Science 79, 16; digitised in gauseR.
    """
    times, values = gause("paramecium").table()
    return Observations(jnp.asarray(times), jnp.asarray(values))

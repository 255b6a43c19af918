"""Populations that grow and take from each other: the field of Lotka and Volterra, and its parameters in two forms."""

from typing import Any, Self, TypeVar

import jax.numpy as jnp
from jaxtyping import Array

from jaxkit.core import checks
from jaxkit.core.struct import struct

Populations = TypeVar("Populations", Array, tuple[Array, ...])


@struct
class Params:
    """Parameters of two species, one entry for each species.

    `dx1/dt = r1 x1 (1 - x1/N1) - a1 x1 x2`, `dx2/dt = r2 x2 (1 - x2/N2) - a2 x1 x2`.

    Attributes:
        r: Growth rates when rare, per unit time.
        N: Capacities: what each species reaches alone, in units of `x`.
        a: Harm done by the other species, per unit time and unit of the other.

    Example:
        >>> from jaxkit import competition as comp
        >>> comp.outcome(comp.Params(r=(0.1, 0.3), N=(500.0, 1000 / 3), a=(1e-4, 2e-4))).name
        'coexistence'
    """

    r: Any
    N: Any
    a: Any

    def arrays(self) -> Self:
        """The same as arrays of shape `(2,)`, checked to be positive where their values are known."""
        values = {}
        for name in ("r", "N", "a"):
            value = checks.floating(name, getattr(self, name))
            checks.shape(name, value, (2,))
            checks.positive(name, value)
            values[name] = value
        return type(self)(**values)

    @property
    def rates(self) -> "Rates":
        """The same model as `dx_i/dt = x_i (r_i - sum_j A_ij x_j)`."""
        p = self.arrays()
        return two_species_rates(p.r, p.r / p.N, p.a)


@struct
class Rates:
    """The Lotka-Volterra form for n species, `dx_i/dt = x_i (r_i - sum_j A_ij x_j)`.

    Attributes:
        r: Growth rates when rare, shape `(n,)`, per unit time.
        A: What each unit of `j` takes from the growth rate of `i`, shape `(n, n)`, per unit time and unit of `x`.
    """

    r: Any
    A: Any

    def arrays(self) -> Self:
        """The same as arrays, whose shapes are checked."""
        r, a = checks.floating("r", self.r), checks.floating("A", self.A)
        checks.shape("r", r, ("n",))
        checks.shape("A", a, (r.size, r.size))
        checks.finite("r", r)
        checks.finite("A", a)
        return type(self)(r, a)

    @property
    def params(self) -> Params:
        """The two-species form."""
        checks.shape("r", self.r, (2,))
        a = self.A
        return Params(self.r, self.r / jnp.stack([a[0, 0], a[1, 1]]), jnp.stack([a[0, 1], a[1, 0]]))


def as_rates(p: Params | Rates) -> Rates:
    """Either form of the parameters, as checked `Rates`."""
    return p.rates if isinstance(p, Params) else p.arrays()


def as_two_species(p: Params | Rates) -> Params:
    """Either form of the parameters, as checked `Params`; for the theory of two species alone."""
    if isinstance(p, Rates):
        count = p.arrays().r.size
        checks.require(count == 2, "p", "be of two species", f"is of {count}; `simulate` and `fit` take any number")
        return p.arrays().params.arrays()
    return p.arrays()


def two_species_rates(r: Array, own: Array, other: Array) -> Rates:
    """The rates of two species, from what a unit of each takes from its own growth rate and from the other's.

    Args:
        r: Growth rates when rare, shape `(2,)`.
        own: What a unit of a species takes from its own growth rate, `r / N`, shape `(2,)`.
        other: What a unit of the other species takes from that growth rate, shape `(2,)`.
    """
    return Rates(r, jnp.stack([jnp.stack([own[0], other[0]]), jnp.stack([other[1], own[1]])]))


def lotka_volterra(t: Any, x: Populations, rates: Rates) -> Populations:
    """Velocity of n populations, `dx_i/dt = x_i (r_i - sum_j A_ij x_j)`.

    Competitors have positive `A`; of a predator and its prey one entry is negative.

    Args:
        t: Time; not used.
        x: Populations, shape `(n,)`, or a tuple of n scalars, which vmapped solves process faster than short
            arrays.
        rates: Growth rates and interactions.

    Returns:
        The velocities, in the form of `x`.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxkit import models
        >>> prey_and_predator = models.Rates(jnp.array([1.0, -1.0]), jnp.array([[0.0, 0.5], [-0.25, 0.0]]))
        >>> [float(v) for v in models.lotka_volterra(0.0, jnp.array([4.0, 2.0]), prey_and_predator)]  # at rest
        [0.0, 0.0]

    References:
        Lotka (1925), Elements of Physical Biology; Volterra (1926), Nature 118, 558.
    """
    del t
    if not isinstance(x, tuple):
        return x * (rates.r - rates.A @ x)
    others = lambda i: sum((rates.A[i, j] * v for j, v in enumerate(x)), jnp.zeros_like(x[0]))
    return tuple(v * (rates.r[i] - others(i)) for i, v in enumerate(x))

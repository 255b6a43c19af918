"""The unknowns of an inverse problem as one flat vector, in coordinates that suit a fit."""

import dataclasses
import functools
from typing import Any, Generic, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxkit.core import checks
from jaxkit.dynamics.roots.least_squares import flat_params

P = TypeVar("P")


@dataclasses.dataclass(frozen=True, eq=False)
class Unknowns(Generic[P]):
    """A pytree of unknowns as a flat vector `z`, and back.

    Attributes:
        first: First guess: a pytree of real arrays, `n` numbers in all.
        positive: Every number keeps the sign of its first guess: `z` holds the logarithms of the ratios to it.
            Otherwise `z` holds the numbers themselves.

    Raises:
        ValueError: A number whose sign is to be kept is 0.

    Example:
        >>> import jax.numpy as jnp, jaxkit as jk
        >>> unknowns = jk.inverse.Unknowns({"rate": 2.0, "size": -3.0})
        >>> unknowns.guess.tolist(), float(unknowns.tree(jnp.log(jnp.array([2.0, 1.0])))["rate"])
        ([0.0, 0.0], 4.0)
    """

    first: P
    positive: bool = True

    def __post_init__(self) -> None:
        if self.positive and not checks.is_traced(self.base):
            nonzero = bool(np.all(np.asarray(self.base) != 0))
            checks.require(nonzero, "params0", "not contain 0 where signs are kept (`positive=True`)", "does")

    @functools.cached_property
    def _flat(self) -> tuple[Array, Any]:
        return flat_params("params0", self.first)

    @property
    def base(self) -> Float[Array, " n"]:
        """The first guess in its own units."""
        return self._flat[0]

    @property
    def guess(self) -> Float[Array, " n"]:
        """The first guess in the coordinates `z`."""
        return jnp.zeros_like(self.base) if self.positive else self.base

    def natural(self, z: Float[Array, " n"]) -> Float[Array, " n"]:
        """The unknowns in their own units, flat."""
        return self.base * jnp.exp(z) if self.positive else z

    def unravel(self, natural: Float[Array, " n"]) -> P:
        """The structure of the first guess around a flat vector in natural units (or around its standard errors)."""
        return self._flat[1](natural)

    def tree(self, z: Float[Array, " n"]) -> P:
        """The unknowns in their own units and structure."""
        return self.unravel(self.natural(z))

    def covariance(self, z: Float[Array, " n"], covariance: Float[Array, "n n"]) -> Float[Array, "n n"]:
        """The covariance of `z` at `z`, in natural units (to first order)."""
        if not self.positive:
            return covariance
        natural = self.natural(z)
        return covariance * jnp.outer(natural, natural)

    def scatter(
        self, count: int, key: Array, *, spread: float | None = None, normal: bool | None = None
    ) -> Float[Array, "count n"]:
        """Starts for a fit, in the coordinates `z`: the first guess and others about it.

        Args:
            count: Number of starts.
            key: Random key.
            spread: With signs kept, the range of `z` to both sides, by default `log(10)`; otherwise a standard
                deviation in units of each number's size (of 1 where it is 0), by default 1.
            normal: Whether to draw `z` from the normal with standard deviation `spread`, not uniformly within it; by
                default where signs are not kept.
        """
        checks.require(count > 0, "count", "be positive", f"is {count}")
        if spread is None:
            spread = float(np.log(10.0)) if self.positive else 1.0
        shape, dtype = (count - 1, self.base.size), self.base.dtype
        if (not self.positive) if normal is None else normal:
            drawn = jax.random.normal(key, shape, dtype)
        else:
            drawn = jax.random.uniform(key, shape, dtype, -1, 1)
        size = jnp.where(self.guess == 0, 1, jnp.abs(self.guess)) * spread
        others = self.guess[None] + size[None] * drawn
        return jnp.concatenate([self.guess[None], others])

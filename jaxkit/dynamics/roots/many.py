"""The descent of least squares with many parameters, whose Jacobian is sparse or known by its products alone.

There is no singular value decomposition here. What an optimum is judged by comes from the step without damping: how
large the residuals' part in the space of the columns is, and whether a combination of parameters hardly shows.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxkit.dynamics.linear.tall import Tall, Undamped
from jaxkit.dynamics.roots.optimum import PART, WIDE, toward
from jaxkit.dynamics.roots.trust_region import Region, marquardt, or_one


@dataclasses.dataclass(frozen=True)
class Many:
    """Jacobians of many parameters.

    Attributes:
        held: The Jacobian.
    """

    held: Tall

    def both(self, x: Array) -> tuple[Array, Array]:
        """Residuals and Jacobian at a point."""
        return self.held.both(x)

    @property
    def unit(self) -> None:
        """Residuals and Jacobian are taken as they are."""
        return None

    def norms(self, slope: Array) -> Array:
        """Norms of the columns; 1 for a column of norm 0."""
        return or_one(self.held.norms(slope))

    def pull(self, region: Region) -> Array:
        """The gradient of half the sum of squares."""
        return self.held.pull(region.slope, region.value)

    def propose(self, region: Region, ratio: Array, accepted: Array) -> Region:
        """The region with its next step.

        A parameter that is nearly 0 is damped like the others: among many, each changes the residuals by little.
        """
        return marquardt(region, ratio, accepted, self.held.damped, region.scale)

    def examine(self, region: Region, rtol: float, gtol: float) -> tuple[Array, Array, Undamped]:
        """Whether the point is an optimum, and whether it looks so because the residuals do not show all parameters.

        As with dense Jacobians, but a combination of parameters that does not show always counts as hidden.
        """
        eps = jnp.finfo(region.x.dtype).eps
        size, norms = jnp.linalg.norm(region.value), self.held.norms(region.slope)
        scale = or_one(norms)
        seen = self.held.undamped(region.slope, scale, region.value)
        cosine = seen.part / jnp.where(size > 0, size, 1)
        rounding = self.held.rounding(region.slope, region.x)
        exact = size <= rounding
        limited = (region.factor > 16) & ((cosine <= WIDE) | (seen.part <= 2 * rounding))
        short = limited & (jnp.linalg.norm(seen.step) <= rtol * jnp.linalg.norm(scale * region.x))
        lost = (norms <= jnp.sqrt(eps) * region.scale) & (norms * jnp.abs(region.x) <= eps * size)
        blind = ~seen.whole | ((size > 0) & ~exact & jnp.any(lost | (norms == 0)))
        return ~blind & ((cosine <= gtol) | (cosine**2 <= rtol) | short | exact), blind, seen

    def beside(self, region: Region, seen: Undamped, converged: Array, damping: Array) -> tuple[Region, Array]:
        """Whether the sum of squares is lower beside an apparent optimum, and the region with the step to that point.

        Looked at are parameters moved by their own size, and the combination that shows least. Parameters that share no
        residual are moved together, and each is judged by its own residuals.
        """
        value, norms = self.held.fn, self.held.norms(region.slope)
        size, shown = jnp.linalg.norm(region.value), norms * jnp.abs(region.x)
        doubtful = converged & jnp.any(shown <= size) & (size > 0)

        def look() -> tuple[Array, Array]:
            member, count, sums = self.held.groups(-shown)
            factors = jnp.asarray([1, -0.5, PART, -PART], region.x.dtype)

            def gain_of(move: Array) -> Array:
                now = value(region.x + move)
                terms = (region.value - now) * (region.value + now)
                return jnp.where(jnp.isfinite(terms), terms, -jnp.inf)

            def own(index: Array) -> tuple[Array, Array]:
                move = lambda factor: jnp.where(member(index), factor * region.x, 0)
                gains = jax.lax.map(lambda factor: sums(index, gain_of(move(factor))), factors)
                totals = jnp.sum(jnp.maximum(gains, 0), axis=1)
                best = jnp.argmax(totals)
                return totals[best], jnp.where(gains[best] > 0, move(factors[best]), 0)

            def better(index: Array, best: tuple[Array, Array]) -> tuple[Array, Array]:
                found = own(index)
                return jax.tree.map(lambda u, v: jnp.where(found[0] > best[0], u, v), found, best)

            along = seen.weak / or_one(norms) * (PART * size / jnp.where(seen.least > 0, seen.least, 1))
            sides = jnp.stack([along, -along])
            gains = jax.lax.map(lambda move: jnp.sum(gain_of(move)), sides)
            gain, move = jax.lax.fori_loop(0, count, better, (jnp.max(gains), sides[jnp.argmax(gains)]))
            noise = region.value.size * jnp.finfo(size.dtype).eps * size * (size + jnp.linalg.norm(shown))
            return move, jnp.where(gain > 2 * seen.part**2 + 4 * noise, gain, 0)

        return toward(region, doubtful, look, damping)

"""The descent of least squares, and the examination of what looks like its optimum, with dense Jacobians.

What depends on how the Jacobian is held is one object, `Algebra`; for many parameters, see `many`.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

import equinox.internal as eqxi
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxkit.core.status import Status
from jaxkit.dynamics.iterate import iterate
from jaxkit.dynamics.roots.trust_region import MARQUARDT, Region, advance, column_norms, pull, unit_of, unseen

Split = tuple[Array, Array, Array, Array]  # norms of a Jacobian's columns, and u, s, v' of the columns divided by them

PART = 0.1  # of a parameter, or of the residuals: how far a lower sum of squares is looked for
WIDE = 0.1  # cosine of an angle that rounding does not explain


class Algebra(Protocol):
    """What is done with the Jacobian of residuals."""

    @property
    def both(self) -> Callable[[Array], tuple[Array, Array]]:
        """Gives residuals and Jacobian at a point."""
        ...

    @property
    def unit(self) -> Callable[[Array, Array, Array], Array] | None:
        """Gives the unit of residuals and Jacobian, see `trust_region.unit_of`; None for 1."""
        ...

    def norms(self, slope: Array) -> Array:
        """Norms of the columns; 1 for a column of norm 0."""
        ...

    def pull(self, region: Region) -> Array:
        """The gradient of half the sum of squares."""
        ...

    def propose(self, region: Region, ratio: Array, accepted: Array) -> Region:
        """The region with its next step."""
        ...

    def examine(self, region: Region, rtol: float, gtol: float) -> tuple[Bool[Array, ""], Bool[Array, ""], Any]:
        """Whether the point is an optimum, whether some parameters do not show, and what `beside` needs."""
        ...

    def beside(
        self, region: Region, seen: Any, converged: Bool[Array, ""], damping: Array
    ) -> tuple[Region, Bool[Array, ""]]:
        """The region with a step to a lower sum of squares beside the point, and whether there is one."""
        ...


@dataclasses.dataclass(frozen=True)
class Dense:
    """Dense Jacobians.

    Attributes:
        value: Gives the residuals at a point.
        both: Gives residuals and Jacobian.
    """

    value: Callable[[Array], Array]
    both: Callable[[Array], tuple[Array, Array]]

    @property
    def unit(self) -> Callable[[Array, Array, Array], Array]:
        """Gives the unit of residuals and Jacobian."""
        return unit_of

    def norms(self, slope: Array) -> Array:
        """Norms of the columns; 1 for a column of norm 0."""
        return column_norms(slope)

    def pull(self, region: Region) -> Array:
        """The gradient of half the sum of squares."""
        return pull(region)

    def propose(self, region: Region, ratio: Array, accepted: Array) -> Region:
        """The region with its next step."""
        return MARQUARDT.propose(region, ratio, accepted, region.move)

    def examine(self, region: Region, rtol: float, gtol: float) -> tuple[Array, Array, Split]:
        """Whether the point is an optimum, whether some parameters do not show, and the decomposition."""
        split = scaled_svd(region.slope)
        return *_examine(region, split, rtol, gtol), split

    def beside(self, region: Region, seen: Split, converged: Array, damping: Array) -> tuple[Region, Array]:
        """The region with a step to a lower sum of squares beside the point, and whether there is one."""
        return _beside(lambda x: region.unit * self.value(x), region, seen, converged, damping)


def scaled_svd(jac: Float[Array, "m n"]) -> Split:
    """The norms of the columns, and the singular value decomposition of the columns divided by their norms."""
    scale = column_norms(jac)
    u, s, vt = jnp.linalg.svd(jac / scale[None, :], full_matrices=False)
    return scale, u, s, vt


def descend(
    algebra: Algebra,
    first: Region,
    *,
    rtol: float,
    gtol: float,
    max_steps: int,
) -> tuple[tuple[Array, Array, Array], tuple[Int[Array, ""], Int[Array, ""]]]:
    """The iteration on flat vectors: (parameters, residuals, Jacobian) and (status, evaluations)."""
    eps, ok = float(jnp.finfo(first.x.dtype).eps), jnp.asarray(int(Status.ok))
    rtol, gtol = max(rtol, 4 * eps), max(gtol, 4 * eps)

    def step(state: tuple[Region, Array, Array]) -> tuple[Region, Array, Array]:
        before = state[0]
        region, ratio, better = advance(
            algebra.both, before, squared=True, least=0.0, norms=algebra.norms, unit=algebra.unit
        )
        old, new = before.value @ before.value, region.value @ region.value
        small_gain = better & ~unseen(before) & (old - new <= rtol * old)
        small_step = before.length <= rtol * jnp.linalg.norm(region.scale * region.x)
        look = small_gain | small_step | (region.size > 1 / eps) | (new == 0) | (_cosine(algebra, region) <= gtol)
        region = algebra.propose(region, ratio, better)
        return region, look, jnp.where(unseen(region), int(Status.not_finite), ok)

    # Two loops: what looks like an optimum is examined, and if it is none, the descent goes on from there. (A condition
    # within one loop would be evaluated at every step of every lane under `vmap`.)
    def leg(state: tuple[Region, Array, Array, Array]) -> tuple[Region, Array, Array, Array]:
        region, _, _, taken = state
        start = (region, jnp.zeros((), bool), ok)
        (region, _, _), status, count = iterate(
            step, start, status=lambda s: s[2], done=lambda s: s[1], max_steps=max_steps - taken
        )
        converged, blind, seen = algebra.examine(region, rtol, gtol)
        region, lower = algebra.beside(region, seen, converged, first.size)
        converged &= ~lower
        lost = jnp.where(~converged & (region.size > 1 / eps), int(Status.no_progress), ok)
        lost = jnp.where(blind, int(Status.singular), lost)
        status = jnp.where(status == ok, lost, status)
        return region, converged & (status == ok), status, taken + count

    state = (first, jnp.zeros((), bool), ok, jnp.asarray(0))
    (last, _, _, taken), status, _ = iterate(
        leg, state, status=lambda s: s[2], done=lambda s: s[1], max_steps=max_steps
    )
    return (last.x, last.value / last.unit, last.slope / last.unit), (status, taken)


def _examine(region: Region, split: Split, rtol: float, gtol: float) -> tuple[Bool[Array, ""], Bool[Array, ""]]:
    """Whether the point is an optimum, and whether it looks so because the residuals do not show all parameters.

    Judged without damping, which makes any step short: by the angle between the residuals and the space of the columns,
    whose squared cosine is the relative decrease that is left; by the Gauss-Newton step, where a trial was refused; or
    by residuals that are mere rounding. For parameters that do not show in the residuals, the angle is not known.
    """
    (m, n), eps = region.slope.shape, jnp.finfo(region.x.dtype).eps
    size, norms = jnp.linalg.norm(region.value), jnp.linalg.norm(region.slope, axis=0)
    scale, u, s, vt = split
    part = u.T @ region.value
    seen = s > m * eps * s[0]
    cosine = lambda which: jnp.linalg.norm(jnp.where(which, part, 0)) / jnp.where(size > 0, size, 1)
    small = lambda angle: (angle <= gtol) | (angle**2 <= rtol)
    newton = vt.T @ jnp.where(seen, part / jnp.where(seen, s, 1), 0)
    rounding = n * eps * jnp.sum(norms * jnp.abs(region.x))
    exact = size <= rounding
    # Beside a pole, too, the step is short and refused, but there the cosine is more than rounding explains.
    limited = (region.factor > 16) & ((cosine(seen) <= WIDE) | (jnp.linalg.norm(part) <= 2 * rounding))
    short = jnp.all(seen) & limited & (jnp.linalg.norm(newton) <= rtol * jnp.linalg.norm(scale * region.x))
    lost = (norms <= jnp.sqrt(eps) * region.scale) & (norms * jnp.abs(region.x) <= eps * size)
    hidden = jnp.any(lost | (norms == 0)) | (small(cosine(seen)) & ~small(cosine(~seen)))
    blind = jnp.where(exact | (size == 0), ~jnp.all(seen), hidden)  # an exact fit says nothing about what is not seen
    return ~blind & (small(cosine(seen)) | short | exact), blind


def _beside(
    value: Callable[[Array], Array],
    region: Region,
    split: Split,
    converged: Bool[Array, ""],
    damping: Float[Array, ""],
) -> tuple[Region, Bool[Array, ""]]:
    """Whether the sum of squares is lower beside an apparent optimum, and the region with the step to that point.

    Where parameters hardly show (a peak without height, beside the data), first derivatives do not tell a saddle from
    an optimum. Only residuals are evaluated, on both sides: of each parameter by its own size, and along each singular
    vector by a part of the residuals. Where every parameter's own size moves the residuals by more than their norm, the
    curvature is that of the first derivatives, and nothing is evaluated.
    """
    size, norms = jnp.linalg.norm(region.value), jnp.linalg.norm(region.slope, axis=0)
    doubtful = converged & jnp.any(norms * jnp.abs(region.x) <= size) & (size > 0)

    def look() -> tuple[Array, Array]:
        scale, u, s, vt = split
        own = jnp.diag(region.x)
        along = vt / scale[None, :] * (PART * size / s)[:, None]
        moves = jnp.stack([own, -0.5 * own, PART * own, -PART * own, along, -along])
        found = jax.lax.map(jax.vmap(lambda d: jnp.linalg.norm(value(region.x + d))), moves).ravel()
        moves = moves.reshape(-1, region.x.size)
        best = jnp.argmin(jnp.where(jnp.isfinite(found), found, jnp.inf))
        gain = (size - found[best]) * (size + found[best])
        left = jnp.linalg.norm(u.T @ region.value) ** 2  # the decrease that a step by the first derivatives would bring
        noise = region.value.size * jnp.finfo(size.dtype).eps * size * (size + jnp.sum(norms * jnp.abs(region.x)))
        return moves[best], jnp.where(gain > 2 * left + 4 * noise, gain, 0)

    return toward(region, doubtful, look, damping)


def toward(
    region: Region, doubtful: Bool[Array, ""], look: Callable[[], tuple[Array, Array]], damping: Float[Array, ""]
) -> tuple[Region, Bool[Array, ""]]:
    """The region with the step that `look` finds, where that is called for and lowers the sum of squares."""
    size = jnp.linalg.norm(region.value)
    nothing = lambda: (jnp.zeros_like(region.x), jnp.zeros_like(size))
    move, gain = jax.lax.cond(eqxi.unvmap_any(doubtful), look, nothing)
    lower = doubtful & (gain > 0)
    length = jnp.linalg.norm(region.scale * move)
    there = region._replace(size=damping, factor=jnp.full_like(size, 2), move=move, length=length, predicted=gain)
    return jax.tree.map(lambda new, old: jnp.where(lower, new, old), there, region), lower


def _cosine(algebra: Algebra, region: Region) -> Float[Array, ""]:
    """Largest cosine between the residuals and a column of the Jacobian; 0 at an exact fit."""
    size = jnp.linalg.norm(region.value)
    return jnp.max(jnp.abs(algebra.pull(region)) / algebra.norms(region.slope)) / jnp.where(size > 0, size, 1)

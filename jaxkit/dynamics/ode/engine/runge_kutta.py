"""Embedded Runge-Kutta pairs as a method of the lean loop.

The stages are a loop over the tableau's rows, so that the field is compiled once, not once for each stage: if they were
written out, XLA would fuse them into each other (docs/devdocs/lanes.md).
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxkit.compile.fast_log import fast_exp2, fast_log2
from jaxkit.compile.rows import Row, State, Step, like, where
from jaxkit.compile.scalars import ScalarField
from jaxkit.core.numerics import representable
from jaxkit.dynamics.ode.engine.switches import Switches, jumps_with_state
from jaxkit.dynamics.ode.schemes import Tableau
from jaxkit.dynamics.ode.tolerance import weighed, weights

YOUNG = 0.02  # part of the step which the state allows, in which a tangent may begin


class RungeKuttaStepper:
    """An embedded explicit pair: `x' = x + h sum b_i k_i`, with an error estimate.

    Args:
        field: The scalar field whose first outputs are the velocity.
        tableau: Coefficients with an error estimate.
        rtol: Relative tolerance of a step.
        atol: Absolute tolerance of a step, or one for each number of the state.
        controlled: Number of leading entries that are the state; those behind are tangents. None: all are the state.
        directions: Directions of further tangents: see `Row`.
    """

    cautious, shortens = False, False

    def __init__(
        self,
        field: ScalarField,
        tableau: Tableau,
        rtol: float,
        atol: float | tuple[float, ...],
        *,
        controlled: int | None = None,
        directions: Sequence[Any] = (),
    ) -> None:
        self.field, self.tableau, self.rtol, self.directions = field, tableau, rtol, directions
        self.controlled = len(field.x) if controlled is None else controlled
        self.atol = atol if isinstance(atol, tuple) else (atol,) * self.controlled
        self.weights = weights(atol)
        self.velocity = field.outputs[: len(field.x)]
        self.switches = Switches(field, self.velocity)
        self.jumps = jumps_with_state(field, self.velocity, self.switches.covered)
        # The last velocity is the first one of the next step, unless the field switches in between.
        same = bool(np.allclose(tableau.a[-1], tableau.b, atol=1e-15)) and tableau.c[-1] == 1
        self.reuses = same and not self.switches
        self.roots = [*field.outputs, *self.switches.roots]

    def start(self, t: Array, x: State, left: Array, row: Row) -> State:
        """The first step of Hairer, Nørsett and Wanner (II.4), with the Euler step's second derivative."""
        rate, k = row(t, x, self.velocity), self.controlled  # tangents, which may be zero here, do not count
        size, speed = self._norm(x[:k], x[:k]), self._norm(rate[:k], x[:k])
        trial = jnp.where((size < 1e-5) | (speed < 1e-5), 1e-6, 0.01 * size / jnp.maximum(speed, 1e-30))
        trial = jnp.minimum(jnp.where(jnp.isfinite(trial), trial, jnp.inf), jnp.abs(left))
        signed = trial * jnp.sign(left)
        n = len(self.field.x)
        later = row(t + signed, tuple(v + signed * r for v, r in zip(x[:n], rate, strict=False)), self.velocity)
        bend = self._norm([a - b for a, b in zip(later[:k], rate, strict=False)], x[:k])
        bend = bend / jnp.where(trial > 0, trial, 1)
        most = jnp.maximum(speed, bend)
        h = jnp.where(
            most <= 1e-15, jnp.maximum(1e-6, trial * 1e-3), (0.01 / jnp.maximum(most, 1e-30)) ** (1 / self.order)
        )
        h = jnp.where(jnp.isfinite(h), h, jnp.abs(left))
        return (jnp.minimum(100 * trial, h), *(rate if self.reuses else ()))

    def length(self, t: Array, x: State, left: Array, row: Row) -> Array:
        """The length that the first step would have."""
        return self.start(t, x, left, row)[0]

    def caution(self, t: Array, x: State, left: Array, row: Row) -> None:
        """Every step has an estimate of its error."""

    @property
    def order(self) -> int:
        """Order of accuracy."""
        return self.tableau.order

    def _norm(self, values: Sequence[Array], *scales: State) -> Array:
        """Root mean square of `values` in units of the tolerance at the larger of the states.

        Tangents have no absolute tolerance; their tolerance is relative to their largest entry, in units in which all
        numbers of the state have the same absolute tolerance. A direction that is zero at the first state has no scale
        yet: where it grows with a power of time that is too high for the method, no step is short enough. It does not
        count in a step that is short beside what the state alone would allow.
        """
        sizes = [functools.reduce(jnp.maximum, map(jnp.abs, entries)) for entries in zip(*scales, strict=True)]
        k = self.controlled
        grown = sizes if len(scales) == 1 else [jnp.abs(v) for v in scales[0]]
        square = lambda total, pair: total + (pair[0] / pair[1]) ** 2
        zero = jnp.zeros_like(values[0])
        units = [atol + self.rtol * size for atol, size in zip(self.atol, sizes[:k], strict=True)]
        error = jnp.sqrt(functools.reduce(square, zip(values[:k], units, strict=True), zero) / k)
        if k == len(values):
            return error
        sizes, values = weighed(sizes[k:], self.weights), weighed(values[k:], self.weights)
        unit = self.rtol * functools.reduce(jnp.maximum, sizes) + float(jnp.finfo(zero.dtype).tiny)
        more = functools.reduce(jnp.add, ((v / unit) ** 2 for v in values)) / len(values)
        begins = functools.reduce(jnp.maximum, grown[k:]) == 0
        more = jnp.where(begins & like(error <= YOUNG**self.order, begins), 0, more)
        return jnp.maximum(error, jnp.sqrt(jnp.max(more, axis=tuple(range(more.ndim - 1)))))

    def stages(self, t: Array, x: State, h: Array, row: Row, first: State = ()) -> Float[Array, "s kw"]:
        """The velocities of all stages, with all rows of `x` side by side."""
        start, table = _together(x, h), self.tableau
        a, c = jnp.asarray(table.a, start.dtype), jnp.asarray(table.c, start.dtype)

        def stage(i: Array, rates: Array) -> Array:
            moved = start + h[None] * _weighted(a[i], rates, start.shape)
            velocity = row(t + c[i] * h, _parts(moved, x), self.velocity)
            return jax.lax.dynamic_update_index_in_dim(rates, _together(velocity, h).reshape(-1), i, 0)

        rates = jnp.zeros((len(c), start.size), start.dtype)
        rates = rates.at[0].set(_together(first, h).reshape(-1)) if first else rates
        return jax.lax.fori_loop(1 if first else 0, len(c), stage, rates)

    def step(
        self, t: Array, x: State, left: Array, memory: State, row: Row, refused: Array, *, look: Array | None = None
    ) -> Step:
        """One step, accepted where the error estimate is within the tolerance, or where lanes look."""
        h, first = memory[0], memory[1:]
        if look is not None:  # from a point other than the end of the last step
            h = jnp.where(look, jnp.inf, h)
            first = where(look, row(t, x, self.velocity), first) if first else ()
        last = h >= jnp.abs(left)
        signed = jnp.where(last, left, representable(t, h * jnp.sign(left)))
        rates, start = self.stages(t, x, signed, row, first), _together(x, signed)
        ends = jnp.asarray(np.stack([self.tableau.b, np.asarray(self.tableau.error)]), signed.dtype)
        change, gap = signed[None, None] * _weighted(ends, rates, (2, *start.shape))
        new = _parts(start + change, x)
        error = self._norm(_parts(gap, x), x, new)
        accepted = error <= 1 if look is None else look | (error <= 1)
        tiny = jnp.where(jnp.isfinite(error), jnp.maximum(error, 1e-10), 1e10)
        factor = jnp.clip(0.9 * fast_exp2(-fast_log2(tiny) / self.order), 0.2, 10.0)
        grown = jnp.abs(signed) * jnp.where(accepted, factor, jnp.minimum(factor, 0.9))
        grown = jnp.where(last & accepted, jnp.maximum(grown, h), grown)
        kept = where(accepted, _parts(rates[-1].reshape(start.shape), x), first) if self.reuses else ()
        return Step(where(accepted, new, x), jnp.where(accepted, signed, 0), (grown, *kept))

    def within(self, t: Array, x: State, s: Array, row: Row) -> State:
        """The step repeated with length `s`, which is as accurate as the step itself."""
        rates, start = self.stages(t, x, s, row), _together(x, s)
        return _parts(start + s[None] * _weighted(jnp.asarray(self.tableau.b, s.dtype), rates, start.shape), x)


def _together(x: State, row: Array) -> Float[Array, "k w"]:
    """All rows of a state, tangents included, in one array."""
    return jnp.concatenate([v.reshape(-1, len(row)) for v in x])


def _parts(table: Float[Array, "k w"], x: State) -> State:
    """The rows again, in the shapes of `x`."""
    parts, at = [], 0
    for v in x:
        rows = v.size // v.shape[-1]
        parts.append(table[at : at + rows].reshape(v.shape))
        at += rows
    return tuple(parts)


def _weighted(weights: Array, rates: Float[Array, "s kw"], shape: tuple[int, ...]) -> Array:
    """Sums of the stages' velocities, in full precision on every machine."""
    return jnp.dot(weights, rates, precision=jax.lax.Precision.HIGHEST).reshape(shape)

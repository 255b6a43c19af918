"""Embedded Runge-Kutta pairs as a method of the lean loop.

The stages are a loop over the tableau's rows, so the field is compiled once, not once a stage: with stages written out
XLA fuses them into each other, and a field of 140 operations (light around a rotating black hole) took 13 times as long
to compile (15 s instead of 0.7 s) and 7 to 12 times as long to run. (`optimization_barrier` between the stages is no
help on a CPU: the compiler removes barriers before it fuses.)
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxkit.dynamics.march import Row, State, Step
from jaxkit.dynamics.rough import rough_exp2, rough_log2
from jaxkit.dynamics.scalars import ScalarField
from jaxkit.dynamics.schemes import Tableau


class RungeKutta:
    """An embedded explicit pair: `x' = x + h sum b_i k_i`, the error estimate beside it.

    Args:
        field: The velocity.
        tableau: Coefficients with an error estimate.
        rtol: Relative tolerance of a step.
        atol: Absolute tolerance of a step.
        controlled: Number of leading entries that are the state; those behind it are tangents. None for all.
    """

    def __init__(self, field: ScalarField, tableau: Tableau, rtol: float, atol: float, controlled: int | None = None):
        self.field, self.tableau, self.rtol, self.atol = field, tableau, rtol, atol
        self.controlled = len(field.x) if controlled is None else controlled
        self.reuses = bool(np.allclose(tableau.a[-1], tableau.b, atol=1e-15)) and tableau.c[-1] == 1
        self.roots = list(field.outputs)
        self.velocity = field.outputs[: len(field.x)]

    def start(self, t: Array, x: State, left: Array, row: Row) -> State:
        """The first step of Hairer, Nørsett and Wanner (II.4), with the Euler step's second derivative."""
        rate, k = row(t, x, self.velocity), self.controlled  # tangents, which may be zero here, have no say
        size, speed = self._norm(x[:k], x[:k]), self._norm(rate[:k], x[:k])
        trial = jnp.where((size < 1e-5) | (speed < 1e-5), 1e-6, 0.01 * size / jnp.maximum(speed, 1e-30))
        trial = jnp.minimum(trial, jnp.abs(left))
        signed = trial * jnp.sign(left)
        later = row(t + signed, tuple(v + signed * k for v, k in zip(x, rate, strict=True)), self.velocity)
        bend = self._norm([a - b for a, b in zip(later, rate, strict=True)][:k], x[:k]) / jnp.where(trial > 0, trial, 1)
        most = jnp.maximum(speed, bend)
        h = jnp.where(
            most <= 1e-15, jnp.maximum(1e-6, trial * 1e-3), (0.01 / jnp.maximum(most, 1e-30)) ** (1 / self.order)
        )
        return (jnp.minimum(100 * trial, h), *(rate if self.reuses else ()))

    def length(self, t: Array, x: State, left: Array, row: Row) -> Array:
        """The length that the first step would have."""
        return self.start(t, x, left, row)[0]

    @property
    def order(self) -> int:
        """Order of accuracy."""
        return self.tableau.order

    def _norm(self, values: Sequence[Array], *scales: State) -> Array:
        """Root mean square of `values` in units of the tolerance at the larger of the states.

        Tangents have no absolute tolerance: theirs is relative to their largest entry.
        """
        sizes = [functools.reduce(jnp.maximum, map(jnp.abs, entries)) for entries in zip(*scales, strict=True)]
        k = self.controlled
        square = lambda total, pair: total + (pair[0] / pair[1]) ** 2
        zero = jnp.zeros_like(values[0])
        units = [self.atol + self.rtol * size for size in sizes[:k]]
        error = jnp.sqrt(functools.reduce(square, zip(values[:k], units, strict=True), zero) / k)
        if k == len(values):
            return error
        unit = self.rtol * functools.reduce(jnp.maximum, sizes[k:]) + float(jnp.finfo(zero.dtype).tiny)
        more = functools.reduce(square, ((v, unit) for v in values[k:]), zero)
        return jnp.maximum(error, jnp.sqrt(more / (len(values) - k)))

    def stages(self, t: Array, x: State, h: Array, row: Row, first: State = ()) -> Float[Array, "s kw"]:
        """The velocities of all stages, those of the `k` state entries side by side."""
        start, table = jnp.stack(x), self.tableau
        a, c = jnp.asarray(table.a, start.dtype), jnp.asarray(table.c, start.dtype)

        def stage(i: Array, rates: Array) -> Array:
            moved = start + h[None] * _weighted(a[i], rates, start.shape)
            velocity = row(t + c[i] * h, tuple(moved), self.velocity)
            return jax.lax.dynamic_update_index_in_dim(rates, jnp.concatenate(velocity), i, 0)

        rates = jnp.zeros((len(c), start.size), start.dtype)
        rates = rates.at[0].set(jnp.concatenate(first)) if first else rates
        return jax.lax.fori_loop(1 if first else 0, len(c), stage, rates)

    def step(self, t: Array, x: State, left: Array, memory: State, row: Row) -> Step:
        """One step, accepted where the error estimate is within the tolerance."""
        h, first = memory[0], memory[1:]
        last = h >= jnp.abs(left)
        signed = jnp.where(last, left, h * jnp.sign(left))
        rates, k = self.stages(t, x, signed, row, first), len(x)
        ends = jnp.asarray(np.stack([self.tableau.b, np.asarray(self.tableau.error)]), signed.dtype)
        change, gap = signed[None, None] * _weighted(ends, rates, (2, k, len(signed)))
        new = tuple(v + dx for v, dx in zip(x, change, strict=True))
        error = self._norm(tuple(gap), x, new)
        accepted = error <= 1
        tiny = jnp.where(jnp.isfinite(error), jnp.maximum(error, 1e-10), 1e10)
        factor = jnp.clip(0.9 * rough_exp2(-rough_log2(tiny) / self.order), 0.2, 10.0)
        grown = jnp.abs(signed) * jnp.where(accepted, factor, jnp.minimum(factor, 0.9))
        grown = jnp.where(last & accepted, jnp.maximum(grown, h), grown)
        pick = lambda a, b: tuple(jnp.where(accepted, u, v) for u, v in zip(a, b, strict=True))
        kept = pick(rates[-1].reshape(k, -1), first) if self.reuses else ()
        return Step(pick(new, x), jnp.where(accepted, signed, 0), (grown, *kept))

    def within(self, t: Array, x: State, s: Array, row: Row) -> State:
        """A step of length `s` again: as accurate as the step itself."""
        rates = self.stages(t, x, s, row)
        change = _weighted(jnp.asarray(self.tableau.b, s.dtype), rates, (len(x), len(s)))
        return tuple(v + s * dx for v, dx in zip(x, change, strict=True))


def _weighted(weights: Array, rates: Float[Array, "s kw"], shape: tuple[int, ...]) -> Array:
    """Sums of the stages' velocities, in full precision on every machine."""
    return jnp.dot(weights, rates, precision=jax.lax.Precision.HIGHEST).reshape(shape)

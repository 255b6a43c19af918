"""The iteration that solves the stages of implicit methods: Newton's, with one Jacobian for all stages of a step.

diffrax's own, `VeryChord`, gives a step up unless two iterations suffice, and compares velocities with tolerances of
states. This one goes on as long as it converges fast enough, and measures how far an iteration moves the state.

References:
    Hairer and Wanner (1996), Solving Ordinary Differential Equations II, section IV.8 (when to stop).
"""

from dataclasses import replace
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import optimistix
from jaxtyping import Array, Bool, PyTree

MOST = 10  # iterations of a stage, as diffrax's methods have it: then the step is refused, and a shorter one tried


class StageChord(diffrax.VeryChord):
    """The chord method for the stages of one of diffrax's diagonally implicit Runge-Kutta methods."""

    def step(
        self, fn: Any, y: PyTree, args: Any, options: dict[str, Any], state: Any, tags: frozenset[object]
    ) -> tuple[PyTree, Any, Any]:
        """One iteration, and how far it moves the state, in tolerances."""
        before = state.diffsize
        y, state, aux = super().step(fn, y, args, options, state, tags)
        size = self._size(state.diff, y, args).astype(before.dtype)
        return y, replace(state, diffsize=size, diffsize_prev=before), aux

    def terminate(
        self, fn: Any, y: PyTree, args: Any, options: dict[str, Any], state: Any, tags: frozenset[object]
    ) -> tuple[Bool[Array, ""], optimistix.RESULTS]:
        """Whether the iteration is at its end, and how: what is left is a geometric series by the last ratio."""
        del fn, y, args, options, tags
        size, codes = state.diffsize, optimistix.RESULTS
        ratio = size / state.diffsize_prev
        left = size * ratio / (1 - ratio)
        known, converging = state.step >= 2, ratio < 1
        exact = (state.step >= 1) & (size == 0)
        done = exact | (known & converging & (left < self.kappa))
        ahead = jnp.maximum(MOST - state.step, 0)
        hopeless = known & ~done & ~(converging & (left * ratio**ahead < self.kappa))
        result = codes.where(hopeless, codes.nonlinear_divergence, codes.successful)
        unsolved = state.result != codes.successful
        return done | hopeless | unsolved, codes.where(unsolved, state.result, result)

    def _size(self, change: PyTree, y: PyTree, args: Any) -> Array:
        """The change of the state in tolerances, for a change of what is solved for: a velocity, or its step.

        Rounding counts as no change: in single precision it may be above a fair part of the tolerance.
        """
        if len(args) == 8:  # a velocity
            _, diagonal, _, product, _, partial, _, control = args
            change, y = product(change, control), product(y, control)
        else:
            _, diagonal, _, _, partial, _, _ = args

        def scaled(s: Array, p: Array, w: Array) -> Array:
            shift, there = jnp.abs(diagonal * s), jnp.abs(p + diagonal * w)
            shift = jnp.where(shift <= 4 * float(jnp.finfo(shift.dtype).eps) * there, 0, shift)
            return shift / (self.atol + self.rtol * there)

        return self.norm(jax.tree.map(scaled, change, partial, y))

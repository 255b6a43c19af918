"""Langevin motion down a ladder of densities."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, PyTree

from jaxkit.core import checks
from jaxkit.core.struct import struct
from jaxkit.dynamics.mcmc.kernel import Evaluate, walk
from jaxkit.dynamics.mcmc.langevin import ULA


@struct
class Annealed:
    """ULA down a ladder of levels, the last of which is the target density; the energy is `energy(x, args, level)`.

    Attributes:
        levels: Pytree of arrays whose first axis runs over the `L` levels.
        step_size: One step for each level, shape `(L,)`; or one number where `levels` is a vector of noise levels
            sigma: then the steps are `step_size * (sigma / sigma[-1])**2`.

    References:
        Song and Ermon (2019), Generative modeling by estimating gradients of the data distribution.
    """

    levels: PyTree
    step_size: ArrayLike

    def descend(
        self, family: Callable[[PyTree], Evaluate], x: Float[Array, "n d"], steps: int, key: Array
    ) -> tuple[Array, Evaluate, ULA]:
        """The states before the last level, the energy of the last level, and the method that moves there."""
        ladder = jax.tree.map(jnp.asarray, self.levels)
        sizes = {jnp.shape(leaf)[0] if jnp.ndim(leaf) else 0 for leaf in jax.tree.leaves(ladder)}
        count = sizes.pop() if len(sizes) == 1 else 0
        checks.require(count > 0, "levels", "have one common length along the first axis of every leaf", "has not")
        lengths = jnp.asarray(self.step_size, x.dtype)
        if lengths.ndim == 0:
            sigmas = isinstance(ladder, jax.Array) and ladder.ndim == 1
            checks.require(sigmas, "step_size", "be one number a level where `levels` is no vector", "is one number")
            lengths = lengths * jnp.square(ladder / ladder[-1]).astype(x.dtype)
        checks.shape("step_size", lengths, (count,))

        def level(x: Array, given: tuple[Any, Array, Array]) -> tuple[Array, None]:
            level, step_size, i = given
            here, method = family(level), ULA(step_size)
            place = jax.random.fold_in(key, i)
            state = walk(method, here, method.init(here, x, place), step_size, steps, steps, place).last
            return state.x, None

        above = (jax.tree.map(lambda v: v[:-1], ladder), lengths[:-1], jnp.arange(count - 1))
        x, _ = jax.lax.scan(level, x, above)
        return x, family(jax.tree.map(lambda v: v[-1], ladder)), ULA(lengths[-1])

"""Fences: results kept in memory, because XLA would recompute them in every loop that reads them.

XLA's CPU compiler fuses a chain of element-wise operations into each loop that reads its end. Barriers
(`lax.optimization_barrier`) do not stop it: they are removed before fusion on the CPU. Nothing is fused across a
conditional. To see it: compile two functions of `x = f(g(y))` and read `jax.jit(...).lower(...).compile().as_text()`;
both fusions hold `f` and `g`.

References:
    https://github.com/jax-ml/jax/issues/2777 (compile time grows exponentially as unrolled steps fuse into each other).
    https://github.com/openxla/xla/issues/20440 (a barrier that the CPU compiler ignores).
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from jaxkit.core.jax_internals import evaluate


def fence(fn: Callable[[], Any], holds: Bool[Array, ""]) -> Any:
    """`fn()` with its results kept in memory.

    Args:
        fn: The function.
        holds: A condition that is always true, without the compiler knowing it.
    """
    if jax.default_backend() != "cpu":
        return fn()
    program, shapes = jax.make_jaxpr(fn, return_shape=True)()
    leaves, structure = jax.tree.flatten(shapes)
    zeros = lambda: [jnp.zeros(v.shape, v.dtype) for v in leaves]
    return structure.unflatten(jax.lax.cond(holds, lambda: list(evaluate(program, program.consts, ())), zeros))

"""What diffrax's implicit methods need: tolerances of their equations at fixed steps, and numbers that are finite.

Each stage of an implicit method solves an equation for its velocity. Its derivative is a linear solve that raises from
inside the program where it meets NaN or infinity, in one lane for all, and cannot be told not to. So these methods are
given zeros for a start, times or parameters that are not finite, and a large velocity where there is none: the step is
refused, as it is with NaN. What came of substitutes is NaN again in the result. A failed solve has NaN for its
derivative by what was given, which does not go through the steps.
"""

from dataclasses import replace
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import optimistix
from jaxtyping import Array, Bool

from jaxkit.core.numerics import all_finite
from jaxkit.dynamics.ode.field import Field
from jaxkit.dynamics.ode.reasons import nought, without_derivative


def substituted(field: Field, x0: Any, args: Any, usable: Bool[Array, ""]) -> tuple[Field, Any, Any]:
    """Field, start and parameters that are finite whatever was given; the velocity 0 where nothing is `usable`."""
    pick = lambda v: jnp.where(usable, v, jnp.zeros_like(v))
    inexact = lambda v: hasattr(v, "dtype") and jnp.issubdtype(v.dtype, jnp.inexact)

    def velocity(t: Any, x: Any, args: Any) -> Any:
        # Held at both ends where it is not finite: zero times an infinite slope would be NaN again.
        good = all_finite(field(*jax.lax.stop_gradient((t, x, args)))) & usable
        hold = lambda v: jnp.where(good, v, jax.lax.stop_gradient(v)) if inexact(v) else v
        other = lambda v: pick(jnp.asarray(_large(v.dtype), v.dtype))
        return jax.tree.map(lambda v: jnp.where(good, v, other(v)), field(*jax.tree.map(hold, (t, x, args))))

    args = jax.tree.map(lambda v: pick(v) if inexact(v) else v, args)
    return velocity, jax.tree.map(pick, x0), args


def _large(dtype: Any) -> float:
    return 1e19 if jnp.finfo(dtype).bits < 64 else 1e60


def restored(tree: Any, usable: Bool[Array, ""], dt: float | None) -> Any:
    """A result, NaN where it came of substitutes, of which a step that was not refused leaves a large number."""

    def leaf(v: Array) -> Array:
        limit = (1e-6 if dt is None else 1e-3 * dt) * _large(v.dtype)
        return jnp.where(usable & ((jnp.abs(v) < limit) | jnp.isinf(v)), v, jnp.nan)

    return jax.tree.map(leaf, tree)


def detached(lost: Bool[Array, ""], tree: Any, given: Any) -> Any:
    """`tree`, whose derivative by the numbers of `given` is NaN where it is lost, and does not go through the steps."""
    leaves = [jnp.asarray(v) for v in jax.tree.leaves(given)]
    some = [jnp.sum(nought(v)) for v in leaves if jnp.issubdtype(v.dtype, jnp.floating)]

    def leaf(v: Array) -> Array:
        moved = sum((v_.astype(v.dtype) for v_ in some), jnp.zeros((), v.dtype))
        held = jax.lax.stop_gradient(v)
        return jnp.where(lost, held + without_derivative(lost, jnp.broadcast_to(moved, ())), v)

    return jax.tree.map(leaf, tree)


def with_tolerances(solver: Any, rtol: float, atol: Any) -> Any:
    """An implicit solver whose stages are solved to tolerances that it would take from steps that adapt."""
    given = {"rtol": rtol, "atol": atol, "norm": optimistix.rms_norm}
    finder = solver.root_finder
    missing = {k: v for k, v in given.items() if getattr(finder, k, None) is diffrax._root_finder.use_stepsize_tol}
    return replace(solver, root_finder=replace(finder, **missing)) if missing else solver

"""What diffrax's implicit methods need: tolerances for their equations at fixed steps, and finite numbers.

Each stage of an implicit method solves an equation for its velocity. The derivative of this solve is a linear solve
that raises from inside the program where it meets NaN or infinity, in one lane for all, and cannot be told not to. So
these methods are given zeros for starts, times or parameters that are not finite, and a large velocity where there is
none: the step is refused, as it is with NaN. A result that came of substitutes is made NaN again. Where the field's
slope is infinite, a stage is held fixed. A failed solve, and one that starts or ends at an infinite slope, has the
derivative NaN with respect to what was given; that derivative does not go through the steps.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import optimistix
from jaxtyping import Array, Bool

from jaxkit.core.numerics import all_finite
from jaxkit.dynamics.linear.implicit import closed
from jaxkit.dynamics.ode.field import Field
from jaxkit.dynamics.ode.reasons import nought, without_derivative


def opened(field: Field, event: Any, t: Array, x: Any, args: Any) -> tuple[Field, Any, Any]:
    """Field, event and parameters, where the parameters also hold what the field closes over."""
    fn, values = closed(field, t, x, args)
    if not values:
        return field, event, args
    seen = (lambda t, x, a: event(t, x, a[0])) if event is not None else None
    return lambda t, x, a: fn(t, x, a[0], *a[1]), seen, (args, values)


def substituted(field: Field, x0: Any, args: Any, usable: Bool[Array, ""], *, again: bool) -> tuple[Field, Any, Any]:
    """Field, start and parameters that are finite whatever was given; where these are not `usable`, the velocity is 0.

    Args:
        field: The field.
        x0: The start.
        args: Parameters.
        usable: Whether the values given are finite.
        again: Whether second derivatives are asked for.
    """
    pick = lambda v: jnp.where(usable, v, jnp.zeros_like(v))

    def velocity(t: Any, x: Any, args: Any) -> Any:
        # One argument moves at a time. It is held at both ends where the field is not finite or its slope with respect
        # to this argument is infinite: zero times an infinite slope would be NaN again.
        given = jax.lax.stop_gradient((t, x, args))
        value = field(*given)
        good = all_finite(value) & usable

        def change(i: int, part: Any, steep: Array) -> Any:
            hold = lambda v, held: jnp.where(good & ~steep, v, held) if _inexact(v) else v
            moved = _with(field, given, i)(jax.tree.map(hold, part, given[i]))
            return jax.tree.map(lambda new, old: hold(new - old, jnp.zeros_like(old)), moved, value)

        steep = _infinite_slopes(field, *given)

        def apart() -> Any:
            changes = [change(i, part, steep[i]) for i, part in enumerate((t, x, args))]
            return jax.tree.map(lambda *terms: sum(terms[1:], terms[0]), value, *changes)

        # Moving one argument at a time leaves no mixed second derivatives.
        smooth = again and (good & ~steep[0] & ~steep[1] & ~steep[2])
        found = jax.lax.cond(smooth, lambda: field(t, x, args), apart) if again else apart()
        other = lambda v: pick(jnp.asarray(_large(v.dtype), v.dtype))
        return jax.tree.map(lambda v: jnp.where(good, v, other(v)), found)

    args = jax.tree.map(lambda v: pick(v) if _inexact(v) else v, args)
    return velocity, jax.tree.map(pick, x0), args


def _infinite_slopes(field: Field, t: Any, x: Any, args: Any) -> tuple[Bool[Array, ""], ...]:
    """Whether the field's derivatives with respect to time, state and parameters are not finite."""
    here = jax.lax.stop_gradient((t, x, args))
    one = lambda v: jnp.ones_like(v) if _inexact(v) else np.zeros(jnp.shape(v), jax.dtypes.float0)

    def along(i: int) -> Bool[Array, ""]:
        return ~all_finite(jax.jvp(_with(field, here, i), (here[i],), (jax.tree.map(one, here[i]),))[1])

    return along(0), along(1), along(2)


def _with(field: Field, given: tuple[Any, Any, Any], i: int) -> Callable[[Any], Any]:
    """The field as a function of its `i`-th argument alone, with the others as given."""
    return lambda part: field(*[part if j == i else other for j, other in enumerate(given)])


def _inexact(v: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(v), jnp.inexact)


def _large(dtype: Any) -> float:
    return 1e19 if jnp.finfo(dtype).bits < 64 else 1e60


def restored(tree: Any, usable: Bool[Array, ""], dt: float | None) -> Any:
    """A result, NaN where it came of substitutes: those leave a large number where a step was not refused."""

    def leaf(v: Array) -> Array:
        limit = (1e-6 if dt is None else 1e-3 * dt) * _large(v.dtype)
        return jnp.where(usable & ((jnp.abs(v) < limit) | jnp.isinf(v)), v, jnp.nan)

    return jax.tree.map(leaf, tree)


def detached(lost: Bool[Array, ""], field: Field, tree: Any, start: Any, end: Any) -> Any:
    """`tree` with the derivative NaN, which does not go through the steps, with respect to what was given if `lost`.

    Args:
        lost: Whether the solve has failed.
        field: The field.
        tree: The results of the solve.
        start: The times, state and parameters that were given.
        end: The time and state where it ended.
    """
    ts, x0, args = start
    here, there = _infinite_slopes(field, ts[0], x0, args), _infinite_slopes(field, end[0], end[1], args)
    by_state, by_args = here[1] | there[1], here[2] | there[2]
    lost = lost | by_state
    moved, bent = _moved(start), _moved(args)

    def leaf(v: Array) -> Array:
        held = jax.lax.stop_gradient(v) + without_derivative(lost, moved.astype(v.dtype))
        taken = v + jnp.where(by_args, without_derivative(by_args, bent.astype(v.dtype)), 0)
        return jnp.where(lost, held, taken)

    return jax.tree.map(leaf, tree)


def _moved(given: Any) -> Array:
    """Zero, with a derivative with respect to everything that is given."""
    leaves = [jnp.asarray(v) for v in jax.tree.leaves(given)]
    some = [jnp.sum(nought(v)).astype(float) for v in leaves if jnp.issubdtype(v.dtype, jnp.floating)]
    return sum(some, jnp.zeros((), float))


def with_tolerances(solver: Any, rtol: float, atol: Any) -> Any:
    """An implicit solver whose stages are solved to the tolerances that it would take from adaptive steps."""
    given = {"rtol": rtol, "atol": atol, "norm": optimistix.rms_norm}
    finder = solver.root_finder
    missing = {k: v for k, v in given.items() if getattr(finder, k, None) is diffrax._root_finder.use_stepsize_tol}
    return replace(solver, root_finder=replace(finder, **missing)) if missing else solver

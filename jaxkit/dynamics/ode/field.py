"""Vector fields: `field(t, x, args)` gives the velocity of the state `x` (any pytree) at time `t`."""

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from jaxkit.core import checks
from jaxkit.core.numerics import all_finite

SMALL = 256  # numbers of an array up to which its derivative is taken out lane by lane: see `only`
Field = Callable[[Array, Any, Any], Any]


def as_state(name: str, x0: PyTree, *, finite: bool = True) -> PyTree:
    """`x0` with floating-point leaves of one dtype; checked to be finite if `finite`."""
    x0 = jax.tree.map(lambda v: checks.floating(name, v), x0)
    leaves = jax.tree.leaves(x0)
    checks.require(bool(leaves), name, "hold at least one number", "is empty")
    dtype = jnp.result_type(*leaves)
    if finite:
        check_state(name, x0)
    return jax.tree.map(lambda v: v.astype(dtype), x0)


def check_state(name: str, x0: PyTree) -> None:
    """Check that the numbers of a state are finite where they are known."""
    for leaf in jax.tree.leaves(x0):
        if isinstance(leaf, jax.Array | np.ndarray | np.generic | int | float):
            checks.finite(name, leaf)


def check_tolerance(rtol: float, dtype: Any) -> None:
    """Warn where a relative tolerance is below what the state's dtype can resolve."""
    if rtol < 50 * float(jnp.finfo(dtype).eps):
        warnings.warn(
            f"`rtol` = {rtol:g} is below what {dtype} can resolve: raise it, or call `jaxkit.set_precision('double')`.",
            stacklevel=3,
        )


def check_field(field: Field, t: Array | jax.ShapeDtypeStruct, x: PyTree, args: PyTree) -> None:
    """Check at trace time that `field` returns a velocity of the state's structure and shapes."""
    checks.require(callable(field), "field", "be a function `field(t, x, args)`", f"is {type(field).__name__}")
    velocity = jax.eval_shape(field, t, x, args)
    have, want = jax.tree.structure(velocity), jax.tree.structure(x)
    checks.require(have == want, "field", f"return the structure of the state, {want}", f"returns {have}")
    imaginary = lambda tree: [jnp.issubdtype(v.dtype, jnp.complexfloating) for v in jax.tree.leaves(tree)]
    fits = not any(a and not b for a, b in zip(imaginary(velocity), imaginary(x), strict=True))
    checks.require(fits, "x0", "be complex, as the field's velocity is", "is real")
    shapes, wanted = ([tuple(v.shape) for v in jax.tree.leaves(tree)] for tree in (velocity, x))
    checks.require(shapes == wanted, "field", f"return the shapes of the state, {wanted}", f"returns {shapes}")


def check_events(functions: Sequence[Callable], t: Array | jax.ShapeDtypeStruct, x: PyTree, args: PyTree) -> None:
    """Check at trace time that each event function returns one real number."""
    for fn in functions:
        found = jax.tree.leaves(jax.eval_shape(fn, t, x, args))
        size = sum(math.prod(v.shape) for v in found)
        checks.require(size == 1, "event", "return one number, zero where it happens", f"returns {size} numbers")
        kind = found[0].dtype
        real = jnp.issubdtype(kind, jnp.floating) or jnp.issubdtype(kind, jnp.integer)
        checks.require(real, "event", "return a real number that changes its sign", f"returns one of type {kind}")


def way_of(t0: Array, t1: Array) -> Array:
    """1 where time runs forwards from `t0` to `t1`, or stands still; -1 where it runs backwards."""
    return jnp.where(t1 < t0, -jnp.ones_like(t0), jnp.ones_like(t0))


def only(own: Array, tree: PyTree) -> PyTree:
    """`tree` with its derivative where `own` holds.

    A formula may be infinite elsewhere, and going back, zero times infinity is NaN. Large arrays are left as they are:
    where lanes share them, they would be copied for each.
    """

    def leaf(v: Any) -> Any:
        small = eqx.is_inexact_array(v) and v.size <= SMALL
        return jnp.where(own, v, jax.lax.stop_gradient(v)) if small else v

    return jax.tree.map(leaf, tree)


def held_where_not_finite(field: Field) -> Field:
    """The field, without a derivative where it is not finite: no step that is kept has such a velocity."""

    def velocity(t: Any, x: PyTree, args: PyTree) -> PyTree:
        given = (t, x, args)
        free = lambda v: jax.lax.stop_gradient(v) if eqx.is_inexact_array(v) else v
        return field(*only(all_finite(field(*jax.tree.map(free, given))), given))

    return velocity

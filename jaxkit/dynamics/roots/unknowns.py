"""From the user's input (numbers, pytrees, brackets) to a flat unknown and a flat residual, with the checks."""

import functools
import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxkit.core.checks import is_traced, require
from jaxkit.dynamics.roots.methods.method import Method


def tolerances(real: Any, rtol: float | None, atol: float | None) -> tuple[float, float]:
    """The tolerances in force for a real dtype: the dtype's defaults, and never a relative tolerance below 4 eps."""
    double = jnp.finfo(real).eps < 1e-10
    rtol = (1e-9 if double else 1e-5) if rtol is None else rtol
    return max(float(rtol), 4 * float(jnp.finfo(real).eps)), float(atol or 0)


def guess(x0: Any, bracket: Any, solver: Method) -> tuple[Any, Any]:
    """Check guess and bracket against the method; without a guess, take the midpoint of the bracket."""
    if not solver.bracketing:
        require(x0 is not None, "x0", f"be given for method {solver.name!r}", "is missing")
        require(bracket is None, "bracket", f"be None for method {solver.name!r}", "is given")
        return x0, None
    require(
        isinstance(bracket, tuple | list) and len(bracket) == 2,
        "bracket",
        f"be two numbers (a, b) for method {solver.name!r}",
        f"is {bracket!r}",
    )
    a, b = (jnp.asarray(end) for end in bracket)
    require(a.ndim == b.ndim == 0, "bracket", "be two scalars", f"has shapes {a.shape} and {b.shape}")
    real = jnp.result_type(float, a, b)
    low, high = jnp.minimum(a.astype(real), b.astype(real)), jnp.maximum(a.astype(real), b.astype(real))
    x0 = low + 0.5 * (high - low) if x0 is None else x0
    require(jnp.shape(x0) == (), "x0", f"be a scalar for method {solver.name!r}", f"has shape {jnp.shape(x0)}")
    require(not jnp.iscomplexobj(x0), "x0", f"be real for method {solver.name!r}", "is complex")
    return x0, (low, high)


def check_ends(bracket: Any) -> None:
    """Check a bracket's form, and its values where they are known."""
    if bracket is None:
        return
    two = isinstance(bracket, tuple | list) and len(bracket) == 2
    require(two, "bracket", "be two numbers (a, b)", f"is {bracket!r}")
    if not is_traced(bracket):
        ends = [np.asarray(end) for end in bracket]
        known = all(end.dtype.kind in "biufV" for end in ends)
        require(not known or all(np.all(np.isfinite(end)) for end in ends), "bracket", "be finite", f"is {bracket}")


def flatten(x0: Any, *, flat: bool) -> tuple[Array, Callable[[Array], Any]]:
    """The unknown as a scalar or vector, and the way back."""

    def number(value: Any) -> Array:
        try:
            array = jnp.asarray(value)
        except (TypeError, ValueError):
            raise ValueError(f"Argument `x0` must hold numbers, but holds {value!r}.") from None
        return array if jnp.issubdtype(array.dtype, jnp.inexact) else array.astype(jnp.result_type(float))

    x0 = promoted(jax.tree.map(number, x0))
    leaves, structure = jax.tree.flatten(x0)
    require(bool(leaves) and all(leaf.size for leaf in leaves), "x0", "hold at least one number", "is empty")
    if len(leaves) == 1 and leaves[0].ndim == 0:  # no flattening: fast in millions of lanes
        return (leaves[0].reshape(1) if flat else leaves[0]), lambda x: structure.unflatten([x.reshape(())])
    ends = list(itertools.accumulate(leaf.size for leaf in leaves))

    def back(x: Array) -> Any:  # unlike ravel_pytree's, it takes complex entries in place of real ones
        pieces = [x[end - leaf.size : end].reshape(leaf.shape) for end, leaf in zip(ends, shapes, strict=True)]
        return jax.tree.unflatten(structure, pieces)

    shapes = [jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves]
    return jnp.concatenate([leaf.ravel() for leaf in leaves]), back


def promoted(tree: Any) -> Any:
    """Every leaf in the widest dtype among them."""
    leaves = [jnp.asarray(leaf) for leaf in jax.tree.leaves(tree)]
    if not leaves:
        return tree
    widest = functools.reduce(np.promote_types, (leaf.dtype for leaf in leaves))
    return jax.tree.map(lambda leaf: jnp.asarray(leaf).astype(widest), tree)


def flat_residual(
    fn: Callable[[Any, Any], Any], start: Array, unravel: Callable[[Array], Any], args: Any
) -> tuple[Callable[[Array], Array], Array]:
    """The residual of the flat unknown, and the start in the residual's dtype (complex for a complex equation)."""

    def residual(x: Array) -> Array:
        flat = jax.flatten_util.ravel_pytree(promoted(fn(unravel(x), args)))[0]
        require(
            flat.size == start.size, "fn", f"return {start.size} values, as many as `x0` has", f"returns {flat.size}"
        )
        return flat.reshape(start.shape).astype(np.promote_types(flat.dtype, start.dtype))

    return residual, start.astype(jax.eval_shape(residual, start).dtype)

"""Argument checks in one sentence pattern: "Argument `x0` must have shape (2,), but has shape (3,).".

Shapes are checked at trace time, values only where they are known (outside a trace): a jitted or differentiated caller
pays nothing, and gets a status instead of an exception.
"""

from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike

from jaxkit.core.arguments import one_of as one_of
from jaxkit.core.arguments import require as require
from jaxkit.core.jax_internals import is_tracer


def is_traced(value: Any) -> bool:
    """Whether any leaf of `value` is being traced, so that its value is not known."""
    return is_tracer(value) or (type(value) is not float and any(map(is_tracer, jax.tree.leaves(value))))


def floating(name: str, value: ArrayLike | Iterable) -> Array:
    """`value` as a real floating-point array in the precision in force; float arrays keep their dtype."""
    try:
        array = jnp.asarray(whole_as_floating(value))
    except (TypeError, ValueError):
        raise ValueError(f"Argument `{name}` must be a number or an array of numbers, but is {value!r}.") from None
    require(not jnp.issubdtype(array.dtype, jnp.complexfloating), name, "be real", "is complex")
    return array if jnp.issubdtype(array.dtype, jnp.floating) else array.astype(jnp.result_type(float))


def whole_as_floating(value: Any) -> Any:
    """`value`, but known whole numbers as floating ones: in single precision JAX would cut them to 32 bits."""
    if isinstance(value, jax.Array | float) or is_traced(value):
        return value
    known = np.asarray(value)
    return known.astype(jnp.result_type(float)) if known.dtype.kind in "iu" else value


def whole_numbers_fit(value: Any) -> None:
    """Refuse whole numbers of NumPy's that JAX, in single precision, would cut to 32 bits without a word."""
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "iu" and value.dtype.itemsize == 8:
        held = np.iinfo(jax.dtypes.canonicalize_dtype(value.dtype))
        if value.size and not (held.min <= value.min() and value.max() <= held.max):
            raise ValueError(
                f"Whole numbers in arguments must lie within {held.dtype}, but reach from {value.min()} to "
                f"{value.max()}: hand over floating ones, or call `jaxkit.set_precision('double')`."
            )


def shape(name: str, value: Any, expected: tuple[int | str, ...]) -> None:
    """Check the shape; a string in `expected` stands for any length (the same string, the same length)."""
    actual, lengths = tuple(jnp.shape(value)), {}
    fits = len(actual) == len(expected) and all(
        lengths.setdefault(want, have) == have if isinstance(want, str) else want == have
        for want, have in zip(expected, actual, strict=True)
    )
    printed = "(" + ", ".join(map(str, expected)) + ("," if len(expected) == 1 else "") + ")"
    require(fits, name, f"have shape {printed}", f"has shape {actual}")


def finite(name: str, value: Any) -> None:
    """Check that every number is finite."""
    if not is_traced(value):
        flat = np.ravel(np.asarray(value))
        bad = np.flatnonzero(~np.isfinite(flat))
        require(
            not bad.size,
            name,
            "be finite",
            f"has {flat[bad[0]] if bad.size else ''} at index {bad[0] if bad.size else ''}",
        )


def positive(name: str, value: Any, *, strict: bool = True) -> None:
    """Check that every number is finite and positive (or not negative, with `strict=False`)."""
    finite(name, value)
    if not is_traced(value):
        least = float(np.min(np.asarray(value, float), initial=np.inf))
        require(
            least > 0 or (not strict and least == 0),
            name,
            "be positive" if strict else "not be negative",
            f"contains {least:g}",
        )


def increasing(name: str, value: Any) -> None:
    """Check that a vector of times is finite and strictly increasing."""
    finite(name, value)
    if not is_traced(value):
        bad = np.flatnonzero(np.diff(np.asarray(value, float)) <= 0)
        at = int(bad[0]) + 1 if bad.size else 0
        require(not bad.size, name, "increase strictly", f"{name}[{at}] <= {name}[{at - 1}]")


def one_way(name: str, value: Any, *, backwards: bool = True) -> None:
    """Check that a vector of times is finite and does not turn back; neighbours may be equal.

    Args:
        name: Name of the argument.
        value: The times.
        backwards: Whether they may decrease.
    """
    if not is_traced(value):
        times = np.asarray(value, float)
        before, after = times[:-1], times[1:]
        fits = (before <= after).all() or (backwards and (before >= after).all())
        if fits and max(abs(times[0]), abs(times[-1])) < np.inf:  # then all between are finite, too
            return
        finite(name, value)
        back = backwards and bool(times[-1] < times[0])
        bad = np.flatnonzero(before < after if back else before > after)
        at = int(bad[0]) + 1 if bad.size else 0
        way, wrong = ("increase", ">") if back else ("decrease", "<")
        require(not bad.size, name, f"not {way}", f"{name}[{at}] {wrong} {name}[{at - 1}]")


def structure(name: str, value: Any, like: Any, *, of: str) -> None:
    """Check that a pytree has the structure and shapes of another (`of` names that other in the sentence)."""
    have, want = jax.tree.structure(value), jax.tree.structure(like)
    require(have == want, name, f"have the structure of {of}, {want}", f"has {have}")
    shapes, wanted = ([tuple(jnp.shape(v)) for v in jax.tree.leaves(tree)] for tree in (value, like))
    require(shapes == wanted, name, f"have the shapes of {of}, {wanted}", f"has {shapes}")


def double_precision(what: str) -> None:
    """Raise `ValueError` unless double precision is in force, with the sentence that says how to set it."""
    if not jax.config.jax_enable_x64:  # pyright: ignore[reportAttributeAccessIssue]
        raise ValueError(
            f"{what} needs double precision, but single precision is in force: "
            'call `jaxkit.set_precision("double")` first.'
        )

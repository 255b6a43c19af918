"""Sparse factors on the CPU, by KLU (through klujax): solves with a matrix of a known pattern, in double precision.

KLU raises from inside the program where a pivot is exactly zero. So the diagonal is moved by a few rounding errors of
its row, and a matrix that is not finite is replaced by the identity and its solution by NaN.

Factors are memory of KLU's own, which JAX does not see. They are made, used and let go within one function, `held`,
which is never differentiated: whoever differentiates does so inside it.

References:
    Davis and Palamadai Natarajan (2010), Algorithm 907: KLU, a direct sparse solver for circuit simulation problems,
    ACM Transactions on Mathematical Software 37.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Inexact

from jaxkit.core.jax_internals import foreign
from jaxkit.dynamics.linear.libraries import klujax
from jaxkit.dynamics.linear.pattern import Pattern

Vector = Inexact[Array, " n"]
Entries = Inexact[Array, " k"]


def solve(pattern: Pattern, entries: Entries, right: Vector, *, transposed: bool = False) -> Vector:
    """`A^-1 right`, or with the transposed matrix; NaN where the matrix is not finite. It has no derivative."""
    whole, good = _usable(pattern, entries)
    call = klujax().tsolve_with_symbol_f64 if transposed else klujax().solve_with_symbol_f64
    found = call.bind(*_places(pattern), whole[None], right.astype(jnp.float64)[None, :, None], _order(pattern))
    return _answer(found[0, :, 0], good, right)


class Factors(NamedTuple):
    """A factored matrix, for use inside `held`."""

    pattern: Pattern
    handle: Array
    good: Array

    def solve(self, right: Vector, *, transposed: bool = False) -> Vector:
        """`A^-1 right`, or with the transposed matrix; `right` is complex if the matrix is."""
        kind = "c128" if jnp.iscomplexobj(right) else "f64"
        call = getattr(klujax(), f"{'t' * transposed}solve_with_numeric_{kind}")
        found = call.bind(_order(self.pattern), self.handle, _double(right)[None, :, None])
        return _answer(found[0, :, 0], self.good, right)


def held(pattern: Pattern, entries: Entries, use: Callable[[Factors], Any]) -> Any:
    """What `use` makes of the factors, which are let go behind it.

    Args:
        pattern: The pattern.
        entries: The matrix, real or complex.
        use: A function of the factors; only what it returns may depend on them.
    """
    factor = _programs()[jnp.iscomplexobj(entries)]
    whole, good = _usable(pattern, entries)
    handle = factor(*_places(pattern), whole[None], _order(pattern))
    leaves, structure = jax.tree.flatten(use(Factors(pattern, handle, good)))
    last = sum((jnp.real(jnp.ravel(v)[0]).astype(jnp.float64) for v in leaves), jnp.zeros(()))
    gone = _let_go(handle, last)
    return structure.unflatten([jnp.where(gone == 1, v, v) for v in leaves])


@jax.custom_batching.custom_vmap
def _let_go(handle: Array, last: Array) -> Array:
    """Let the factors go, behind what was computed last."""
    # XLA must see that they are used before: a zero of which it does not know that it is one.
    nothing = (jnp.isnan(last) & jnp.isinf(last)).astype(jnp.uint64)
    return _programs()[2](handle + nothing)


@_let_go.def_vmap
def _(size: int, batched: Any, handle: Array, last: Array) -> tuple[Array, bool]:
    del size
    last = jnp.sum(last) if batched[1] else last
    return _let_go(handle.reshape(-1) if batched[0] else handle, last), False  # one factor goes once


def _usable(pattern: Pattern, entries: Entries) -> tuple[Entries, Array]:
    entries = _double(jax.lax.stop_gradient(entries))
    good = jnp.all(jnp.isfinite(entries))
    one = np.zeros(len(pattern.rows), entries.dtype)
    one[pattern.diagonal] = 1
    entries = jnp.where(good, entries, one)
    largest = jnp.max(jnp.abs(entries))
    spread = 4.0 + np.arange(pattern.size) % 7  # no two neighbours alike, so that no pivots cancel
    eps = float(jnp.finfo(entries.dtype).eps)
    sizes = jax.ops.segment_max(jnp.abs(entries), pattern.rows, pattern.size, indices_are_sorted=True)
    sizes = jnp.where(sizes == 0, jnp.where(largest == 0, 1, largest), sizes)
    moved = jnp.where(jnp.real(entries[pattern.diagonal]) < 0, -eps, eps) * spread * jnp.real(sizes)
    return entries.at[pattern.diagonal].add(moved.astype(entries.dtype)), good


def _double(value: Array) -> Array:
    return value.astype(jnp.complex128 if jnp.iscomplexobj(value) else jnp.float64)


def _answer(found: Vector, good: Array, right: Vector) -> Vector:
    return jnp.where(good, found, jnp.nan).astype(right.dtype)


def _places(pattern: Pattern) -> tuple[Array, Array]:
    return jnp.asarray(pattern.rows, jnp.int32), jnp.asarray(pattern.columns, jnp.int32)


def _order(pattern: Pattern) -> Array:
    """The address of the order of elimination, which the pattern sets."""
    return jnp.asarray(np.uint64(pattern.order.raw))


@functools.cache
def _programs() -> tuple[Callable[..., Array], Callable[..., Array], Callable[..., Array]]:
    """Making factors of a real and of a complex matrix, and letting them go."""
    jax.ffi.register_ffi_target("jaxkit_release_factors", klujax().klujax_cpp.free_numeric(), platform="cpu")

    def many(call: Callable, args: Any, dims: Any) -> tuple[Array, int]:
        rows, columns, entries, order = args
        entries = jnp.moveaxis(entries, dims[2], 0)
        found = call(rows, columns, entries.reshape(-1, entries.shape[-1]), order)
        return found.reshape(entries.shape[:-1]), 0

    handles = lambda i, j, a, _: (a.shape[:1], jnp.uint64)
    real = foreign("sparse_factors", "factor_f64", handles, many)
    whole = foreign("complex_sparse_factors", "factor_c128", handles, many)
    release = foreign("release_factors", "jaxkit_release_factors", lambda handle: ((), jnp.int32))
    return real, whole, release

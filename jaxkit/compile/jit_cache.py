"""Compiled programs of verbs, kept between calls and found again by what their functions hold: see `contents`.

A verb is called with functions, settings and numbers. `run_kept` compiles it once for the contents of the functions and
settings and the shapes of the numbers. A second call costs one dispatch, even with a new lambda of the same text; where
a constant that a function reads has changed, so have its contents, and the verb is compiled anew.
"""

import collections
import functools
import os
import threading
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np

from jaxkit.compile.contents import Contents, contents
from jaxkit.compile.options import wide_vectors
from jaxkit.core import checks
from jaxkit.core.jax_internals import inside_a_trace, is_tracer

R = TypeVar("R")

KEPT = 256  # most programs kept
BYTES = 1 << 30  # most bytes of the programs and of the arrays that their functions hold
USUAL = 8 << 20  # bytes assumed for a program where the system does not say how much memory it took
MOST = 64 << 20  # most bytes that a program is counted for
STATM = Path("/proc/self/statm")


def run_kept(
    fn: Callable[..., R], static: tuple[Any, ...], arrays: tuple[Any, ...], *, wide: bool = False, **options: Any
) -> R:
    """`fn(*static, *arrays)`, run by a kept program.

    As part of a larger program, or where a function holds a value that is being traced, `fn` is called as it is.

    Args:
        fn: A function of a module.
        static: Its first arguments: functions, names, settings.
        arrays: Its other arguments: pytrees. Their numbers, Python's included, become arrays; other leaves are static.
        wide: Whether to use wide vectors, where the processor and the compiler have them.
        **options: Options of `jax.jit`; they and wide vectors serve programs outside a derivative or a batch.
    """
    leaves, treedef = jax.tree.flatten(arrays)
    for leaf in leaves:
        checks.whole_numbers_fit(leaf)
    if staged():
        return fn(*static, *arrays)
    moving = tuple(map(_is_number, leaves))
    fixed = [leaf for leaf, moves in zip(leaves, moving, strict=True) if not moves]
    numbers = [leaf for leaf, moves in zip(leaves, moving, strict=True) if moves]
    if any(map(is_tracer, numbers)):
        wide, options = False, {}
    key = contents(fn, static, fixed, treedef, bytes(moving), wide, options or None)
    if key is None:
        return fn(*static, *arrays)
    whole = (key, tuple(map(_kind, numbers)), jax.config.jax_enable_x64)  # pyright: ignore[reportAttributeAccessIssue]
    return _PROGRAMS.get(whole)(*numbers)


def _call(key: Contents, *numbers: Any) -> Any:
    fn, static, fixed, treedef, moving, _, _ = key.things
    values, others = iter(numbers), iter(fixed)
    return fn(*static, *treedef.unflatten([next(values if moves else others) for moves in moving]))


def _program(key: Contents) -> Callable[..., Any]:
    """The program of a key, not compiled yet.

    It is a function of its own: JAX keeps what it traced for as long as the function lives.
    """
    *_, wide, options = key.things
    given: dict[str, Any] = dict(options or {})
    if wide:
        given["compiler_options"] = wide_vectors()
    return jax.jit(lambda *numbers: _call(key, *numbers), **given)


def kept(fn: Callable[..., R]) -> Callable[..., R]:
    """A function of functions and settings whose results are kept, found again by their contents."""
    results: collections.OrderedDict[Hashable, R] = collections.OrderedDict()
    lock = threading.Lock()

    @functools.wraps(fn)
    def found(*static: Any) -> R:
        key = contents(static)
        if key is None:
            return fn(*static)
        with lock:
            if key in results:
                results.move_to_end(key)
                return results[key]
        result = fn(*static)
        with lock:
            results[key] = result
            while len(results) > KEPT:
                results.popitem(last=False)
        return result

    return found


def staged() -> bool:
    """Whether what is computed here becomes part of a larger program (`jit`, `scan`, ...) instead of a value.

    `grad` and `vmap` compute at once what does not depend on their arguments, so the fact that JAX is tracing does not
    tell; the result of one operation does.
    """
    return inside_a_trace() and checks.is_traced(jax.lax.neg(np.int32(0)))


class _Programs:
    """The programs used last, as many as fit."""

    def __init__(self) -> None:
        self._programs: collections.OrderedDict[Hashable, tuple[Callable[..., Any], int]] = collections.OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, key: tuple[Contents, Any, bool]) -> Callable[..., Any]:
        """The program of a key; a new one is measured while it compiles, at its first call."""
        with self._lock:
            if key in self._programs:
                self._programs.move_to_end(key)
                return self._programs[key][0]
        program = _program(key[0])

        def first(*given: Any) -> Any:
            before = _resident()
            result = program(*given)
            grown = min(_resident() - before, MOST) if before else USUAL  # (the results may be large, and are not kept)
            self._keep(key, program, key[0].size + max(1 << 20, grown))
            return result

        return first

    def _keep(self, key: Hashable, program: Callable[..., Any], size: int) -> None:
        with self._lock:
            self._bytes += size - self._programs.pop(key, (None, 0))[1]
            self._programs[key] = program, size
            while len(self._programs) > KEPT or self._bytes > BYTES:
                self._bytes -= self._programs.popitem(last=False)[1][1]


_PROGRAMS = _Programs()
_NUMBERS = frozenset((int, float, complex))


def _resident() -> int:
    """Bytes of memory in use; 0 where the system does not say."""
    try:
        return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0


def _is_number(leaf: Any) -> bool:
    kind = type(leaf)
    if kind in _NUMBERS:
        return True
    if isinstance(leaf, (np.ndarray, np.generic)):
        return leaf.dtype.kind in "biufcV"
    return isinstance(leaf, jax.Array)


def _kind(value: Any) -> Hashable:
    """The properties of a number on which a program depends."""
    if type(value) in _NUMBERS:
        return type(value)
    return value.shape, value.dtype, getattr(value, "weak_type", False)

"""Programs compiled with options of their own, kept, and used where they may be: outside of larger programs."""

import functools
import types
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxkit.compile.options import wide_vectors
from jaxkit.core import checks
from jaxkit.core.jax_internals import inside_a_trace

KEPT = 128  # programs, of about ten megabytes each


def run(fn: Callable[..., Any], static: tuple[Any, ...], arrays: tuple[Any, ...], *, keep: bool = True) -> Any:
    """`fn(*static, *arrays)`, by a kept program with wide vectors where the processor and the compiler have them.

    A second call with arrays of the same shapes costs a dispatch. Where the arrays are traced, or the call is part of a
    larger program, the function is called as it is: options are for whole programs.

    Args:
        fn: The function.
        static: Its first arguments, hashable: the program is kept for them.
        arrays: Its other arguments.
        keep: Whether a program may be kept for the static arguments, see `holds_tracer`.
    """
    if keep and not checks.is_traced(arrays) and not staged():
        return _kept(fn, *static)(*arrays)
    return fn(*static, *arrays)


@functools.lru_cache(maxsize=KEPT)
def _kept(fn: Callable[..., Any], *static: Any) -> Callable[..., Any]:
    return jax.jit(functools.partial(fn, *static), compiler_options=wide_vectors())


def staged() -> bool:
    """Whether what is computed here becomes part of a larger program (`jit`, `scan`, ...) instead of a value.

    `grad` and `vmap` compute at once what does not depend on their arguments, so that JAX is tracing does not tell: one
    operation does.
    """
    return inside_a_trace() and checks.is_traced(jax.lax.neg(np.int32(0)))


def holds_tracer(fn: Any) -> bool:
    """Whether a function closes over a value that is being traced (a program must not be kept for it)."""
    values = [_content(cell) for cell in getattr(fn, "__closure__", None) or ()]
    return any(holds_tracer(v) if isinstance(v, types.FunctionType) else checks.is_traced(v) for v in values)


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not set yet
        return None

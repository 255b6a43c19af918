"""Programs compiled with options of their own: only for calls from outside a trace."""

import types
from collections.abc import Callable
from typing import Any

import jax

from jaxkit.core import checks
from jaxkit.core.environment import wide_vectors


class Inside(Exception):
    """The program was called in a trace."""


def outside(fn: Callable[..., Any]) -> Callable[..., Any]:
    """`fn` compiled with options, which are for programs called from outside a trace; raises `Inside` otherwise."""
    run = jax.jit(fn, compiler_options=wide_vectors())

    def call(*arrays: Any) -> Any:
        try:
            return run(*arrays)
        except ValueError as problem:
            if "top-level" in str(problem):
                raise Inside from None
            raise

    return call


def holds_tracer(fn: Any) -> bool:
    """Whether a function closes over a value that is being traced (a program must not be kept for it)."""
    values = [_content(cell) for cell in getattr(fn, "__closure__", None) or ()]
    return any(holds_tracer(v) if isinstance(v, types.FunctionType) else checks.is_traced(v) for v in values)


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not set yet
        return None

"""A type checker that looks at arrays alone: their shapes and dtypes must be those of the annotations."""

import functools
import inspect
import types
import typing

import jax
from jaxtyping import AbstractArray


def arrays_only(function):
    """Decorator for jaxtyping's import hook: checks the arguments and the result that are annotated as arrays."""
    try:
        hints = {name: kind for name, kind in function.__annotations__.items() if _checkable(kind)}
        names = tuple(inspect.signature(function).parameters)
    except (TypeError, ValueError, AttributeError):
        return function
    if not hints or function.__name__ == "__init__":  # results are also made of rows, in scans
        return function

    @functools.wraps(function)
    def checked(*args, **kwargs):
        for name, value in (*zip(names, args, strict=False), *kwargs.items()):
            _look(hints, name, value, function)
        result = function(*args, **kwargs)
        _look(hints, "return", result, function)
        return result

    return checked


def _kinds(kind):
    """The alternatives of a union."""
    return (
        typing.get_args(kind)
        if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union
        else (kind,)
    )


def _checkable(kind):
    return any(isinstance(k, type) and issubclass(k, AbstractArray) for k in _kinds(kind))


def _look(hints, name, value, function):
    if name in hints and isinstance(value, jax.Array):
        if not any(isinstance(value, kind) for kind in _kinds(hints[name]) if isinstance(kind, type)):
            where = f"{function.__module__}.{function.__qualname__}"
            raise TypeError(f"{where}: `{name}` is {value.dtype}{list(value.shape)}, annotated as {hints[name]}")

"""From trees to numbers: in numpy on the host, in JAX inside a program; JAX is imported when it is asked for."""

import importlib
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxkit.core.expression.derivative import definition
from jaxkit.core.expression.functions import CONSTANTS, FUNCTIONS
from jaxkit.core.expression.tree import Node, Number, fold, integer


def evaluate(node: Node, values: Mapping[str, Any], *, complex_: bool = False, host: bool = False) -> Any:
    """The value of a tree, in the dtype of the values.

    Args:
        node: The tree.
        values: Name -> array; the arrays broadcast.
        complex_: Whether to compute with complex numbers.
        host: Whether to use numpy instead of JAX.
    """
    module: Any = np if host else importlib.import_module("jax.numpy")
    dtype = _dtype(module, values, complex_)
    arrays = {name: module.asarray(value).astype(dtype) for name, value in values.items()}
    constant = lambda value: module.asarray(value, dtype)

    def apply(op: str, args: tuple[Any, ...], nodes: tuple[Node, ...]) -> Any:
        if not args:
            return constant(CONSTANTS[op])
        if op == "^":
            return _power(module, args[0], args[1], nodes[1])
        return call(module, op, *args)

    if host:
        with np.errstate(all="ignore"):
            return fold(node, lambda n: constant(n.value), arrays, apply)
    return fold(node, lambda n: constant(n.value), arrays, apply)


def _dtype(module: Any, values: Mapping[str, Any], complex_: bool) -> Any:  # noqa: FBT001
    dtypes = [np.dtype(getattr(value, "dtype", type(value))) for value in values.values()]
    inexact = [dtype for dtype in dtypes if np.issubdtype(dtype, np.inexact)]
    widest = np.float64 if module is np else module.result_type(float)
    if inexact and len(inexact) == len([d for d in dtypes if d.kind not in "biu"]):
        arrays = [np.dtype(v.dtype) for v in values.values() if hasattr(v, "dtype") and v.dtype.kind in "fc"]
        for k, dtype in enumerate(arrays):
            widest = dtype if k == 0 else np.promote_types(widest, dtype)
    wants = complex_ or any(dtype.kind == "c" for dtype in dtypes)
    return np.promote_types(widest, np.complex64) if wants else np.dtype(widest)


def call(module: Any, op: str, *args: Any) -> Any:
    """An operation or a function from the table, but not a power."""
    if op == "+":
        return args[0] + args[1]
    if op == "-":
        return args[0] - args[1]
    if op == "*":
        return args[0] * args[1]
    if op == "/":
        return args[0] / args[1]
    if op == "neg":
        return -args[0]
    if op == "erf":
        if module is np:
            return np.vectorize(math.erf, otypes=[float])(args[0])
        from jax.scipy.special import erf

        return erf(args[0])
    if FUNCTIONS[op].definition:
        body = lambda inner, values, nodes: (
            _power(module, values[0], values[1], nodes[1]) if inner == "^" else call(module, inner, *values)
        )
        return fold(definition(op), lambda n: module.asarray(n.value, args[0].dtype), {"u": args[0]}, body)
    return getattr(module, FUNCTIONS[op].array)(args[0])


def _power(module: Any, base: Any, exponent: Any, node: Node) -> Any:
    """A whole power by multiplication, so that negative bases and derivatives at 0 come out right."""
    whole = integer(node)
    if whole is None:
        if isinstance(node, Number) and node.value == 0.5:
            return module.sqrt(base)
        return module.power(base, exponent)
    if module is np:
        return base**whole if whole >= 0 else 1 / base ** (-whole)
    from jax.lax import integer_pow

    return integer_pow(base, whole)

"""Which lanes the engine moves as numbers, and which are moved as arrays (`jaxkit.dynamics.ode.wide`).

The engine takes a lane apart into numbers, which is fastest while they are few; the time to compile grows with their
number. What was measured: docs/devdocs/growth.md.
"""

import math
import warnings
from collections.abc import Sequence
from typing import Any

import jax

from jaxkit.compile.jit_cache import kept
from jaxkit.compile.nodes import MOVING
from jaxkit.compile.scalars import ScalarField
from jaxkit.core.jax_internals import inner_jaxpr
from jaxkit.dynamics.ode.engine.series import TaylorSeries, Unsupported
from jaxkit.dynamics.ode.methods import Method, RungeKutta, Taylor

NUMBERS = 256  # most operations and numbers of a lane that the engine takes apart
TERMS = 1024  # most of them times the order of Taylor's method
READ = 16384  # most operations that are taken apart to see which of them are left
PRODUCTS = frozenset(("dot_general", "conv_general_dilated"))


def fitted(method: Method, rtol: float, functions: Sequence[Any], shapes: Any, lanewise: tuple[bool, ...]) -> Any:
    """The method that moves lanes, and whether it moves them as arrays.

    Args:
        method: The method asked for.
        rtol: Relative tolerance, from which the order of Taylor's method follows.
        functions: The field, and the event functions.
        shapes: Shapes of time, one lane's state and its parameters.
        lanewise: For each parameter, whether lanes differ in it.

    Returns:
        The method: Dopri8 in place of Taylor's where lanes are wide, or, with one sentence, where the field has an
        operation without a Taylor recurrence. And whether lanes are wide.
    """
    leaves, treedef = jax.tree.flatten(jax.tree.map(lambda v: jax.ShapeDtypeStruct(v.shape, v.dtype), shapes))
    taylor = isinstance(method, Taylor)
    count, missing = _read(tuple(functions), tuple(leaves), treedef, lanewise, taylor)
    if not taylor:
        return method, count > NUMBERS
    order = max(2, math.ceil(1 - math.log(rtol) / 2)) if method.order is None else method.order
    if count <= NUMBERS and count * order <= TERMS and not missing:
        return method, False
    other = RungeKutta("dopri8", width=method.width, alike=method.alike, control=method.control)
    if missing and count <= NUMBERS:
        warnings.warn(
            f"method='taylor' has no recurrence for `{missing}`: solving with 'dopri8' instead.", stacklevel=5
        )
    return other, count > NUMBERS


@kept
def _read(
    functions: tuple[Any, ...],
    shapes: tuple[Any, ...],
    treedef: Any,
    lanewise: tuple[bool, ...],
    taylor: bool,  # noqa: FBT001
) -> tuple[float, str]:
    """The number of operations and of numbers of a lane, and the first operation without a Taylor recurrence."""
    t, x, args = treedef.unflatten(shapes)
    size = sum(math.prod(v.shape) for v in jax.tree.leaves(x))
    whole = lambda t, x, a: [fn(t, x, a) for fn in functions]
    count = size + _operations(jax.make_jaxpr(whole)(t, x, args).jaxpr)
    if size > NUMBERS or count > READ:
        return count, ""
    try:
        scalar = ScalarField(whole, t, x, args, lanewise)
        count = _left(scalar)
        if taylor and count <= NUMBERS:
            TaylorSeries(scalar, scalar.outputs[:size])
    except Unsupported as problem:
        return count, str(problem)
    return count, ""


def _operations(jaxpr: Any) -> float:
    """How many operations on numbers a function makes, at most."""
    total = 0.0
    for eqn in jaxpr.eqns:
        size = sum(math.prod(getattr(v.aval, "shape", ())) for v in eqn.outvars)
        name, params = eqn.primitive.name, eqn.params
        if (inner := inner_jaxpr(eqn)) is not None:
            total += _operations(inner[0])
        elif name == "scan":
            total += params["length"] * _operations(params["jaxpr"].jaxpr)
        elif name == "cond":
            total += sum(_operations(branch.jaxpr) for branch in params["branches"]) + size
        elif name in PRODUCTS:
            total += 2 * size * _summed(eqn)
        else:
            total += max(size, max((math.prod(getattr(v.aval, "shape", ())) for v in eqn.invars), default=0))
    return total


def _summed(eqn: Any) -> int:
    """The number of products behind each number of a product of arrays."""
    left = eqn.invars[0].aval.shape
    if eqn.primitive.name == "dot_general":
        return math.prod(left[i] for i in eqn.params["dimension_numbers"][0][0])
    return math.prod(eqn.invars[1].aval.shape)


def _left(scalar: ScalarField) -> float:
    """How many operations are left when a function is taken apart; one on whole arrays counts as all of its own."""
    total = 0.0
    for number in scalar.needed(scalar.outputs):
        node = scalar.nodes[number]
        if node.level != MOVING:
            continue
        total += 1
        if node.name == "opaque":
            shapes = dict(node.params)["shapes"]
            product = node.primitive is not None and node.primitive.name in PRODUCTS  # of arrays that stay whole
            total += NUMBERS if product else max((math.prod(shape) for shape in shapes if shape), default=0)
    return total

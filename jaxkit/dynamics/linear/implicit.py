"""Derivatives by a rule instead of through the iteration: roots, fits and ensembles share them.

A rule outlives the trace in which it was made, so the function it is about must not hold tracers of that trace: what it
closes over becomes arguments (`closed`). A status has no derivative: its tangent is `float0` (`implicit`).
"""

from collections.abc import Callable
from typing import Any, cast

import jax
import numpy as np

from jaxkit.core.jax_internals import evaluate, is_tracer

Rule = Callable[[Any, tuple[Any, ...], tuple[Any, ...]], Any]


def closed(fn: Callable[..., Any], *examples: Any) -> tuple[Callable[..., Any], list[Any]]:
    """`fn` traced once, with the tracers it closes over as further arguments.

    Args:
        fn: A function of pytrees.
        examples: Arguments, as arrays or shapes.

    Returns:
        A function of `(*arguments, *values)`, and those values, of which there are none if `fn` holds no tracer.
    """
    jaxpr, shapes = jax.make_jaxpr(fn, return_shape=True)(*examples)
    structure = jax.tree.structure(shapes)
    moving = [i for i, value in enumerate(jaxpr.consts) if is_tracer(value)]
    fixed = [None if i in moving else value for i, value in enumerate(jaxpr.consts)]

    def converted(*given: Any) -> Any:
        args, values = given[: len(examples)], list(fixed)
        for i, value in zip(moving, given[len(examples) :], strict=True):
            values[i] = value
        return structure.unflatten(evaluate(jaxpr, values, jax.tree.leaves(args)))

    return converted, [jaxpr.consts[i] for i in moving]


def implicit(solve: Callable[..., tuple[Any, Any]], rule: Rule) -> Callable[..., tuple[Any, Any]]:
    """`solve` with its derivative given by a rule.

    Args:
        solve: Maps inputs (pytrees) to `(answer, info)`; `info` (status, steps) holds whole numbers.
        rule: `rule(answer, inputs, tangents)` is the answer's tangent, linear in `tangents`.
    """

    @jax.custom_jvp
    def solved(*inputs: Any) -> tuple[Any, Any]:
        return solve(*inputs)

    @solved.defjvp
    def _(inputs: Any, tangents: Any) -> Any:
        answer, info = solved(*inputs)
        return (answer, info), (rule(answer, inputs, tangents), jax.tree.map(no_tangent, info))

    return solved


def no_tangent(value: Any) -> Any:
    """The tangent of a whole number."""
    return cast(Any, np.zeros(value.shape, jax.dtypes.float0))

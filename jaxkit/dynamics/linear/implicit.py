"""Derivatives by a rule instead of through the iteration: roots, fits and ensembles share them.

A rule outlives the trace in which it was made, so the function it is about must not hold tracers of that trace: what it
closes over becomes arguments (`closed`). A status has no derivative: its tangent is `float0` (`implicit`). What a
failed solve has come to has none either: it is NaN.
"""

from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from jaxkit.core.jax_internals import evaluate, is_tracer
from jaxkit.core.status import Status

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


def implicit(
    solve: Callable[..., tuple[Any, Any]], rule: Rule, *, lost: Callable[[Any], Bool[Array, ""]] | None = None
) -> Callable[..., tuple[Any, Any]]:
    """`solve` with its derivative given by a rule.

    Args:
        solve: Maps inputs (pytrees) to `(answer, info)`; `info` (status, steps) holds whole numbers.
        rule: `rule(answer, inputs, tangents)` is the answer's tangent, linear in `tangents`.
        lost: Tells from `info` whether there is no derivative. By default there always is.
    """

    @jax.custom_jvp
    def solved(*inputs: Any) -> tuple[Any, Any]:
        return solve(*inputs)

    @solved.defjvp
    def _(inputs: Any, tangents: Any) -> Any:
        answer, info = solved(*inputs)
        moved = lambda tangents: rule(answer, inputs, tangents)
        moved = moved(tangents) if lost is None else _unless(lost(info), answer, moved, tangents)
        return (answer, info), (moved, jax.tree.map(no_tangent, info))

    return solved


def failed(info: tuple[Array, ...]) -> Bool[Array, ""]:
    """Whether the first of `info`, a status, is not ok."""
    return info[0] != int(Status.ok)


def _unless(lost: Bool[Array, ""], answer: Any, rule: Callable[[Any], Any], tangents: Any) -> Any:
    """The answer's tangent `rule(tangents)`, but NaN where `lost`: there the rule meets zeros alone.

    A zero covector comes back as zero, so that a loss that leaves out failed lanes has a derivative.
    """
    numbers = [leaf for leaf in jax.tree.leaves(tangents) if not _whole(leaf)]
    if not numbers:
        return rule(tangents)
    there = lambda t: t if _whole(t) else jnp.where(lost, 0, t)
    every = sum(jnp.sum(jnp.real(t)) for t in numbers)

    def one(value: Any, moved: Any) -> Any:
        if _whole(moved):
            return moved
        gone = _no_number(every * once(jnp.real(value)))
        return jnp.where(lost, gone.astype(moved.dtype), moved)

    return jax.tree.map(one, answer, rule(jax.tree.map(there, tangents)))


def _whole(tangent: Any) -> bool:
    """Whether it is the tangent of a whole number."""
    return getattr(tangent, "dtype", None) == jax.dtypes.float0


def _no_number(v: Array) -> Array:
    """NaN, as a linear function of `v` whose transpose takes zero to zero."""
    there = lambda _, v: jnp.full_like(v, jnp.nan)
    back = lambda _, v: jnp.where(v == 0, v, jnp.nan)
    return jax.lax.custom_linear_solve(lambda v: v, v, there, back)


@jax.custom_jvp
def once(value: Array) -> Array:
    """1, whose derivative is NaN: what it multiplies has no derivative of its own."""
    return jnp.ones_like(value)


@once.defjvp
def _(primals: Any, tangents: Any) -> tuple[Array, Array]:
    return once(*primals), _no_number(*tangents)


def no_tangent(value: Any) -> Any:
    """The tangent of a whole number."""
    return cast(Any, np.zeros(value.shape, jax.dtypes.float0))

"""One function whose derivative has a program for each mode: one for tangents, another for cotangents.

A loop that keeps checkpoints for the reverse mode has no forward mode, and a loop with forward mode alone has no
reverse mode. Here the tangent of a function is a linear map of its own (a primitive). It is evaluated by pushing
tangents through the first program, and transposed by pulling cotangents through the second. How this map changes with
the point, that is, all higher derivatives, comes from a third program, which has both modes to any order.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, PyTree

from jaxkit.core.jax_internals import linear_map
from jaxkit.dynamics.linear.implicit import no_tangent


@dataclasses.dataclass(frozen=True, eq=False)
class Derivative:
    """The derivative of a function at a point, as a linear map.

    Attributes:
        apply: `(point, tangents) -> tangents of the outputs`, both lists of arrays.
        transpose: `(point, cotangents of the outputs) -> cotangents`.
        smooth_apply: Like `apply`, but differentiable to any order in either mode.
        smooth_transpose: Like `transpose`, but differentiable to any order in either mode.
        inputs: Shapes of the tangents.
        outputs: Shapes of the tangents of the outputs.
    """

    apply: Callable[[list[Array], list[Array]], list[Array]]
    transpose: Callable[[list[Array], list[Array]], list[Array]]
    smooth_apply: Callable[[list[Array], list[Array]], list[Array]]
    smooth_transpose: Callable[[list[Array], list[Array]], list[Array]]
    inputs: tuple[jax.ShapeDtypeStruct, ...]
    outputs: tuple[jax.ShapeDtypeStruct, ...]

    @property
    def transposed(self) -> "Derivative":
        """The map of cotangents."""
        return Derivative(
            self.transpose, self.apply, self.smooth_transpose, self.smooth_apply, self.outputs, self.inputs
        )

    def batched(self, size: int, axes: tuple[int | None, ...]) -> "Derivative":
        """The maps at many points, along the axes that entries of the point have, each applied to one tangent."""
        many = lambda fn: jax.vmap(fn, (list(axes), 0), 0, axis_size=size)
        wide = lambda shapes: tuple(jax.ShapeDtypeStruct((size, *s.shape), s.dtype) for s in shapes)
        return Derivative(
            many(self.apply),
            many(self.transpose),
            many(self.smooth_apply),
            many(self.smooth_transpose),
            wide(self.inputs),
            wide(self.outputs),
        )


Around = Callable[[Any, Callable[[tuple[Any, ...]], Any]], Any]


def both_modes(
    forward: Callable, reverse: Callable, smooth: Callable, *inputs: PyTree, around: Around | None = None
) -> tuple[PyTree, PyTree]:
    """The value of `forward(*inputs)`, with a derivative in both modes and to any order.

    Args:
        forward: A function of pytrees with forward mode. It returns `(moving, still)`; `still` has no derivative. It
            closes over no tracers.
        reverse: The same function with reverse mode.
        smooth: The same function with both modes, to any order.
        *inputs: The arguments of the functions.
        around: `around(inputs, use)` returns `use((tool,))`, with something that `forward` and `reverse` take as a
            further first argument, such as factors of a matrix. It is called wherever the value or a derivative is
            computed, and is itself not differentiated; `smooth` takes None instead.
    """
    leaves, treedef = jax.tree.flatten(inputs)
    leaves = [jnp.asarray(v) for v in leaves]
    structure: list[Any] = []

    def flat(program: Callable) -> Callable[..., tuple[list[Array], list[Array]]]:
        def flattened(tools: tuple[Any, ...], *leaves: Array) -> tuple[list[Array], list[Array]]:
            moving, still = program(*tools, *treedef.unflatten(leaves))
            (a, first), (b, second) = jax.tree.flatten(moving), jax.tree.flatten(still)
            structure[:] = [first, second]
            return a, b

        return flattened

    def within(leaves: list[Array], use: Callable[[tuple[Any, ...]], Any]) -> Any:
        return use(()) if around is None else around(treedef.unflatten(leaves), use)

    without = lambda _, use: use(() if around is None else (None,))
    programs = ((flat(forward), within), (flat(reverse), within), (flat(smooth), without))

    @jax.custom_jvp
    def value(*leaves: Array) -> tuple[list[Array], list[Array]]:
        return within(list(leaves), lambda tools: flat(forward)(tools, *leaves))

    def rule(point: Any, tangents: Any) -> Any:
        point = list(map(jnp.asarray, point))
        moving, still = value(*point)
        real = [jnp.issubdtype(v.dtype, jnp.inexact) for v in point]
        moves = [not isinstance(t, SymbolicZero) and r for t, r in zip(tangents, real, strict=True)]
        moved = [jnp.asarray(t) for t, is_moving in zip(tangents, moves, strict=True) if is_moving]
        at = _derivative(programs, moves, point, moving)
        return (moving, still), (linear_map(at, point, moved), list(map(no_tangent, still)))

    value.defjvp(rule, symbolic_zeros=True)
    moving, still = value(*leaves)
    return structure[0].unflatten(moving), structure[1].unflatten(still)


def _derivative(programs: Any, moves: list[bool], point: Any, moving: list[Array]) -> Derivative:
    shape = lambda v: jax.ShapeDtypeStruct(v.shape, v.dtype)
    inputs = tuple(shape(v) for v, is_moving in zip(point, moves, strict=True) if is_moving)

    def at(program: Callable, tools: tuple[Any, ...], point: list[Array]) -> tuple[Callable, list[Array]]:
        def of(*moved: Array) -> list[Array]:
            own = iter(moved)
            whole = (next(own) if is_moving else v for v, is_moving in zip(point, moves, strict=True))
            return program(tools, *whole)[0]

        return of, [v for v, is_moving in zip(point, moves, strict=True) if is_moving]

    def push(program: Callable, within: Callable) -> Callable[[list[Array], list[Array]], list[Array]]:
        def pushed(point: list[Array], tangents: list[Array]) -> list[Array]:
            def use(tools: tuple[Any, ...]) -> list[Array]:
                of, here = at(program, tools, point)
                return jax.jvp(of, tuple(here), tuple(tangents))[1]

            return within(point, use)

        return pushed

    def pull(program: Callable, within: Callable) -> Callable[[list[Array], list[Array]], list[Array]]:
        def pulled(point: list[Array], cotangents: list[Array]) -> list[Array]:
            def use(tools: tuple[Any, ...]) -> list[Array]:
                of, here = at(program, tools, point)
                return list(jax.vjp(of, *here)[1](list(cotangents)))

            return within(point, use)

        return pulled

    forward, reverse, smooth = programs
    shapes = tuple(map(shape, moving))
    return Derivative(push(*forward), pull(*reverse), push(*smooth), pull(*smooth), inputs, shapes)

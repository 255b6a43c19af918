"""What is read off JAX's internals, all of it in one place.

These are facts about JAX that its documentation does not promise, so a release may change them. Nothing else in the
package imports `jax.extend`, `jax.interpreters`, `jax.core` or `jax._src`. `tests/core/test_jax_internals.py` has a
test for each fact, and `jaxkit doctor` checks each of them on the user's machine (`jaxkit.tools.doctor.FACTS`). They
hold for jax 0.10 to 0.12.
"""

import functools
import threading
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.core
import jax.extend.core as jex
import jax.numpy as jnp
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array

# Equations whose inner program is entered: primitive -> parameter that holds the inner jaxpr.
CALLS = {
    "jit": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
    "remat2": "jaxpr",  # `jax.checkpoint`
}
Jaxpr = jex.ClosedJaxpr
Primitive = jex.Primitive


def is_tracer(value: Any) -> bool:
    """Whether a value stands for one not known yet, because `jit`, `vmap`, `grad`, ... is tracing."""
    return isinstance(value, jax.core.Tracer)


def is_literal(variable: Any) -> bool:
    """Whether an input of an equation is a number written into the jaxpr, whose value is in `.val`."""
    return isinstance(variable, jex.Literal)


def inside_a_trace() -> bool:
    """Whether jit, vmap, grad, scan, ... is tracing the caller, even where no value at hand is traced.

    The tracing state is compared with that of a new thread, in which nothing is traced. (Up to jax 0.11.0 two nested
    `take_current_trace()` showed it; from 0.11.2 the inner one is always None. `jax.ensure_compile_time_eval()` does
    not leave the trace.)
    """
    return jex.get_opaque_trace_state() != _untraced()


@functools.cache
def _untraced() -> Any:
    states: list[Any] = []
    thread = threading.Thread(target=lambda: states.append(jex.get_opaque_trace_state()))
    thread.start()
    thread.join()
    return states[0]


def evaluate(jaxpr: Any, consts: Sequence[Any], leaves: Sequence[Any]) -> list[Any]:
    """The outputs of a closed jaxpr with other constants, where `jax.make_jaxpr` puts what a function closes over.

    Args:
        jaxpr: A closed jaxpr, from `jax.make_jaxpr`.
        consts: Values in the place of `jaxpr.consts`.
        leaves: Its arguments.
    """
    return jex.jaxpr_as_fun(jex.ClosedJaxpr(jaxpr.jaxpr, list(consts)))(*leaves)


def inner_jaxpr(equation: Any) -> tuple[Any, Sequence[Any]] | None:
    """The jaxpr inside a call and its constants; None if the equation is not a call."""
    held = CALLS.get(equation.primitive.name)
    if held is None or held not in equation.params:
        return None
    inner = equation.params[held]
    return (inner.jaxpr, inner.consts) if hasattr(inner, "jaxpr") else (inner, ())


def evaluated(equation: Any, operands: Sequence[Any]) -> list[Any]:
    """The results of an equation of a jaxpr for other operands."""
    found = equation.primitive.get_bind_params(equation.params)
    inner, params = found if isinstance(found, tuple) else ((), found)  # up to jax 0.9 the functions come apart
    results = equation.primitive.bind(*inner, *operands, **params)
    return list(results) if equation.primitive.multiple_results else [results]


def constants(jaxpr: Any) -> list[Any]:
    """The constants of a jaxpr and of all programs inside it, and the arrays written into its equations."""
    found = list(getattr(jaxpr, "consts", ()))
    for equation in getattr(jaxpr, "jaxpr", jaxpr).eqns:
        found += [v.val for v in equation.invars if is_literal(v) and getattr(v.val, "shape", ())]
        for value in equation.params.values():
            for part in value if isinstance(value, tuple | list) else (value,):
                found += constants(part) if hasattr(part, "jaxpr") or hasattr(part, "eqns") else []
    return found


def calls_back(jaxpr: Any) -> bool:
    """Whether a program, or one inside it, calls a function of the host."""
    for equation in getattr(jaxpr, "jaxpr", jaxpr).eqns:
        if "callback" in equation.primitive.name:
            return True
        for value in equation.params.values():
            for part in value if isinstance(value, tuple | list) else (value,):
                if (hasattr(part, "jaxpr") or hasattr(part, "eqns")) and calls_back(part):
                    return True
    return False


def scan_parts(equation: Any, operands: Sequence[Any]) -> tuple[Sequence[Any], Sequence[Any], Sequence[Any]]:
    """The operands of a `scan` as constants, first carry and scanned inputs.

    Up to jax 0.10 the equation holds the three numbers of operands, from jax 0.11 three trees of them.
    """
    params = equation.params
    if "num_consts" in params:
        fixed, carried = params["num_consts"], params["num_carry"]
    else:
        fixed, carried, _ = (len(list(part)) for part in params["ft_in"].unpack())
    return operands[:fixed], operands[fixed : fixed + carried], operands[fixed + carried :]


def primitive(name: str, program: Callable[..., Array], shape: Callable[..., Any], *, static: str) -> Primitive:
    """A primitive of our own.

    Args:
        name: Its name in a jaxpr.
        program: What it computes, in JAX.
        shape: From the types of its arguments to the type of its result. Make the result by `type.update(shape=...)` on
            one of the arguments, which keeps the rest of the type, such as the axes of `shard_map`.
        static: Name of its one parameter, whose value is hashable.
    """
    made = jex.Primitive(name)
    made.def_impl(jax.jit(program, static_argnames=static))
    made.def_abstract_eval(shape)
    mlir.register_lowering(made, mlir.lower_fun(program, multiple_results=False))
    return made


def bilinear(made: Primitive, left: Callable[..., Any], right: Callable[..., Any]) -> None:
    """Give a primitive of two arguments, linear in each, its transposes: `left(ct, a, b)` and `right(ct, a, b)`."""
    ad.defbilinear(made, left, right)


def batched(made: Primitive, rule: Callable[..., Any]) -> None:
    """Give a primitive its rule under `vmap`: `rule(args, dims, **params)`; `dims` has an axis or None for each."""
    batching.primitive_batchers[made] = rule


def varying(value: Any) -> frozenset[str]:
    """The axes of `shard_map` along which a value differs between devices."""
    kind: Any = jax.typeof(value)
    return frozenset(getattr(kind, "vma", None) or getattr(getattr(kind, "mat", None), "varying", ()))


def linear_map(at: Any, point: list[Array], tangents: list[Array]) -> list[Array]:
    """A linear map at a point, applied to tangents; it is transposed, batched and differentiated as `at` says.

    Args:
        at: See `jaxkit.dynamics.linear.both_modes.Derivative`.
        point: The point, as a list of arrays.
        tangents: The tangents to which the map is applied.
    """
    return _LINEAR_MAP.bind(*point, *tangents, at=at, count=len(point))


_LINEAR_MAP = jex.Primitive("linear_map")
_LINEAR_MAP.multiple_results = True


def _applied(*args: Array, at: Any, count: int) -> list[Array]:
    return list(at.apply(list(args[:count]), list(args[count:])))


def _shapes_of_map(*args: Any, at: Any, count: int) -> list[Any]:
    return [jax.core.ShapedArray(v.shape, v.dtype) for v in at.outputs]


def _jvp_of_map(primals: Any, tangents: Any, *, at: Any, count: int) -> tuple[list[Array], list[Array]]:
    zero = lambda t: isinstance(t, ad.Zero)
    written = [ad.instantiate_zeros(t) for t in tangents]
    point, moved = list(primals[:count]), list(primals[count:])
    out = linear_map(at, point, moved)
    if all(map(zero, tangents[:count])):
        return out, linear_map(at, point, written[count:])
    real = [i for i, v in enumerate(point) if jnp.issubdtype(jnp.result_type(v), jnp.inexact)]

    def smooth(here: list[Array], moved: list[Array]) -> list[Array]:
        whole = list(point)
        for i, v in zip(real, here, strict=True):
            whole[i] = v
        return at.smooth_apply(whole, moved)

    here = [point[i] for i in real]
    _, bent = jax.jvp(smooth, (here, moved), ([written[i] for i in real], written[count:]))
    return out, bent


def _transpose_of_map(cotangents: Any, *args: Any, at: Any, count: int) -> list[Any]:
    point = list(args[:count])
    written = [ad.instantiate_zeros(ct) for ct in cotangents]
    return [*[None] * count, *linear_map(at.transposed, point, written)]


def _batch_of_map(args: Any, dims: Any, *, at: Any, count: int) -> tuple[list[Array], list[int]]:
    size = next(v.shape[d] for v, d in zip(args, dims, strict=True) if d is not None)
    front = [v if d is None else jnp.moveaxis(v, d, 0) for v, d in zip(args, dims, strict=True)]
    axes, point = tuple(None if d is None else 0 for d in dims[:count]), front[:count]
    many = lambda v: jnp.broadcast_to(v, (size, *jnp.shape(v)))
    moved = [many(v) if d is None else v for v, d in zip(front[count:], dims[count:], strict=True)]
    out = linear_map(at.batched(size, axes), point, moved)
    return out, [0] * len(out)


_LINEAR_MAP.def_impl(_applied)
_LINEAR_MAP.def_abstract_eval(_shapes_of_map)
mlir.register_lowering(_LINEAR_MAP, mlir.lower_fun(_applied, multiple_results=True))
ad.primitive_jvps[_LINEAR_MAP] = _jvp_of_map
ad.primitive_transposes[_LINEAR_MAP] = _transpose_of_map
batching.primitive_batchers[_LINEAR_MAP] = _batch_of_map


def foreign(
    name: str, target: str, shape: Callable[..., Any], batch: Callable[..., Any] | None = None
) -> Callable[..., Array]:
    """A function of arrays that calls a program registered with `jax.ffi`, which XLA neither merges, moves nor drops.

    Args:
        name: Name of the primitive.
        target: Name under which the program is registered, for the CPU.
        shape: Shape and dtype of the result for those of the arguments.
        batch: `batch(call, args, dims)` is the result for arguments with further axes, and its own axis; None where
            there are never any.
    """
    primitive = jex.Primitive(name)
    primitive.def_abstract_eval(lambda *args: jax.core.ShapedArray(*shape(*args)))
    primitive.def_impl(jax.jit(lambda *args: primitive.bind(*args)))
    mlir.register_lowering(primitive, jax.ffi.ffi_lowering(target, has_side_effect=True), platform="cpu")
    if batch is not None:
        batching.primitive_batchers[primitive] = lambda args, dims: batch(primitive.bind, args, dims)
    return primitive.bind

"""Functions that compute with complex numbers inside, in real numbers: what is built for real numbers then knows them.

A complex number is a pair of its parts; a part that is exactly zero (of a real factor, or of `1j`) is left out of all
that follows. Operations without a rule here are evaluated as they are, between a `complex` and a `real` and `imag`.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxkit.core.jax_internals import evaluated, is_literal, is_tracer

CALLS = frozenset(("pjit", "jit", "closed_call", "core_call"))
# Linear operations that move numbers or add them, each with how many of its operands are numbers (None: all).
MOVES = {
    **dict.fromkeys("reshape broadcast_in_dim transpose slice squeeze rev reduce_sum dynamic_slice gather".split(), 1),
    "copy": 1,
    "concatenate": None,
    "pad": 2,
    "copy_p": 1,
    "expand_dims": 1,
    "dynamic_update_slice": 2,
}


class Pair(NamedTuple):
    """A complex number by its parts; None is an exact zero."""

    re: Any
    im: Any
    shape: tuple[int, ...]
    dtype: Any  # of its parts

    def part(self, i: int) -> Any:
        """A part, written out."""
        return jnp.zeros(self.shape, self.dtype) if self[i] is None else self[i]


def in_real_numbers(fn: Callable[..., Any]) -> Callable[..., Any]:
    """A function of real numbers and with real results, which computes the same without complex numbers."""

    def computed(*given: Any) -> Any:
        jaxpr, shapes = jax.make_jaxpr(fn, return_shape=True)(*given)
        leaves = list(map(jnp.asarray, jax.tree.leaves(given)))
        return jax.tree.structure(shapes).unflatten(_run(jaxpr.jaxpr, jaxpr.consts, leaves))

    return computed


def _is_complex(v: Any) -> bool:
    return jnp.issubdtype(v.dtype, jnp.complexfloating)


def _paired(v: Any) -> Any:
    """A known value as the interpreter has it."""
    if isinstance(v, Pair) or not _is_complex(v):
        return v
    if is_tracer(v):
        re, im = jnp.real(v), jnp.imag(v)
        return Pair(re, im, re.shape, re.dtype)
    known = np.asarray(v)
    re, im = (part if np.any(part) else None for part in (np.real(known), np.imag(known)))
    return Pair(re, im, known.shape, np.real(known).dtype)


def _run(jaxpr: Any, consts: Sequence[Any], args: Sequence[Any]) -> list[Any]:
    values: dict[Any, Any] = dict(zip(jaxpr.constvars, map(_paired, consts), strict=True))
    values |= dict(zip(jaxpr.invars, map(_paired, args), strict=True))

    def read(v: Any) -> Any:
        return _paired(np.asarray(v.val, v.aval.dtype)) if is_literal(v) else values[v]

    for eqn in jaxpr.eqns:
        found = _step(eqn, list(map(read, eqn.invars)))
        values |= dict(zip(eqn.outvars, found, strict=True))
    return [read(v) for v in jaxpr.outvars]


def _step(eqn: Any, operands: list[Any]) -> list[Any]:
    name, out = eqn.primitive.name, eqn.outvars[0].aval if eqn.outvars else None
    inner = eqn.params.get("jaxpr", eqn.params.get("call_jaxpr"))
    if name in CALLS and inner is not None and _holds_complex(inner.jaxpr):
        return _run(inner.jaxpr, inner.consts, operands)
    makes = any(hasattr(v.aval, "dtype") and _is_complex(v.aval) for v in eqn.outvars)
    if not makes and not any(isinstance(v, Pair) for v in operands):
        return _bound(eqn, operands)
    if name in RULES:
        return [RULES[name](out, eqn.params, *operands)]
    if name in MOVES or name == "select_n":
        return [_moved(eqn, out, operands)]
    whole = [jax.lax.complex(v.part(0), v.part(1)) if isinstance(v, Pair) else v for v in operands]
    return list(map(_paired, _bound(eqn, whole)))


def _holds_complex(jaxpr: Any) -> bool:
    return any(hasattr(v.aval, "dtype") and _is_complex(v.aval) for e in jaxpr.eqns for v in (*e.invars, *e.outvars))


def _bound(eqn: Any, operands: list[Any]) -> list[Any]:
    """An equation evaluated as it is."""
    return evaluated(eqn, list(map(jnp.asarray, operands)))


def _moved(eqn: Any, out: Any, operands: list[Any]) -> Pair:
    """The same of both parts."""
    first = 1 if eqn.primitive.name == "select_n" else 0
    many = None if first else MOVES[eqn.primitive.name]
    last = len(operands) if many is None else many
    numbers = operands[first:last]

    def part(i: int) -> Any:
        if all(v[i] is None for v in numbers):
            return None
        return _bound(eqn, [*operands[:first], *(v.part(i) for v in numbers), *operands[last:]])[0]

    return Pair(part(0), part(1), out.shape, numbers[0].dtype)


def _plus(a: Any, b: Any) -> Any:
    return b if a is None else a if b is None else a + b


def _minus(a: Any, b: Any) -> Any:
    return a if b is None else -b if a is None else a - b


def _product(bind: Callable[[Any, Any], Any]) -> Callable[[Any, Pair, Pair], Pair]:
    both = lambda a, b: None if a is None or b is None else bind(a, b)

    def times(out: Any, a: Pair, b: Pair) -> Pair:
        re, im = _minus(both(a.re, b.re), both(a.im, b.im)), _plus(both(a.re, b.im), both(a.im, b.re))
        return Pair(re, im, out.shape, a.dtype)

    return times


_times = _product(lambda a, b: a * b)


def _inverse(out: Any, a: Pair) -> Pair:
    square = sum((v * v for v in (a.re, a.im) if v is not None), start=jnp.zeros((), a.dtype))
    over = lambda v: None if v is None else v / square
    return Pair(over(a.re), over(None if a.im is None else -a.im), out.shape, a.dtype)


def _power(out: Any, params: Any, a: Pair) -> Pair:
    exponent = abs(int(params["y"]))
    found = Pair(jnp.ones(a.shape, a.dtype), None, a.shape, a.dtype)
    for _ in range(exponent):
        found = _times(out, found, a)
    return _inverse(out, found) if params["y"] < 0 else found


def _exp(out: Any, params: Any, a: Pair) -> Pair:
    size = None if a.re is None else jnp.exp(a.re)
    if a.im is None:
        return Pair(jnp.ones(out.shape, a.dtype) if size is None else size, None, out.shape, a.dtype)
    turn = jnp.cos(a.im), jnp.sin(a.im)
    re, im = turn if size is None else (size * turn[0], size * turn[1])
    return Pair(re, im, out.shape, a.dtype)


def _dot(out: Any, params: Any, a: Pair, b: Pair) -> Pair:
    params = params | {"preferred_element_type": a.dtype}
    return _product(lambda u, v: jax.lax.dot_general_p.bind(jnp.asarray(u), jnp.asarray(v), **params))(out, a, b)


def _converted(out: Any, params: Any, v: Any) -> Any:
    if not isinstance(v, Pair):
        part = jnp.zeros((), params["new_dtype"]).real.dtype
        return Pair(jnp.asarray(v).astype(part), None, out.shape, part)
    if not _is_complex(out):  # the real part is kept
        return v.part(0).astype(params["new_dtype"])
    part = jnp.zeros((), params["new_dtype"]).real.dtype
    cast = lambda u: None if u is None else jnp.asarray(u).astype(part)
    return Pair(cast(v.re), cast(v.im), out.shape, part)


def _negated(v: Any) -> Any:
    return None if v is None else -v


RULES: dict[str, Callable[..., Any]] = {
    "complex": lambda out, _, a, b: Pair(a, b, out.shape, a.dtype),
    "real": lambda out, _, a: a.part(0),
    "imag": lambda out, _, a: a.part(1),
    "conj": lambda out, _, a: Pair(a.re, _negated(a.im), out.shape, a.dtype),
    "neg": lambda out, _, a: Pair(_negated(a.re), _negated(a.im), out.shape, a.dtype),
    "add": lambda out, _, a, b: Pair(_plus(a.re, b.re), _plus(a.im, b.im), out.shape, a.dtype),
    "add_any": lambda out, _, a, b: Pair(_plus(a.re, b.re), _plus(a.im, b.im), out.shape, a.dtype),
    "sub": lambda out, _, a, b: Pair(_minus(a.re, b.re), _minus(a.im, b.im), out.shape, a.dtype),
    "mul": lambda out, _, a, b: _times(out, a, b),
    "square": lambda out, _, a: _times(out, a, a),
    "div": lambda out, _, a, b: _times(out, a, _inverse(out, b)),
    "integer_pow": _power,
    "exp": _exp,
    "dot_general": _dot,
    "convert_element_type": _converted,
}

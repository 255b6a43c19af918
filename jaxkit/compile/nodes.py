"""Scalar operations as numbered nodes: the program that `ScalarField` takes a function apart into.

Equal operations are one node, constants are folded, and each node knows what it depends on.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

LARGEST = 64  # arrays with more entries that all lanes share are not taken apart
PRODUCTS = 64  # largest power written out as products, which have a Taylor series at zero, too
SHARED, LANE, MOVING = 0, 1, 2  # what a node depends on: nothing of the lane, the lane's parameters, time or state


@dataclasses.dataclass(frozen=True)
class Literal:
    """A number known at trace time."""

    value: Any  # a numpy scalar

    @property
    def dtype(self) -> np.dtype:
        """Type of the number."""
        return self.value.dtype

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Literal) and self.dtype == other.dtype and self.value.tobytes() == other.value.tobytes()
        )

    def __hash__(self) -> int:
        return hash((self.dtype, self.value.tobytes()))


# The number of an operation's operands that make its result not finite if they are; the others may go unnoticed.
_SHOWN = {
    **dict.fromkeys("lt le gt ge eq ne lt_to le_to is_finite clamp atan tanh logistic erf erfc sign".split(), 0),
    **dict.fromkeys("exp exp2 expm1 rsqrt pow integer_pow atan2 max min".split(), 0),
    **dict.fromkeys(("select_n", "div"), 1),
}
Atom: TypeAlias = int | Literal  # a node's number, or a constant


@dataclasses.dataclass(frozen=True)
class Node:
    """One scalar operation, one input (`name="input"`), or one opaque operation on arrays (`name="opaque"`)."""

    name: str
    inputs: tuple[Atom, ...]
    dtype: Any
    level: int
    primitive: Any = None
    params: tuple[tuple[str, Any], ...] = ()


@dataclasses.dataclass(frozen=True)
class Whole:
    """An array that is not taken apart: a node whose value is the array."""

    node: int
    shape: tuple[int, ...]
    dtype: Any

    @property
    def size(self) -> int:
        """Number of entries."""
        return int(np.prod(self.shape))

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def ravel(self) -> list[Atom]:
        """The atoms of the array."""
        return [self.node]


Value: TypeAlias = np.ndarray | Whole  # what the interpreter computes with: an array of atoms, or one node


class Builder:
    """Collects nodes, shares equal ones, folds constants."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.known: dict[Any, int] = {}
        self.zeroed: list[int] = []  # nodes whose product with zero was left out

    def input(self, dtype: Any, level: int) -> int:
        """A new input."""
        self.nodes.append(Node("input", (), dtype, level))
        return len(self.nodes) - 1

    def dtype(self, atom: Atom) -> np.dtype:
        """Type of the number."""
        return atom.dtype if isinstance(atom, Literal) else self.nodes[atom].dtype

    def level(self, *atoms: Atom) -> int:
        """The highest level among atoms: what they depend on."""
        return max((self.nodes[a].level for a in atoms if not isinstance(a, Literal)), default=SHARED)

    def node(self, primitive: Any, inputs: Sequence[Atom], params: dict[str, Any] | None = None) -> Atom:
        """The node of an elementwise primitive, simplified where that is exact up to the sign of zero."""
        name, inputs, params = primitive.name, tuple(inputs), dict(params or {})
        simple = _simplify(name, inputs, params)
        if simple is not None:
            if name == "mul" and _is(simple, 0):
                self.zeroed.extend(a for a in inputs if not isinstance(a, Literal))
            return simple
        if name == "square":
            return self.node(jax.lax.mul_p, (inputs[0], inputs[0]))
        if name == "pow" and isinstance(inputs[1], Literal) and inputs[1].value in range(2, PRODUCTS + 1):
            return self.node(jax.lax.integer_pow_p, inputs[:1], {"y": int(inputs[1].value)})
        if name == "integer_pow" and 2 <= params["y"] <= PRODUCTS:
            half = self.node(jax.lax.integer_pow_p, inputs, {"y": params["y"] // 2})
            whole = self.node(jax.lax.mul_p, (half, half))
            return self.node(jax.lax.mul_p, (whole, inputs[0])) if params["y"] % 2 else whole
        numbers = [atom.value for atom in inputs if isinstance(atom, Literal)]
        if len(numbers) == len(inputs):
            with jax.ensure_compile_time_eval():
                return Literal(np.asarray(primitive.bind(*map(jnp.asarray, numbers), **params))[()])
        if name in ("add", "mul", "max", "min", "add_any"):  # one order, so that equal sums are shared
            inputs = tuple(sorted(inputs, key=lambda a: (-1, 0) if isinstance(a, Literal) else (0, a)))
        return self._shared(primitive, inputs, params)

    def _shared(self, primitive: Any, inputs: tuple[Atom, ...], params: dict[str, Any]) -> int:
        """The node of these inputs, the old one if there is one."""
        name = primitive.name
        frozen = tuple(sorted(params.items(), key=lambda item: item[0]))
        key = (name, inputs, _hashable(frozen))
        if key not in self.known:
            avals = [jax.ShapeDtypeStruct((), self.dtype(a)) for a in inputs]
            dtype = jax.eval_shape(lambda *v: primitive.bind(*v, **params), *avals).dtype
            self.nodes.append(Node(name, inputs, dtype, self.level(*inputs), primitive, frozen))
            self.known[key] = len(self.nodes) - 1
        return self.known[key]

    def with_zeros(self, atom: Atom, roots: Sequence[Atom]) -> Atom:
        """`atom` plus zero times what was left out, where no root shows that this is not finite: 0 * NaN is NaN."""
        shown, stack = set(), [a for a in roots if not isinstance(a, Literal)]
        while stack:
            number = stack.pop()
            if number not in shown:
                shown.add(number)
                node = self.nodes[number]
                inputs = node.inputs[: _SHOWN.get(node.name)]
                stack.extend(a for a in inputs if not isinstance(a, Literal))
        for number in dict.fromkeys(self.zeroed):
            known = self.nodes[number].name == "input" and self.nodes[number].level == MOVING  # checked anyway
            if number not in shown and not known and self.dtype(number) == self.dtype(atom):
                zero = Literal(np.zeros((), self.dtype(atom))[()])
                term = self._shared(jax.lax.mul_p, (zero, number), {})
                atom = self._shared(jax.lax.add_p, (atom, term), {})
        return atom

    def opaque(self, primitive: Any, params: dict[str, Any], operands: Sequence[Value], outs: list[Any]) -> list[Value]:
        """One node for a whole array operation and one for each entry of its results (large results stay whole)."""
        atoms = tuple(a for operand in operands for a in operand.ravel())
        shapes = tuple(None if isinstance(operand, Whole) else operand.shape for operand in operands)
        level = self.level(*atoms)
        self.nodes.append(Node("opaque", atoms, None, level, primitive, (("params", params), ("shapes", shapes))))
        source, results = len(self.nodes) - 1, []

        def entry(place: int, index: Any, dtype: Any) -> int:
            self.nodes.append(Node("entry", (source,), dtype, level, None, (("of", (place, index)),)))
            return len(self.nodes) - 1

        for place, aval in enumerate(outs):
            if aval.size > LARGEST:
                results.append(Whole(entry(place, ..., aval.dtype), aval.shape, aval.dtype))
                continue
            entries = np.empty(aval.shape, object)
            for index in np.ndindex(aval.shape):
                entries[index] = entry(place, index, aval.dtype)
            results.append(entries)
        return results


def _hashable(value: Any) -> Any:
    try:
        hash(value)
    except TypeError:
        return repr(value)
    return value


def _is(atom: Atom, value: float) -> bool:
    return isinstance(atom, Literal) and bool(atom.value == value)


def _simplify(name: str, inputs: tuple[Atom, ...], params: dict[str, Any]) -> Atom | None:
    """A simpler atom of the same value: x + 0, x * 1, x / 1, a constant choice; x * 0 is 0 for finite x only."""
    if name in ("stop_gradient", "copy", "copy_p", "reduce_precision"):
        return inputs[0]
    if name in ("add", "add_any", "sub", "or") and _is(inputs[1], 0):
        return inputs[0]
    if name in ("add", "add_any", "or") and _is(inputs[0], 0):
        return inputs[1]
    if name in ("mul", "and"):
        for one, other in (inputs, inputs[::-1]):
            if _is(one, 1) and name == "mul":
                return other
            if _is(one, 0) and not (isinstance(other, Literal) and not np.isfinite(other.value)):
                return one
    if name == "div" and _is(inputs[1], 1):
        return inputs[0]
    if name == "integer_pow" and params["y"] == 1:
        return inputs[0]
    if name == "select_n" and isinstance(inputs[0], Literal):
        return inputs[1 + int(inputs[0].value)]
    return None

"""Any function of small pytrees as a program of scalar operations: the form in which lanes run fastest.

`ScalarField(field, t, x, args)` reads the jaxpr of a field and takes its arrays apart at trace time: slices, stacks,
transposes, matrix products and sums of small arrays become plain scalar arithmetic, so that a lane's state is a handful
of registers whatever the user wrote. Equal operations are shared and constants folded; nodes that depend neither on `t`
nor on `x` are marked, so that a loop computes them once. What has no scalar form (a solve, a sort, a table look-up)
stays one opaque node on the rebuilt arrays.
"""

from collections.abc import Callable, Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from jaxkit.compile.nodes import LANE, LARGEST, MOVING, SHARED, Atom, Builder, Literal, Node, Value, Whole
from jaxkit.core.jax_internals import calls_back, inner_jaxpr, is_literal, is_tracer, scan_parts

_UNROLL = 64  # longest scan that is written out

_STRUCTURAL = frozenset(
    "broadcast_in_dim reshape squeeze expand_dims transpose slice concatenate rev pad gather dynamic_slice "
    "dynamic_update_slice scatter split stack copy copy_p tile".split()
)
_ELEMENTWISE = frozenset(
    "add sub mul div neg exp exp2 log log1p expm1 sin cos tan sinh cosh tanh asin acos atan asinh acosh atanh "
    "atan2 sqrt rsqrt cbrt integer_pow pow square logistic abs sign max min select_n lt le gt ge eq ne and or not xor "
    "floor ceil round is_finite convert_element_type erf erfc erf_inv lgamma digamma polygamma rem clamp nextafter "
    "stop_gradient reduce_precision add_any lt_to le_to".split()
)
_FOLDS = {
    "reduce_sum": "add",
    "reduce_prod": "mul",
    "reduce_max": "max",
    "reduce_min": "min",
    "reduce_and": "and",
    "reduce_or": "or",
}
_FOLD_PRIMITIVES = {
    "add": jax.lax.add_p,
    "mul": jax.lax.mul_p,
    "max": jax.lax.max_p,
    "min": jax.lax.min_p,
    "and": jax.lax.and_p,
    "or": jax.lax.or_p,
}


def _literals(array: Any) -> np.ndarray:
    array = np.asarray(array)
    entries = np.empty(array.shape, object)
    for index in np.ndindex(array.shape):
        entries[index] = Literal(array[index])
    return entries


def _known(value: Value) -> bool:
    return not isinstance(value, Whole) and all(isinstance(a, Literal) for a in value.ravel())


def _numbers(value: np.ndarray, dtype: Any) -> np.ndarray:
    return np.array([a.value for a in value.ravel()], dtype).reshape(value.shape)


class Interpreter:
    """Reads a jaxpr whose values are arrays of atoms."""

    def __init__(self, builder: Builder) -> None:
        self.builder = builder

    def run(self, jaxpr: Any, consts: Sequence[Value], inputs: Sequence[Value]) -> list[Any]:
        """The outputs of a jaxpr."""
        values: dict[Any, Value] = {}

        def read(v: Any) -> Value:
            return _literals(np.asarray(v.val, cast(Any, v.aval).dtype)) if is_literal(v) else values[v]

        values.update(zip(jaxpr.constvars, consts, strict=True))
        values.update(zip(jaxpr.invars, inputs, strict=True))
        for eqn in jaxpr.eqns:
            for var, value in zip(eqn.outvars, self.equation(eqn, [read(v) for v in eqn.invars]), strict=True):
                values[var] = value
        return [read(v) for v in jaxpr.outvars]

    def equation(self, eqn: Any, operands: list[Any]) -> list[Any]:
        """The results of one equation."""
        name, params, outs = eqn.primitive.name, eqn.params, [v.aval for v in eqn.outvars]
        if (inner := inner_jaxpr(eqn)) is not None:
            jaxpr, consts = inner
            return self.run(jaxpr, [self.constant(c) for c in consts], operands)
        if any(jnp.issubdtype(v.aval.dtype, jax.dtypes.extended) for v in (*eqn.invars, *eqn.outvars)):
            raise NotImplementedError(f"`{name}` works on random keys, which a field cannot.")
        if any(isinstance(v, Whole) for v in operands):
            return self.builder.opaque(eqn.primitive, params, operands, outs)
        if name in _ELEMENTWISE and max((a.size for a in outs), default=1) <= 4096:
            return [self.elementwise(eqn.primitive, params, operands)]
        if name == "iota":
            with jax.ensure_compile_time_eval():
                return [_literals(eqn.primitive.bind(**params))]
        if name in _STRUCTURAL:
            moved = self.structural(eqn.primitive, params, operands)
            if moved is not None:
                return moved
        if name in _FOLDS:
            return [self.fold(_FOLD_PRIMITIVES[_FOLDS[name]], operands[0], params["axes"])]
        if name in ("cumsum", "cumprod"):
            return [self.cumulate(jax.lax.add_p if name == "cumsum" else jax.lax.mul_p, operands[0], params)]
        if name == "dot_general":
            return [self.dot(operands[0], operands[1], params["dimension_numbers"], outs[0])]
        if name == "scan" and params["length"] <= _UNROLL:
            return self.scan(eqn, operands)
        if name == "cond" and not any(map(calls_back, params["branches"])):  # (an error must not be raised by both)
            return self.cond(params, operands)
        return self.builder.opaque(eqn.primitive, params, operands, outs)

    def constant(self, value: Any) -> Value:
        """A value known at trace time, taken apart if small."""
        if np.size(value) <= LARGEST and not is_tracer(value):
            return _literals(value)
        self.builder.nodes.append(Node("constant", (), value.dtype, SHARED, None, (("value", value),)))
        return Whole(len(self.builder.nodes) - 1, np.shape(value), value.dtype)

    def elementwise(self, primitive: Any, params: dict[str, Any], operands: list[np.ndarray]) -> np.ndarray:
        """One node for each entry."""
        params = {**params, "sharding": None} if "sharding" in params else params
        alike = [cast(Any, v) for v in (np.broadcast_arrays(*operands) if len(operands) > 1 else operands)]
        out = np.empty(alike[0].shape, object)
        for index in np.ndindex(out.shape):
            out[index] = self.builder.node(primitive, [v[index] for v in alike], params)
        return out

    def structural(self, primitive: Any, params: dict[str, Any], operands: list[np.ndarray]) -> list[np.ndarray] | None:
        """Move atoms: run the primitive on their positions. None if the positions depend on data."""
        first_index = {"gather": 1, "dynamic_slice": 1, "dynamic_update_slice": 2, "scatter": 1}.get(primitive.name)
        last_index = 2 if primitive.name == "scatter" else len(operands)
        is_index = [first_index is not None and first_index <= i < last_index for i in range(len(operands))]
        if not all(_known(v) for v, index in zip(operands, is_index, strict=True) if index):
            return None
        atoms: list[Atom] = []
        positions = []
        for value, index in zip(operands, is_index, strict=True):
            if index:
                kind = value.ravel()[0].dtype if value.size else np.int32
                positions.append(_numbers(value, kind))
            else:
                here = np.arange(len(atoms), len(atoms) + value.size, dtype=np.int32)
                positions.append(here.reshape(value.shape))
                atoms.extend(value.ravel())
        if primitive.name in ("broadcast_in_dim", "reshape"):
            params = {**params, "sharding": None}
        if primitive.name == "gather":
            params = {**params, "fill_value": None}
        with jax.ensure_compile_time_eval():
            moved = primitive.bind(*map(jnp.asarray, positions), **params)
        results = []
        for places in moved if primitive.multiple_results else [moved]:
            places = np.asarray(places)
            out = np.empty(places.shape, object)
            for where in np.ndindex(places.shape):
                inside = 0 <= places[where] < len(atoms)
                out[where] = atoms[places[where]] if inside else Literal(self.builder.dtype(atoms[0]).type(np.nan))
            results.append(out)
        return results

    def fold(self, primitive: Any, value: np.ndarray, axes: Sequence[int]) -> np.ndarray:
        """Combine the entries along axes."""
        kept = [i for i in range(value.ndim) if i not in axes]
        rows = value.transpose(*kept, *axes).reshape([value.shape[i] for i in kept] + [-1])
        out = np.empty(rows.shape[:-1], object)
        for index in np.ndindex(out.shape):
            total = rows[index][0]
            for atom in rows[index][1:]:
                total = self.builder.node(primitive, (total, atom))
            out[index] = total
        return out

    def cumulate(self, primitive: Any, value: np.ndarray, params: dict[str, Any]) -> np.ndarray:
        """Running sums or products."""
        out = np.moveaxis(value.copy(), params["axis"], 0)
        out = out[::-1] if params["reverse"] else out
        for i in range(1, len(out)):
            pair = [np.asarray(out[i - 1], object), np.asarray(out[i], object)]
            out[i] = self.elementwise(primitive, {}, pair)[()]  # for a vector, the atom and not a 0-d array
        out = out[::-1] if params["reverse"] else out
        return np.moveaxis(out, 0, params["axis"])

    def dot(self, left: np.ndarray, right: np.ndarray, numbers: Any, out: Any) -> np.ndarray:
        """A matrix product, written out."""
        (left_sum, right_sum), (left_batch, right_batch) = numbers

        def arrange(value: np.ndarray, summed: Sequence[int], batch: Sequence[int]) -> np.ndarray:
            free = [i for i in range(value.ndim) if i not in summed and i not in batch]
            sizes = [int(np.prod([value.shape[i] for i in group])) for group in (batch, free, summed)]
            return value.transpose(*batch, *free, *summed).reshape(sizes)

        a, b = arrange(left, left_sum, left_batch), arrange(right, right_sum, right_batch)
        result = np.empty((a.shape[0], a.shape[1], b.shape[1]), object)
        for batch, i, j in np.ndindex(result.shape):
            total: Atom | None = None
            for one, other in zip(a[batch, i], b[batch, j], strict=True):
                term = self.builder.node(jax.lax.mul_p, (one, other))
                total = term if total is None else self.builder.node(jax.lax.add_p, (total, term))
            result[batch, i, j] = Literal(np.zeros((), out.dtype)[()]) if total is None else total
        return result.reshape(out.shape)

    def scan(self, eqn: Any, operands: list[np.ndarray]) -> list[np.ndarray]:
        """A short loop, written out."""
        params, closed = eqn.params, eqn.params["jaxpr"]
        consts, carry, rows = scan_parts(eqn, operands)
        carried = len(carry)
        inner = [self.constant(c) for c in closed.consts]
        stacked = [np.empty(v.aval.shape, object) for v in eqn.outvars[carried:]]
        steps = range(params["length"])
        for i in reversed(steps) if params["reverse"] else steps:
            row = [np.asarray(value[i], object) for value in rows]
            result = self.run(closed.jaxpr, inner, [*consts, *carry, *row])
            carry = result[:carried]
            for target, value in zip(stacked, result[carried:], strict=True):
                target[i] = value if value.ndim else value[()]
        return [*carry, *stacked]

    def cond(self, params: dict[str, Any], operands: list[np.ndarray]) -> list[np.ndarray]:
        """Both branches, and a choice: what `vmap` makes of it anyway."""
        which: Any = operands[0][()]  # a single atom
        operands = operands[1:]
        branches = params["branches"]
        if isinstance(which, Literal):
            chosen = branches[int(np.clip(int(which.value), 0, len(branches) - 1))]
            return self.run(chosen.jaxpr, [self.constant(c) for c in chosen.consts], operands)
        results = [self.run(b.jaxpr, [self.constant(c) for c in b.consts], operands) for b in branches]
        out = results[0]
        for number, result in enumerate(results[1:], start=1):
            at_least = self.builder.node(
                jax.lax.ge_p, (which, Literal(np.asarray(number, self.builder.dtype(which))[()]))
            )
            out = [
                self.elementwise(jax.lax.select_n_p, {}, [np.full(a.shape, at_least, object), a, b])
                for a, b in zip(out, result, strict=True)
            ]
        return out


class ScalarField:
    """A function of time, state and parameters taken apart: numbers in, numbers out.

    Args:
        field: `field(t, x, args)` of pytrees.
        t: A time, as an array or shape.
        x: One lane's state, as arrays or shapes.
        args: One lane's parameters, as arrays or shapes.
        lanewise: For each leaf of `args`, whether lanes differ in it.
    """

    def __init__(self, field: Callable[..., Any], t: Any, x: Any, args: Any, lanewise: Sequence[bool]) -> None:
        closed = jax.make_jaxpr(field)(t, x, args)
        self.builder = builder = Builder()
        levels = [*(MOVING for _ in range(1 + len(jax.tree.leaves(x)))), *(LANE if own else SHARED for own in lanewise)]
        values: list[Any] = [self._input(var.aval, own) for var, own in zip(closed.jaxpr.invars, levels, strict=True)]
        interpreter = Interpreter(builder)
        outputs = interpreter.run(closed.jaxpr, [interpreter.constant(c) for c in closed.consts], values)
        moving = levels.count(MOVING)
        self.t: int = values[0].ravel()[0]
        self.x: list[int] = [a for value in values[1:moving] for a in value.ravel()]
        self.args: list[Value] = values[moving:]
        self.lanewise = list(lanewise)
        self.outputs: list[Atom] = [a for value in outputs for a in self._entries(value)]
        if self.outputs:
            self.outputs[0] = builder.with_zeros(self.outputs[0], self.outputs)

    def _input(self, aval: Any, level: int) -> Value:
        if aval.size > LARGEST and level != MOVING:
            return Whole(self.builder.input(aval.dtype, level), aval.shape, aval.dtype)
        entries = np.empty(aval.shape, object)
        for index in np.ndindex(entries.shape):
            entries[index] = self.builder.input(aval.dtype, level)
        return entries

    def _entries(self, value: Value) -> list[Atom]:
        if not isinstance(value, Whole):
            return list(value.ravel())
        atoms = []
        for index in np.ndindex(value.shape):
            level = self.builder.level(value.node)
            self.builder.nodes.append(Node("pick", (value.node,), value.dtype, level, None, (("of", index),)))
            atoms.append(len(self.builder.nodes) - 1)
        return atoms

    @property
    def nodes(self) -> list[Node]:
        """All nodes, in an order in which they can run."""
        return self.builder.nodes

    @property
    def opaque(self) -> list[str]:
        """Names of the primitives that have no scalar form here."""
        return sorted({node.primitive.name for node in self.nodes if node.name == "opaque" and node.level == MOVING})

    def needed(self, roots: Sequence[Atom]) -> list[int]:
        """The nodes on which the roots depend, in the order of computation."""
        found, stack = set(), [a for a in roots if not isinstance(a, Literal)]
        while stack:
            number = stack.pop()
            if number not in found:
                found.add(number)
                stack.extend(a for a in self.nodes[number].inputs if not isinstance(a, Literal))
        return sorted(found)

    def constants(
        self, level: int, leaves: Sequence[Any], known: dict[int, Any], roots: Sequence[Atom]
    ) -> dict[int, Any]:
        """The nodes of a constant level that later levels use, computed from the parameters of that level.

        Args:
            level: `SHARED` or `LANE`.
            leaves: Leaves of `args` of that level.
            known: Values of lower levels.
            roots: The atoms to be computed in the end.
        """
        values, rest = dict(known), iter(leaves)
        for value, own in zip(self.args, self.lanewise, strict=True):
            if own == (level == LANE):
                leaf, entries = next(rest), cast(Any, value)  # an array of node numbers, unless it was not taken apart
                if isinstance(value, Whole):
                    values[value.node] = leaf
                else:
                    values.update({entries[index]: leaf[index] for index in np.ndindex(value.shape)})
        order = self.needed(roots)
        for number in order:
            if self.nodes[number].level == level and number not in values:
                values[number] = apply(self.nodes[number], values)
        later = [number for number in order if self.nodes[number].level > level]
        used = {a for number in later for a in self.nodes[number].inputs} | set(roots)
        return {n: v for n, v in values.items() if n in used and n not in known and self.nodes[n].level == level}

    def __call__(
        self, t: Any, x: Sequence[Any], constants: dict[int, Any], atoms: Sequence[Atom] | None = None
    ) -> list[Any]:
        """The outputs (or the given atoms) as numbers."""
        atoms = self.outputs if atoms is None else atoms
        values = {**constants, self.t: t, **dict(zip(self.x, x, strict=True))}
        for number in self.needed(atoms):
            if number not in values and self.nodes[number].level == MOVING:
                values[number] = apply(self.nodes[number], values)
        return [value_of(a, values) for a in atoms]


def value_of(atom: Atom, values: dict[int, Any]) -> Any:
    """The number of an atom."""
    return jnp.asarray(atom.value) if isinstance(atom, Literal) else values[atom]


def apply(node: Node, values: dict[int, Any]) -> Any:
    """Compute one node."""
    extra = dict(node.params)
    if node.name == "constant":
        return jnp.asarray(extra["value"])
    if node.name == "pick":
        return values[node.inputs[0]][extra["of"]]  # pyright: ignore[reportArgumentType]
    if node.name == "entry":
        place, index = extra["of"]
        return values[node.inputs[0]][place][index]  # pyright: ignore[reportArgumentType]
    operands = [value_of(a, values) for a in node.inputs]
    if node.name == "opaque":
        arrays, start = [], 0
        for shape in extra["shapes"]:
            if shape is None:  # passed as a whole array
                arrays.append(operands[start])
                start += 1
                continue
            size = int(np.prod(shape))
            arrays.append(jnp.stack(operands[start : start + size]).reshape(shape) if size else jnp.zeros(shape))
            start += size
        result = node.primitive.bind(*arrays, **extra["params"])
        return result if node.primitive.multiple_results else [result]
    if node.primitive is jax.lax.mul_p and not extra:  # its parameters differ between releases of JAX
        return jax.lax.mul(*operands)
    return node.primitive.bind(*operands, **extra)

"""Steps of diffrax that end where the field switches: see `jaxkit.dynamics.ode.engine.switches`."""

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from jaxkit.compile.jit_cache import kept
from jaxkit.compile.nodes import SHARED
from jaxkit.compile.scalars import ScalarField
from jaxkit.core.jax_internals import inner_jaxpr, is_literal
from jaxkit.dynamics.linear.implicit import closed
from jaxkit.dynamics.ode.engine.switches import BREAKS, Stretch, Switches
from jaxkit.dynamics.ode.field import Field


class Stops(diffrax.AbstractAdaptiveStepSizeController[Any, Any]):
    """Another controller, whose steps end at a field's switches and which begins anew behind each.

    Attributes:
        controller: The other controller.
        constants: The constants on which the times of the switches depend.
        span: Length of the time span, negative where time runs backwards.
        direction: What diffrax multiplies its times by, so that they increase.
        field: The field.
        switches: Its switches.
    """

    controller: Any
    constants: dict[int, Array]
    span: Array
    direction: Array
    field: Field = eqx.field(static=True)
    switches: Switches = eqx.field(static=True)

    @property
    def rtol(self) -> Any:
        """Relative tolerance."""
        return self.controller.rtol

    @property
    def atol(self) -> Any:
        """Absolute tolerance."""
        return self.controller.atol

    @property
    def norm(self) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Size of an error."""
        return self.controller.norm

    def wrap(self, direction: Any) -> "Stops":
        """The controller where times are multiplied by `direction`."""
        return replace(self, direction=jnp.asarray(direction, jnp.int32))

    def at(self, t: Any, *, back: bool = False) -> Stretch:
        """The stretch that begins at a time, in the direction of motion or against it."""
        return self.switches.stretch(
            t * self.direction.astype(t.dtype), -self.span if back else self.span, self.constants
        )

    def left(self, t: Array) -> Array:
        """Time from `t` to the next switch, signed."""
        way = jnp.sign(self.span)
        return self.wrap(way).at(t * way).last * way - t

    def times(self, ts: Array) -> Array:
        """`ts`, with an end that lies on a switch moved to this side of it."""
        ends = self.at(ts[0]).seen(ts[0]), self.at(ts[-1], back=True).seen(ts[-1])
        return jnp.clip(ts, jnp.minimum(*ends), jnp.maximum(*ends))

    def init(
        self, terms: Any, t0: Any, t1: Any, y0: Any, dt0: Any, args: Any, func: Any, error_order: Any
    ) -> tuple[Any, Any]:
        """The end of the first step."""
        end, inner = self.controller.init(terms, t0, t1, y0, dt0, args, func, error_order)
        return jnp.minimum(end, self.at(t0).last), (inner, jax.lax.stop_gradient(end - t0))

    def adapt_step_size(
        self, t0: Any, t1: Any, y0: Any, y1_candidate: Any, args: Any, y_error: Any, error_order: Any,
        controller_state: Any,
    ) -> tuple[Any, Any, Any, Any, Any, Any]:  # fmt: skip
        """Whether a step is kept, and the next one."""
        inner, wanted = controller_state
        keep, start, end, jumped, inner, result = self.controller.adapt_step_size(
            t0, t1, y0, y1_candidate, args, y_error, error_order, inner
        )
        length = jnp.where(keep, jnp.maximum(end - start, wanted), end - start)  # this one was only cut off
        here = self.at(start)
        behind = keep & (here.first > start)
        start = jnp.where(behind, here.first, start)

        def anew() -> Any:
            velocity = lambda terms, t, y, args: terms.vf(t, y, args)
            given = jax.lax.stop_gradient((start, y1_candidate, args))
            term: Any = diffrax.ODETerm(turned(self.field, self.direction))  # pyright: ignore[reportArgumentType]
            return self.controller.init(term, given[0], t1, given[1], None, given[2], velocity, error_order)[0] - start

        length = jnp.where(behind, jax.lax.cond(behind, lambda: jax.lax.stop_gradient(anew()), lambda: length), length)
        kind = jnp.finfo(start.dtype)
        least = start + 2 * float(kind.eps) * jnp.abs(start) + float(kind.tiny)
        end = jnp.maximum(jnp.minimum(start + length, here.last), least)
        return keep, start, end, jumped | behind, (inner, jax.lax.stop_gradient(length)), result


class _Seen(diffrax.AbstractTerm[Any, Any]):
    """Another term, whose field is looked at before the next switch only."""

    term: diffrax.AbstractTerm[Any, Any]
    last: Array

    def vf(self, t: Any, y: Any, args: Any) -> Any:
        """The velocity."""
        return self.term.vf(jnp.where(t > self.last, self.last, t), y, args)

    def contr(self, t0: Any, t1: Any, **kwargs: Any) -> Any:
        """The length of a step."""
        return self.term.contr(t0, t1, **kwargs)

    def prod(self, vf: Any, control: Any) -> Any:
        """Velocity times length."""
        return self.term.prod(vf, control)


@functools.cache
def _bounded(kind: type) -> type:
    class Bounded(kind):
        stops: Any = None

        def step(
            self, terms: Any, t0: Any, t1: Any, y0: Any, args: Any, solver_state: Any, made_jump: Any
        ) -> tuple[Any, Any, Any, Any, Any]:
            seen = _Seen(terms, self.stops.at(t0).last)  # pyright: ignore[reportCallIssue]
            return super().step(seen, t0, t1, y0, args, solver_state, made_jump)

    return Bounded


def within_stretches(solver: Any, controller: Any) -> Any:
    """A solver whose stages do not look behind the next switch; the same one if none of them would."""
    table = getattr(solver, "tableau", None)
    beyond = isinstance(table, diffrax.ButcherTableau) and bool(np.any(np.asarray(table.c) > 1))
    if not isinstance(controller, Stops) or not beyond:
        return solver
    own = {f.name: getattr(solver, f.name) for f in dataclasses.fields(solver)}
    return _bounded(type(solver))(**own, stops=controller)


def turned(field: Field, direction: Any) -> Field:
    """The velocity where times are multiplied by `direction`."""

    def velocity(t: Array, x: PyTree, args: PyTree) -> PyTree:
        return jax.tree.map(lambda v: v * direction.astype(v.dtype), field(t * direction.astype(t.dtype), x, args))

    return velocity


def with_stops(controller: Any, field: Field, ts: Array, x: PyTree, args: PyTree) -> Any:
    """A controller whose steps end at the field's switches; the same one if it has none."""
    t, span = ts[0], jnp.where(ts[-1] == ts[0], 1, ts[-1] - ts[0])
    fn, values = closed(field, t, x, args)
    shape = lambda tree: jax.tree.map(lambda v: jax.ShapeDtypeStruct(jnp.shape(v), jnp.result_type(v)), tree)
    leaves, treedef = jax.tree.flatten(shape((t, x, (args, values))))
    whole = (lambda t, x, a: fn(t, x, a[0], *a[1])) if values else (lambda t, x, a: field(t, x, a[0]))
    found = _switches(whole, tuple(leaves), treedef)
    if found is None:
        return controller
    scalar, switches = found
    constants = scalar.constants(SHARED, list(map(jnp.asarray, jax.tree.leaves((args, values)))), {}, switches.roots)
    return Stops(controller, constants, span, jnp.asarray(1, jnp.int32), field, switches)  # pyright: ignore[reportCallIssue]


@kept
def _switches(field: Field, leaves: Any, treedef: Any) -> tuple[ScalarField, Switches] | None:
    """The part of a field that depends on time alone, and its switches; None if there are none."""
    t, x, args = treedef.unflatten(leaves)
    program = jax.make_jaxpr(field)(t, x, args)
    size = len(jax.tree.leaves(x))

    def part(t: Array, nothing: tuple[()], args: PyTree) -> list[Array]:
        found: list[Array] = []
        inputs = [t, *[None] * size, *jax.tree.leaves(args)]
        _of_time(program.jaxpr, program.consts, inputs, [True] + [False] * (len(inputs) - 1), found)
        return found

    if not jax.eval_shape(part, t, (), args):
        return None
    scalar = ScalarField(part, t, (), args, [False] * len(jax.tree.leaves(args)))
    switches = Switches(scalar, scalar.outputs)
    return (scalar, switches) if switches else None


def _of_time(jaxpr: Any, consts: Any, inputs: list[Any], timed: list[bool], found: list[Array]) -> list[Any]:
    """Values, and whether they depend on time, of what does not depend on the state; None for what does.

    Every number that may switch is added to `found`.
    """
    values: dict[Any, Any] = dict(zip(jaxpr.constvars, consts, strict=True)) | dict(
        zip(jaxpr.invars, inputs, strict=True)
    )
    moves = {v for v, own in zip(jaxpr.invars, timed, strict=True) if own}
    read: Callable[[Any], Any] = lambda v: jnp.asarray(v.val, v.aval.dtype) if is_literal(v) else values[v]
    moving: Callable[[Any], bool] = lambda v: not is_literal(v) and v in moves
    for eqn in jaxpr.eqns:
        operands, own = [read(v) for v in eqn.invars], [moving(v) for v in eqn.invars]
        if (inner := inner_jaxpr(eqn)) is not None:
            results = _of_time(inner[0], inner[1], operands, own, found)
        elif any(v is None for v in operands):
            results = [(None, False)] * len(eqn.outvars)
        else:
            out = eqn.primitive.bind(*operands, **eqn.params)
            results = [(v, any(own)) for v in (out if eqn.primitive.multiple_results else [out])]
            if any(own) and eqn.primitive.name in BREAKS:
                found += [v for v, _ in results]
        values |= {var: value for var, (value, _) in zip(eqn.outvars, results, strict=True)}
        moves |= {var for var, (_, own) in zip(eqn.outvars, results, strict=True) if own}
    return [(read(v), moving(v)) for v in jaxpr.outvars]

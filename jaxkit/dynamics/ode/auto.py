"""Stiffness without asking: an explicit pair, and a Rosenbrock method that takes over where stability sets the steps.

The last two stages of the explicit pair lie at the same time: the difference of their velocities over that of their
states is about the field's fastest rate, and costs nothing. As long as steps are what stability allows, evidence is
counted; then the Rosenbrock method goes on from where the motion stands. The pair comes back where the steps are such
that it would be stable, too, and more evidence is asked for before the next change.

References:
    Hairer and Wanner (1996), Solving Ordinary Differential Equations II, section IV.2 (stiffness detection).
    Petzold (1983), Automatic selection of methods for solving stiff and nonstiff systems of ordinary differential
    equations, SIAM Journal on Scientific and Statistical Computing 4 (the idea of switching both ways).
"""

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar, NamedTuple

import diffrax
import equinox as eqx
import equinox.internal as eqxi
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Int, PyTree

from jaxkit.core.numerics import choose
from jaxkit.dynamics.linear.ways import DENSE, Way, chosen
from jaxkit.dynamics.ode import rosenbrock
from jaxkit.dynamics.ode.field import Field, only
from jaxkit.dynamics.ode.schemes import TABLEAUS

PAIR = TABLEAUS["tsit5"]
LARGEST = 256  # numbers of a state up to which a stiff motion is followed with a dense Jacobian
COSTLY = 1e9  # operations of an elimination above which iterations are preferred: a step has one, and is near identity
LIMIT = 1.2  # rate times step from which stability may be what sets an explicit step; the pair's limit is 3.5
BACK = 6.0  # rate times step below which a Rosenbrock step, which costs several explicit ones, does not pay
PATIENCE, MOST = 25, 800  # steps of evidence before the first change, and the most asked for after changes back
CALM, RELIEF = 6, 8  # steps of evidence before a change back; what each step that pays takes from the patience


def _polynomials() -> np.ndarray:
    """What the state within an explicit step takes of the velocities: powers 1 to 4 of the fraction, each a row.

    Factors of Tsitouras' polynomials: the leading coefficient, then the two quadratics.
    """
    quadratic = lambda a, b: [1.0, -(a + b), a * b]
    factors = [
        (-1.0530884977290216, [1.0, -1.3299890189751412, 0.0], [1.0, -1.4364028541716351, 0.7139816917074209]),
        (0.1017, [1.0, 0.0, 0.0], [1.0, -2.1966568338249754, 1.2949852507374631]),
        (2.490627285651252793, [1.0, 0.0, 0.0], [1.0, -2.38535645472061657, 1.57803468208092486]),
        (-16.54810288924490272, [1.0, 0.0, 0.0], quadratic(1.21712927295533244, 0.61620406037800089)),
        (47.37952196281928122, [1.0, 0.0, 0.0], quadratic(1.203071208372362603, 0.658047292653547382)),
        (-34.87065786149660974, [1.0, 0.0, 0.0], quadratic(1.2, 0.666666666666666667)),
        (2.5, [1.0, 0.0, 0.0], quadratic(1.0, 0.6)),
    ]
    rows = [lead * np.polymul(one, other) for lead, one, other in factors]  # highest power first
    return np.array(rows)[:, 3::-1].T


WITHIN = _polynomials()


class Path(diffrax.AbstractLocalInterpolation):
    """The state within a step: a polynomial of the fourth degree in the fraction of the step.

    Attributes:
        t0: Time at its beginning.
        t1: Time at its end.
        y0: State at its beginning.
        y1: State at its end.
        h: Its length, signed.
        stiff: Whether it is the Rosenbrock method's.
        parts: The velocities of the explicit pair; or the polynomial's coefficients.
    """

    t0: Any
    t1: Any
    y0: PyTree
    y1: PyTree
    h: Any
    stiff: Any
    parts: tuple[PyTree, ...]

    def evaluate(self, t0: Any, t1: Any = None, left: bool = True) -> PyTree:  # noqa: FBT001, FBT002
        """The state at a time, or its change between two."""
        del left
        if t1 is not None:
            return jax.tree.map(jnp.subtract, self.evaluate(t1), self.evaluate(t0))
        length = self.t1 - self.t0
        part = (t0 - self.t0) / jnp.where(length == 0, 1, length)

        def leaf(y0: Array, y1: Array, *parts: Array) -> Array:
            s, h = part.astype(y0.real.dtype), self.h.astype(y0.real.dtype)
            explicit = [h * sum(float(w) * v for w, v in zip(row, parts, strict=True)) for row in WITHIN]
            powers = [jnp.where(self.stiff, own, u) for own, u in zip(parts, explicit, strict=False)]
            inside = y0 + s * (powers[0] + s * (powers[1] + s * (powers[2] + s * powers[3])))
            whole = y0 + (powers[0] + (powers[1] + (powers[2] + powers[3])))
            # At the end it is `y1` to the last digit, but moves with time as the polynomial does.
            return jnp.where(s == 1, y1 + (inside - whole), inside)

        return jax.tree.map(leaf, self.y0, self.y1, *self.parts)


class Mode(eqx.Module):
    """What is carried from step to step.

    Attributes:
        first: The velocity at the beginning of the next step.
        stiff: Whether the next step is the Rosenbrock method's.
        evidence: Steps that spoke for a change, less those that spoke against it.
        patience: How much evidence it takes to call the motion stiff.
        calm: Whether steps are the explicit pair's until one is called stiff: see `in_two_loops`.
    """

    first: PyTree
    stiff: Bool[Array, ""]
    evidence: Int[Array, ""]
    patience: Int[Array, ""]
    calm: bool = eqx.field(default=False, static=True)


class Step(NamedTuple):
    """A step by one of the methods; `rate` is the fastest rate times the step, for `parts` see `Path`."""

    x: PyTree
    error: PyTree
    parts: tuple[PyTree, ...]
    last: PyTree  # the velocity at its end
    rate: Array
    known: Bool[Array, ""]  # whether the Jacobian is finite


class Auto(diffrax.AbstractAdaptiveSolver[Any]):
    """An explicit pair and a Rosenbrock method: one of them, or both in turn.

    Attributes:
        explicit: Whether there is the explicit pair.
        implicit: Whether there is the Rosenbrock method.
        way: How that solves its linear systems.
    """

    explicit: bool = eqx.field(default=True, static=True)
    implicit: bool = eqx.field(default=True, static=True)
    way: Way = eqx.field(default=DENSE, static=True)

    term_structure: ClassVar[Any] = diffrax.AbstractTerm
    interpolation_cls: ClassVar[Callable[..., Path]] = Path

    @property
    def changes(self) -> bool:
        """Whether there are both."""
        return self.explicit and self.implicit

    def order(self, terms: Any) -> int:
        """Order of both methods."""
        del terms
        return 5

    def func(self, terms: Any, t0: Any, y0: Any, args: Any) -> Any:
        """The velocity."""
        return terms.vf(t0, y0, args)

    def init(self, terms: Any, t0: Any, t1: Any, y0: Any, args: Any) -> Mode:
        """What is known before the first step."""
        del t1
        number = lambda v: jnp.asarray(v, jnp.int32)
        return Mode(_alike(terms.vf(t0, y0, args), y0), jnp.asarray(not self.explicit), number(0), number(PATIENCE))

    def step(
        self, terms: Any, t0: Any, t1: Any, y0: Any, args: Any, solver_state: Mode, made_jump: Any
    ) -> tuple[Any, Any, dict[str, Any], Mode, Any]:
        """One step."""
        mode, first = solver_state, solver_state.first
        if made_jump is not False:  # the velocity before the jump is of no use
            anew = jax.lax.cond(
                eqxi.unvmap_any(made_jump), lambda: _alike(terms.vf(t0, y0, args), y0), lambda: mode.first
            )
            first = choose(made_jump, anew, first)

        def by(method: Callable[..., Step], own: Any = None) -> Step:
            given = (t0, t1, y0, first, args)
            start, end, x, rate, parameters = given if own is None else only(own, given)
            velocity = lambda t, x: _alike(terms.vf(t, x, parameters), x)
            return method(velocity, start, end, x, terms.contr(start, end), rate)

        implicit = functools.partial(_implicit, way=self.way)
        if not self.implicit or mode.calm:
            taken, stiff = by(_explicit), jnp.asarray(False)  # noqa: FBT003
        elif not self.explicit:
            taken, stiff = by(implicit), jnp.asarray(True)  # noqa: FBT003
        else:
            none = lambda: _no_step(y0, first)
            slow = jax.lax.cond(eqxi.unvmap_any(mode.stiff), lambda: by(implicit, mode.stiff), none)
            stiff = mode.stiff & slow.known
            fast = jax.lax.cond(eqxi.unvmap_any(~stiff), lambda: by(_explicit, ~stiff), none)
            taken = choose(stiff, slow, fast)
        h = terms.contr(t0, t1)
        dense = {"y0": y0, "y1": taken.x, "h": h, "stiff": stiff, "parts": taken.parts}
        return taken.x, taken.error, dense, self._next(mode, taken, stiff), diffrax.RESULTS.successful

    def _next(self, mode: Mode, taken: Step, stiff: Array) -> Mode:
        if not self.changes:
            return replace(mode, first=taken.last)
        if mode.calm:
            evidence = jnp.maximum(mode.evidence + jnp.where(taken.rate > LIMIT, 1, -1), 0)
            return replace(mode, first=taken.last, evidence=evidence)
        judged = mode.stiff == stiff
        speaks = jnp.where(stiff, taken.rate < BACK, taken.rate > LIMIT)
        evidence = jnp.where(judged, jnp.maximum(mode.evidence + jnp.where(speaks, 1, -1), 0), mode.evidence)
        change = judged & (evidence >= jnp.where(stiff, CALM, mode.patience))
        shorter = jnp.maximum(mode.patience - RELIEF, PATIENCE)
        patience = jnp.where(change, jnp.minimum(2 * mode.patience, MOST), jnp.where(speaks, mode.patience, shorter))
        patience = jnp.where(stiff, patience, mode.patience)
        return Mode(taken.last, mode.stiff ^ change, jnp.where(change, 0, evidence), patience)

    def fitted(self, field: Field, t: Any, x: PyTree, args: PyTree, jacobian: str, rtol: float) -> "Auto":
        """The same with a way to solve its linear systems, without the Rosenbrock method where the field has none."""
        if not self.implicit:
            return self
        if self.changes and not _has_jacobian(field, t, x, args):
            return replace(self, implicit=False)
        flat, back = ravel_pytree(x)
        velocity = lambda v: ravel_pytree(field(t, back(v), args))[0].astype(v.dtype)
        way = replace(chosen(velocity, flat, jacobian, krylov_above=COSTLY), rtol=1e-3 * rtol, blocks=False)
        large = self.changes and way.name == "dense" and flat.size > LARGEST
        return replace(self, implicit=False) if large else replace(self, way=way)


@functools.cache
def in_two_loops(adjoint: type[diffrax.AbstractAdjoint], **options: Any) -> diffrax.AbstractAdjoint:
    """An adjoint of diffrax whose loop is two: the explicit pair's until a motion is called stiff, then that of both.

    A motion that is not stiff does not pay for the choice; nor does it for the Rosenbrock method, side by side with
    others, as long as none of them is stiff.
    """

    class InTwoLoops(adjoint):
        """The adjoint in two loops."""

        @property
        def _loop(self) -> Callable[..., Any]:
            theirs = super()._loop

            def loop(*, outer_while_loop: Callable[..., Any], max_steps: int, **rest: Any) -> Any:
                def twice(running: Callable, body: Callable, state: Any, **options: Any) -> Any:
                    first = _calm(state, calm=True)
                    there = outer_while_loop(lambda s: running(s) & ~_found(s), body, first, **options)
                    more = lambda s: running(s) & (s.num_steps < max_steps)
                    return outer_while_loop(more, lambda s: body(s), _calm(there, calm=False), **options)

                return theirs(outer_while_loop=twice, max_steps=max_steps, **rest)

            return loop

    return InTwoLoops(**options)  # pyright: ignore[reportAbstractUsage]


def _found(state: Any) -> Bool[Array, ""]:
    return state.solver_state.evidence >= PATIENCE


def _calm(state: Any, *, calm: bool) -> Any:
    mode, none = state.solver_state, jnp.zeros_like(state.solver_state.evidence)
    return replace(state, solver_state=replace(mode, calm=calm, stiff=_found(state), evidence=none))


def _has_jacobian(field: Field, t: Any, x: PyTree, args: PyTree) -> bool:
    """Whether the field can be pushed forward: a function with a rule for the reverse mode alone cannot."""

    def pushed(t: Array, x: PyTree) -> PyTree:
        units = jax.tree.map(lambda v: jnp.ones((2, *v.shape), v.dtype), (t, x))
        return jax.vmap(lambda unit: jax.jvp(lambda t, x: field(t, x, args), (t, x), unit)[1])(units)

    try:
        jax.eval_shape(pushed, t, x)
    except (TypeError, ValueError, NotImplementedError):
        return False
    return True


def _explicit(velocity: Callable, t0: Any, t1: Any, x: PyTree, h: Array, first: PyTree) -> Step:
    """A step of the explicit pair, whose last stage is the next one's first."""
    rates, there = [first], [x]
    for i in range(1, len(PAIR.b)):
        there.append(_moved(x, h, PAIR.a[i], rates))
        t = t1 if PAIR.c[i] == 1 else t0 + float(PAIR.c[i]) * (t1 - t0)
        rates.append(velocity(t, there[-1]))
    nothing = jax.tree.map(jnp.zeros_like, x)
    error = _moved(nothing, h, np.asarray(PAIR.error), rates)
    away = [jax.tree.map(jnp.subtract, *pair) for pair in (rates[-2:], there[-2:])]
    row = lambda tree: jnp.concatenate([jnp.abs(v).reshape(-1) for v in jax.tree.leaves(tree)])
    most = jnp.max(jnp.stack([row(tree) for tree in away]), axis=1)  # both at once, which costs least
    rate = most[0] / most[1] * jnp.abs(h).astype(most.dtype)
    held = jax.lax.stop_gradient(rate)
    return Step(there[-1], error, tuple(rates), rates[-1], held, jnp.asarray(True))  # noqa: FBT003


def _implicit(velocity: Callable, t0: Any, t1: Any, x: PyTree, h: Array, first: PyTree, *, way: Way) -> Step:
    """A step of the Rosenbrock method."""
    flat, back = ravel_pytree(x)

    def along(s: Any, v: Array) -> Array:
        at_end = isinstance(s, float) and s == 1
        t = t1 if at_end else t0 + jnp.asarray(s, (t1 - t0).dtype) * (t1 - t0)
        return ravel_pytree(velocity(t, back(v)))[0]

    found, rate, known = rosenbrock.step(along, flat, h.astype(flat.dtype), ravel_pytree(first)[0], way=way)
    end = back(found.x)
    nothing = jax.tree.map(jnp.zeros_like, x)
    parts = (*map(back, found.path), *[nothing] * (len(PAIR.b) - 4))
    return Step(end, back(found.error), parts, velocity(t1, end), rate, known)


def _moved(x: PyTree, h: Array, weights: np.ndarray, rates: list[PyTree]) -> PyTree:
    """`x + h sum_i weights_i rates_i`."""
    some = [(float(w), rate) for w, rate in zip(weights, rates, strict=False) if w]

    def leaf(x: Array, *rates: Array) -> Array:
        total = sum((w * rate for (w, _), rate in zip(some[1:], rates[1:], strict=True)), some[0][0] * rates[0])
        return x + h.astype(x.real.dtype) * total

    return jax.tree.map(leaf, x, *(rate for _, rate in some))


def _alike(tree: PyTree, x: PyTree) -> PyTree:
    return jax.tree.map(lambda v, u: v.astype(u.dtype), tree, x)


def _no_step(x: PyTree, first: PyTree) -> Step:
    """The shapes of a step."""
    none = lambda tree: jax.tree.map(jnp.zeros_like, tree)
    rate = jnp.zeros((), jax.tree.leaves(x)[0].real.dtype)
    return Step(none(x), none(x), (none(x),) * len(PAIR.b), none(first), rate, jnp.asarray(True))  # noqa: FBT003

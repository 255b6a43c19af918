"""Roots of residuals: the `root` verb."""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import equinox.internal as eqxi
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from jaxkit.compile.jit_cache import run_kept
from jaxkit.core.checks import require
from jaxkit.core.status import Outcome, Status
from jaxkit.core.struct import struct
from jaxkit.dynamics.iterate import iterate
from jaxkit.dynamics.linear.dense import value_and_jacobian
from jaxkit.dynamics.linear.implicit import closed, failed, implicit
from jaxkit.dynamics.linear.ways import DENSE, chosen, root_tangent
from jaxkit.dynamics.roots.methods import choose
from jaxkit.dynamics.roots.methods.bracket import checked
from jaxkit.dynamics.roots.methods.flat import unless_flat
from jaxkit.dynamics.roots.methods.method import (
    Iterate,
    Method,
    Problem,
    Settings,
    code,
    diagnosed,
    lost,
    rounding,
    running,
)
from jaxkit.dynamics.roots.unknowns import check_ends, flat_residual, flatten, guess, tolerances

X = TypeVar("X")


@struct
class Root(Outcome, Generic[X]):
    """A root and how it was reached.

    Attributes:
        value: The root, of `x0`'s structure and shapes.
        residual: Largest absolute entry of `fn(value, args)`.
        status: `Status` code.
        steps: Iterations taken.
    """

    verb: ClassVar[str] = "root"

    value: X
    residual: Float[Array, "..."]
    status: Int[Array, "..."]
    steps: Int[Array, "..."]


def root(
    fn: Callable[[X, Any], PyTree],
    x0: X | None = None,
    args: PyTree = None,
    *,
    method: str | Method | Settings | None = None,
    bracket: tuple[Any, Any] | None = None,
    rtol: float | None = None,
    atol: float | None = None,
    max_steps: int = 100,
    jacobian: str = "auto",
) -> Root[X]:
    """Find `x` with `fn(x, args) = 0`; JAX supplies the derivatives of `fn`.

    The derivative of the root with respect to `args`, and to whatever else `fn` closes over, comes from the implicit
    function theorem, in both modes and to any order, so its cost does not grow with the number of steps; where no root
    is found, it is NaN. A solver decorated with jaxopt's `implicit_diff.custom_root(F)` becomes
    `root(F, x0, theta).value` (for its fixed points, see `fixed_point`).

    Methods for any unknowns: `"newton"` (default), `"halley"`, `"chord"` (one Jacobian), and with a falling residual
    `"damped"`, `"dogleg"`, `"levenberg_marquardt"` or `"robust"` (dogleg, then the others where it fails). For scalars
    also `"householder3"` and `"householder4"`, and with a `bracket` `"safeguarded"` (default: Newton's method, kept
    inside), `"chandrupatla"`, `"itp"` and `"bisect"`. Complex unknowns need a holomorphic `fn`.

    Args:
        fn: Residual; maps `x` and `args` to a pytree with as many entries as `x`.
        x0: First guess: a scalar, an array, or a pytree of these. It may be left out where there is a bracket.
        args: Parameters; differentiable.
        method: Name of the method, or an object with its settings, such as `jk.LevenbergMarquardt(damping=1.0)`.
        bracket: Two numbers at which `fn` has values of opposite sign; the root stays between them. `fn` must be
            continuous there: a sign change at a pole or a jump is reported as `not_continuous`.
        rtol: The answer is within `atol + rtol * |x|` of a root, as far as the method can tell by its Newton step
            or the width of the bracket. 1e-9 by default (1e-5 in single precision); at least 4 eps. A residual
            that a short step does not lower is not that of a root (`no_progress`). A residual that comes closer to 0
            than `rtol` of the unknown changes it is not told from one that reaches 0.
        atol: See `rtol`. 0 by default: the answer is right relative to its own size.
        max_steps: Largest number of iterations.
        jacobian: How `"newton"`, `"chord"` and the derivative hold the Jacobian of many unknowns: `"dense"`;
            `"sparse"`, its possible nonzeros alone, with sparse factors (on the CPU, in double precision);
            `"krylov"`, by products with it alone (GMRES); or `"auto"`, which from 100 unknowns on looks for zeros in
            `fn`. The zeros are found by the libraries of `jaxkit[sparse]`.

    Returns:
        A `Root`. It does not raise: call `.checked()` on the host, or look at `.status`.

    Raises:
        ValueError: `fn` does not return as many values as `x0` has, or the method does not fit the unknown.

    Example:
        >>> import jax, jax.numpy as jnp, jaxkit as jk
        >>> r = jk.root(lambda x, a: x**3 - a, 1.0, 2.0).checked()
        >>> round(float(r.value), 6)
        1.259921
        >>> round(float(jax.grad(lambda a: jk.root(lambda x, a: x**3 - a, 1.0, a).value)(2.0)), 4)
        0.21
        >>> round(float(jk.root(lambda x, _: jnp.cos(x) - x, bracket=(0.0, 1.0)).checked().value), 6)
        0.739085
    """
    check_ends(bracket)
    options = {"method": method, "rtol": rtol, "atol": atol, "max_steps": max_steps, "jacobian": jacobian}
    return run_kept(_root, (fn, options), (x0, args, bracket))


def _root(fn: Any, options: dict[str, Any], x0: Any, args: Any, bracket: Any) -> Root:
    return explained(found(fn, x0, args, bracket=bracket, **options))


def explained(root: Root[X]) -> Root[X]:
    """The root with its status refined by its residual (see `diagnosed`)."""
    return dataclasses.replace(root, status=diagnosed(root.status, root.residual))


def found(
    fn: Callable[[X, Any], PyTree],
    x0: X | None = None,
    args: PyTree = None,
    *,
    method: str | Method | Settings | None = None,
    bracket: tuple[Any, Any] | None = None,
    rtol: float | None = None,
    atol: float | None = None,
    max_steps: int = 100,
    jacobian: str = "auto",
) -> Root[X]:
    """`root`, but not yet `explained`: for chunks, whose last residual XLA would compute twice."""
    solver = choose(method, bracket)
    x0, ends = guess(x0, bracket, solver)
    start, unravel = flatten(x0, flat=solver.flat)

    residual, start = flat_residual(fn, start, unravel, args)
    residual, consts = closed(residual, start)
    real = jnp.finfo(start.dtype).dtype
    rtol, atol = tolerances(real, rtol, atol)
    ends = None if ends is None else (jnp.asarray(ends[0], real), jnp.asarray(ends[1], real))
    stated = jacobian not in ("sparse", "krylov") or not solver.dense
    require(stated, "jacobian", f"be 'auto' or 'dense' with the method {solver.name!r}", f"is {jacobian!r}")
    way = chosen(lambda x: residual(x, *consts), start, jacobian)
    inner = DENSE if solver.dense else way

    def solve(start: Array, ends: Any, consts: tuple) -> tuple[Any, tuple[Array, Array]]:
        problem = Problem(lambda x: residual(x, *consts), rtol, atol, inner)
        return _solve(problem, solver, start, ends, max_steps)

    def rule(answer: Any, inputs: Any, tangents: Any) -> Any:
        x, size = answer
        return root_tangent(residual, x, inputs[2], tangents[2], way), jnp.zeros_like(size)

    solved = implicit(solve, rule, lost=failed)
    (x, size), (status, steps) = solved(start, ends, tuple(consts))
    return Root(unravel(x), size, status, steps)


def _solve(
    problem: Problem, method: Method, start: Array, ends: Any, max_steps: int
) -> tuple[tuple[Array, Array], tuple[Int[Array, ""], Int[Array, ""]]]:
    """Run the method, then its fallbacks in the lanes that failed: the root, its residual, and (status, steps)."""
    state, size, steps = _run(problem, method, method.start(problem, start, ends), max_steps)
    x, status = state.x, state.status
    for other in method.fallbacks:
        failed = status != int(Status.ok)
        again = other.start(problem, start, ends)
        again = again._replace(error=jnp.where(failed, again.error, 0))  # lanes that succeeded stop at once
        second, left, more = _run(problem, other, again, max_steps)
        better = failed & (second.status == int(Status.ok))
        x, size, status = (
            jnp.where(better, new, old) for new, old in ((second.x, x), (left, size), (second.status, status))
        )
        steps = steps + jnp.where(failed, more, 0)
    return (x, size), (status, steps)


def _run(problem: Problem, method: Method, first: Iterate, max_steps: int) -> tuple[Iterate, Array, Int[Array, ""]]:
    """One method through the loop, the residual where it ends, and what its failure means."""
    step = (lambda s: method.step(problem, s)) if first.x.ndim == 0 else lambda s: _stepped(problem, method, s)
    state, status, turns = iterate(
        step,
        first,
        status=lambda s: s.status,
        done=lambda s: ~running(problem, s),
        max_steps=max_steps + method.opening,
    )
    state = lost(state._replace(status=status))
    state = state._replace(x=method.finish(problem, state)) if method.finish else state
    if method.bracketing:
        state = checked(problem, state)
        value = problem.fn(state.x)
        size = jnp.maximum(jnp.abs(first.memory.a), jnp.abs(first.memory.b))
        state = unless_flat(problem, size, state, value)
    else:
        state, value = _looked_at_again(problem, method, step, first.x, state)
    return state, jnp.max(jnp.abs(value)), jnp.maximum(turns - method.opening, 0)


def _stepped(problem: Problem, method: Method, before: Iterate) -> Iterate:
    """A step of a system; its error is 0 where only rounding is left: the steps are small and shrink no more."""
    after = method.step(problem, before)
    size = jnp.abs(after.x)
    noise = 64 * float(jnp.finfo(size.dtype).eps) * jnp.max(size)
    still = jnp.max(after.error) >= 0.5 * jnp.max(before.error)
    settled = still & jnp.all(after.error <= jnp.maximum(noise, problem.tolerance(after.x)))
    return after._replace(error=jnp.where(settled, 0, after.error))


def _judged(problem: Problem, state: Iterate) -> tuple[Array, Array]:
    """The residual at the last point, and the largest with which it is a root."""
    if state.x.ndim:
        return problem.fn(state.x), state.allowed
    value, slope = value_and_jacobian(problem.fn, state.x)
    return value, jnp.maximum(0.9 * jnp.abs(slope) * state.error, rounding(state.x, slope))


class _Last(NamedTuple):
    """Where a method has ended, and why that end is in doubt.

    Attributes:
        start: The first guess.
        state: The last iterate.
        value: The residual there.
        allowed: The largest residual with which it is a root.
        scale: The largest number among the unknowns, at the start or now.
        low: Whether it made no progress next to 0, where squares underflow.
        stuck: Whether `low` holds, or the method ran out of steps.
        bad: Whether the status is ok, but the residual is not allowed.
    """

    start: Array
    state: Iterate
    value: Array
    allowed: Array
    scale: Array
    low: Array
    stuck: Array
    bad: Array


class _Look(NamedTuple):
    """The answer with its residual and status, the iterate that goes on from there, what is in doubt, what was seen."""

    x: Array
    value: Array
    status: Array
    now: Iterate
    doubt: Array
    count: Array
    left: Array
    back: Array
    early: Array
    late: Array
    base: Array


SHORT = 2e-3  # of an unknown: a step that is followed by one of 0 about a root alone
LOOKS = 8
PROBES = 8  # to both sides, each pair eight times as far as the one before


def _looked_at_again(
    problem: Problem, method: Method, step: Callable[[Iterate], Iterate], start: Array, state: Iterate
) -> tuple[Iterate, Array]:
    """A few further steps in lanes that ran out of steps, or whose last step has not lowered the residual.

    A lane that ran out of steps may be in a short cycle, in the rounding about a root, or at the root 0, which no step
    reaches relative to its size (nor lowers a square that has underflowed). Where the residual was not lowered, there
    is a root if the residual is mere rounding, and so falls or changes its sign; else (a cusp, the edge of the domain,
    a pole) the iteration has stopped where there is none. Where steps no longer than rounding have seen one sign alone,
    points further along Newton's step decide, on both sides: past a root every entry has the other sign, past a kink
    that does not reach zero it has not. The other lanes take no further step.
    """
    last = _last(problem, start, state)
    none, never = jnp.zeros_like(last.scale), jnp.zeros((), bool)
    doubt, now = last.stuck | last.bad, state._replace(status=code(Status.ok))
    first = _Look(state.x, last.value, state.status, now, doubt, jnp.asarray(0), never, never, none, none, none)

    def go(look: _Look) -> Array:
        on = running(problem, look.now._replace(error=look.now.error + jnp.inf)) | (look.count == 1)
        return look.doubt & (look.count < LOOKS) & on

    look = jax.lax.while_loop(go, lambda look: _further(problem, step, last, look), first)
    noise = look.doubt & _noise(last, look)
    crosses = lambda: _crosses(problem, method, last, look)
    noise &= jax.lax.cond(eqxi.unvmap_any(noise), crosses, lambda: jnp.zeros_like(noise))
    state = state._replace(x=look.x, status=_verdict(last, look, noise))
    if not method.free:
        state = unless_flat(problem, jnp.abs(start), state, look.value, sure=_steep(last))
    return state, look.value


def _last(problem: Problem, start: Array, state: Iterate) -> _Last:
    value, allowed = _judged(problem, state)
    scale = jnp.max(jnp.maximum(jnp.abs(state.x), jnp.abs(start)))
    low = (state.status == int(Status.no_progress)) & (_largest(state.x) <= _half_digits(state.x) * scale)
    stuck = (state.status == int(Status.max_steps)) | low
    bad = (state.status == int(Status.ok)) & ~jnp.all((jnp.abs(value) <= allowed) & jnp.isfinite(value))
    return _Last(start, state, value, allowed, scale, low, stuck, bad)


def _steep(last: _Last) -> Array:
    """Whether the last step that was not 0 was so short that the residual had to be 0 behind it: a scalar's root.

    Where rounding takes a tail such as `erf(x) - 1` for 0, steps are longer; where it underflows, they may be short.
    """
    if last.state.x.ndim:
        return jnp.zeros((), bool)
    step, limits = jnp.abs(last.state.error), jnp.finfo(last.scale.dtype)
    return (last.allowed > float(limits.tiny / limits.eps)) & (step > 0) & (step <= SHORT * last.scale)


def _further(problem: Problem, step: Callable[[Iterate], Iterate], last: _Last, look: _Look) -> _Look:
    """One step, and what is seen there: a root, a return to an earlier point, the length of the steps."""
    after, here = step(look.now), last.state.x
    near_zero = _largest(here) <= _half_digits(here) * last.scale
    to_zero = (look.count == jnp.where(last.low, 0, 1)) & last.stuck & near_zero
    probe = jnp.where(to_zero, 0, jnp.where(look.count == 0, last.start, after.x))
    value = problem.fn(probe)
    falls = jnp.all((jnp.abs(value) <= last.allowed) | (_across(look.value, value) & _slight(look, value)))
    root = jnp.where(last.stuck, to_zero & jnp.all(value == 0), falls & (look.count > 0))
    close = jnp.all(jnp.abs(after.x - here) <= 1e-6 * (jnp.abs(here) + jnp.finfo(here.dtype).tiny))
    length, early = _largest(after.x - look.now.x), look.count < LOOKS // 2
    return look._replace(
        x=jnp.where(root, probe, look.x),
        value=jnp.where(root, value, look.value),
        status=jnp.where(root, code(Status.ok), look.status),
        now=after,
        doubt=look.doubt & ~root,
        count=look.count + 1,
        left=look.left | ~close,
        back=look.back | (look.left & close),
        early=jnp.where(early, jnp.maximum(look.early, length), look.early),
        late=jnp.where(early, look.late, jnp.maximum(look.late, length)),
        base=jnp.where(look.count == 0, _largest(value), look.base),
    )


def _across(one: Array, other: Array) -> Array:
    """Where two residuals have opposite signs, entry by entry, or one of them is 0."""
    return jnp.real(jnp.conj(jnp.sign(one)) * other) <= 0


def _slight(look: _Look, value: Array) -> Array:
    """Whether a residual is small beside the one at the start, so that a change of sign is no jump."""
    return _largest(value) <= _half_digits(value) * look.base


def _noise(last: _Last, look: _Look) -> Array:
    """Whether the steps no longer shrink, are no longer than rounding, and the residual is small."""
    eps = float(jnp.finfo(last.scale.dtype).eps)
    noise = (look.count == LOOKS) & (look.late >= 0.5 * look.early) & _slight(look, last.value)
    return noise & (jnp.maximum(look.early, look.late) <= 64 * eps * last.scale)


def _crosses(problem: Problem, method: Method, last: _Last, look: _Look) -> Array:
    """Whether every entry of the residual changes its sign along the last step, on both sides and ever farther away."""
    here = last.state._replace(status=code(Status.ok))
    aim = method.finish(problem, here) - here.x if method.finish else look.now.x - here.x
    aim = jnp.where(aim == 0, jnp.maximum(look.early, look.late).astype(aim.dtype), aim)

    def probe(turn: Array, crossed: Array) -> Array:
        far = jnp.where(turn % 2, -1, 1) * 8 ** (turn // 2)
        value = problem.fn(here.x + far.astype(aim.dtype) * aim)
        return crossed | (_across(last.value, value) & _slight(look, value))

    return jnp.all(jax.lax.fori_loop(0, PROBES, probe, jnp.zeros(aim.shape, bool)))


def _verdict(last: _Last, look: _Look, noise: Array) -> Array:
    """The status of what is still in doubt: a root hidden by rounding, a cycle, or the reason it came with."""
    kind = jnp.where(noise, code(Status.ok), jnp.where(look.back, code(Status.cycle), code(Status.max_steps)))
    kind = jnp.where(last.low, last.state.status, kind)
    status = jnp.where(look.doubt, jnp.where(last.stuck, kind, code(Status.no_progress)), look.status)
    return jnp.where(look.doubt & last.bad & ~jnp.all(jnp.isfinite(last.value)), code(Status.not_finite), status)


def _largest(v: Array) -> Array:
    return jnp.max(jnp.abs(v))


def _half_digits(v: Array) -> float:
    return float(jnp.finfo(v.dtype).eps) ** 0.5

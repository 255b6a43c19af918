"""Roots of residuals: the `root` verb."""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, Generic, TypeVar

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from jaxkit.core.status import Outcome, Status
from jaxkit.core.struct import struct
from jaxkit.dynamics.iterate import iterate
from jaxkit.dynamics.linear.implicit import closed, implicit, root_tangent
from jaxkit.dynamics.roots.methods import choose
from jaxkit.dynamics.roots.methods.bracket import checked
from jaxkit.dynamics.roots.methods.method import Iterate, Method, Problem, Settings, code, diagnosed, lost, running
from jaxkit.dynamics.roots.unknowns import flat_residual, flatten, guess, tolerances

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
) -> Root[X]:
    """Find `x` with `fn(x, args) = 0`; derivatives of `fn` are JAX's.

    The derivative of the root with respect to `args`, and to whatever else `fn` closes over, comes from the implicit
    function theorem, in both modes and to any order, so its cost does not grow with the number of steps. A solver
    decorated with jaxopt's `implicit_diff.custom_root(F)` becomes `root(F, x0, theta).value` (for its fixed points,
    see `fixed_point`).

    Methods: for any unknowns `"newton"` (default), `"halley"`, `"chord"` (one Jacobian), and with a falling residual
    `"damped"`, `"dogleg"`, `"levenberg_marquardt"`, or `"robust"` (dogleg, then the others where it fails);
    for scalars also `"householder3"`, `"householder4"`; and with a `bracket` `"safeguarded"` (default: Newton kept
    inside), `"chandrupatla"`, `"itp"`, `"bisect"`. Complex unknowns need a holomorphic `fn`.

    Args:
        fn: Residual; maps `x` and `args` to a pytree with as many entries as `x`.
        x0: First guess: a scalar, an array, or a pytree of such. May be left out where there is a bracket.
        args: Parameters; differentiable.
        method: Name of the method, or an object with its settings, as `jk.LevenbergMarquardt(damping=1.0)`.
        bracket: Two numbers at which `fn` has values of opposite sign; the root stays between them. `fn` must be
            continuous there: a sign change at a pole or a jump is reported as `not_continuous`.
        rtol: The answer is within `atol + rtol * |x|` of a root as far as the method can tell: by its Newton step,
            or by the width of the bracket. 1e-9 by default (1e-5 in single precision); at least 4 eps.
        atol: See `rtol`. 1e-9 by default (1e-6 in single precision).
        max_steps: Most iterations.

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
    return explained(found(fn, x0, args, method=method, bracket=bracket, rtol=rtol, atol=atol, max_steps=max_steps))


def explained(root: Root[X]) -> Root[X]:
    """The root with its status told from its residual (see `diagnosed`)."""
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
) -> Root[X]:
    """`root`, but not yet `explained`: for chunks, of which XLA would compute the last residual twice."""
    solver = choose(method, bracket)
    x0, ends = guess(x0, bracket, solver)
    start, unravel = flatten(x0, flat=solver.flat)

    residual, start = flat_residual(fn, start, unravel, args)
    residual, consts = closed(residual, start)
    real = jnp.finfo(start.dtype).dtype
    rtol, atol = tolerances(real, rtol, atol)
    ends = None if ends is None else (jnp.asarray(ends[0], real), jnp.asarray(ends[1], real))

    def solve(start: Array, ends: Any, consts: tuple) -> tuple[Array, tuple[Array, Array]]:
        problem = Problem(lambda x: residual(x, *consts), rtol, atol)
        return _solve(problem, solver, start, ends, max_steps)

    def rule(x: Array, inputs: Any, tangents: Any) -> Array:
        return root_tangent(residual, x, inputs[2], tangents[2])

    solved = implicit(solve, rule)
    x, (status, steps) = solved(start, ends, tuple(consts))
    size = jnp.max(jnp.abs(residual(x, *consts)))
    return Root(unravel(x), size, status, steps)


def _solve(
    problem: Problem, method: Method, start: Array, ends: Any, max_steps: int
) -> tuple[Array, tuple[Int[Array, ""], Int[Array, ""]]]:
    """Run the method, then its fallbacks in the lanes that failed: the root, and (status, steps)."""
    state, steps = _run(problem, method, method.start(problem, start, ends), max_steps)
    for other in method.fallbacks:
        failed = state.status != int(Status.ok)
        again = other.start(problem, start, ends)
        again = again._replace(error=jnp.where(failed, again.error, 0))  # lanes that succeeded stop at once
        second, more = _run(problem, other, again, max_steps)
        better = failed & (second.status == int(Status.ok))
        state = state._replace(
            x=jnp.where(better, second.x, state.x), status=jnp.where(better, second.status, state.status)
        )
        steps = steps + jnp.where(failed, more, 0)
    return state.x, (state.status, steps)


def _run(problem: Problem, method: Method, first: Iterate, max_steps: int) -> tuple[Iterate, Int[Array, ""]]:
    """One method through the loop, and what its failure means."""
    step = lambda state: method.step(problem, state)
    going = lambda state: running(problem, state)
    state, status, turns = iterate(
        step, first, status=lambda s: s.status, done=lambda s: ~going(s), max_steps=max_steps + method.opening
    )
    state = lost(state._replace(status=status))
    state = state._replace(x=method.finish(problem, state)) if method.finish else state
    state = checked(problem, state) if method.bracketing else _cycling(problem, step, state)
    return state, jnp.maximum(turns - method.opening, 0)


def _cycling(problem: Problem, step: Callable[[Iterate], Iterate], state: Iterate) -> Iterate:
    """Look for a short cycle in lanes that ran out of steps: the others take no further step."""
    stuck = state.status == int(Status.max_steps)
    size = jnp.abs(state.x)

    def further(carry: tuple[Iterate, Array, Array]) -> tuple[Iterate, Array, Array]:
        before, left, _ = carry
        after = step(before)
        close = jnp.all(jnp.abs(after.x - state.x) <= 1e-6 * (size + jnp.finfo(size.dtype).tiny))
        return after, left | ~close, left & close

    first = (state._replace(status=code(Status.ok)), jnp.zeros_like(stuck), ~stuck)
    last, _, _ = iterate(
        further, first, status=lambda c: c[0].status, done=lambda c: c[2] | ~running(problem, c[0]), max_steps=8
    )
    return state._replace(status=jnp.where(stuck & last[2], code(Status.cycle), state.status))

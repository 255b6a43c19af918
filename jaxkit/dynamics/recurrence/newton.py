"""Recurrences solved for all times at once: Newton's method over the sequence, an associative scan per iteration."""

import dataclasses
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from jaxkit.core import checks
from jaxkit.core.status import Status, worst
from jaxkit.dynamics.iterate import iterate
from jaxkit.dynamics.linear.implicit import failed, implicit
from jaxkit.dynamics.recurrence.associative import affine_scan
from jaxkit.dynamics.recurrence.method import Step, Unrolled, outcome

PROBES = 16  # directions from which the diagonals of wide Jacobians are estimated
LARGE = 1 << 30  # bytes of full Jacobians of which one sentence is said beforehand

Advance = Callable[[Float[Array, " n"], PyTree, PyTree], Float[Array, " n"]]  # advance(h, input, args) -> h


@dataclasses.dataclass(frozen=True)
class ParallelNewton:
    """All steps at once, by Newton's method over the whole sequence.

    It pays where many processors are idle and the state is small; `vmap` it over a batch. The derivative is that of the
    solution, obtained by one linear solve.

    Attributes:
        jacobian: `"full"`, or `"diagonal"`: keep only the diagonals of the Jacobians (quasi-Newton, for wide states:
            O(n) instead of O(n^3) work per step). Of states of more than 16 numbers they are estimated from as many
            directions, which changes the number of iterations, not the result.
        damping: Between 0 and 1; multiplies the Jacobians by `1 - damping`, for motions that amplify; 1 is fixed-point
            iteration.
        rtol: Stop when no state moves by more than `rtol * (1 + |x|)`; by default `eps**0.75`.
        max_steps: Largest number of iterations; by default `2 * length`, since each settles at least one more state.
        guess: First guess of the states, with their shapes and time first; by default `x0` at all times.

    References:
        Lim et al. (2024), Parallelizing non-linear sequential models over the sequence length (DEER); Gonzalez et al.
        (2024), Towards scalable and stable parallelization of nonlinear RNNs (quasi and damped variants).
    """

    jacobian: str = "full"
    damping: float = 0.0
    rtol: float | None = None
    max_steps: int | None = None
    guess: PyTree = None

    def __post_init__(self) -> None:
        checks.one_of("jacobian", self.jacobian, ("full", "diagonal"))
        checks.require(0 <= self.damping <= 1, "damping", "lie between 0 and 1", f"is {self.damping}")

    def run(self, step: Step, x0: Any, inputs: PyTree, args: PyTree, length: int) -> Unrolled:
        """All states at once, on the flattened state."""
        leaves = jax.tree.leaves(x0)
        real = bool(leaves) and all(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in leaves)
        checks.require(real, "x0", "be floating for method 'parallel_newton'", "has other leaves")
        start, unravel = jax.flatten_util.ravel_pytree(x0)
        flat = lambda tree: jax.flatten_util.ravel_pytree(tree)[0]
        if self.jacobian == "full":
            _say_memory(length, start)
        if self.guess is None:
            guess = jnp.broadcast_to(start, (length, start.size))
        else:
            like = jax.tree.map(lambda v: jnp.zeros((length, *v.shape)), x0)
            checks.structure("guess", self.guess, like, of="the states")
            guess = jax.vmap(flat)(self.guess)
        advance = lambda h, given, args: flat(step(unravel(h), given, args)[0])
        states, status, steps = newton_states(advance, start, inputs, args, jax.lax.stop_gradient(guess), self)
        ys = jax.vmap(lambda h, given: step(unravel(h), given, args)[1])(_shift(states, start), inputs)
        final = unravel(states[-1])
        return Unrolled(ys, final, worst(status, outcome(final, ys)), steps)


def _say_memory(length: int, start: Array) -> None:
    """Warn before much memory is taken: a scan of the Jacobians holds them and about two more of their size."""
    taken = 3 * length * start.size**2 * start.dtype.itemsize
    if taken > LARGE:
        warnings.warn(
            f"method 'parallel_newton' will take about {taken / 2**30:.1f} GiB for {length} Jacobians of "
            f"{start.size} x {start.size} numbers: take ParallelNewton(jacobian='diagonal') or method='scan' instead.",
            stacklevel=4,
        )


def newton_states(
    advance: Advance,
    start: Float[Array, " n"],
    inputs: PyTree,
    args: PyTree,
    guess: Float[Array, "t n"],
    newton: ParallelNewton,
) -> tuple[Float[Array, "t n"], Int[Array, ""], Int[Array, ""]]:
    """States `h_t = advance(h_{t-1}, input_t, args)` for all times, by Newton's method over the whole sequence.

    Each iteration linearises every step at once and solves the affine recurrence of the corrections. Whatever the
    factors used for the Jacobians, each iteration makes at least one more state exact (up to rounding), so that the
    iteration ends. A state that overflows falls back to the plain step from its neighbour, which keeps that promise.

    The derivative is that of the solution (implicit function theorem): one linear solve with the exact Jacobians, in
    both modes, however the states were found.

    Args:
        advance: One step of the flat state.
        start: The state before the first step; differentiable, as are `inputs` and `args`.
        inputs: The inputs, with time along the first axis.
        args: Parameters.
        guess: First guess of the states.
        newton: The settings of Newton's method.

    Returns:
        The states, the `Status` code, and the number of iterations taken.
    """

    def solve(given: Any) -> tuple[Array, tuple[Array, Array]]:
        start, inputs, args, guess = given
        return _iterate(advance, start, inputs, args, guess, newton)

    def rule(states: Array, primals: Any, tangents: Any) -> Array:
        ((start, inputs, args, _),) = primals
        before = _shift(states, start)
        # The first state depends on `start` through its step; the later ones depend on the states before them.
        every = lambda start, inputs, args: jax.vmap(advance, (0, 0, None))(
            jnp.concatenate([start[None], before[1:]]), inputs, args
        )
        _, forcing = jax.jvp(every, (start, inputs, args), tangents[0][:3])
        back = _by_substitution if newton.jacobian == "diagonal" else _by_scan
        return back(lambda h, given: advance(h, given, args), before, inputs, forcing)

    states, (status, steps) = implicit(solve, rule, lost=failed)((start, inputs, args, guess))
    return states, status, steps


def _shift(states: Float[Array, "t n"], start: Float[Array, " n"]) -> Float[Array, "t n"]:
    """The states before each step."""
    return jnp.concatenate([start[None], states[:-1]])


def _jacobians(advance: Callable, before: Float[Array, "t n"], inputs: PyTree) -> Float[Array, "t n n"]:
    return jax.vmap(jax.jacfwd(advance))(before, inputs)


def _diagonals(advance: Callable, before: Float[Array, "t n"], inputs: PyTree) -> Float[Array, "t n"]:
    """Diagonals of the Jacobians in O(t n) memory: exact for narrow states, estimated from probes for wide ones.

    The mean of `v * (J v)` over random signs `v` is the diagonal; where a Jacobian is diagonal, each of them is.
    """
    n = before.shape[1]
    push = lambda along: jax.jvp(lambda h: jax.vmap(advance)(h, inputs), (before,), (along,))[1]
    if n <= PROBES:
        entry = lambda i: push(jnp.zeros_like(before).at[:, i].set(1))[:, i]
        return jax.lax.map(entry, jnp.arange(n)).T
    signs = np.random.default_rng(0).choice([-1.0, 1.0], (PROBES, n))
    probe = lambda total, v: (total + v[None] * push(jnp.broadcast_to(v, before.shape)), None)
    total = jax.lax.scan(probe, jnp.zeros_like(before), jnp.asarray(signs, before.dtype))[0]
    return total / PROBES


def _iterate(
    advance: Advance,
    start: Float[Array, " n"],
    inputs: PyTree,
    args: PyTree,
    guess: Float[Array, "t n"],
    newton: ParallelNewton,
) -> tuple[Float[Array, "t n"], tuple[Int[Array, ""], Int[Array, ""]]]:
    """Newton's iteration: the states, and (status, steps)."""
    fixed = lambda h, given: advance(h, given, args)
    derivative = _diagonals if newton.jacobian == "diagonal" else _jacobians
    rtol = float(jnp.finfo(start.dtype).eps) ** 0.75 if newton.rtol is None else newton.rtol
    max_steps = 2 * len(guess) if newton.max_steps is None else newton.max_steps

    def step(state: tuple[Array, Array]) -> tuple[Array, Array]:
        states, _ = state
        before = _shift(states, start)
        values, slopes = jax.vmap(fixed)(before, inputs), (1 - newton.damping) * derivative(fixed, before, inputs)
        # Solved for corrections, not states: they are 0 where all is settled, however large the products of Jacobians.
        moved = states + affine_scan(slopes, values - states)
        moved = jnp.where(jnp.isfinite(moved), moved, values)
        return moved, jnp.max(jnp.abs(moved - states) / (1 + jnp.abs(states)))

    first = (jnp.where(jnp.isfinite(guess), guess, 0), jnp.asarray(jnp.inf, start.dtype))
    unfinished = lambda s: jnp.zeros((), int)  # a state that is not finite may be repaired; else it shows at the end
    (states, _), status, steps = iterate(
        step, first, status=unfinished, done=lambda s: s[1] <= rtol, max_steps=max_steps
    )
    finite = jnp.all(jnp.isfinite(states))
    return states, (jnp.where(finite, status, int(Status.not_finite)), steps)


def _by_scan(advance: Callable, before: Array, inputs: PyTree, forcing: Float[Array, "t n"]) -> Float[Array, "t n"]:
    """Solve `dh_t - J_t dh_{t-1} = forcing_t`; the transposed system runs backward through the same scan."""
    slopes = _jacobians(advance, before, inputs)
    # `dh_{-1} = 0`, so that the first Jacobian plays no part.
    matvec = lambda v: v - jnp.einsum("tij,tj->ti", slopes, _shift(v, jnp.zeros_like(v[0])))
    solve = lambda _, b: affine_scan(slopes, b)
    after = lambda: jnp.concatenate([slopes[1:], jnp.zeros_like(slopes[:1])]).mT
    transposed = lambda _, b: affine_scan(after(), b, reverse=True)
    return jax.lax.custom_linear_solve(matvec, forcing, solve, transposed)


def _by_substitution(
    advance: Callable, before: Array, inputs: PyTree, forcing: Float[Array, "t n"]
) -> Float[Array, "t n"]:
    """The same system solved step by step: exact without n-by-n matrices, for wide states."""

    def step(moved: Array, given: Any) -> tuple[Array, Array]:
        h, at, push = given
        moved = jax.jvp(lambda h: advance(h, at), (h,), (moved,))[1] + push
        return moved, moved

    return jax.lax.scan(step, jnp.zeros_like(before[0]), (before, inputs, forcing))[1]

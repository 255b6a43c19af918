"""Recurrences solved for all times at once: Newton over the whole sequence, each iteration one associative scan."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from jaxkit.core.status import Status
from jaxkit.dynamics.iterate import iterate
from jaxkit.dynamics.linear.implicit import implicit

Advance = Callable[[PyTree, Float[Array, " n"], PyTree], Float[Array, " n"]]


class Newton(NamedTuple):
    """How Newton's method goes over a sequence.

    Attributes:
        diagonal: Keep only the diagonals of the Jacobians (quasi-Newton: O(n) instead of O(n^3) work a step).
        damping: Shrinks the Jacobians by `1 - damping`; 0 is Newton, 1 is fixed-point iteration.
        rtol: Stop when no state moves by more than `rtol * (1 + |h|)`.
        max_steps: Most iterations.
    """

    diagonal: bool
    damping: float
    rtol: float
    max_steps: int


def affine_scan(
    a: Float[Array, "t ..."], b: Float[Array, "t ... n"], start: Array | None = None, *, reverse: bool = False
) -> Float[Array, "t ... n"]:
    """All states of `h_t = a_t h_{t-1} + b_t` in O(log t) parallel steps.

    Args:
        a: Matrices, shape `(t, n, n)` with `b` of shape `(t, n)`; or elementwise factors of the shape of `b`.
        b: Inhomogeneity, time along the first axis.
        start: `h_{-1}`, of the shape of `b[0]`; None is 0.
        reverse: Run from the last time to the first.

    Returns:
        The states, of the shape of `b`.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxkit.dynamics.recurrence.parallel import affine_scan
        >>> affine_scan(jnp.full((4, 1), 0.5), jnp.ones((4, 1)))[:, 0].tolist()
        [1.0, 1.5, 1.75, 1.875]

    References:
        Blelloch (1990), Prefix sums and their applications.
    """
    times = jnp.multiply if a.shape == b.shape else lambda m, v: jnp.einsum("...ij,...j->...i", m, v)
    compose = jnp.multiply if a.shape == b.shape else jnp.matmul
    if start is not None:
        first = -1 if reverse else 0
        b = b.at[first].add(times(a[first], start))

    def combine(early: tuple[Array, Array], late: tuple[Array, Array]) -> tuple[Array, Array]:
        return compose(late[0], early[0]), times(late[0], early[1]) + late[1]

    return jax.lax.associative_scan(combine, (a, b), reverse=reverse)[1]


def newton_states(
    advance: Advance,
    params: PyTree,
    start: Float[Array, " n"],
    xs: PyTree,
    guess: Float[Array, "t n"],
    newton: Newton,
) -> tuple[Float[Array, "t n"], Int[Array, ""], Int[Array, ""]]:
    """States `h_t = advance(params, h_{t-1}, x_t)` of all times, by Newton's method in the whole sequence.

    Each iteration linearises every step at once and solves the affine recurrence of the corrections. Whatever the
    factors used for the Jacobians, every iteration makes at least one more state exact (up to rounding), so the
    iteration ends; a state that overflows falls back to the plain step from its neighbour, which keeps that promise.

    The derivative is that of the solution (implicit function theorem): one linear solve with the exact Jacobians, in
    both modes, however the states were found.

    Args:
        advance: One step of the flat state.
        params: Parameters; differentiable, as are `start` and `xs`.
        start: State before the first step.
        xs: Inputs, time along the first axis.
        guess: First guess of the states.
        newton: How Newton's method goes.

    Returns:
        The states, the `Status` code, and the iterations taken.

    References:
        Lim et al. (2024), Parallelizing non-linear sequential models over the sequence length (DEER); Gonzalez et al.
        (2024), Towards scalable and stable parallelization of nonlinear RNNs (quasi and damped variants).
    """

    def solve(given: Any) -> tuple[Array, tuple[Array, Array]]:
        params, start, xs, guess = given
        return _iterate(advance, params, start, xs, guess, newton)

    def rule(states: Array, inputs: Any, tangents: Any) -> Array:
        ((params, start, xs, _),) = inputs
        before = _shift(states, start)
        # The first state depends on `start` through its step; the later ones depend on the states before them.
        every = lambda params, start, xs: _every(advance, params, jnp.concatenate([start[None], before[1:]]), xs)
        _, forcing = jax.jvp(every, (params, start, xs), tangents[0][:3])
        back = _by_substitution if newton.diagonal else _by_scan
        return back(lambda h, x: advance(params, h, x), before, xs, forcing)

    states, (status, steps) = implicit(solve, rule)((params, start, xs, guess))
    return states, status, steps


def _every(advance: Advance, params: PyTree, before: Float[Array, "t n"], xs: PyTree) -> Float[Array, "t n"]:
    """One step from every state."""
    return jax.vmap(advance, (None, 0, 0))(params, before, xs)


def _shift(states: Float[Array, "t n"], start: Float[Array, " n"]) -> Float[Array, "t n"]:
    """The states before each step."""
    return jnp.concatenate([start[None], states[:-1]])


def _jacobians(advance: Callable, before: Float[Array, "t n"], xs: PyTree) -> Float[Array, "t n n"]:
    return jax.vmap(jax.jacfwd(advance))(before, xs)


def _diagonals(advance: Callable, before: Float[Array, "t n"], xs: PyTree) -> Float[Array, "t n"]:
    """Diagonals of the Jacobians, one column at a time: memory stays O(t n)."""

    def entry(index: Array) -> Float[Array, " t"]:
        along = jnp.zeros_like(before).at[:, index].set(1)
        return jax.jvp(lambda h: jax.vmap(advance)(h, xs), (before,), (along,))[1][:, index]

    return jax.lax.map(entry, jnp.arange(before.shape[1])).T


def _iterate(
    advance: Advance,
    params: PyTree,
    start: Float[Array, " n"],
    xs: PyTree,
    guess: Float[Array, "t n"],
    newton: Newton,
) -> tuple[Float[Array, "t n"], tuple[Int[Array, ""], Int[Array, ""]]]:
    """Newton's iteration: the states, and (status, steps)."""
    fixed = lambda h, x: advance(params, h, x)
    derivative = _diagonals if newton.diagonal else _jacobians

    def step(state: tuple[Array, Array]) -> tuple[Array, Array]:
        states, _ = state
        before = _shift(states, start)
        values, slopes = jax.vmap(fixed)(before, xs), (1 - newton.damping) * derivative(fixed, before, xs)
        # In the corrections, not the states: they are 0 where all is settled, however large the products of Jacobians.
        moved = states + affine_scan(slopes, values - states)
        moved = jnp.where(jnp.isfinite(moved), moved, values)
        return moved, jnp.max(jnp.abs(moved - states) / (1 + jnp.abs(states)))

    first = (jnp.where(jnp.isfinite(guess), guess, 0), jnp.asarray(jnp.inf, start.dtype))
    unfinished = lambda s: jnp.zeros((), int)  # a state that is not finite shows at the end; it may still be mended
    (states, _), status, steps = iterate(
        step, first, status=unfinished, done=lambda s: s[1] <= newton.rtol, max_steps=newton.max_steps
    )
    finite = jnp.all(jnp.isfinite(states))
    return states, (jnp.where(finite, status, int(Status.not_finite)), steps)


def _by_scan(advance: Callable, before: Array, xs: PyTree, forcing: Float[Array, "t n"]) -> Float[Array, "t n"]:
    """Solve `dh_t - J_t dh_{t-1} = forcing_t`; the transposed system runs backward through the same scan."""
    slopes = _jacobians(advance, before, xs)
    # `dh_{-1} = 0`, so the first Jacobian plays no part.
    matvec = lambda v: v - jnp.einsum("tij,tj->ti", slopes, _shift(v, jnp.zeros_like(v[0])))
    solve = lambda _, b: affine_scan(slopes, b)
    after = lambda: jnp.concatenate([slopes[1:], jnp.zeros_like(slopes[:1])]).mT
    transposed = lambda _, b: affine_scan(after(), b, reverse=True)
    return jax.lax.custom_linear_solve(matvec, forcing, solve, transposed)


def _by_substitution(advance: Callable, before: Array, xs: PyTree, forcing: Float[Array, "t n"]) -> Float[Array, "t n"]:
    """The same system solved step by step: exact without n-by-n matrices, for wide states."""

    def step(moved: Array, given: Any) -> tuple[Array, Array]:
        h, x, push = given
        moved = jax.jvp(lambda h: advance(h, x), (h,), (moved,))[1] + push
        return moved, moved

    return jax.lax.scan(step, jnp.zeros_like(before[0]), (before, xs, forcing))[1]

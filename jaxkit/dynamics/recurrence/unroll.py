"""Discrete motion: the `unroll` verb. A cell and its inputs, step by step or parallel in time."""

from collections.abc import Callable
from typing import Any, ClassVar, Generic, Protocol, TypeVar, runtime_checkable

import jax
import jax.flatten_util
import jax.numpy as jnp
from jaxtyping import Array, Int, PyTree

from jaxkit.core import checks
from jaxkit.core.status import Outcome, Status
from jaxkit.core.struct import struct
from jaxkit.dynamics.recurrence.parallel import Newton, affine_scan, newton_states

S = TypeVar("S")
Cell = Callable[[Any, S, Any], tuple[S, Any]]

MODES = ("auto", "scan", "newton", "associative")


@runtime_checkable
class LinearCell(Protocol):
    """A cell whose state moves by `h_t = decay_t * h_{t-1} + drive_t`, elementwise, with gates of the input alone."""

    def affine(self, params: PyTree, xs: PyTree) -> tuple[Array, Array]:
        """`(decay, drive)` for any leading axes of `xs`."""
        ...

    def readout(self, params: PyTree, state: Array, x: PyTree) -> PyTree:
        """Output of the cell from its new state and input, for any leading axes."""
        ...


@struct
class Unrolled(Outcome, Generic[S]):
    """What a cell did.

    Attributes:
        ys: Outputs, time along the first axis of every leaf.
        state: The last state.
        status: `Status` code: `not_finite` where the last state is not; `max_steps` where Newton did not converge.
        iterations: Newton iterations over the whole sequence; 0 in the other modes.
    """

    verb: ClassVar[str] = "unroll"

    ys: Any
    state: S
    status: Int[Array, "..."]
    iterations: Int[Array, "..."]


def unroll(
    cell: Cell[S],
    params: PyTree,
    state: S,
    xs: PyTree = None,
    *,
    length: int | None = None,
    mode: str = "auto",
    checkpoint_every: int | None = None,
    jacobian: str = "full",
    damping: float = 0.0,
    rtol: float | None = None,
    max_steps: int | None = None,
    guess: PyTree | None = None,
) -> Unrolled[S]:
    """Run `cell(params, state, x) -> (state, y)` over a sequence of inputs.

    Modes: `"scan"` goes step by step. `"newton"` solves all steps at once: Newton over the sequence, each iteration
    one associative scan, derivatives by one linear solve; it pays where many processors wait and the state is small;
    `vmap` it over a batch. `"associative"` does linear cells (`LinearCell`) exactly in O(log length) parallel steps.
    `"auto"` takes scan on a CPU; elsewhere associative for a linear cell, newton for a state of at most 16 numbers
    and at least 1000 steps, else scan.

    Args:
        cell: Moves the state once; a pure function (or an object that is called like one).
        params: Parameters; any pytree; differentiable, as are `state` and `xs`.
        state: State before the first step: any pytree of arrays.
        xs: Inputs, time along the first axis of every leaf. None feeds the number of the step: 0, 1, ...
        length: Number of steps, where `xs` is None.
        mode: `"auto"`, `"scan"`, `"newton"` or `"associative"`.
        checkpoint_every: Keep only every so many states for the backward pass of a scan and recompute the others:
            about `sqrt(length)` makes its memory O(sqrt(length)) for one more forward pass.
        jacobian: Of Newton's linear steps: `"full"`, or `"diagonal"` (quasi-Newton, for wide states).
        damping: Between 0 and 1: shrinks those Jacobians; for motions that amplify.
        rtol: Newton stops when no state moves by more than `rtol * (1 + |h|)`; by default `eps**0.75`.
        max_steps: Most Newton iterations; by default `2 * length`: each one settles at least one more state.
        guess: First guess of the states, shaped like them with time first; by default `state` at all times.

    Returns:
        An `Unrolled`. It does not raise inside `jit`: call `.checked()` on the host, or look at `.status`.

    Raises:
        ValueError: An argument is unusable, or the mode does not fit the cell.

    Example:
        >>> import jax, jax.numpy as jnp, jaxkit as jk
        >>> logistic = lambda r, x, n: (x + r * x * (1 - x), x)
        >>> run = jk.unroll(logistic, 0.5, jnp.asarray(0.1), length=20).checked()
        >>> round(float(run.state), 6), run.ys.shape
        (0.999947, (20,))
        >>> newton = jk.unroll(logistic, 0.5, jnp.asarray(0.1), length=20, mode="newton").checked()
        >>> bool(jnp.allclose(newton.state, run.state))
        True

    References:
        Su (2018), RNN and ODE, kexue.fm/archives/5643; Lim et al. (2024), DEER, for `mode="newton"`.
    """
    xs, length = _inputs(xs, length)
    checks.one_of("mode", mode, MODES)
    checks.one_of("jacobian", jacobian, ("full", "diagonal"))
    checks.require(0 <= damping <= 1, "damping", "lie between 0 and 1", f"is {damping}")
    every = checkpoint_every
    checks.require(every is None or every > 0, "checkpoint_every", "be a positive number of steps", f"is {every}")
    state = jax.tree.map(jnp.asarray, state)
    _check_cell(cell, params, state, xs)
    if mode == "auto":
        mode = _best_mode(cell, state, length)
    checks.require(every is None or mode == "scan", "checkpoint_every", "go with mode 'scan'", f"mode is {mode!r}")
    if mode == "newton":
        checks.require(_floating(state), "state", "be floating for mode 'newton'", "has other leaves")
        eps = float(jnp.finfo(jnp.result_type(*jax.tree.leaves(state))).eps)
        small, most = eps**0.75 if rtol is None else rtol, 2 * length if max_steps is None else max_steps
        newton = Newton(jacobian == "diagonal", damping, small, most)
        return _newton(cell, params, state, xs, length, guess, newton)
    if mode == "associative":
        return _associative(cell, params, state, xs)
    final, ys = _scan(lambda s, x: cell(params, s, x), state, xs, length, every)
    return Unrolled(ys, final, _finite(final), jnp.asarray(0))


def _inputs(xs: PyTree, length: int | None) -> tuple[PyTree, int]:
    """The inputs (the numbers of the steps, without any) and their number."""
    leaves = jax.tree.leaves(xs)
    if not leaves:
        checks.require(length is not None and length > 0, "length", "be positive where `xs` is None", f"is {length}")
        return jnp.arange(length), int(length or 0)
    sizes = {jnp.shape(leaf)[0] if jnp.ndim(leaf) else 0 for leaf in leaves}
    same = len(sizes) == 1 and min(sizes) > 0
    checks.require(same, "xs", "have one common, positive length along the first axis of every leaf", f"has {sizes}")
    size = sizes.pop()
    checks.require(length in (None, size), "length", f"be the length of `xs`, {size}", f"is {length}")
    return jax.tree.map(jnp.asarray, xs), size


def _check_cell(cell: Cell, params: PyTree, state: PyTree, xs: PyTree) -> None:
    """Check at trace time that the cell returns a state like the one it was given."""
    checks.require(callable(cell), "cell", "be a function `cell(params, state, x)`", f"is {type(cell).__name__}")
    moved = jax.eval_shape(cell, params, state, jax.tree.map(lambda v: v[0], xs))
    pair = isinstance(moved, tuple) and len(moved) == 2
    checks.require(pair, "cell", "return a pair (state, y)", f"returns {type(moved).__name__}")
    shaped = lambda tree: jax.tree.map(lambda v: f"{v.dtype}{list(v.shape)}", tree)
    same = shaped(moved[0]) == shaped(state)
    checks.require(same, "cell", f"return a state like its own, {shaped(state)}", f"returns {shaped(moved[0])}")


def _floating(state: PyTree) -> bool:
    leaves = jax.tree.leaves(state)
    return bool(leaves) and all(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in leaves)


def _best_mode(cell: Cell, state: PyTree, length: int) -> str:
    """What `"auto"` takes on this backend."""
    if jax.default_backend() == "cpu":
        return "scan"
    if isinstance(cell, LinearCell):
        return "associative"
    size = sum(leaf.size for leaf in jax.tree.leaves(state))
    return "newton" if _floating(state) and size <= 16 and length >= 1000 else "scan"


def _finite(state: PyTree) -> Int[Array, ""]:
    """Status of a last state."""
    leaves = [leaf for leaf in jax.tree.leaves(state) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    if not leaves:
        return jnp.asarray(int(Status.ok))
    fine = jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in leaves]))
    return jnp.where(fine, int(Status.ok), int(Status.not_finite))


def _scan(body: Callable, state: PyTree, xs: PyTree, length: int, every: int | None) -> tuple[PyTree, PyTree]:
    """Step by step; with `every`, in chunks whose inner states are recomputed when a derivative asks for them."""
    if every is None or every >= length:
        return jax.lax.scan(body, state, xs)
    chunk = jax.checkpoint(lambda s, x: jax.lax.scan(body, s, x))
    whole = length - length % every
    chunked = jax.tree.map(lambda v: v[:whole].reshape(whole // every, every, *v.shape[1:]), xs)
    state, ys = jax.lax.scan(chunk, state, chunked)
    ys = jax.tree.map(lambda v: v.reshape(whole, *v.shape[2:]), ys)
    if whole < length:
        state, rest = chunk(state, jax.tree.map(lambda v: v[whole:], xs))
        ys = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), ys, rest)
    return state, ys


def _newton(
    cell: Cell, params: PyTree, state: PyTree, xs: PyTree, length: int, guess: PyTree | None, newton: Newton
) -> Unrolled:
    """All steps at once, on the flattened state."""
    start, unravel = jax.flatten_util.ravel_pytree(state)
    flat = lambda tree: jax.flatten_util.ravel_pytree(tree)[0]
    if guess is None:
        first = jnp.broadcast_to(start, (length, start.size))
    else:
        checks.structure("guess", guess, jax.tree.map(lambda v: jnp.zeros((length, *v.shape)), state), of="the states")
        first = jax.vmap(flat)(guess)
    advance = lambda params, h, x: flat(cell(params, unravel(h), x)[0])
    states, status, steps = newton_states(advance, params, start, xs, jax.lax.stop_gradient(first), newton)
    before = jnp.concatenate([start[None], states[:-1]])
    ys = jax.vmap(lambda h, x: cell(params, unravel(h), x)[1])(before, xs)
    return Unrolled(ys, unravel(states[-1]), status, steps)


def _associative(cell: Cell, params: PyTree, state: Any, xs: PyTree) -> Unrolled:
    """A linear cell, exactly, in O(log length) parallel steps."""
    if not isinstance(cell, LinearCell):
        raise ValueError(
            "Argument `cell` must be linear for mode 'associative' (methods `affine`, `readout`), but is not."
        )
    decay, drive = cell.affine(params, xs)
    states = affine_scan(decay, drive, state)
    return Unrolled(cell.readout(params, states, xs), states[-1], _finite(states[-1]), jnp.asarray(0))

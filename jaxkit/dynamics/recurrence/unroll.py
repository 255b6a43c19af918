"""Discrete motion: the `unroll` verb. A step and its inputs, one after another or in parallel over time."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from jaxkit.compile.jit_cache import run_kept
from jaxkit.core import checks
from jaxkit.dynamics.recurrence.associative import Associative, LinearCell
from jaxkit.dynamics.recurrence.method import Method, Step, Unrolled
from jaxkit.dynamics.recurrence.newton import ParallelNewton
from jaxkit.dynamics.recurrence.scan import Scan

X = TypeVar("X")

# Name -> method. One line makes a method known to `unroll`.
METHODS: Mapping[str, Method] = MappingProxyType(
    {"scan": Scan(), "parallel_newton": ParallelNewton(), "associative": Associative()}
)


def unroll(
    step: Step[X],
    x0: X,
    inputs: PyTree = None,
    args: PyTree = None,
    *,
    length: int | None = None,
    method: str | Method = "scan",
) -> Unrolled[X]:
    """Run `step(x, input, args) -> (x, y)` over a sequence of inputs.

    Methods: `"scan"` goes step by step (`Scan`). `"parallel_newton"` solves all steps at once (`ParallelNewton`).
    `"associative"` runs linear cells (`LinearCell`) exactly in O(log length) parallel steps. `"auto"` takes scan on a
    CPU; elsewhere associative for a linear cell, Newton's method for a state of at most 16 numbers and at least 1000
    steps, else scan.

    Args:
        step: Moves the state once; a pure function (or an object that is called like one).
        x0: State before the first step: any pytree of arrays.
        inputs: Inputs, with time along the first axis of every leaf. None feeds the number of the step: 0, 1, ...
        args: Parameters: any pytree; differentiable, as are `x0` and `inputs`.
        length: Number of steps, where `inputs` is None.
        method: A name, or an object that carries the method's settings.

    Returns:
        An `Unrolled`. It does not raise inside `jit`: call `.checked()` on the host, or look at `.status`.

    Raises:
        ValueError: An argument is unusable, or the method does not fit the step.

    Example:
        >>> import jax, jax.numpy as jnp, jaxkit as jk
        >>> logistic = lambda x, n, r: (x + r * x * (1 - x), x)
        >>> run = jk.unroll(logistic, 0.1, args=0.5, length=20).checked()
        >>> round(float(run.final), 6), run.ys.shape
        (0.999947, (20,))
        >>> newton = jk.unroll(logistic, 0.1, args=0.5, length=20, method="parallel_newton").checked()
        >>> bool(jnp.allclose(newton.final, run.final))
        True

    References:
        Su (2018), RNN and ODE, kexue.fm/archives/5643; Lim et al. (2024), DEER, for `"parallel_newton"`.
    """
    return run_kept(_unrolled, (step, length, method), (x0, inputs, args))


def _unrolled(step: Step, length: int | None, method: Any, x0: Any, inputs: PyTree, args: PyTree) -> Unrolled:
    inputs, length = _inputs(inputs, length)
    x0 = jax.tree.map(jnp.asarray, x0)
    _check_step(step, x0, inputs, args)
    if method == "auto":
        method = _best_method(step, x0, length)
    if isinstance(method, str):
        checks.one_of("method", method, [*METHODS, "auto"])
        method = METHODS[method]
    checks.require(isinstance(method, Method), "method", "be a name or a method", f"is {method!r}")
    return method.run(step, x0, inputs, args, length)


def _inputs(inputs: PyTree, length: int | None) -> tuple[PyTree, int]:
    """The inputs (the numbers of the steps where there are none) and how many they are."""
    leaves = jax.tree.leaves(inputs)
    if not leaves:
        given = length is not None and length > 0
        checks.require(given, "length", "be positive where `inputs` is None", f"is {length}")
        return jnp.arange(length), int(length or 0)
    sizes = {jnp.shape(leaf)[0] if jnp.ndim(leaf) else 0 for leaf in leaves}
    same = len(sizes) == 1 and min(sizes) > 0
    common = "have one common, positive length along the first axis of every leaf"
    checks.require(same, "inputs", common, f"has {sizes}")
    size = sizes.pop()
    checks.require(length in (None, size), "length", f"be the length of `inputs`, {size}", f"is {length}")
    return jax.tree.map(jnp.asarray, inputs), size


def _check_step(step: Step, x0: PyTree, inputs: PyTree, args: PyTree) -> None:
    """Check at trace time that the step returns a state like the one it was given."""
    checks.require(callable(step), "step", "be a function `step(x, input, args)`", f"is {type(step).__name__}")
    moved = jax.eval_shape(step, x0, jax.tree.map(lambda v: v[0], inputs), args)
    pair = isinstance(moved, tuple) and len(moved) == 2
    checks.require(pair, "step", "return a pair (x, y)", f"returns {type(moved).__name__}")
    shaped = lambda tree: jax.tree.map(lambda v: f"{v.dtype}{list(v.shape)}", tree)
    same = shaped(moved[0]) == shaped(x0)
    checks.require(same, "step", f"return a state like `x0`, {shaped(x0)}", f"returns {shaped(moved[0])}")


def _best_method(step: Step, x0: PyTree, length: int) -> str:
    """The method that `"auto"` takes on this backend."""
    if jax.default_backend() == "cpu":
        return "scan"
    if isinstance(step, LinearCell):
        return "associative"
    leaves = jax.tree.leaves(x0)
    real = all(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in leaves)
    small = 0 < sum(leaf.size for leaf in leaves) <= 16
    return "parallel_newton" if real and small and length >= 1000 else "scan"

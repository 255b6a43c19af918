"""Fixed points: the `fixed_point` verb."""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
from jaxtyping import PyTree

from jaxkit.compile.jit_cache import run_kept
from jaxkit.core.checks import one_of, require
from jaxkit.dynamics.roots.methods.anderson import PICARD, Anderson
from jaxkit.dynamics.roots.methods.method import Method, Settings
from jaxkit.dynamics.roots.methods.registry import METHODS
from jaxkit.dynamics.roots.root import Root, explained, found

X = TypeVar("X")

ITERATIONS = {"anderson": Anderson().finder(), "picard": PICARD}


def fixed_point(
    fn: Callable[[X, Any], X],
    x0: X,
    args: PyTree = None,
    *,
    method: str | Method | Settings = "anderson",
    rtol: float | None = None,
    atol: float | None = None,
    max_steps: int = 200,
    jacobian: str = "auto",
) -> Root[X]:
    """Find `x` with `x = fn(x, args)`, differentiable with respect to `args` by the implicit function theorem.

    Coming from jaxopt: `FixedPointIteration(T).run(x0, theta).params` is `fixed_point(T, x0, theta,
    method="picard").value`, `AndersonAcceleration(T, history_size=5)` is the default here, a solver decorated with
    `implicit_diff.custom_fixed_point(T)` becomes `fixed_point(T, ...)`, and `error` and `iter_num` of its state are
    `.residual` and `.steps`. Where jaxopt returns its last iterate silently, `.checked()` raises.

    Args:
        fn: Maps `x` and `args` to a pytree of `x`'s structure.
        x0: First guess: a scalar, an array, or a pytree of these.
        args: Parameters; differentiable.
        method: `"anderson"` or `jk.Anderson(memory=5)` (mixes the last iterates), `"picard"` (plain iteration), or an
            open method of `root` for `fn(x) - x`, such as `"newton"`.
        rtol: Tolerance: `fn` moves the answer by less than `atol + rtol * |x|`.
        atol: See `rtol`.
        max_steps: Largest number of iterations.
        jacobian: As in `root`, for its methods and for the derivative.

    Returns:
        A `Root`; its residual is the largest `|fn(x) - x|`.

    Raises:
        ValueError: `fn` does not keep the structure of `x0`, or there is no such method.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxkit as jk
        >>> r = jk.fixed_point(lambda x, a: jnp.cos(a * x), 1.0, 1.0).checked()
        >>> round(float(r.value), 6)
        0.739085
    """
    if isinstance(method, str):
        one_of("method", method, (*ITERATIONS, *(name for name, finder in METHODS.items() if not finder.bracketing)))
    options = {"rtol": rtol, "atol": atol, "max_steps": max_steps, "jacobian": jacobian}
    return run_kept(_fixed_point, (fn, method, options), (x0, args))


def _fixed_point(fn: Any, method: Any, options: dict[str, Any], x0: Any, args: Any) -> Root:
    method = ITERATIONS.get(method, method) if isinstance(method, str) else method

    def residual(x: Any, args: Any) -> Any:
        image = fn(x, args)
        want, have = jax.tree.structure(x), jax.tree.structure(image)
        require(have == want, "fn", f"return the structure of `x0`, {want}", f"returns {have}")
        return jax.tree.map(lambda new, old: new - old, image, x)

    return explained(found(residual, x0, args, method=method, **options))

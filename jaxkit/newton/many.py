"""Millions of equations of one kind at once."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxkit.core.checks import require
from jaxkit.dynamics.roots.methods.method import Method, Settings
from jaxkit.dynamics.roots.root import Root, explained, found


def solve_many(
    fn: Callable[[Any, Any], Any],
    x0: Any,
    args: Any = None,
    *,
    method: str | Method | Settings | None = None,
    bracket: tuple[Any, Any] | None = None,
    rtol: float | None = None,
    atol: float | None = None,
    max_steps: int = 100,
    chunk: int = 1000,
) -> Root[Any]:
    """`root` for every entry of the leading axis of `x0` and `args`, in chunks that stay in cache.

    A chunk ends when its slowest lane does, so lanes of similar difficulty belong together.

    Args:
        fn: Residual of one `x` and its `args`.
        x0: First guesses, each leaf with a leading axis of length `n`.
        args: Parameters, each leaf with a leading axis of length `n`.
        method: See `jaxkit.root`.
        bracket: A pair of arrays of length `n`.
        rtol: See `jaxkit.root`.
        atol: See `jaxkit.root`.
        max_steps: Most iterations.
        chunk: Lanes per chunk.

    Returns:
        A `Root` with a leading axis of length `n`, differentiable in `args`.

    Raises:
        ValueError: The leading axes differ.

    Example:
        Kepler's equation, `E - e sin E = M`:

        >>> from jaxkit import newton
        >>> anomaly = jnp.linspace(0.1, 3.0, 5)
        >>> kepler = lambda E, p: E - p["e"] * jnp.sin(E) - p["M"]
        >>> r = newton.solve_many(kepler, anomaly, {"e": jnp.full(5, 0.3), "M": anomaly}).checked()
        >>> bool(jnp.all(jnp.abs(r.value - 0.3 * jnp.sin(r.value) - anomaly) < 1e-6))
        True
    """
    lanes = (x0, args, bracket)
    lengths = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(lanes)}
    require(len(lengths) == 1 and lengths != {()}, "args", "have the leading axis of `x0`", f"has lengths {lengths}")

    def one(lane: tuple[Any, Any, Any]) -> Root[Any]:
        x0, args, bracket = lane
        return found(fn, x0, args, method=method, bracket=bracket, rtol=rtol, atol=atol, max_steps=max_steps)

    return explained(in_chunks(one, lanes, chunk))


def in_chunks(one: Callable[[Any], Any], lanes: Any, chunk: int) -> Any:
    """`vmap(one)` over chunks of lanes, one chunk after the other."""
    count = jax.tree.leaves(lanes)[0].shape[0]
    if count <= chunk:
        return jax.vmap(one)(lanes)
    return jax.lax.map(one, lanes, batch_size=chunk)

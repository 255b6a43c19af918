"""Deflation: make the roots already found repel, so that the same start leads to another one."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp


def deflated(
    fn: Callable[[Any, Any], Any],
    roots: Sequence[Any],
    used: Sequence[Any] | None = None,
    *,
    power: int = 2,
    shift: float = 1.0,
) -> Callable:
    """The residual times `prod(1 / |x - r|^power + shift)` over known roots `r`: zero only at the others.

    Farrell, Birkisson, Funke: Deflation techniques for finding distinct solutions, SIAM J. Sci. Comput. 37 (2015).

    Args:
        fn: Residual, a function of `(x, args)`.
        roots: Roots of `x`'s structure.
        used: Which of them repel: booleans, so that one program serves any number of roots. All by default.
        power: How strongly they repel.
        shift: Value of the factor far away from a root.

    Returns:
        The new residual.

    Example:
        >>> import jaxkit as jk
        >>> from jaxkit.dynamics.roots.methods.deflation import deflated
        >>> fn = lambda x, _: x**2 - 1
        >>> first = jk.root(fn, 2.0).value
        >>> round(float(jk.root(deflated(fn, [first]), 2.0, method="damped").value), 6)
        -1.0
    """
    many = jax.tree.map(lambda *v: jnp.stack(v), *roots) if len(roots) else None

    def squared_gap(x: Any, known: Any) -> Any:
        gaps = jax.tree.map(lambda u, v: jnp.sum(jnp.real(u - v) ** 2 + jnp.imag(u - v) ** 2), x, known)
        return sum(jax.tree.leaves(gaps))

    def repelled(x: Any, args: Any) -> Any:
        if not len(roots):
            return fn(x, args)
        repels = jnp.asarray([True] * len(roots) if used is None else used)
        gap = jnp.where(repels, jax.vmap(lambda known: squared_gap(x, known))(many), 1)
        factor = jnp.prod(jnp.where(repels, gap ** (-power / 2) + shift, 1))
        return jax.tree.map(lambda v: v * factor, fn(x, args))

    return repelled

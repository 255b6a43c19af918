"""A root by a change of sign, where no iteration comes to one from the guess; where a curve only touches zero."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxkit.compile.jit_cache import run_kept
from jaxkit.core.expression.interval import interval
from jaxkit.dynamics.roots.root import Root, root
from jaxkit.newton.certify import monotone
from jaxkit.newton.equations import Equations

MOST = 8  # changes of sign that are looked into
STEPS = 1200  # halvings from any bracket about 0 down to the least number


def nearby(
    fn: Callable[[Any, Any], Any], x0: Any, args: Any, settings: Mapping[str, Any], system: Equations | None = None
) -> Root | None:
    """A root between two neighbours of a grid at which a real function of one unknown has opposite signs, or None.

    The grid has the powers of two and minus them, and points whose distances from the guess are such: every magnitude
    a float may have. Of several, the root is the one with the fewest points between it and the guess.

    Args:
        fn: The residual, a function of `(x, args)`.
        x0: The first guess.
        args: Parameters.
        settings: `rtol` and `atol`, as for `root`.
        system: The same residual as text, if it is such: sampled in NumPy, and its root proven where it can be.
    """
    if not jax.tree_util.all_leaves([x0]) or np.shape(x0) or np.iscomplexobj(x0) or not np.isfinite(x0):
        return None
    x, at = _grid(x0)
    known = {name: float(value) for name, value in args.items()} if system else {}
    try:
        sample = system.on_host(x, known) if system else run_kept(_sampled, (fn,), (x, args))
    except (TypeError, ValueError):  # a function that returns something else than a number
        return None
    sign = np.sign(np.asarray(sample))
    change = np.flatnonzero(sign[:-1] * sign[1:] <= 0) if np.isrealobj(sign) else []
    if not len(change):
        return None
    change = change[np.argsort(np.abs(change + 0.5 - at), kind="stable")][:MOST]
    proofs = (_proven(system, known, float(x[k]), float(x[k + 1]), settings["rtol"]) for k in change) if system else ()
    proven = next(filter(None, proofs), None)
    if proven is not None:
        return proven
    change = np.append(change, np.full(MOST - len(change), change[0]))
    options = {name: settings[name] for name in ("rtol", "atol")}
    found = run_kept(_between, (fn, options), (x[change], x[change + 1], args))
    good = np.flatnonzero(np.asarray(found.ok))
    return jax.tree.map(lambda v: v[good[0]], found) if len(good) else None


def _grid(x0: Any) -> tuple[np.ndarray, int]:
    """The grid, and the place of the guess in it."""
    dtype = jnp.result_type(float)
    limits, guess = np.finfo(dtype), float(x0)
    sizes = 2.0 ** np.arange(limits.minexp, limits.maxexp)
    reach = 2.0 ** np.arange(-limits.nmant, 4) * (abs(guess) or 1.0)
    x = np.unique(np.concatenate([-sizes, sizes, guess - reach, guess + reach, [guess]]).astype(dtype))
    x = x[np.isfinite(x)]
    return x, int(np.searchsorted(x, np.asarray(guess, dtype)))


def _sampled(fn: Callable[[Any, Any], Any], x: Array, args: Any) -> Array:
    return jax.vmap(lambda x: jnp.reshape(fn(x, args), ()))(x)


def _between(fn: Callable[[Any, Any], Any], options: dict[str, Any], low: Array, high: Array, args: Any) -> Root:
    one = lambda a, b: root(fn, None, args, bracket=(a, b), max_steps=STEPS, **options)
    return jax.vmap(one)(low, high)


def _proven(system: Equations, known: Mapping[str, float], low: float, high: float, rtol: float) -> Root | None:
    """The root between two floats at which signs are opposite, if intervals prove that it is the only one there."""
    residual, name = system.residuals[0], system.unknowns[0]
    height = lambda x: float(system.on_host(x, known))
    before = np.sign(height(low))
    steps = 0
    while low < (middle := 0.5 * low + 0.5 * high) < high and steps < STEPS:
        here = np.sign(height(middle))
        low, high = (middle, high) if here == before else (low, middle)
        steps += 1
    x = min(low, high, key=lambda x: abs(height(x)))
    reach = 4 * float(np.spacing(abs(x)))
    while reach <= max(0.5 * rtol, 4 * np.finfo(float).eps) * abs(x):
        a, b = x - reach, x + reach
        signs = [residual.sign({name: end, **known}) for end in (a, b)]
        if None not in signs and signs[0] != signs[1]:
            given = {key: interval(value) for key, value in known.items()}
            value, slope = residual.enclose_slope({**given, name: interval(a, b)}, name)
            if not bool(monotone(value, slope)):
                return None
            real = jnp.result_type(float)
            return Root(jnp.asarray(x, real), jnp.asarray(abs(height(x)), real), jnp.asarray(0), jnp.asarray(steps))
        reach *= 4
    return None


def touching(system: Equations, x: float, parameters: Mapping[str, float]) -> float | None:
    """Where the curve of one equation has zero slope next to `x`, if it is zero there as far as rounding tells."""
    residual, name = system.residuals[0], system.unknowns[0]
    slope = residual.derivative(name)
    bent = slope.derivative(name)
    start = x
    with np.errstate(all="ignore"):
        for _ in range(20):
            at = {name: x, **parameters}
            x = x - float(slope.on_host(**at)) / float(bent.on_host(**at))
    if not np.isfinite(x) or abs(x - start) > 1e-3 * abs(start):
        return None
    bounds = residual.enclose({key: interval(value) for key, value in {name: x, **parameters}.items()})
    return x if bool(bounds.defined & bounds.contains(0.0)) else None

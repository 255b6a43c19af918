"""Where the search for the roots of typed equations begins, and where it ends, if the user does not say."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxkit.core.arguments import require
from jaxkit.newton.equations import Equations

RTOL = 1e-12  # they are solved nearly to the last digit


def first_guess(system: Equations, x0: Any, args: Mapping[str, Any] | None, *, complex_plane: bool = False) -> Any:
    """The first guess in the shape that the residual takes: a number for one unknown, else name -> number."""
    if system.single:
        x0 = x0.get(system.unknowns[0]) if isinstance(x0, Mapping) else x0
        if x0 is None:
            return 1 + 1j if complex_plane else near_sign_change(system, args)
        require(np.shape(x0) == (), "x0", "be a number", f"has shape {np.shape(x0)}")
        return x0
    if x0 is None:
        return {name: 1.0 + 0.1 * k + (0.5j if complex_plane else 0.0) for k, name in enumerate(system.unknowns)}
    names = ", ".join(system.unknowns)
    require(isinstance(x0, Mapping), "x0", f"be a dictionary with the names {names}", f"is {x0!r}")
    require(set(x0) == set(system.unknowns), "x0", f"have the names {names}", f"has {', '.join(map(str, x0))}")
    return {name: x0[name] for name in system.unknowns}


def near_sign_change(system: Equations, args: Mapping[str, Any] | None) -> float:
    """A guess near the sign change closest to 0, else where `|f|` is least, among 4001 points of [-10, 10]."""
    x = np.linspace(-10, 10, 4001) + 1e-3
    known = {name: np.float64(value) for name, value in (args or {}).items()}
    with np.errstate(all="ignore"):
        f = system.on_host(x, known)
        good = np.isfinite(f[:-1]) & np.isfinite(f[1:]) & (f[:-1] * f[1:] <= 0) & (np.abs(f[1:] - f[:-1]) < 1e3)
    if np.any(good):
        at = np.flatnonzero(good)
        return round(float(x[at[np.argmin(np.abs(x[at]))]]) + 0.5, 2)  # beside it, so that the iteration can be seen
    size = np.where(np.isfinite(f), np.abs(f), np.inf)
    return round(float(x[np.argmin(size)]) + 0.5, 2)

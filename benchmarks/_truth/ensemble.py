"""Lanes of motions whose solutions are known (`_motions`), by Taylor's method and by Runge-Kutta."""

import jax.numpy as jnp
import numpy as np

import jaxkit as jk
from benchmarks._truth import Tally, _motions
from benchmarks._truth.solve import judged


def _judged(problems: list[_motions.Problem], method: str) -> Tally:
    tally = Tally("ensemble", f"jaxkit {method}")
    for kind, (_, field) in enumerate(_motions.KINDS.values()):
        own = [p for p in problems if p.kind == kind]
        if not own:
            continue
        x0, spans = np.array([p.x0 for p in own]), np.array([(0.0, p.end) for p in own])
        args = tuple(map(jnp.asarray, np.array([p.args for p in own]).T))
        settings = {"method": method, "rtol": _motions.RTOL, "atol": _motions.ATOL}
        found = jk.ensemble(field, jnp.asarray(x0), jnp.asarray(spans), args, **settings)
        for problem, ok, final in zip(own, np.asarray(found.ok), np.asarray(found.final), strict=True):
            _motions.count(tally, problem, ok=bool(ok), found=float(final))
    return tally


def judge(count: int, seed: int) -> list[Tally]:
    """Judge `jk.ensemble`."""
    return judged("ensemble", _judged, ("taylor", "tsit5", "dopri8"), count, seed)

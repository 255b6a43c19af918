"""Motions whose solutions are known (`_motions`), one after the other by diffrax's methods."""

import dataclasses
from collections.abc import Callable
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import numpy as np

import jaxkit as jk
from benchmarks._truth import Tally, _motions

PEERS = 1000  # from how many problems on peers are asked


def _each(problems: list[_motions.Problem], tally: Tally, one: Callable[..., Any]) -> Tally:
    """Count what `one(x0, end, args)`, of jax, says to each problem."""
    table = [(p.x0, p.end, (*p.args, float(p.kind))) for p in problems]
    x0, ends, args = (jnp.asarray(np.array(column)) for column in zip(*table, strict=True))
    ok, final = jax.jit(lambda *rows: jax.lax.map(lambda row: one(*row), rows))(x0, ends, args)
    for problem, fine, found in zip(problems, np.asarray(ok), np.asarray(final), strict=True):
        _motions.count(tally, problem, ok=bool(fine), found=float(found))
    return tally


def _by_solve(problems: list[_motions.Problem], method: str) -> Tally:
    def one(x0: Any, end: Any, args: Any) -> Any:
        ts = jnp.stack([jnp.zeros_like(end), end])
        settings = {"method": method, "rtol": _motions.RTOL, "atol": _motions.ATOL}
        found = jk.solve(_motions.any_kind, x0, ts, args, **settings)
        return found.ok, found.final

    return _each(problems, Tally("solve", f"jaxkit {method}"), one)


def by_diffrax(problems: list[_motions.Problem]) -> Tally:
    """The same problems by diffrax itself, which is not told where fields switch."""

    def one(x0: Any, end: Any, args: Any) -> Any:
        found = diffrax.diffeqsolve(
            diffrax.ODETerm(_motions.any_kind),
            diffrax.Tsit5(),
            jnp.zeros_like(end),
            end,
            None,
            x0,
            args,
            stepsize_controller=diffrax.PIDController(rtol=_motions.RTOL, atol=_motions.ATOL),
            throw=False,
        )
        final: Any = found.ys
        return found.result == diffrax.RESULTS.successful, final[-1]

    return _each(problems, Tally("", "diffrax Tsit5"), one)


def judged(verb: str, own: Callable[..., Tally], methods: tuple[str, ...], count: int, seed: int) -> list[Tally]:
    """A verb's first method; with many problems its others, and peers, too."""
    problems = _motions.draw(count, seed)
    if count < PEERS:
        return [own(problems, methods[0])]
    peers = (_motions.by_scipy(problems), by_diffrax(problems))
    return [own(problems, m) for m in methods] + [dataclasses.replace(peer, verb=verb) for peer in peers]


def judge(count: int, seed: int) -> list[Tally]:
    """Judge `jk.solve`."""
    return judged("solve", _by_solve, ("tsit5", "auto", "dopri8", "kvaerno5"), count, seed)

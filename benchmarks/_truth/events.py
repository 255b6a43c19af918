"""Events of motions whose solutions are known: balls, oscillators, stiff and discontinuous fields, nasty functions.

A time is right where the event function can be zero within the tolerance of the known solution, no change of sign that
is beyond this tolerance lies before it, and the motion has left the event's own point; no event is right where there
was no such change. Where the function is no number before it changes its sign, nothing is right but a refusal. Time is
in units of 10^-6 to 10^6, the state in units of up to 10^60, the event function scaled by up to 10^+-100. What comes
and goes within a small part of a step (`sin(1e6 * t)`) is documented as not seen where no cubic polynomial shows it,
and left out.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
from scipy.integrate import solve_ivp

import jaxkit as jk
from benchmarks._truth import Tally
from benchmarks._truth.solve import PEERS

RTOL, ATOL, WITHIN, LOOKS = 1e-8, 1e-10, 1e3, 20_000
Path = Callable[[np.ndarray], np.ndarray]


class Problem(NamedTuple):
    """A motion from `(x, v)` at 0 to `end`; `x` is known, and never larger than `size` until its event."""

    kind: str
    field: int
    event: int
    start: tuple[float, float]
    end: float
    args: tuple[float, ...]  # four of the field, then level, width and unit of the event
    path: Path
    size: float
    look: float  # until when something happens
    growth: float = 1.0  # by which an error of the state grows at most


FIELDS: tuple[Callable[..., Any], ...] = (
    lambda t, x, v, a: (v + a[0] * (a[1] - x), -a[2] - a[3] * x),
    lambda t, x, v, a: (-a[0] * (x - a[2] * jnp.cos(t / a[1])), 0 * v),
    lambda t, x, v, a: (jnp.where(t < a[0], a[1], a[2]), 0 * v),
    lambda t, x, v, a: (jnp.where(x < a[0], a[1], a[2]), 0 * v),
    lambda t, x, v, a: (a[0] * x * (1 - x / a[1]), 0 * v),
)
LINEAR, STIFF, IN_TIME, IN_STATE, LOGISTIC = range(5)
EVENTS: tuple[Callable[..., Any], ...] = (
    lambda t, x, c, d, u: (x - c) * u,
    lambda t, x, c, d, u: jnp.tanh((x - c) / d) * u,
    lambda t, x, c, d, u: ((x - c) ** 2 - d**2) * u,
    lambda t, x, c, d, u: jnp.log((x - c) / d) * u,
    lambda t, x, c, d, u: (jnp.sqrt((x - c) / d) + 1) * u,
    lambda t, x, c, d, u: (jnp.sqrt(t - c) - d) * u,
    lambda t, x, c, d, u: jnp.sign(x - c) * jnp.sqrt(jnp.abs(x - c)) * u,
)
LEVEL, STEEP, PAIR, LOGARITHM, LOST, LATE, ROOT = range(7)


def _ball(rng: np.random.Generator, tau: float, u: float) -> Any:
    """From above, below or on the level; the level may be a little under or over the top."""
    g, v, x = 2 * u / tau**2, rng.uniform(0.2, 2) * u / tau, 0.0
    top = v * v / (2 * g)
    c = rng.choice([0.0, -1e-17 * u, 1e-17 * u, -rng.uniform(0, 3) * top, top * (1 - 10 ** rng.uniform(-4, -0.1))])
    c = float(rng.choice([c, c, c, top * (1 + 10 ** rng.uniform(-4, 1))]))
    path = lambda t: x + v * t - g * t * t / 2
    end = float(10 ** rng.uniform(0.8, 6)) * tau if c <= top else 2 * tau
    return LINEAR, LEVEL, (x, v), end, (0.0, 0.0, g, 0.0, c, 1.0), path, 4 * top + abs(c), 8 * tau


def _oscillator(rng: np.random.Generator, tau: float, u: float) -> Any:
    w, angle, part = 1 / tau, rng.uniform(0, 2 * np.pi), rng.uniform(-1, 1)
    part = float(rng.choice([part, np.sign(part) * (1 - 10 ** rng.uniform(-4, -1)), np.sign(part) * 1.001]))
    on = rng.random() < 0.3  # on the event's own point, but for rounding
    c = np.cos(angle) * (1 + rng.choice([-1, 0, 1]) * 2e-16) * u if on and abs(np.sin(angle)) > 0.1 else part * u
    path = lambda t: u * np.cos(w * t + angle)
    start = (u * np.cos(angle), -u * w * np.sin(angle))
    event = int(rng.choice([LEVEL, STEEP, ROOT])) if abs(c) < 0.9 * u else LEVEL  # what saturates shows no short visit
    return LINEAR, event, start, 20 * tau, (0.0, 0.0, 0.0, w * w, c, 10 ** rng.uniform(-6, 0) * u), path, u, 20 * tau


def _pair(rng: np.random.Generator, tau: float, u: float) -> Any:
    """Two changes near each other, in a motion that is a straight line, or decays."""
    c, d, line = rng.uniform(0.2, 0.9), 10 ** rng.uniform(-3.5, -1), rng.random() < 0.5
    path = (lambda t: u * (1 - t / tau)) if line else (lambda t: u * np.exp(-t / tau))
    start, k = ((u, -u / tau), 0.0) if line else ((u, 0.0), 1 / tau)
    return LINEAR, PAIR, start, 3 * tau, (k, 0.0, 0.0, 0.0, c * u, d * u), path, 4 * u, 3 * tau


def _steep(rng: np.random.Generator, tau: float, u: float) -> Any:
    c, d = rng.uniform(0.05, 0.9), 10 ** rng.uniform(-9, 0)
    event = int(rng.choice([STEEP, ROOT]))
    path = lambda t: u * np.exp(-t / tau)
    return LINEAR, event, (u, 0.0), 9 * tau, (1 / tau, 0.0, 0.0, 0.0, c * u, d * u), path, u, 9 * tau


def _stiff(rng: np.random.Generator, tau: float, u: float) -> Any:
    k, x, c = 10 ** rng.uniform(0, 6), rng.uniform(-1, 1), rng.uniform(-0.99, 0.99)
    slow = lambda s: (k * k * np.cos(s) + k * np.sin(s)) / (1 + k * k)
    path = lambda t: u * (slow(t / tau) + (x - slow(0.0)) * np.exp(-k * t / tau))
    return STIFF, LEVEL, (x * u, 0.0), 8 * tau, (k / tau, tau, u, 0.0, c * u, 1.0), path, u, 8 * tau


def _in_time(rng: np.random.Generator, tau: float, u: float) -> Any:
    """Up to a switch in time, then down or on: the level a little under the edge, over it, or anywhere."""
    edge, up, down = rng.uniform(0.5, 2), rng.uniform(0.5, 2), rng.choice([-1, 1]) * rng.uniform(0.5, 2)
    near = 1 - rng.choice([-1, 1]) * 10 ** rng.uniform(-4, -1)
    c = up * edge * float(rng.choice([near, rng.uniform(0.1, 2)]))
    path = lambda t: u * (up * np.minimum(t / tau, edge) + down * np.maximum(t / tau - edge, 0))
    a = (edge * tau, up * u / tau, down * u / tau, 0.0, c * u, 1.0)
    return IN_TIME, LEVEL, (0.0, 0.0), 5 * tau, a, path, 8 * u, 5 * tau


def _in_state(rng: np.random.Generator, tau: float, u: float) -> Any:
    edge, slow, fast = rng.uniform(0.5, 2), rng.uniform(0.5, 2), 10 ** rng.uniform(-1, 2)
    c = edge * float(rng.choice([1 + rng.choice([-1, 1]) * 10 ** rng.uniform(-4, -1), rng.uniform(0.1, 2)]))
    at = edge / slow
    path = lambda t: u * (slow * np.minimum(t / tau, at) + fast * np.maximum(t / tau - at, 0))
    a = (edge * u, slow * u / tau, fast * u / tau, 0.0, c * u, 1.0)
    return IN_STATE, LEVEL, (0.0, 0.0), 5 * tau, a, path, max(edge, c) * u, 5 * tau


def _no_number(rng: np.random.Generator, tau: float, u: float) -> Any:
    """The function is no number behind its event, before it, or from the start until some time."""
    event, c, d = int(rng.choice([LOGARITHM, LOST, LATE])), rng.uniform(0.1, 0.5), rng.uniform(0.05, 0.4)
    level, width = (c * tau, d * tau**0.5) if event == LATE else (c * u, d * u)
    path = lambda t: u * np.exp(-t / tau)
    return LINEAR, event, (u, 0.0), 5 * tau, (1 / tau, 0.0, 0.0, 0.0, level, width), path, u, 5 * tau


def _logistic(rng: np.random.Generator, tau: float, u: float) -> Any:
    """Levels that are met, and levels beyond what is ever reached."""
    x, c = 10 ** rng.uniform(-3, -1), float(rng.choice([rng.uniform(0.2, 0.99), 1 + 10 ** rng.uniform(-4, 0)]))
    path = lambda t: u / (1 + (1 / x - 1) * np.exp(-t / tau))
    return LOGISTIC, LEVEL, (x * u, 0.0), 30 * tau, (1 / tau, u, 0.0, 0.0, c * u, 1.0), path, u, 30 * tau


KINDS = {
    "ball": _ball,
    "oscillator": _oscillator,
    "pair": _pair,
    "steep": _steep,
    "stiff": _stiff,
    "switch in time": _in_time,
    "switch in state": _in_state,
    "no number": _no_number,
    "logistic": _logistic,
}


def draw(count: int, seed: int) -> list[Problem]:
    """Random problems, the kinds in turn."""
    rng, problems = np.random.default_rng(seed), []
    for i in range(count):
        kind = list(KINDS)[i % len(KINDS)]
        tau, u = 10 ** rng.uniform(-6, 6), 10 ** rng.uniform(-2, 60)
        field, event, start, end, args, path, size, look = KINDS[kind](rng, tau, u)
        growth = 0.25 * u / start[0] if kind == "logistic" else 1.0  # that of x / (1 - x) while x grows, at most
        unit = 10 ** rng.uniform(-100, 100) if rng.random() < 0.5 else 1.0
        numbers = tuple(map(float, (*args, unit)))
        problems.append(
            Problem(
                kind, field, event, (float(start[0]), float(start[1])), float(end), numbers, path, size, look, growth
            )
        )
    return problems


def _signs(problem: Problem, t: np.ndarray) -> np.ndarray:
    """The event function's sign where the solution's tolerance leaves no doubt, otherwise 0; NaN where it is none."""
    x, allowed = problem.path(t), WITHIN * (RTOL * problem.size + ATOL * problem.growth)
    value = lambda t, x: np.asarray(EVENTS[problem.event](t, x, *problem.args[4:]))
    s = 1e-12 * t
    corners = np.stack([value(t + i * s, x + j * allowed) for i in (-1, 1) for j in (-1, 1)])
    low, high, middle = np.fmin.reduce(corners), np.fmax.reduce(corners), value(t, x)
    return np.where(np.isnan(middle), np.nan, np.where(low > 0, 1.0, np.where(high < 0, -1.0, 0.0)))


def _right(problem: Problem, end: float, x: float) -> tuple[bool, bool]:
    """Whether a last time and state are right; and whether there is a right answer."""
    early = np.linspace(0, min(problem.look, problem.end), 20_001)
    t = np.append(early, np.geomspace(problem.look, problem.end, 1000)) if problem.end > problem.look else early
    with np.errstate(all="ignore"):
        signs = _signs(problem, t)
        known = np.flatnonzero(np.abs(signs) == 1)  # the motion has left the event's point
        first = known[0] if known.size else len(t)
        changed = np.flatnonzero(signs[first:] == -signs[first]) + first if known.size else known
        late = changed[0] if changed.size else len(t)
        if np.any(np.isnan(signs[first:late])):
            return False, False
        zero = np.isfinite(end) and _signs(problem, np.array([end]))[0] == 0 and end >= t[max(first - 1, 0)]
        timely = zero and (late == len(t) or end <= t[late])
        whole = late == len(t) and abs(end - problem.end) <= 1e-9 * problem.end
        off = abs(x - problem.path(np.array([end]))[0]) if timely or whole else np.inf
    largest = max(problem.size, abs(x)) if whole else problem.size
    return bool(off <= 2 * WITHIN * (RTOL * largest + ATOL * problem.growth)), True


def _count(tally: Tally, problem: Problem, *, ok: bool, end: float, x: float) -> None:
    right, solvable = _right(problem, end, x)
    text = f"{problem}\nfound {end!r}, {x!r}; the level at {problem.args[4]!r}"
    tally.add(ok=ok, right=right, problem=text, solvable=solvable)


def any_event(t: Any, x: Any, a: Any) -> Any:
    """The event function of all problems, by the number behind the parameters."""
    values = [event(t, x[0], *a[4:7]) for event in EVENTS]
    return jnp.select([a[7] == i for i in range(len(EVENTS))], values, values[0])


def any_field(t: Any, x: Any, a: Any) -> Any:
    """The field of all problems, by the last number."""
    found = (jnp.zeros_like(x[0]),) * 2
    for number, field in enumerate(FIELDS):
        own = a[8] == number
        given = [jnp.where(own, v, 1.0) for v in a[:4]]  # no other's switches
        found = tuple(jnp.where(own, new, old) for new, old in zip(field(t, *x, given), found, strict=True))
    return found


def _table(problems: list[Problem]) -> Any:
    rows = [(p.start, p.end, (*p.args, float(p.event), float(p.field))) for p in problems]
    start, ends, args = (jnp.asarray(np.array(column)) for column in zip(*rows, strict=True))
    return (start[:, 0], start[:, 1]), ends, tuple(args.T)


def _tallied(problems: list[Problem], tally: Tally, found: Any) -> Tally:
    for problem, ok, end, x in zip(problems, *map(np.asarray, found), strict=True):
        _count(tally, problem, ok=bool(ok), end=float(end), x=float(x))
    return tally


def _by_ensemble(problems: list[Problem], method: str) -> Tally:
    tally, settings = Tally("events", f"jaxkit ensemble {method}"), {"method": method, "rtol": RTOL, "atol": ATOL}
    for number, field in enumerate(FIELDS):
        own = [p for p in problems if p.field == number]
        start, ends, args = _table(own)
        spans = jnp.stack([jnp.zeros_like(ends), ends], -1)
        whole = lambda t, x, a, field=field: field(t, *x, a)
        found = jk.ensemble(whole, start, spans, args, event=any_event, **settings)
        _tallied(own, tally, (found.ok, found.end, found.final[0]))
    return tally


def _each(problems: list[Problem], tally: Tally, one: Callable[..., Any]) -> Tally:
    rows = _table(problems)
    return _tallied(problems, tally, jax.jit(lambda *rows: jax.lax.map(lambda row: one(*row), rows))(*rows))


def _by_solve(problems: list[Problem], method: str) -> Tally:
    def one(start: Any, end: Any, args: Any) -> Any:
        ts, settings = jnp.stack([jnp.zeros_like(end), end]), {"method": method, "rtol": RTOL, "atol": ATOL}
        found = jk.solve(any_field, start, ts, args, event=any_event, **settings)
        return found.ok, found.end, found.final[0]

    return _each(problems, Tally("events", f"jaxkit solve {method}"), one)


def _by_diffrax(problems: list[Problem]) -> Tally:
    import optimistix

    def one(start: Any, end: Any, args: Any) -> Any:
        found = diffrax.diffeqsolve(
            diffrax.ODETerm(any_field),
            diffrax.Tsit5(),
            jnp.zeros_like(end),
            end,
            None,
            start,
            args,
            stepsize_controller=diffrax.PIDController(rtol=RTOL, atol=ATOL),
            event=diffrax.Event(lambda t, y, args, **_: any_event(t, y, args), optimistix.Newton(1e-10, 1e-10)),
            throw=False,
        )
        codes, final, ts = diffrax.RESULTS, found.ys, found.ts
        assert ts is not None
        fine = (found.result == codes.successful) | (found.result == codes.event_occurred)
        return fine, ts[-1], final[0][-1]  # pyright: ignore[reportOptionalSubscript]

    return _each(problems, Tally("events", "diffrax Tsit5"), one)


def _by_scipy(problems: list[Problem]) -> Tally:
    tally = Tally("events", "scipy LSODA")
    field, event = jax.jit(any_field), jax.jit(any_event)
    for problem in problems:
        args, looks = (*problem.args, float(problem.event), float(problem.field)), 0

        def rate(t: float, x: np.ndarray, args: Any = args) -> np.ndarray:
            nonlocal looks
            looks += 1
            if looks > LOOKS:
                raise TimeoutError
            return np.array(field(t, tuple(x), args))

        def when(t: float, x: np.ndarray, args: Any = args) -> float:
            return float(event(t, tuple(x), args))

        when.terminal = True  # pyright: ignore[reportFunctionMemberAccess]
        try:
            with np.errstate(all="ignore"):
                found = solve_ivp(rate, (0, problem.end), problem.start, "LSODA", events=when, rtol=RTOL, atol=ATOL)
            _count(tally, problem, ok=bool(found.success), end=float(found.t[-1]), x=float(found.y[0, -1]))
        except (TimeoutError, ValueError):
            _count(tally, problem, ok=False, end=np.nan, x=np.nan)
    return tally


def judge(count: int, seed: int) -> list[Tally]:
    """Judge the events of `jk.ensemble` and `jk.solve`; with many problems more methods, and peers, too."""
    problems = draw(count, seed)
    if count < PEERS:
        return [_by_ensemble(problems, "taylor")]
    own = [_by_ensemble(problems, method) for method in ("taylor", "tsit5", "dopri8")]
    own += [_by_solve(problems, method) for method in ("tsit5", "auto", "kvaerno5")]
    return [*own, _by_diffrax(problems), _by_scipy(problems)]

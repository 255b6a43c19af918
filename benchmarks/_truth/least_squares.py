"""Nonlinear regressions from good and from hopeless starts: an ok must be a local minimum of the sum of squares.

Exponentials, powers, peaks, logistic curves and waves, some with a parameter that nothing shows or with two that show
the same, with residuals and parameters scaled by up to 1e+-100 and 1e+-20, with and without noise, with as many data as
parameters, in double and in single precision, from starts up to five decades away. The point is judged in extended
precision, with derivatives by complex steps: the angle between the residuals and the space of the Jacobian's columns,
the least curvature, and the standard errors by a factorisation of its own.
"""

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxkit as jk
from benchmarks import _harness as harness
from benchmarks._truth import Tally

DATA, MOST = 16, 4  # observations and parameters, the rest of which hold residuals of their own at 0
PEERS = 300  # so many problems are given to peers
FEW, QUICK = 100, (0, 8, 13)  # so few problems are of these families alone: a program of all takes long to compile
X = np.linspace(0.1, 3.0, DATA)


class _Family(NamedTuple):
    """`model(xp, x, u)` in JAX or NumPy, typical parameters, and whether each of them shows in the data."""

    shown: str
    model: Callable[[Any, Any, Any], Any]
    typical: tuple[float, ...]
    identifiable: bool = True
    scalable: bool = True


FAMILIES = (
    _Family("a exp(-b x)", lambda xp, x, u: u[0] * xp.exp(-u[1] * x), (3, 1.3)),
    _Family("10^a exp(-10^b x)", lambda xp, x, u: 10 ** u[0] * xp.exp(-(10 ** u[1]) * x), (0.5, 0.1), scalable=False),
    _Family("a x^b", lambda xp, x, u: u[0] * x ** u[1], (2, 1.5)),
    _Family("a x / (b + x)", lambda xp, x, u: u[0] * x / (u[1] + x), (2, 0.7)),
    _Family("a log(b + x)", lambda xp, x, u: u[0] * xp.log(u[1] + x), (2, 0.5)),
    _Family("sqrt(a + b x)", lambda xp, x, u: xp.sqrt(u[0] + u[1] * x), (1, 2)),
    _Family("a + b exp(-c x)", lambda xp, x, u: u[0] + u[1] * xp.exp(-u[2] * x), (1, 3, 1.3)),
    _Family("a / (1 + exp(b - c x))", lambda xp, x, u: u[0] / (1 + xp.exp(u[1] - u[2] * x)), (2, 3, 2.5)),
    _Family("a exp(-((x - b)/c)^2)", lambda xp, x, u: u[0] * xp.exp(-(((x - u[1]) / u[2]) ** 2)), (2, 1.4, 0.6)),
    _Family(
        "a + (b - a) / (1 + exp((c - x)/d))",
        lambda xp, x, u: u[0] + (u[1] - u[0]) / (1 + xp.exp((u[2] - x) / u[3])),
        (0.5, 3, 1.4, 0.3),
    ),
    _Family(
        "a exp(-b x) + c exp(-d x)",
        lambda xp, x, u: u[0] * xp.exp(-u[1] * x) + u[2] * xp.exp(-u[3] * x),
        (2, 0.5, 3, 4),
    ),
    _Family(
        "a exp(-b x) cos(c x + d)", lambda xp, x, u: u[0] * xp.exp(-u[1] * x) * xp.cos(u[2] * x + u[3]), (2, 0.4, 5, 1)
    ),
    _Family("a + b x + c x^2 + d x^3", lambda xp, x, u: u[0] + x * (u[1] + x * (u[2] + x * u[3])), (1, -2, 1, 0.5)),
    _Family("a exp(-b x) + 0 c", lambda xp, x, u: u[0] * xp.exp(-u[1] * x) + 0 * u[2], (3, 1.3, 1), identifiable=False),
    _Family("(a + b) x + c", lambda xp, x, u: (u[0] + u[1]) * x + u[2], (1, 2, 1), identifiable=False),
)


class _Problem(NamedTuple):
    kind: int
    y: np.ndarray
    used: np.ndarray
    scale: float
    unit: np.ndarray
    start: np.ndarray
    near: bool


def _problem(rng: np.random.Generator, dtype: Any, kinds: Sequence[int] = range(len(FAMILIES))) -> _Problem:
    kind = kinds[int(rng.integers(len(kinds)))]
    family, count = FAMILIES[kind], len(FAMILIES[kind].typical)
    far = 100 if dtype == np.float64 else 10
    scale = 10.0 ** rng.uniform(-far, far) if rng.random() < 0.4 else 1.0
    unit = 10.0 ** rng.uniform(-0.2 * far, 0.2 * far, MOST) if rng.random() < 0.4 and family.scalable else np.ones(MOST)
    truth = np.array(family.typical) * 10.0 ** rng.uniform(-0.2, 0.2, count)
    used = np.arange(DATA) < (DATA if rng.random() < 0.85 else count)
    used = rng.permutation(used)
    noise = float(rng.choice([0.0, 1e-6, 0.03, 0.3]))
    y = family.model(np, X, truth) + noise * rng.normal(size=DATA)
    decades = float(rng.choice([0.1, 0.5, 1.0, 5.0], p=[0.3, 0.3, 0.2, 0.2]))
    start = truth * 10.0 ** rng.uniform(-decades, decades, count) * np.where(rng.random(count) < 0.05, -1, 1)
    start = np.zeros(count) if rng.random() < 0.03 else start
    padded = np.concatenate([start, np.zeros(MOST - count)]) * unit
    return _Problem(kind, (scale * y).astype(dtype), used, scale, unit, padded.astype(dtype), decades < 0.5)


def _residuals(p: jax.Array, args: Any, families: Sequence[_Family] = FAMILIES) -> jax.Array:
    """One program for all families: the data's residuals, and those of the parameters that a family has not."""
    kind, y, used, scale, unit = args
    x, u = jnp.asarray(X, y.dtype), p / unit
    value = jax.lax.switch(kind, [lambda fn=family.model: fn(jnp, x, u) for family in families])
    own = jnp.array([[i >= len(family.typical) for i in range(MOST)] for family in families])[kind]
    return jnp.concatenate([jnp.where(used, scale * value - y, 0), jnp.where(own, scale * u, 0)])


def _columns(problems: list[_Problem], dtype: Any) -> tuple[jax.Array, Any]:
    kind, y, used, scale, unit, start, _ = (np.array(column) for column in zip(*problems, strict=True))
    real = lambda v: jnp.asarray(v.astype(dtype))
    return real(start), (jnp.asarray(kind), real(y), jnp.asarray(used), real(scale), real(unit))


def _exact(problem: _Problem, p: np.ndarray) -> np.ndarray:
    """The data's residuals of (possibly complex) parameters, in extended precision."""
    u = [v / np.longdouble(w) for v, w in zip(p, problem.unit.astype(problem.y.dtype), strict=True)]
    value = FAMILIES[problem.kind].model(np, X.astype(problem.y.dtype).astype(np.longdouble), u)
    scale = np.longdouble(problem.y.dtype.type(problem.scale))
    return (scale * value - problem.y)[problem.used]


def _slopes(problem: _Problem, p: np.ndarray) -> np.ndarray:
    """The Jacobian by complex steps, of as many columns as the family has parameters."""
    columns = []
    for j in range(len(FAMILIES[problem.kind].typical)):
        h = np.longdouble(1e-200) * problem.unit[j]
        moved = [np.clongdouble(v) + (1j * h if i == j else 0) for i, v in enumerate(p)]
        columns.append(np.imag(_exact(problem, np.array(moved))) / h)
    return np.stack(columns, axis=1)


def _basis(columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Orthonormal columns and the triangle of a pivot-free QR factorisation (Gram and Schmidt, twice)."""
    q, r = columns.copy(), np.zeros((columns.shape[1],) * 2, np.longdouble)
    for j in range(columns.shape[1]):
        for _ in range(2):
            part = q[:, :j].T @ q[:, j]
            q[:, j] -= q[:, :j] @ part
            r[:j, j] += part
        r[j, j] = np.sqrt(q[:, j] @ q[:, j])
        q[:, j] = q[:, j] / r[j, j] if r[j, j] > 1e-15 else 0
    return q, r


def _curvature(problem: _Problem, p: np.ndarray, norms: np.ndarray) -> float:
    """The least eigenvalue of half the Hessian of the sum of squares, with parameters in units of their columns."""
    count = len(norms)
    gradient = lambda v: _slopes(problem, v).T @ _exact(problem, v)
    rows = []
    for j in range(count):
        h = np.longdouble(1e-6) * max(abs(p[j]), np.longdouble(1e-3) * problem.unit[j])
        step = h * (np.arange(len(p)) == j)
        rows.append((gradient(p + step) - gradient(p - step)) / (2 * h) / norms[j])
    hessian = np.array(rows) / norms
    return float(np.linalg.eigvalsh(0.5 * (hessian + hessian.T).astype(float))[0])


def _right(problem: _Problem, p: np.ndarray, errors: np.ndarray | None) -> tuple[bool, str]:
    """Whether it is a local minimum, and whether the standard errors are those of a linear regression there."""
    p, eps = p.astype(np.longdouble), float(np.finfo(problem.y.dtype).eps)
    count, real = len(FAMILIES[problem.kind].typical), problem.used.sum()
    r = _exact(problem, p)
    if not np.all(np.isfinite(r)):
        return False, "the residuals are not finite"
    jac, size = _slopes(problem, p), np.sqrt(r @ r)
    norms = np.sqrt(np.sum(jac**2, axis=0))
    rounding = eps * (np.linalg.norm(problem.y[problem.used].astype(np.longdouble)) + norms @ np.abs(p[:count]))
    if size <= 100 * rounding:
        return True, ""
    if not np.all(np.isfinite(jac)) or np.any(norms == 0):
        return not FAMILIES[problem.kind].identifiable, "a column is zero or not finite"
    q, upper = _basis(jac / norms)
    angle = float(np.linalg.norm((q.T @ r).astype(float) / float(size)))
    if angle > 10 * max(1e-10, 4 * eps) ** 0.5 + float(100 * rounding / size):
        return False, f"angle {angle:.3g}"
    curvature = _curvature(problem, p, norms)
    if FAMILIES[problem.kind].identifiable and curvature < -1e-5 - float(100 * rounding / size):
        return False, f"curvature {curvature:.3g}"
    if errors is not None and real > count and np.min(np.diag(upper)) > 1e-4 and size > 1e6 * rounding:
        inverse = np.linalg.inv(upper.astype(float))
        freedom = DATA  # the fit counts all of its rows, whatever they hold, and all of its columns
        expected = np.sqrt(np.sum(inverse**2, axis=1)) / norms * size / np.sqrt(freedom)
        worst = float(np.max(np.abs(errors[:count] / expected - 1)))
        return worst < 1e-3, f"standard errors {worst:.3g} off"
    return True, ""


def _count(tally: Tally, problem: _Problem, *, ok: bool, p: np.ndarray, errors: np.ndarray | None = None) -> None:
    with np.errstate(all="ignore"):
        right, why = _right(problem, p, errors) if ok else (False, "")
    family = FAMILIES[problem.kind]
    text = f"{family.shown}: {why} at {p.tolist()}, errors {errors}\n{problem}" if ok and not right else ""
    tally.add(ok=ok, right=right, problem=text, solvable=problem.near and family.identifiable)


def _own(problems: list[_Problem], dtype: Any) -> Tally:
    tally = Tally("least_squares", f"jaxkit, {np.dtype(dtype).name}")
    starts, (kind, *data) = _columns(problems, dtype)
    kinds, place = np.unique(kind, return_inverse=True)
    residuals = partial(_residuals, families=[FAMILIES[k] for k in kinds])
    found = jax.jit(jax.vmap(lambda p, a: jk.least_squares(residuals, p, a)))(starts, (jnp.asarray(place), *data))
    ps, errors, status = (np.asarray(v) for v in (found.params, found.standard_errors, found.status))
    for problem, p, error, code in zip(problems, ps, errors, status, strict=True):
        _count(tally, problem, ok=code == 0, p=p, errors=error)
    return tally


def _by_scipy(problems: list[_Problem], method: str) -> list[Tally]:
    optimize = harness.optional("scipy.optimize")
    if optimize is None:
        return []
    tally = Tally("least_squares", f"scipy {method}")
    for problem in problems:
        count = len(FAMILIES[problem.kind].typical)
        rest = np.zeros(MOST - count)
        fn = lambda p, problem=problem, rest=rest: _exact(problem, np.concatenate([p, rest])).astype(float)
        p, ok = problem.start, True
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                found = optimize.least_squares(fn, problem.start[:count], method=method)
                p, ok = np.concatenate([found.x, rest]), bool(found.success)
            except (ValueError, np.linalg.LinAlgError):
                ok = False
        _count(tally, problem, ok=ok, p=p)
    return [tally]


def _by_optimistix(problems: list[_Problem]) -> list[Tally]:
    optimistix = harness.optional("optimistix")
    if optimistix is None:
        return []
    tally = Tally("least_squares", "optimistix LM")

    def one(p: jax.Array, args: Any) -> Any:
        solver = optimistix.LevenbergMarquardt(rtol=1e-10, atol=1e-10)
        found = optimistix.least_squares(_residuals, solver, p, args, throw=False)
        return found.value, found.result == optimistix.RESULTS.successful

    ps, fine = (np.asarray(v) for v in jax.jit(jax.vmap(one))(*_columns(problems, np.float64)))
    for problem, p, ok in zip(problems, ps, fine, strict=True):
        _count(tally, problem, ok=bool(ok), p=p)
    return [tally]


def judge(count: int, seed: int) -> list[Tally]:
    """Judge `jk.least_squares`; a quarter of many problems in single precision."""
    rng = np.random.default_rng(seed)
    with np.errstate(all="ignore"):
        kinds = range(len(FAMILIES)) if count > FEW else QUICK
        problems = [_problem(rng, np.float64, kinds) for _ in range(count)]
        single = [_problem(rng, np.float32) for _ in range(count // 4 if count > FEW else 0)]
    tallies = [_own(problems, np.float64)]
    if not single:
        return tallies
    some = problems[:PEERS]
    tallies.append(_own(single, np.float32))
    return tallies + _by_scipy(some, "trf") + _by_scipy(some, "lm") + _by_optimistix(some)

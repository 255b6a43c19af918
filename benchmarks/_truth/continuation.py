"""Branches of `x' = c sum_ij a_ij x^i p^j` whose special points are roots of polynomials, found by numpy.

Pitchforks and double crossings on the trivial branch, transcritical points, and folds of `p = P(x)`, some of them
exactly on a step, in bends narrower than a step, or with all values scaled by up to 1e+-100; and starts where there is
no equilibrium at all. Points of a kind that undo each other are further apart than a step: nearer ones are documented
as not seen. No peer of the benchmarks follows branches.
"""

import jax
import jax.numpy as jnp
import numpy as np

import jaxkit as jk
from benchmarks._truth import Tally

STEP, STEPS = 0.05, 80
NONE, FOLD, BRANCH_POINT = (int(jk.Special[name]) for name in ("none", "fold", "branch_point"))


@jax.jit
def _follow(tables: jax.Array, x0: jax.Array, p0: jax.Array) -> jk.Branch:
    powers = lambda v: jnp.cumprod(jnp.stack([jnp.ones_like(v), v, v, v, v]))

    def one(given: tuple[jax.Array, jax.Array, jax.Array]) -> jk.Branch:
        table, x, p = given
        field = lambda t, x, p: jnp.einsum("ij,i,j->", table, powers(x[0]), powers(p))[None]
        return jk.continuation(field, x[None], p, step=STEP, steps=STEPS)

    return jax.lax.map(one, (tables, x0, p0))


def _problem(rng: np.random.Generator) -> tuple[np.ndarray, float, float, str]:
    """Coefficients, start, and the kind of problem."""
    table = np.zeros((5, 5))
    kind = str(rng.choice(["pitchfork", "transcritical", "fold", "narrow fold", "nothing there"]))
    if kind in ("pitchfork", "transcritical"):
        gaps = rng.uniform(2.5 * STEP, 0.6, size=3)
        where = -1 + np.cumsum(gaps)
        if rng.random() < 0.5:
            where = np.round(where / STEP) * STEP  # exactly on a step
        roots = where[: rng.integers(1, 4)]
        if rng.random() < 0.2:
            roots = np.append(roots, roots[0])  # touches the axis without crossing
        coefficients = np.polynomial.polynomial.polyfromroots(roots)
        table[1, : coefficients.size] = rng.choice([-1, 1]) * coefficients
        table[3 if kind == "pitchfork" else 2, 0] = rng.choice([-1, 1])
        x, p = 0.0, -1.0
    else:
        width = 10.0 ** rng.uniform(1, 4) if kind == "narrow fold" else rng.uniform(0.3, 3)
        x = rng.uniform(0.5, 1.5) / np.sqrt(width)
        table[2, 0], table[0, 1] = -width, -1.0  # p = -width x^2
        p = -width * x * x
        if kind == "fold":
            table[3, 0] = rng.uniform(-1, 1)
            p += table[3, 0] * x**3
        if kind == "nothing there":
            table[4, 0], table[2, 0], p = -1.0, -width, rng.uniform(0.1, 2)
    scale = 10.0 ** rng.uniform(-100, 100) if rng.random() < 0.3 else 1.0
    return scale * table, x, p, kind


def _expected(table: np.ndarray, kind: str, x: np.ndarray, p: np.ndarray) -> list[tuple[int, float, float]]:
    """The special points on the part of the branch that was followed."""
    if kind in ("pitchfork", "transcritical"):
        roots = np.roots(np.trim_zeros(table[1], "b")[::-1] / np.abs(table).max())
        near = np.abs(roots[:, None] - roots[None]) < 1e-4
        odd = near.sum(axis=1) % 2 == 1
        return [(BRANCH_POINT, 0.0, float(r.real)) for r in roots[odd] if p[0] < r.real < p[-1]]
    slope = np.polynomial.polynomial.polyder(table[:, 0])
    roots = np.polynomial.polynomial.polyroots(np.trim_zeros(slope / np.abs(slope).max(), "b"))
    low, high = sorted((x[0], x[-1]))
    curve = lambda r: float(-np.polynomial.polynomial.polyval(r, table[:, 0]) / table[0, 1])
    return [(FOLD, float(r.real), curve(r.real)) for r in roots if abs(r.imag) < 1e-9 and low < r.real < high]


def _lone(found: list[tuple[int, float, float]]) -> list[tuple[int, float, float]]:
    """Without pairs at one place: rounding of the coefficients splits a touching root into two crossings, or none."""
    kept: list[tuple[int, float, float]] = []
    for point in found:
        pair = bool(kept) and kept[-1][0] == point[0] == BRANCH_POINT and abs(kept[-1][2] - point[2]) < 1e-5
        kept = kept[:-1] if pair else [*kept, point]
    return kept


def _right(table: np.ndarray, kind: str, branch: dict[str, np.ndarray]) -> bool:
    """Whether all points lie on the branch, and its special points are those expected."""
    x, p = branch["x"], branch["parameter"]
    terms = np.abs(table).max() ** -1 * np.einsum(
        "ij,ki,kj->kij", table, x[:, None] ** np.arange(5), p[:, None] ** np.arange(5)
    )
    rests = np.all(np.abs(terms.sum(axis=(1, 2))) <= 1e-9 * (1e-3 + np.abs(terms).max(axis=(1, 2))))
    at = np.flatnonzero(branch["special"])
    order = lambda v: (v[0], round(v[1], 4), v[2])  # on the trivial branch x is zero but for rounding
    places = zip(branch["special"][at], branch["special_x"][at], branch["special_parameter"][at], strict=True)
    found, expected = _lone(sorted(places, key=order)), sorted(_expected(table, kind, x, p), key=order)
    same = [kind for kind, _, _ in found] == [kind for kind, _, _ in expected]
    close = same and np.allclose([v[1:] for v in found], [v[1:] for v in expected], rtol=0, atol=1e-5)
    return bool(rests) and bool(close) and kind != "nothing there"


def judge(count: int, seed: int) -> list[Tally]:
    """Judge `jk.continuation`."""
    rng = np.random.default_rng(seed)
    problems = [_problem(rng) for _ in range(count)]
    tables, x0, p0 = (np.stack([problem[i] for problem in problems]) for i in range(3))
    found = _follow(jnp.asarray(tables), jnp.asarray(x0), jnp.asarray(p0))
    names = ("parameter", "special", "special_parameter", "status")
    every = {name: np.asarray(getattr(found, name)) for name in names}
    every |= {name: np.asarray(getattr(found, name))[..., 0] for name in ("x", "special_x")}
    tally = Tally("continuation", "jaxkit")
    for k, (table, x, p, kind) in enumerate(problems):
        branch = {name: values[k] for name, values in every.items()}
        ok = bool(np.all(branch["status"] == 0))
        right = ok and _right(table, kind, branch)
        at = np.flatnonzero(branch["special"])
        told = [[branch[name][at].tolist() for name in ("special", "special_x", "special_parameter")]]
        text = f"{kind}, x0={x!r}, p0={p!r}, coefficients\n{table.tolist()}\nfound {told}"
        tally.add(ok=ok, right=right, problem=text, solvable=kind != "nothing there")
    return [tally]

"""`python -m jaxkit run recurrent`: schemes as cells, the article's inference, Gause by a cell, Newton in time."""

import dataclasses
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.table import Table

from jaxkit.dynamics.ode import schemes
from jaxkit.dynamics.ode.methods import RungeKutta
from jaxkit.dynamics.ode.solve import solve
from jaxkit.dynamics.recurrence.newton import ParallelNewton
from jaxkit.dynamics.recurrence.unroll import unroll
from jaxkit.models.gause import PUBLISHED, PUBLISHED_SSE
from jaxkit.models.lotka_volterra import Rates, lotka_volterra
from jaxkit.recurrent import plots
from jaxkit.recurrent.cells import GRU
from jaxkit.recurrent.data import ARTICLE, paramecium, two_species
from jaxkit.recurrent.fields import from_field
from jaxkit.recurrent.inference import Inference, infer
from jaxkit.recurrent.problem import FreeStart, Observations
from jaxkit.report.figures import save
from jaxkit.report.verdict import Claim, Verdict, judge

# Schemes that diffrax has too; they are compared at the same fixed step.
PEERS = ("euler", "midpoint", "heun", "ralston", "bosh3", "tsit5", "dopri5", "dopri8")
QUICK = ("euler", "heun", "rk4", "tsit5", "backward_euler", "implicit_midpoint", "trapezoid", "gauss4")
# The published fit of Gause's mixture in this model's names: estimates and standard errors.
PUBLISHED_HERE = {
    "r": PUBLISHED["r"],
    "a": tuple((rates[0][1], rates[1][0]) for rates in PUBLISHED["A"]),
    "start": PUBLISHED["x0"],
}
NAMED = (("r", "r"), ("c", "1/N"), ("a", "a"))  # the article's parameters, and what they are called
SLACK = 0.1  # how much a measured order may fall below the scheme's
# A motion that neither rests nor repeats a simple pattern.
PREY_AND_PREDATOR = Rates(np.array([1.1, -0.9]), np.array([[0.0, 1.0], [-1.0, 0.0]]))


def run(out: Path, *, quick: bool, console: Any) -> Verdict:
    """Compare every scheme with diffrax, infer the article's and Gause's parameters, draw, and judge the numbers."""
    with console.status("running every scheme as a cell ..."):
        steps, errors, rows = compare(QUICK if quick else tuple(schemes.TABLEAUS))
    console.print(_schemes_table(rows))
    # A scheme with tiny leading errors (Tsit5, Dopri8) falls faster than its order until rounding ends the fall.
    claims = [
        Claim("schemes whose order conditions prove another order", sum(r.proved != r.order for r in rows), at_most=0),
        Claim(
            "least measured order less the scheme's",
            float(np.min([r.slope - r.order for r in rows])),
            at_least=-SLACK,
        ),
        Claim(
            "largest difference from diffrax", float(np.max([r.gap for r in rows if r.name in PEERS])), at_most=1e-14
        ),
    ]
    with console.status("the article's inference, by its recipe and by ours ..."):
        recipe, ours, times = article()
    console.print(_article_table(recipe, ours, times))
    worst = max(float(np.max(np.abs(np.asarray(ours.params[k]) / ARTICLE.truth[k] - 1))) for k in ("r", "c", "a"))
    claims += [
        Claim("sum of squares of the seven observations", float(ours.sse), at_most=0.53),
        Claim("parameters of the seven observations: largest relative error", worst, at_most=0.05),
    ]
    with console.status("Gause's Paramecium by training a cell ..."):
        gause = infer_gause()
    console.print(_gause_table(gause))
    claims += [
        Claim("sum of squares of Gause's mixture", float(gause.sse), at_most=PUBLISHED_SSE),
        Claim(
            "Gause's parameters and standard errors: largest relative difference from the published",
            _off(gause),
            at_most=1e-3,
        ),
    ]
    with console.status("a GRU for all times at once ..."):
        newton, gap = newton_errors(100 if quick else 400)
    console.print(f"Newton over the whole sequence against step by step: largest difference {gap:.1e}")
    claims.append(Claim("Newton over all times against step by step: largest difference", gap, at_most=1e-10))
    plateau = float(jnp.min(recipe.history[-1000:]))  # the loss oscillates: its last value is an accident of rounding
    slopes = {row.name: row.slope for row in rows}
    seen = Observations(jnp.asarray(ARTICLE.times), jnp.asarray(ARTICLE.values))
    figures = {
        "schemes": (plots.plot_orders(steps, errors, slopes), "Error of every scheme as a cell over its step."),
        "article": (plots.plot_article(seen, recipe, ours, ARTICLE.truth), "Inference from seven observations."),
        "starts": (plots.plot_starts(ours, plateau), "Where each start of the inference led."),
        "gause": (plots.plot_gause(paramecium(), gause), "Gause's Paramecium, fitted by training a cell."),
        "newton": (plots.plot_newton(newton), "Convergence of Newton in parallel over time."),
    }
    files = tuple(
        save(np.ravel(axes)[0].figure, out / f"{name}.png", caption=text) for name, (axes, text) in figures.items()
    )
    explicit = max((row.gap for row in rows if np.isfinite(row.gap)), default=0.0)
    sentence = (
        f"{sum(_keeps_order(row) for row in rows)} of {len(rows)} schemes at their order, diffrax's to {explicit:.0e}; "
        f"seven points: SSE "
        f"{plateau:.0f} at best by the recipe, {float(ours.sse):.3f} by ours, parameters within {100 * worst:.1f}%; "
        f"Gause SSE {float(gause.sse):.2f}"
    )
    return judge("recurrent", claims, sentence, files)


@dataclasses.dataclass(frozen=True)
class SchemeRow:
    """One scheme as a cell: its order as stated, proven by order conditions and measured, and the gap to diffrax."""

    name: str
    order: int
    proved: int
    slope: float
    gap: float


def _keeps_order(row: SchemeRow) -> bool:
    """Whether the order conditions and the measurement agree with the order stated."""
    return row.proved == row.order and row.slope >= row.order - SLACK


def compare(names: tuple[str, ...], end: float = 4.0) -> tuple[np.ndarray, dict[str, np.ndarray], list[SchemeRow]]:
    """Errors and orders of schemes as cells on a predator-prey system, and their differences from diffrax.

    Args:
        names: Names of the schemes.
        end: Time over which they run.

    Returns:
        Steps, shape `(n,)`; scheme -> relative errors, shape `(n,)`; one row per scheme.
    """
    start, params = jnp.array([1.0, 0.5]), jax.tree.map(jnp.asarray, PREY_AND_PREDATOR)
    ts = jnp.array([0.0, end])
    exact = solve(lotka_volterra, start, ts, params, method="dopri8", rtol=1e-13, atol=1e-13).checked().final
    steps = 0.5 ** np.arange(1, 9)
    errors, rows = {}, []
    for name in names:
        final = _run_steps(name, steps, end, start, params)
        errors[name] = np.asarray(jnp.linalg.norm(final - exact[None], axis=1) / jnp.linalg.norm(exact))
        scheme = schemes.get(name)
        gap = _diffrax_gap(name, start, params, end) if name in PEERS else float("nan")
        rows.append(SchemeRow(name, scheme.order, schemes.order_of(scheme), _slope(steps, errors[name]), gap))
    return steps, errors, rows


def _run_steps(name: str, steps: np.ndarray, end: float, start: Any, params: Any) -> jax.Array:
    """Last states for several steps in one program: a cell rests when it has arrived."""
    longest = round(end / steps.min())

    def last(dt: jax.Array) -> jax.Array:
        cell = from_field(lotka_volterra, scheme=name, dt=dt)

        def resting(x: jax.Array, number: jax.Array, params: Any) -> tuple[jax.Array, None]:
            arrived = number.astype(dt.dtype) * dt >= end - 1e-9
            return jnp.where(arrived, x, cell(x, number, params)[0]), None

        return unroll(resting, start, args=params, length=longest).final

    return jax.jit(jax.vmap(last))(jnp.asarray(steps))


def _slope(steps: np.ndarray, errors: np.ndarray) -> float:
    """Order between the two smallest steps whose errors are well above rounding."""
    clear = np.flatnonzero(errors > 5e-11)[-2:]
    return float(np.diff(np.log(errors[clear]))[0] / np.diff(np.log(steps[clear]))[0]) if clear.size == 2 else np.nan


def _diffrax_gap(name: str, start: Any, params: Any, end: float) -> float:
    """Largest relative difference from diffrax's states, at fixed steps of 1/8."""
    cell, length = from_field(lotka_volterra, scheme=name, dt=0.125), round(8 * end)
    ys = jax.jit(lambda p: unroll(cell, start, args=p, length=length).ys)(params)
    ts = jnp.arange(length + 1.0) / 8
    theirs = solve(lotka_volterra, start, ts, params, method=RungeKutta(name, dt=0.125)).checked()
    return float(jnp.max(jnp.abs(ys / theirs.xs[1:] - 1)))


def article() -> tuple[Inference, Inference, tuple[float, float]]:
    """The article's inference by its recipe and by ours, with the wall time of each in seconds (compiling included)."""
    seen, found, spent = (ARTICLE.times, ARTICLE.values), [], []
    for scheme, method in (("euler", "adam"), ("rk4", "multistart")):
        begun = time.perf_counter()
        fit = infer(two_species, ARTICLE.guess, seen, dt=1.0, scheme=scheme, method=method).checked()
        found.append(jax.block_until_ready(fit))
        spent.append(time.perf_counter() - begun)
    return found[0], found[1], (spent[0], spent[1])


def infer_gause() -> Inference:
    """Gause's Paramecium, fitted by an RK4 cell with a step of a quarter day."""
    guess = {"r": np.ones(2), "c": np.full(2, 0.005), "a": np.full(2, 0.005)}
    return infer(two_species, guess, paramecium(), dt=0.25, start=FreeStart()).checked()


def newton_errors(length: int) -> tuple[dict[str, np.ndarray], float]:
    """Errors of Newton's iterates for a GRU over all times, full and diagonal, and that of the converged result."""
    cell = GRU(8)
    xs = 2 * jax.random.normal(jax.random.key(1), (length, 3))
    params = jax.tree.map(lambda v: 2 * v, cell.init(jax.random.key(0), xs[0]))  # strong feedback: not a trivial case
    reference = unroll(cell, cell.zeros(), xs, params).ys
    gap = jnp.max(jnp.abs(unroll(cell, cell.zeros(), xs, params, method="parallel_newton").ys - reference))
    errors = {}
    for jacobian in ("full", "diagonal"):

        def iterate(guess: jax.Array, jacobian: str = jacobian) -> jax.Array:
            method = ParallelNewton(jacobian, max_steps=1, guess=guess)
            return unroll(cell, cell.zeros(), xs, params, method=method).ys

        once = jax.jit(iterate)
        states, history = jnp.zeros_like(reference), []
        for _ in range(24):
            states = once(states)
            history.append(np.max(np.abs(np.asarray(states - reference)), axis=1))
        errors[f"{jacobian} Jacobian"] = np.array(history)
    return errors, float(gap)


def _off(found: Inference) -> float:
    """Largest relative difference of Gause's parameters and standard errors from the published ones."""
    ours = {**found.params, "start": found.start}, {**found.standard_errors, "start": found.start_errors}
    pairs = [(ours[which][key], values[which]) for key, values in PUBLISHED_HERE.items() for which in (0, 1)]
    return float(np.max([np.max(np.abs(np.divide(own, theirs) - 1)) for own, theirs in pairs]))


def _schemes_table(rows: list[SchemeRow]) -> Table:
    table = Table(title="Schemes as cells, on prey and predator over t = 0..4")
    for column in ("scheme", "order", "by order conditions", "measured", "largest rel. difference from diffrax"):
        table.add_column(column, justify="left" if column == "scheme" else "right")
    for row in rows:
        gap = f"{row.gap:.1e}" if np.isfinite(row.gap) else "-"
        table.add_row(row.name, str(row.order), str(row.proved), f"{row.slope:.3f}", gap)
    return table


def _article_table(recipe: Inference, ours: Inference, times: tuple[float, float]) -> Table:
    first = ", ".join(f"{label} = {float(ARTICLE.guess[key][0]):g}" for key, label in NAMED)
    table = Table(title=f"Six parameters from {len(ARTICLE.times)} observations (first guess {first})")
    heads = ("parameter", "truth", "Adam + Euler", "off", f"LM + RK4, {ours.all_sse.size} starts", "± s.e.", "off")
    for column in heads:
        table.add_column(column, justify="left" if column == "parameter" else "right")
    for key, label in NAMED:
        for index in range(2):
            truth = ARTICLE.truth[key][index]
            theirs, own, error = (
                float(tree[key][index]) for tree in (recipe.params, ours.params, ours.standard_errors)
            )
            off = (f"{100 * (value / truth - 1):+.1f}%" for value in (theirs, own))
            their_off, own_off = off
            table.add_row(
                f"{label}{index + 1}", f"{truth:g}", f"{theirs:.4g}", their_off, f"{own:.4g}", f"{error:.1g}", own_off
            )
    share = np.mean(np.asarray(ours.all_sse) <= 1.001 * float(ours.sse))
    table.add_row("SSE", "", f"{float(recipe.sse):.4g}", "", f"{float(ours.sse):.4f}", "", "")
    table.add_row("least of the last 1000", "", f"{float(jnp.min(recipe.history[-1000:])):.4g}", "", "", "", "")
    table.add_row("seconds (with compiling)", "", f"{times[0]:.1f}", "", f"{times[1]:.1f}", "", "")
    table.caption = f"{100 * share:.0f}% of the starts reach the best sum of squares"
    return table


def _gause_table(found: Inference) -> Table:
    table = Table(title="Gause's Paramecium by training an RK4 cell, against the published fit")
    for column in ("parameter", "ours", "± s.e.", "published", "± s.e."):
        table.add_column(column, justify="left" if column == "parameter" else "right")
    values = found.params | {"start": found.start}
    errors = found.standard_errors | {"start": found.start_errors}
    for key, published in PUBLISHED_HERE.items():
        for index, (value, error) in enumerate(zip(*published, strict=True)):
            ours = float(values[key][index]), float(errors[key][index])
            table.add_row(f"{key}{index + 1}", f"{ours[0]:.6g}", f"{ours[1]:.4g}", f"{value:.6g}", f"{error:.4g}")
    table.add_row("SSE", f"{float(found.sse):.4f}", "", f"{PUBLISHED_SSE}", "")
    return table

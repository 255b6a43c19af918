"""The report of a fit: what the data say and what the theory proves, as LaTeX with its figures."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxkit.competition import plots
from jaxkit.competition.fit import CompetitionFit
from jaxkit.competition.theory import NAMES, Regime, dulac, equilibria, explain, invasion, lyapunov, outcome
from jaxkit.compile.jit_cache import run_kept
from jaxkit.core import checks
from jaxkit.dynamics.analysis.continuation import Branch, continuation
from jaxkit.dynamics.analysis.linearize import Kind
from jaxkit.models.lotka_volterra import Params, Rates, lotka_volterra
from jaxkit.report.figures import save, style
from jaxkit.report.latex import Document, number

CAPTIONS = {
    "fit": "Observations (points), the fitted model (lines) and its 95% confidence band.",
    "portrait": "Phase portrait of the fit: streamlines coloured by speed, nullclines dashed, equilibria by kind.",
    "outcomes": "Who is left in the end as the two harms vary; lines: an invasion rate is zero; the star: the fit.",
    "series": "Both populations, {times:g} times as long as they were observed; dotted: where they are then.",
    "branches": "Equilibria as the harm to species 1 grows: where species 2 alone becomes stable, {then}.",
}
TIMES = 2.5  # how much longer than the observations the populations are drawn


def captions(p: Params) -> dict[str, str]:
    """The captions of the figures of these parameters."""
    invades = bool(invasion(p)[1] > 0)  # where species 2 cannot come in, the point of coexistence is a saddle
    then = "species 1 dies out" if invades else "the start begins to decide which species is left"
    return {name: text.format(times=TIMES, then=then) for name, text in CAPTIONS.items()}


def report(found: CompetitionFit, folder: str | Path, *, quick: bool = False) -> tuple[tuple[Path, ...], str]:
    """Write the figures, an animation and the report of a two-species fit.

    Args:
        found: A fit of two species.
        folder: Where to write.
        quick: Whether to leave out the animation.

    Returns:
        The files written, and one sentence on the typesetting (the PDF needs `pdflatex`; the source is always there).

    Raises:
        ValueError: The fit does not have two species, or its parameters are outside the model (a harm is negative).
    """
    checks.require(len(found.data.names) == 2, "found", "be a fit of two species", f"has {len(found.data.names)}")
    p = found.params.arrays()
    folder = Path(folder)
    files = list(_figures(found, p, folder))
    if not quick:
        files.append(plots.animate_flow(p, folder / "flow.gif", populations=300, frames=24))
    document = _document(found, p)
    for name, caption in captions(p).items():
        document = document.figure(f"{name}.png", caption, 0.72)
    written, said = document.write(folder)
    return (*files, *written), said


def branches(p: Params, *, steps: int = 120) -> dict[str, Branch]:
    """The branches of equilibria as the harm `a1` grows from nearly zero to beyond where species 1 dies out.

    Args:
        p: Parameters; their `a1` is not used.
        steps: Number of steps on each branch.

    Returns:
        Name of the equilibrium -> its branch; the parameter of the branch is `a1`.
    """
    p = p.arrays()
    border = p.r[0] / p.N[1]
    first = Params(p.r, p.N, p.a.at[0].set(0.02 * border))
    eq = equilibria(first)
    follow = lambda x: run_kept(_branch, (steps,), (first, x, 3 * border))
    return {NAMES[i]: follow(eq.x[i]) for i in (3, 2, 1) if bool(eq.exists[i])}


def _branch(steps: int, first: Params, x: Array, parameter_scale: Array) -> Branch:
    args = lambda a1: Rates(first.rates.r, first.rates.A.at[0, 1].set(a1))
    options: Any = {"scale": first.N, "parameter_scale": parameter_scale}
    return continuation(lotka_volterra, x, first.a[0], args, step=1.6 / steps, steps=steps, **options)


def _figures(found: CompetitionFit, p: Params, folder: Path) -> list[Path]:
    names, unit, texts = found.data.names, found.data.unit, captions(p)
    longer = TIMES * float(jnp.max(found.data.time) - found.data.start)
    draw = {
        "fit": lambda axes: plots.plot_fit(found, axes=axes),
        "portrait": lambda axes: plots.plot_portrait(p, axes=axes, names=names, starts=[found.x0]),
        "outcomes": lambda axes: plots.plot_outcome_map(p, axes=axes),
        "series": lambda axes: plots.plot_time_series(
            p,
            found.x0,
            longer,
            axes=axes,
            names=names,
            unit=f"time from the start ({unit})",
            quantity=found.data.quantity,
        ),
        "branches": lambda axes: plots.plot_branches(
            branches(p), axes=axes, label="a1: harm of species 2 to species 1"
        ),
    }
    written = []
    with style() as plt:
        for name, fill in draw.items():
            figure, axes = plt.subplots()
            fill(axes)
            written.append(save(figure, folder / f"{name}.png", caption=texts[name]))
    return written


def _document(found: CompetitionFit, p: Params) -> Document:
    first, second = found.data.names
    which = outcome(p)
    document = Document(f"Competition of {first} and {second}").section("The model")
    document = document.equation(
        r"\dot x_1 = r_1x_1\left(1-\tfrac{x_1}{N_1}\right)-a_1x_1x_2,\qquad"
        r"\dot x_2 = r_2x_2\left(1-\tfrac{x_2}{N_2}\right)-a_2x_1x_2"
    ).text(f"Species 1 is {first}, species 2 is {second}; time in {found.data.unit}, counted: {found.data.quantity}.")
    document = document.section("The fit").table(
        ["parameter", "estimate", "standard error"], _parameter_rows(found, p), "Parameters, fitted through the solver."
    )
    document = document.text(
        f"{found.residuals.size} observations, sum of squares {float(found.sse):.6g}, residual standard error "
        f"{float(found.residual_standard_error):.4g} on {found.degrees_of_freedom} degrees of freedom, "
        f"R2 = {float(found.r_squared):.4f}."
    )
    document = document.section("Equilibria and who survives").table(
        ["equilibrium", "$x_1$", "$x_2$", r"$\lambda_1$", r"$\lambda_2$", "kind"],
        _equilibrium_rows(p),
        "Equilibria and the eigenvalues of the linear part.",
    )
    i1, i2 = (number(float(v)) for v in invasion(p))
    document = document.raw(rf"Invasion rates: $r_1-a_1N_2={i1}$, $r_2-a_2N_1={i2}$.").text(
        f"In words: {explain(p)} The regime is: {which.name.replace('_', ' ')}."
    )
    return _proofs(document, p)


def _parameter_rows(found: CompetitionFit, p: Params) -> list[list[str]]:
    errors = found.params_errors
    rows = []
    for name, values, error in (("r", p.r, errors.r), ("N", p.N, errors.N), ("a", p.a, errors.a)):
        rows += [[f"${name}_{i + 1}$", f"${number(values[i], 5)}$", f"${number(error[i], 3)}$"] for i in range(2)]
    start = found.standard_errors["x0"]
    rows += [
        [f"$x_{i + 1}({found.data.start:g})$", f"${number(float(found.x0[i]))}$", f"${number(float(start[i]), 3)}$"]
        for i in range(2)
    ]
    return rows


def _equilibrium_rows(p: Params) -> list[list[str]]:
    eq = equilibria(p)
    rows = []
    for i in range(4):
        if bool(eq.exists[i]):
            values = [*np.asarray(eq.x[i]), *np.real(np.asarray(eq.eigenvalues[i]))]
            rows.append([NAMES[i], *(f"${number(float(v))}$" for v in values), Kind(int(eq.kind[i])).label])
    return rows


def _proofs(document: Document, p: Params) -> Document:
    x1, x2 = (jnp.linspace(0.02, 1.5, 40) * n for n in p.N)
    grid = jnp.stack(jnp.meshgrid(x1, x2), axis=-1).reshape(-1, 2)
    largest = float(jnp.max(jax.vmap(dulac(p))(grid)))
    document = (
        document.section("No cycles")
        .raw(r"With the Dulac function $1/(x_1x_2)$ the divergence of the weighted field is")
        .equation(r"\nabla\cdot\frac{f}{x_1x_2}=-\frac{r_1}{N_1x_2}-\frac{r_2}{N_2x_1}<0\quad(x_1,x_2>0),")
        .text("so no orbit closes: every population settles at an equilibrium (Bendixson-Dulac).")
        .raw(rf"By automatic differentiation its largest value on a grid of {len(grid)} points is ${number(largest)}$.")
    )
    if outcome(p) is Regime.coexistence and bool(lyapunov(p)[1]):
        document = document.section("Global stability").equation(
            r"V=a_2\,g(x_1,E_1)+a_1\,g(x_2,E_2),\quad g(x,e)=x-e-e\ln\tfrac{x}{e},\quad "
            r"\dot V=-(x-E)^{\!\top}\begin{pmatrix}a_2r_1/N_1&a_1a_2\\a_1a_2&a_1r_2/N_2\end{pmatrix}(x-E)<0,"
        )
        document = document.text(
            "because the matrix is positive definite at the fitted parameters: coexistence attracts every start with "
            "both species present."
        )
    return document.section("Figures")

"""`python -m jaxkit run competition`: Gause's data, fitted through the solver; figures, report, verdict."""

from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from jaxkit.competition.fit import CompetitionFit, fit
from jaxkit.competition.report import report
from jaxkit.competition.theory import NAMES, equilibria, explain, outcome
from jaxkit.dynamics.analysis.linearize import Kind
from jaxkit.models.gause import PUBLISHED, PUBLISHED_SSE, gause
from jaxkit.report.verdict import Claim, Verdict, judge

# Logistic fits of each species alone: r, capacity, sum of squares.
ALONE = {"paramecium caudatum": (0.9593, 202.30, 2494.94), "paramecium aurelia": (0.7123, 222.67, 2241.05)}


def run(out: Path, *, quick: bool, console: Any) -> Verdict:
    """Fit the mixture (and, unless `quick`, each species alone), write the report, compare with what was published."""
    with console.status("fitting Gause's Paramecium mixture through the solver ..."):
        found = fit(gause("paramecium")).checked()
    console.print(_comparison(found))
    sse = float(found.sse)
    scatter = float(found.start_sse.max() - found.start_sse.min())
    console.print(
        f"sum of squares {sse:.4f} (published {PUBLISHED_SSE}), residual standard error "
        f"{float(found.residual_standard_error):.2f} on {found.degrees_of_freedom} degrees of freedom, "
        f"R2 {float(found.r_squared):.4f}; {found.start_sse.size} starts, all within {scatter:.1e}"
    )
    off = _off(found)
    claims = [
        Claim("sum of squares of Gause's mixture", sse, at_most=PUBLISHED_SSE),
        Claim("parameters and standard errors: largest relative difference from the published", off, at_most=1e-3),
    ]
    claims += [] if quick else _alone(console)
    _equilibria(found, console)
    with console.status("drawing figures and writing the report ..."):
        files, said = report(found, out, quick=quick)
    console.print(said)
    regime = outcome(found.params).name.replace("_", " ")
    at = ", ".join(f"{float(v):.2f}" for v in equilibria(found.params).x[3])
    sentence = (
        f"Gause 1934: SSE {sse:.2f} (published {PUBLISHED_SSE}); {regime} at ({at}); {found.covariance.shape[0]} "
        f"parameters and their errors within {off:.0e} of the published"
    )
    return judge("competition", claims, sentence, files)


def _off(found: CompetitionFit) -> float:
    """Largest relative difference of a parameter or a standard error from the published one."""
    pairs = [(found.unknowns[n], estimate) for n, (estimate, _) in PUBLISHED.items()]
    pairs += [(found.standard_errors[n], error) for n, (_, error) in PUBLISHED.items()]
    return float(np.max([np.max(np.abs(np.divide(ours, theirs) - 1)) for ours, theirs in pairs]))


def _comparison(found: CompetitionFit) -> Table:
    table = Table(title="Paramecium caudatum (1) with P. aurelia (2): dx_i/dt = x_i (r_i - sum_j A_ij x_j)")
    for column in ("parameter", "ours", "± s.e.", "published", "± s.e."):
        table.add_column(column, justify="left" if column == "parameter" else "right")
    for name, (estimates, errors) in PUBLISHED.items():
        for index, estimate in np.ndenumerate(estimates):
            label = f"{name}{''.join(str(i + 1) for i in index)}" + (" (day 2)" if name == "x0" else "")
            ours, spread = float(found.unknowns[name][index]), float(found.standard_errors[name][index])
            error = np.asarray(errors)[index]
            table.add_row(label, f"{ours:.6g}", f"{spread:.4g}", f"{estimate:.6g}", f"{error:.4g}")
    return table


def _alone(console: Any) -> list[Claim]:
    """Each species alone: a logistic fit through the same solver."""
    table = Table(title="Each species alone: dx/dt = r x (1 - x/K)")
    for column in ("species", "r", "reference", "K", "reference", "SSE", "reference"):
        table.add_column(column, justify="left" if column == "species" else "right")
    claims = []
    for experiment, (rate, capacity, squares) in ALONE.items():
        with console.status(f"fitting {experiment} alone ..."):
            found = fit(gause(experiment), starts=12).checked()
        ours = float(found.rates.r[0]), float(found.capacities[0][0]), float(found.sse)
        off = float(np.max(np.abs(np.divide(ours, (rate, capacity, squares)) - 1)))
        claims.append(Claim(f"{experiment} alone: largest relative difference from the reference", off, at_most=1e-3))
        cells = (f"{v:.6g}" for pair in zip(ours, (rate, capacity, squares), strict=True) for v in pair)
        table.add_row(found.data.names[0], *cells)
    console.print(table)
    return claims


def _equilibria(found: CompetitionFit, console: Any) -> None:
    console.print(f"In the end: {explain(found.params)}")
    table = Table(title="Equilibria (volumes), and eigenvalues per day")
    for column in ("equilibrium", "P. caudatum", "P. aurelia", "eigenvalues", "kind"):
        table.add_column(column)
    eq = equilibria(found.params)
    for i in range(4):
        if bool(eq.exists[i]):
            values = ", ".join(f"{float(v):.4f}" for v in eq.eigenvalues[i].real)
            x = (f"{float(v):.2f}" for v in eq.x[i])
            table.add_row(NAMES[i], *x, values, Kind(int(eq.kind[i])).label)
    console.print(table)

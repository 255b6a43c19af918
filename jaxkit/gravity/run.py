"""`python -m jaxkit run gravity`: does Horava's gravity meet Einstein's? Tables, bounds, figures, verdict."""

from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from jaxkit.gravity.bending import precession
from jaxkit.gravity.catalogue import schwarzschild
from jaxkit.gravity.data import MERCURY, SGR_A_MASS, SUN, mercury_semilatus_rectum, per_century
from jaxkit.gravity.fit import balance_left, bounds, posterior, published_bounds
from jaxkit.gravity.report import ASSUMPTION, compare, residuals, write
from jaxkit.report.verdict import Claim, Verdict, judge

MERCURY_EXACT = 42.98060039  # arcseconds per century


def run(out: Path, *, quick: bool, console: Any) -> Verdict:
    """Check every solution, compare the theories, bound the coupling, and draw the figures."""
    console.print(ASSUMPTION)
    with console.status("putting every published solution into its field equations ..."):
        checks = residuals(solve=not quick)
    console.print(_grid("Field equations by jax.grad", ("solution", "equations", "solve_static"), [
        (row.name, f"{row.equations:.1e}", f"{row.solved:.1e}" if np.isfinite(row.solved) else "-") for row in checks
    ]))  # fmt: skip
    console.print(
        "solve_static, first guess: f(3) (r/3)² in the rows of exact detailed balance (lambda, and epsilon = 0); the "
        "others their closed form, bent by 1% a unit of r. The guess chooses "
        "the branch; the column says how far that branch is from the closed form."
    )
    with console.status("computing the classical tests ..."):
        table = compare()
    keys = list(table[0])[1:]
    cell = lambda v: f"{v:.9g}" if np.isfinite(float(v)) else "none"
    console.print(_grid("Classical tests (lengths in M, angles in radians)", ("", *(str(r["metric"]) for r in table)), [
        (key, *(cell(row[key]) for row in table)) for key in keys
    ]))  # fmt: skip
    with console.status("recomputing the bounds on omega ..."):
        limits, wider, claims, found = bounds(), bounds(2.0), published_bounds(), posterior()
    console.print(_grid("Bounds on omega", ("measurement", "omega M²", "two sigma", "omega (1/m²)", "note"), [
        (row.name, f"{row.omega0:.3g}", f"{two.omega0:.3g}", f"{row.omega:.3g}", f"{row.source}; {row.note}")
        for row, two in zip(limits, wider, strict=True)
    ]))  # fmt: skip
    console.print(
        f"All five together: omega > {found.least68:.2g}/m² (68%), > {found.least95:.2g}/m² (95%). In Lu, Mei and "
        f"Pope's relaxed balance that leaves 1 - epsilon² < {float(balance_left(found.least95)):.1e} of detailed "
        f"balance; with the ranging of Mercury (omega M² > 7.2e-10) < {float(balance_left(7.2e-10 / SUN**2)):.1e}."
    )
    console.print(_grid("Published bounds, computed again", ("source", "claim", "recomputed", "verdict"), [
        (c.source, f"{c.published:.3g}", f"{c.recomputed:.3g}" if np.isfinite(c.recomputed) else "-", c.verdict)
        for c in claims
    ]))  # fmt: skip
    with console.status("tracing the shadow, drawing figures ..."):
        files, said, picture = write(out, table, checks, limits, claims, found, quick=quick)
    console.print(said)
    return _verdict(table, checks, limits, picture, files, console)


def _verdict(table: Any, checks: Any, limits: Any, picture: Any, files: Any, console: Any) -> Verdict:
    mercury = per_century(precession(schwarzschild(), p=mercury_semilatus_rectum(), e=MERCURY["e"]).value)
    strongest = max(row.omega for row in limits)
    visible = 1 / (27 * strongest * (SGR_A_MASS * SUN) ** 2)
    worst = float(np.max([row.equations for row in checks]))
    solved = [row.solved for row in checks if np.isfinite(row.solved)]
    off = abs(float(mercury) / MERCURY_EXACT - 1)
    lost = float(np.mean(np.asarray(picture.status) != 0))
    console.print(
        "omega is universal: what the solar system allows changes the shadow of Sgr A* by "
        f"{visible:.1e} of its size at most, against 0.1 that can be seen."
    )
    claims = [
        Claim("field equations of the published solutions: largest residual", worst, at_most=1e-12),
        Claim("`solve_static` against the closed forms: largest difference", max(solved, default=0.0), at_most=1e-12),
        Claim("precession of Mercury: relative error", off, at_most=1e-8),
        Claim("share of the shadow's rays that are lost", lost, at_most=0.01),
    ]
    einstein, *_, balanced = (
        {key for key, value in row.items() if key != "metric" and np.isfinite(value)} for row in table
    )
    sentence = (
        f"Of general relativity's {len(einstein)} numbers (horizon, orbits of light and matter, bending) Lu-Mei-Pope "
        f"(detailed balance) has {len(einstein & balanced)}. Kehagias-Sfetsos meets the measurements for omega >= "
        f"{strongest:.1e}/m². {len(checks)} solutions satisfy their equations to {worst:.0e}; "
        f'Mercury {float(mercury):.8f}"/century'
    )
    return judge("gravity", claims, sentence, files)


def _grid(title: str, head: tuple[str, ...], rows: list[tuple[str, ...]]) -> Table:
    table = Table(title=title)
    for i, column in enumerate(head):
        table.add_column(column, justify="right" if i else "left")
    for row in rows:
        table.add_row(*row)
    return table

"""The report: every solution against its equations, the classical tests compared, the bounds, the figures."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxkit.gravity import cosmology, plots
from jaxkit.gravity.action import field_residual, solve_static
from jaxkit.gravity.bending import deflection, precession, shapiro
from jaxkit.gravity.catalogue import kerr, schwarzschild
from jaxkit.gravity.fit import Bound, Posterior, PublishedBound
from jaxkit.gravity.horava import kehagias_sfetsos, lu_mei_pope, solutions
from jaxkit.gravity.horizons import hawking_temperature, horizon
from jaxkit.gravity.metrics import Metric
from jaxkit.gravity.observables import isco, photon_sphere, shadow_radius
from jaxkit.gravity.shadow import Image, critical_curve_kerr, image
from jaxkit.report.figures import save, style
from jaxkit.report.latex import Document, number

ASSUMPTION = (
    "Assumed: light and matter move on geodesics of the metric. Horava's gravity has no four-dimensional covariance "
    "that would imply it, and Kehagias and Sfetsos' metric needs detailed balance to be broken."
)
CAPTIONS = {
    "profiles": "f(r) of general relativity, Kehagias-Sfetsos (two couplings) and Lu-Mei-Pope.",
    "potentials": "Effective potentials. Lu-Mei-Pope crosses the frame once and grows as r²: no orbit is Kepler's.",
    "orbits": "Three turns of one orbit (p = 12 M, e = 0.5), turning points equal.",
    "bounce": "A universe with radiation and k = -1 bounces instead of beginning: integrated and exact.",
    "shadow": "Kerr with a = 0.9 and a thin disk seen at 80 degrees, traced ray by ray; dashed: the critical curve.",
    "redshift": "The same disk: the side that comes towards us shines blue, the side that recedes red.",
    "posterior": "All measurements together: the posterior of 1/omega, flat prior.",
    "bounds": "What each measurement says of the coupling omega, in one unit.",
}


class Residual(NamedTuple):
    """One row of the residual table: the closed form inserted in its equations, and the action solved from scratch."""

    name: str
    equations: float
    solved: float


def residuals(*, solve: bool = True, nodes: int = 32) -> list[Residual]:
    """Residuals of the field equations for every closed solution, and how near `solve_static` comes to it.

    An action has several branches, and the first guess selects one. The guess is `f(3) (r/3)^2` in the rows of exact
    detailed balance (lambda, and epsilon = 0), and the closed form bent by 1% per unit of `r` in the others: those show
    how exactly Newton's method solves the equations, not that it would find the branch from any guess.

    Args:
        solve: Whether to solve the actions too (not for an arbitrary lapse, nor where two branches nearly meet).
        nodes: Number of nodes for `solve_static`.
    """
    rows = []
    for name, (metric, lagrangian, couplings, radii) in solutions().items():
        check = jax.jit(lambda r, m=metric, l=lagrangian, c=couplings: field_residual(m, l, c, r))
        worst = float(jnp.max(jnp.abs(check(jnp.linspace(*radii, 40)))))
        gap = float("nan")
        if solve and "any N" not in name and "+" not in name:
            f = jax.vmap(lambda r, m=metric: 1 - m.space(r, m.params))  # pyright: ignore[reportOptionalCall]
            start = f(jnp.array([3.0]))[0]
            square = lambda r, start=start: start * (r / 3) ** 2  # the guess chooses the branch
            near = lambda r, f=f: f(r[None])[0] * (1 + 0.01 * (r - 3))
            balanced = "lambda" in name or name.endswith("epsilon=0")  # in these rows two branches nearly meet
            guess = square if balanced else near
            found = solve_static(lagrangian, (3.0, 9.0), couplings, inner=start, nodes=nodes, guess=guess)
            gap = float(jnp.max(jnp.abs(found.f - f(found.r))) / jnp.max(jnp.abs(f(found.r))))
        rows.append(Residual(name, worst, gap))
    return rows


def contenders() -> dict[str, Metric]:
    """General relativity and Horava's black holes, in units of the mass."""
    return {
        "GR": schwarzschild(),
        "KS, omega M² = 1": kehagias_sfetsos(1.0),
        "KS, omega M² = 1/2": kehagias_sfetsos(0.5),
        "LMP, lambda = 1, alpha = 3": lu_mei_pope(1.0, alpha=3.0),
    }


def compare(metrics: dict[str, Metric] | None = None) -> list[dict[str, str | float]]:
    """The classical tests side by side; NaN where a metric has no such orbit, ray or sphere."""
    tests = {
        "horizon": lambda m: horizon(m).value,
        "temperature": lambda m: hawking_temperature(m).value,
        "photon sphere": lambda m: photon_sphere(m).value,
        "shadow": lambda m: shadow_radius(m).value,
        "ISCO": lambda m: isco(m).value,
        "deflection r0=10": lambda m: deflection(m, r0=10.0).value,
        "precession p=12 e=.5": lambda m: precession(m, p=12.0, e=0.5).value,
        "delay 10 to 1000": lambda m: shapiro(m, r0=10.0, r1=1000.0).value,
    }
    rows = []
    for name, metric in (metrics or contenders()).items():
        values = jax.jit(lambda m=metric: {key: test(m) for key, test in tests.items()})()
        rows.append({"metric": name, **{key: float(value) for key, value in values.items()}})
    return rows


def write(
    folder: Path,
    table: Sequence[dict],
    checks: Sequence[Residual],
    limits: Sequence[Bound],
    claims: Sequence[PublishedBound],
    found: Posterior,
    *,
    quick: bool,
) -> tuple[tuple[Path, ...], str, Image]:
    """Draw the figures and write the LaTeX report.

    Returns:
        The files, one sentence on the typesetting, and the traced image.
    """
    folder.mkdir(parents=True, exist_ok=True)
    picture = image(kerr(a=0.9), pixels=32 if quick else 256, extent=16.0)
    holes, edge = contenders(), critical_curve_kerr(0.9, 80.0)
    bound = {name: m for name, m in holes.items() if not name.startswith("LMP")}
    draw = {
        "profiles": lambda axes: plots.plot_profiles(holes, axes=axes),
        "potentials": lambda axes: plots.plot_potentials(holes, axes=axes),
        "orbits": lambda axes: plots.plot_orbits(bound, axes=axes),
        "bounce": lambda axes: plots.plot_bounce(dict(cosmology.UNIVERSE), axes=axes),
        "shadow": lambda axes: plots.plot_image(picture, axes=axes, curve=edge),
        "redshift": lambda axes: plots.plot_redshift(picture, axes=axes, curve=edge),
        "posterior": lambda axes: plots.plot_posterior(found, axes=axes),
        "bounds": lambda axes: plots.plot_bounds(limits, axes=axes),
    }
    files = []
    with style() as plt:
        for name, fill in draw.items():
            figure, axes = plt.subplots(figsize=(5.2, 4.6) if name in ("orbits", "shadow", "redshift") else (5.6, 3.8))
            fill(axes)
            files.append(save(figure, folder / f"{name}.png", caption=CAPTIONS[name]))
    document = _document(table, checks, limits, claims)
    for name, caption in CAPTIONS.items():
        document = document.figure(f"{name}.png", caption, 0.7)
    written, said = document.write(folder)
    return (*files, *written), said, picture


def _document(
    table: Sequence[dict], checks: Sequence[Residual], limits: Sequence[Bound], claims: Sequence[PublishedBound]
) -> Document:
    show = lambda v: (
        f"${number(v, 6)}$" if isinstance(v, float) and np.isfinite(v) else ("none" if isinstance(v, float) else v)
    )
    document = Document("Horava's gravity against general relativity").text(ASSUMPTION)
    document = document.section("The solutions in their equations").raw(
        r"The reduced action is differentiated by machine; $f$ and $N$ of each published solution are put in."
    )
    rows = [(row.name, show(row.equations), show(row.solved)) for row in checks]
    document = document.table(
        ("solution", "equations", "solved"), rows, "Largest scaled residual; error of solve_static."
    )
    keys = list(table[0])
    turned = [(key, *(show(row[key]) for row in table)) for key in keys[1:]]
    document = document.section("The classical tests").table(
        ("", *(row["metric"] for row in table)), turned, "Lengths in M, angles in radians."
    )
    document = document.section("What the data say of omega").table(
        ("measurement", r"$\omega M^2 \geq$", r"$\omega\,(\mathrm{m}^{-2})$"),
        [(row.name, show(row.omega0), show(row.omega)) for row in limits],
        "Bounds of one standard deviation, exact integrals.",
    )
    document = document.table(
        ("published", "claim", "recomputed", "verdict"),
        [(c.source, show(c.published), show(c.recomputed), c.verdict) for c in claims],
        "Published bounds, computed again.",
    )
    return document.section("Figures")

"""`python -m jaxkit run newton`: equations as a student types them, proofs, problem polynomials, fractals."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxkit.newton.all_roots import AllRoots, all_roots
from jaxkit.newton.basins import basins
from jaxkit.newton.many import solve_many
from jaxkit.newton.plots import plot_all_roots, plot_basins, plot_solution
from jaxkit.newton.polynomial import polynomial_roots
from jaxkit.newton.solve import SPAN, solve
from jaxkit.report.figures import save, style
from jaxkit.report.verdict import Claim, Verdict, judge

HARD = "sin(x^2) + sin(x)^2 = exp(-(x-5)^2/10)"
SESSION: tuple[tuple[str, dict[str, Any]], ...] = (
    ("x*exp(x) = 2", {"x0": 1.0, "certify": True}),
    ("x^3 = 2x + 5", {"x0": 2.0, "certify": True}),
    ("x^2 + 1 = 0", {"x0": 0.5}),
    ("(x - 1)^2 (x + 2) = 0", {"x0": 3.0}),
    ("x^2 + y^2 = 4; x*y = 1", {"x0": {"x": 2.0, "y": 0.5}, "certify": True}),
    ("z^3 = 1 + 2i", {}),
)


def run(out: Path, *, quick: bool, console: Any) -> Verdict:
    """Solve the typed equations, prove 32 roots, solve Kepler's equation many times, and draw the figures."""
    out.mkdir(parents=True, exist_ok=True)
    lines, solutions = [], []
    for text, settings in SESSION:
        solution = solve(text, **settings)
        solutions.append(solution)
        lines += [f"> {text}", str(solution), ""]
    files = [out / "session.txt"]
    files[0].write_text("\n".join(lines), encoding="utf-8")
    for line in lines:
        console.print(line, markup=False, highlight=False)
    proven = all_roots(HARD, (0.0, 10.0), certify=True)
    console.print(f"{HARD} on [0, 10]: {proven.sentence}", markup=False, highlight=False)
    kepler_error, kepler_count = kepler(1000 if quick else 100_000)
    console.print(f"Kepler's equation, {kepler_count} times: largest residual {kepler_error:.1e}", highlight=False)
    wilkinson = polynomial_roots(np.poly(np.arange(1, 21)))
    doubtful = int(jnp.sum(wilkinson.ill_conditioned))
    console.print(
        f"Wilkinson's polynomial: condition up to {float(jnp.max(wilkinson.condition)):.0e}, "
        f"{doubtful} of 20 roots flagged as ill-conditioned",
        highlight=False,
    )
    files += figures(out, proven, 300 if quick else 1000)
    return _verdict(solutions, proven, kepler_error, kepler_count, doubtful, tuple(files))


def _verdict(
    solutions: list, proven: AllRoots, error: float, count: int, doubtful: int, files: tuple[Path, ...]
) -> Verdict:
    solved = [bool(solution.ok) for solution in solutions]
    right = solved == [True, True, False, True, True, True]
    absent = solutions[2].remark.startswith("There is no real root")
    shown = all(solutions[k].enclosure for k in (0, 1, 4)) and absent
    wallis = abs(float(solutions[1].value) - 2.0945514815423265)
    complete = proven.complete and len(proven.values) == 32
    claims = [
        Claim("typed equations solved (all but the third)", f"{sum(solved)} of {len(solved)}", ok=right),
        Claim(
            "enclosures; whether x^2 + 1 is proven to have no root near 0",
            f"{sum(s.enclosure is not None for s in solutions)}; {'yes' if absent else 'no'}",
            ok=shown,
        ),
        Claim("Wallis's root: error", wallis, at_most=1e-14),
        Claim("roots of the hard equation", f"{len(proven.values)} of 32", ok=bool(complete)),
        Claim("Kepler's equation: largest residual", error, at_most=1e-12),
        Claim("ill-conditioned roots of Wilkinson's polynomial that are flagged", doubtful, at_least=1),
    ]
    sentence = (
        f"{sum(solved)} of {len(solved)} typed equations solved and the one without real roots "
        f"{'proven' if absent else 'NOT proven'} to have none in [-{SPAN:g}, {SPAN:g}], "
        f"{len(proven.values)} roots of the hard one {'all proven' if complete else 'NOT all proven'}, "
        f"{count} Kepler equations to {error:.0e}"
    )
    return judge("newton", claims, sentence, files)


def kepler(count: int) -> tuple[float, int]:
    """Largest residual of `E - e sin E = M` over many eccentricities and mean anomalies."""
    first, second = jax.random.split(jax.random.key(0))
    orbit = {
        "e": 0.9 * jax.random.uniform(first, (count,)),
        "M": jnp.pi * jax.random.uniform(second, (count,)),
    }
    guess = orbit["M"] + 0.85 * orbit["e"]  # Danby's start
    found = solve_many(lambda E, p: E - p["e"] * jnp.sin(E) - p["M"], guess, orbit).checked()
    return float(jnp.max(found.residual)), count


def figures(out: Path, proven: AllRoots, size: int) -> list[Path]:
    """Tangents, the 32 roots, the basins."""
    paths = []
    with style() as plt:
        paths.append(
            save(
                _figure(plot_solution(solve("x*exp(x) = 2", x0=2.5))),
                out / "tangents.png",
                caption="Newton's tangents for x exp(x) = 2: each one's zero is the next guess.",
            )
        )
        paths.append(save(_figure(plot_all_roots(proven)), out / "all_roots.png", caption=proven.sentence))
        figure, axes = plt.subplots(1, 2, figsize=(11.0, 5.6))
        plot_basins(basins("z^3 = 1", size=size), axes=axes[0])
        plot_basins(basins("sin(z) = z^2 + 1", (-3.0, 3.0, -3.0, 3.0), size=size), axes=axes[1])
        caption = "Each point's colour is the root that Newton's method reaches from there; darker took longer."
        figure.supxlabel(caption, fontsize="medium")
        paths.append(save(figure, out / "basins.png", caption=caption))
    return paths


def _figure(axes: Any) -> Any:
    return axes.figure

"""`python -m jaxkit root "..."`: the command."""

import argparse
from collections.abc import Mapping
from typing import Any

from jaxkit.core.checks import require
from jaxkit.core.expression import parse
from jaxkit.newton.all_roots import AllRoots, all_roots
from jaxkit.newton.basins import basins, plot_basins
from jaxkit.newton.equations import read
from jaxkit.newton.solve import Solution, plot_solution, solve
from jaxkit.report.figures import axes_or_new, save


def root_command(options: argparse.Namespace) -> int:
    """Solve, print, draw. Returns 0 if a root was found, 1 if not."""
    parameters = {name: value.real for name, value in _assignments("--set", options.set).items()}
    interval = _interval(options.interval)
    if options.all:
        require(not options.complex, "--all", "go without --complex (see newton.polynomial_roots)", "is given with it")
        found = all_roots(options.equations, interval or (-10.0, 10.0), certify=options.certify, parameters=parameters)
        print(found)  # noqa: T201
        _draw(options, None, found, parameters)
        return 0 if len(found.values) else 1
    solution = solve(
        options.equations,
        _guess(options),
        parameters,
        method=options.method,
        complex=options.complex,
        certify=options.certify,
        bracket=interval,
    )
    print(solution)  # noqa: T201
    _draw(options, solution, None, parameters)
    return 0 if bool(solution.ok) else 1


def number(text: str) -> complex:
    """A number typed on the command line: any constant expression, such as `1/3`, `pi/2` or `1+2i`."""
    return complex(parse(text, ()).on_host())


def _interval(ends: list[str] | None) -> tuple[float, float] | None:
    return None if ends is None else (number(ends[0]).real, number(ends[1]).real)


def _assignments(flag: str, text: str | None) -> dict[str, complex]:
    """`"a=2, b=1/3"` as a dictionary."""
    found = {}
    for part in (text or "").split(","):
        if part.strip():
            name, equals, value = part.partition("=")
            require(bool(equals), flag, 'look like "a=2, b=0.1"', f"is {text!r}")
            found[name.strip()] = number(value)
    return found


def _guess(options: argparse.Namespace) -> Any:
    if options.x0 is None:
        return None
    real = lambda value: value if value.imag or options.complex else value.real
    if "=" in options.x0:
        return {name: real(value) for name, value in _assignments("--x0", options.x0).items()}
    return real(number(options.x0))


def _draw(
    options: argparse.Namespace, solution: Solution | None, found: AllRoots | None, parameters: Mapping[str, float]
) -> None:
    if options.plot is None:
        return
    if found is not None:
        axes = plot_all(found, parameters)
    elif solution is not None and (options.complex or read(options.equations, tuple(parameters)).is_complex):
        value = complex(solution.value)
        reach = 1.5 * max(1.0, abs(value))
        axes = plot_basins(basins(options.equations, (-reach, reach, -reach, reach), size=600))
    else:
        assert solution is not None  # noqa: S101
        axes = plot_solution(solution, options.equations, parameters=parameters)
    figure: Any = axes.figure
    path = save(figure, options.plot, caption=f"jaxkit root {options.equations}")
    print(f"figure      {path}")  # noqa: T201


def plot_all(found: AllRoots, parameters: Mapping[str, float], *, axes: Any = None) -> Any:
    """The curve over the interval with its roots."""
    import numpy as np

    system = read(found.equation, tuple(sorted(parameters)))
    (name,) = system.unknowns
    x = np.linspace(*found.ends, 2001)
    y = np.broadcast_to(system.residuals[0].on_host(**{name: x}, **parameters), x.shape)
    with axes_or_new(axes, figsize=(7.0, 3.6)) as axes:
        axes.axhline(0, color="0.6", lw=0.8)
        limit = 3 * np.nanpercentile(np.abs(np.where(np.isfinite(y), y, np.nan)), 80)
        axes.plot(x, np.where(np.abs(y) <= limit, y, np.nan), lw=1.2)
        for kind, colour in (("proven", "C2"), ("simple", "C0"), ("double", "C1"), ("undecided", "C3")):
            chosen = [value for value, what in zip(found.values, found.kinds, strict=True) if what == kind]
            if chosen:
                axes.plot(chosen, np.zeros(len(chosen)), "o", ms=5, color=colour, label=f"{len(chosen)} {kind}")
        axes.set(xlabel=name, ylabel="left side minus right side", title=found.equation)
        if len(found.values):
            axes.legend()
    return axes

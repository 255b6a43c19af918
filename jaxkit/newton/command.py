"""`python -m jaxkit root "..."`: the command."""

import argparse
from collections.abc import Callable, Mapping
from typing import Any

from jaxkit.core.checks import require
from jaxkit.core.expression import parse
from jaxkit.newton.all_roots import all_roots
from jaxkit.newton.basins import basins
from jaxkit.newton.equations import Equations
from jaxkit.newton.plots import plot_all_roots, plot_basins, plot_solution
from jaxkit.newton.proof import save_proof
from jaxkit.newton.result import EquationRoot
from jaxkit.newton.solve import complex_guess, solve
from jaxkit.report.figures import save


def root_command(options: argparse.Namespace) -> int:
    """Solve, print, draw. Returns 0 if a root was found, 1 if not."""
    args: Any = {n: value if value.imag else value.real for n, value in _assignments("--set", options.set).items()}
    guess = _guess(options)
    interval, equations = _interval(options.interval), Equations.of(options.equations, args, guess)
    if options.all:
        require(not options.complex, "--all", "go without --complex (see newton.polynomial_roots)", "is given with it")
        require(not any(isinstance(v, complex) for v in args.values()), "--set", "be real with --all", "is complex")
        found = all_roots(equations, interval or (-10.0, 10.0), args, certify=options.certify)
        print(found)  # noqa: T201
        if options.proof is not None:
            require(options.certify, "--proof", "go with --certify", "is given without it")
            pieces = save_proof(options.proof, found, args)
            print(f"proof       {options.proof} ({len(pieces)} pieces; tools/check_proof.py verifies it)")  # noqa: T201
        _draw(options, plot_all_roots, found, args)
        return 0 if len(found.values) else 1
    require(options.proof is None, "--proof", "go with --all --certify", "is given without --all")
    require(interval is None or not options.complex, "--interval", "go without --complex", "is given with it")
    if options.complex and guess is None:
        guess = complex_guess(equations)
    solution = solve(
        equations,
        guess,
        args,
        method=options.method,
        certify=options.certify,
        bracket=interval,
    )
    print(solution)  # noqa: T201
    complex_plane = options.complex or equations.is_complex
    _draw(options, _basins_around if complex_plane else plot_solution, solution, args)
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


def _basins_around(solution: EquationRoot, _: Any) -> Any:
    """The basins of Newton's method in a window about 0 that holds the root."""
    assert solution.equations is not None  # noqa: S101
    reach = 1.5 * max(1.0, abs(complex(solution.value)))
    return plot_basins(basins(solution.equations, (-reach, reach, -reach, reach), size=600))


def _draw(options: argparse.Namespace, plot: Callable[[Any, Any], Any], found: Any, args: Mapping[str, float]) -> None:
    if options.plot is not None:
        path = save(plot(found, args).figure, options.plot, caption=f"jaxkit root {options.equations}")
        print(f"figure      {path}")  # noqa: T201

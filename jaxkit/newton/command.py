"""`python -m jaxkit root "..."`: the command. JAX is imported where it is needed: that takes longer than solving."""

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from jaxkit import newton
from jaxkit.core.arguments import require
from jaxkit.core.expression import parse
from jaxkit.newton.quick import QuickRoot, quick_root
from jaxkit.newton.start import first_guess

if TYPE_CHECKING:
    from jaxkit.newton.result import EquationRoot


def root_command(options: argparse.Namespace) -> int:
    """Solve, print, draw. Returns 0 if a root was found, 1 if not."""
    args: Any = {n: value if value.imag else value.real for n, value in _assignments("--set", options.set).items()}
    guess = _guess(options)
    interval, equations = _interval(options.interval), newton.Equations.of(options.equations, args, guess)
    if options.all:
        return _all(options, equations, args, interval or (-10.0, 10.0))
    require(options.proof is None, "--proof", "go with --all --certify", "is given without --all")
    require(interval is None or not options.complex, "--interval", "go without --complex", "is given with it")
    solution = _solved(options, equations, args, guess, interval)
    print(solution)  # noqa: T201
    complex_plane = options.complex or equations.is_complex
    _draw(options, lambda: _basins_around(solution) if complex_plane else newton.plot_solution(solution, args))
    return 0 if bool(solution.ok) else 1


def _all(options: argparse.Namespace, equations: newton.Equations, args: Any, ends: tuple[float, float]) -> int:
    require(not options.complex, "--all", "go without --complex (see newton.polynomial_roots)", "is given with it")
    require(not any(isinstance(v, complex) for v in args.values()), "--set", "be real with --all", "is complex")
    require(options.certify or options.proof is None, "--proof", "go with --certify", "is given without it")
    if not options.certify:
        _prepare()
    found = newton.all_roots(equations, ends, args, certify=options.certify)
    print(found)  # noqa: T201
    if options.proof is not None:
        pieces = newton.save_proof(options.proof, found, args)
        print(f"proof       {options.proof} ({len(pieces)} pieces; tools/check_proof.py verifies it)")  # noqa: T201
    _draw(options, lambda: newton.plot_all_roots(found, args))
    return 0 if len(found.values) else 1


def _solved(
    options: argparse.Namespace, equations: newton.Equations, args: Any, guess: Any, interval: Any
) -> "QuickRoot | EquationRoot":
    if options.method is None and interval is None and not options.complex:
        found = quick_root(equations, guess, args, certify=options.certify)
        if found is not None:
            return found
    if options.complex and guess is None:
        guess = first_guess(equations, None, None, complex_plane=True)
    _prepare()
    return newton.solve(equations, guess, args, method=options.method, certify=options.certify, bracket=interval)


def _prepare() -> None:
    from jaxkit.compile.options import prepare

    prepare("double")


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


def _basins_around(solution: Any) -> Any:
    """The basins of Newton's method in a window about 0 that holds the root."""
    reach = 1.5 * max(1.0, abs(complex(solution.value)))
    return newton.plot_basins(newton.basins(solution.equations, (-reach, reach, -reach, reach), size=600))


def _draw(options: argparse.Namespace, plot: Callable[[], Any]) -> None:
    if options.plot is not None:
        from jaxkit.report.figures import save

        path = save(plot().figure, options.plot, caption=f"jaxkit root {options.equations}")
        print(f"figure      {path}")  # noqa: T201

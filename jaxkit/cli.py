"""The command line: `python -m jaxkit run|doctor|...`. Each command says what it did and where it put it."""

import argparse
import importlib
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from jaxkit import __version__

SUBJECTS = (
    "competition",
    "newton",
)  # each has a module `jaxkit.<subject>.run` with `run(out, *, quick, console) -> Verdict`


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 0 done, 1 a number came out wrong, 2 unusable input."""
    parser = argparse.ArgumentParser(prog="jaxkit", description="Differentiable scientific computing in JAX.")
    parser.add_argument("--version", action="version", version=f"jaxkit {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add in COMMANDS:
        add(commands)
    options = parser.parse_args(arguments)
    try:
        return options.handler(options)
    except (ValueError, FileNotFoundError) as error:  # the one clear sentence; a traceback would bury it
        print(f"jaxkit {options.command}: {error}", file=sys.stderr)
        return 2


def _prepare(precision: str = "double") -> None:
    """Settings of a command: quiet compiler logs, double precision, an optional compile cache."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from jaxkit.core.environment import set_precision, use_compile_cache

    use_compile_cache()
    set_precision(precision)


def _add_run(commands: "argparse._SubParsersAction") -> None:
    parser = commands.add_parser("run", help="run a subject on its real data: figures, report, verdict")
    parser.add_argument("subject", choices=[*SUBJECTS, "all"])
    parser.add_argument("--quick", action="store_true", help="smaller sizes: a sanity run of seconds")
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder for what is written (default: out)")
    parser.set_defaults(handler=_run)


def _run(options: argparse.Namespace) -> int:
    _prepare()
    from rich.console import Console

    console = Console()
    verdicts = []
    for subject in SUBJECTS if options.subject == "all" else (options.subject,):
        start = time.perf_counter()
        console.rule(subject)
        run = importlib.import_module(f"jaxkit.{subject}.run").run
        verdict = run(options.out / subject, quick=options.quick, console=console)
        console.print(f"{len(verdict.files)} files in {options.out / subject}, {time.perf_counter() - start:.1f} s")
        verdicts.append(verdict)
    console.rule("verdicts")
    for verdict in verdicts:
        mark = "[green]ok[/]" if verdict.ok else "[red]WRONG[/]"
        console.print(f"{mark} [bold]{verdict.subject}[/]: {verdict.sentence}", highlight=False)
    return 0 if all(verdict.ok for verdict in verdicts) else 1


def _add_root(commands: "argparse._SubParsersAction") -> None:
    parser = commands.add_parser("root", help='solve an equation: jaxkit root "x^3 = 2x + 5"')
    parser.add_argument("equations", help='text such as "x*exp(x) = 2"; several equations separated by ;')
    parser.add_argument("--x0", metavar="VALUE", help='first guess: 1.5, 1+2i, or "x=2, y=0.5"')
    parser.add_argument("--set", metavar="NAMES", help='parameters: "a=2, b=0.1"')
    parser.add_argument("--interval", nargs=2, metavar=("A", "B"), help="ends between which to look (with --all: all)")
    parser.add_argument("--all", action="store_true", help="all real roots in --interval (default: -10 10)")
    parser.add_argument("--certify", action="store_true", help="prove the roots by interval arithmetic")
    parser.add_argument("--complex", action="store_true", help="complex roots")
    parser.add_argument("--method", help="newton (default), halley, chord, damped, dogleg, bisect, ...")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the curve with the tangents, or the basins")
    parser.set_defaults(handler=_root)


def _root(options: argparse.Namespace) -> int:
    _prepare()
    from jaxkit.newton.command import root_command

    return root_command(options)


COMMANDS: tuple[Callable[["argparse._SubParsersAction"], None], ...] = (_add_run, _add_root)

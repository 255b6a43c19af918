"""The command line: `python -m jaxkit run|root|...`. Each command is defined elsewhere; here are their arguments."""

import argparse
import dataclasses
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxkit import SUBJECTS, __version__

# Subjects whose programs run for milliseconds, so that compilation takes nearly all the time.
LIGHT = ("competition", "newton", "recurrent")

Argument = tuple[tuple[str, ...], dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Command:
    """A command.

    Attributes:
        name: Its name.
        handler: `"module:function"` of `function(options) -> exit status`, imported when the command is given.
        help: One line of help.
        arguments: What argparse's `add_argument` takes, one pair per argument.
        precision: Precision in which it computes; None if it computes nothing itself.
    """

    name: str
    handler: str
    help: str
    arguments: tuple[Argument, ...] = ()
    precision: str | None = "double"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 0 if done, 1 if a number came out wrong, 2 for unusable input."""
    parser = argparse.ArgumentParser(prog="jaxkit", description="Differentiable scientific computing in JAX.")
    parser.add_argument("--version", action="version", version=f"jaxkit {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        own = commands.add_parser(command.name, help=command.help)
        for names, settings in command.arguments:
            own.add_argument(*names, **settings)
        own.set_defaults(chosen=command)
    options = parser.parse_args(_values(sys.argv[1:] if arguments is None else arguments))
    module, _, function = options.chosen.handler.partition(":")
    if options.chosen.precision is not None:
        _prepare(options.chosen.precision, light=getattr(options, "subject", None) in LIGHT)
    try:
        return getattr(importlib.import_module(module), function)(options)
    except (ValueError, FileNotFoundError) as error:  # the one clear sentence; a traceback would bury it
        print(f"jaxkit {options.command}: {error}", file=sys.stderr)
        return 2


def _values(arguments: Sequence[str]) -> list[str]:
    """Mark values that begin with a minus (`--x0 -1+1i`) by a space, so that the parser does not see flags in them."""
    if not arguments or arguments[0] != "root":
        return list(arguments)
    return [f" {text}" if text[:1] == "-" and text[:2] not in ("--", "-h") else text for text in arguments]


def _prepare(precision: str, *, light: bool = False) -> None:
    """Apply the settings of a command: quiet compiler logs, a precision, an optional compile cache."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from jaxkit.compile.options import compile_fast, use_compile_cache
    from jaxkit.core.environment import set_precision

    use_compile_cache()
    if light:
        compile_fast()
    set_precision(precision)


def _arg(*names: str, **settings: Any) -> Argument:
    return names, settings


COMMANDS = (
    Command("run", "jaxkit.tools.subjects:run_command", "run a subject on its real data: figures, report, verdict", (
        _arg("subject", choices=[*SUBJECTS, "all"]),
        _arg("--quick", action="store_true", help="smaller sizes: a sanity run of seconds"),
        _arg("--out", type=Path, default=Path("out"), help="folder for what is written (default: out)"),
    )),
    Command("root", "jaxkit.newton.command:root_command", 'solve an equation: jaxkit root "x^3 = 2x + 5"', (
        _arg("equations", help='text such as "x*exp(x) = 2"; several equations separated by ;'),
        _arg("--x0", metavar="VALUE", help='first guess: 1.5, 1+2i, or "x=2, y=0.5"'),
        _arg("--set", metavar="NAMES", help='parameters: "a=2, b=0.1"'),
        _arg("--interval", nargs=2, metavar=("A", "B"), help="ends between which to look (with --all: all)"),
        _arg("--all", action="store_true", help="all real roots in --interval (default: -10 10)"),
        _arg("--certify", action="store_true", help="prove the roots by interval arithmetic"),
        _arg("--proof", type=Path, metavar="FILE", help="write the proof that --all --certify finds"),
        _arg("--complex", action="store_true", help="complex roots"),
        _arg("--method", help="newton (default), halley, chord, damped, dogleg, bisect, ..."),
        _arg("--plot", type=Path, metavar="FILE", help="draw the curve with the tangents, or the basins"),
    )),
    Command("answer", "jaxkit.reading.command:answer_command", "answer a question from text files", (
        _arg("model", type=Path, help="file of a reader (`reading.save`; `run reading` writes one)"),
        _arg("question"),
        _arg("passages", nargs="+", type=Path, metavar="FILE", help="text files, UTF-8"),
        _arg("--top", type=int, default=1, help="how many answers (default: 1)"),
        _arg("--always", action="store_true", help="answer even where the reader would rather not"),
    ), precision="single"),
    Command("sweep", "jaxkit.tools.sweep:sweep_command", "solve an ensemble in shards (job arrays); then merge them", (
        _arg("config", type=Path, help="JSON: field, x0, ts, args, lanes, ... (see jaxkit.tools.sweep)"),
        _arg("--shard", help="i/n; /n or nothing takes i from SLURM_ARRAY_TASK_ID or JOB_COMPLETION_INDEX"),
        _arg("--merge", action="store_true", help="merge the shards that lie in the folder"),
        _arg("--out", type=Path, default=Path("out/sweep"), help="folder of the files (default: out/sweep)"),
    )),
    Command("launch", "jaxkit.tools.launch:launch_command", "run a script as several processes; restart if one dies", (
        _arg("--processes", type=int, default=2, metavar="N", help="how many processes (default: 2)"),
        _arg("--coordinator", metavar="HOST:PORT", help="of process 0, when the others run elsewhere"),
        _arg("--process", type=int, metavar="I", help="start this one alone, with --coordinator"),
        _arg("--restarts", type=int, default=3, help="times to start again (default: 3)"),
        _arg("--stuck", type=float, metavar="S", help="start again if a process finishes no chunk in S seconds"),
        _arg("program", nargs=argparse.REMAINDER, metavar="-- CMD ...", help="the program and its arguments"),
    ), precision=None),
    Command("cite", "jaxkit.tools.subjects:cite_command", "BibTeX of what stands behind a subject or a method", (
        _arg("topics", nargs="*", help="competition, gan, ensemble, dopri8, ...; none: everything"),
    ), precision=None),
    Command("doctor", "jaxkit.tools.doctor:doctor_command", "is this machine fit? devices, versions, compiler, JAX"),
)  # fmt: skip

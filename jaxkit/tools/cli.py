"""The command line: `python -m jaxkit run|doctor|...`. Each command says what it did and where it put it."""

import argparse
import importlib
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from jaxkit import SUBJECTS, __version__

# Subjects whose programs run for milliseconds: there the compiler's time is all the time (measured: 3.5 s -> 1.7 s).
LIGHT = ("competition", "newton", "recurrent")
CANARY_TOLERANCE = 1e-10  # in double precision


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


def _prepare(precision: str = "double", *, light: bool = False) -> None:
    """Settings of a command: quiet compiler logs, double precision, an optional compile cache."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from jaxkit.compile.options import compile_fast, use_compile_cache
    from jaxkit.core.environment import set_precision

    use_compile_cache()
    if light:
        compile_fast()
    set_precision(precision)


def _add_run(commands: "argparse._SubParsersAction") -> None:
    parser = commands.add_parser("run", help="run a subject on its real data: figures, report, verdict")
    parser.add_argument("subject", choices=[*SUBJECTS, "all"])
    parser.add_argument("--quick", action="store_true", help="smaller sizes: a sanity run of seconds")
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder for what is written (default: out)")
    parser.set_defaults(handler=_run)


def _run(options: argparse.Namespace) -> int:
    _prepare(light=options.subject in LIGHT)
    from rich.console import Console

    from jaxkit.report.verdict import claims_table

    console = Console()
    verdicts = []
    for subject in SUBJECTS if options.subject == "all" else (options.subject,):
        start = time.perf_counter()
        console.rule(subject)
        run = importlib.import_module(f"jaxkit.{subject}.run").run
        verdict = run(options.out / subject, quick=options.quick, console=console)
        console.print(claims_table(verdict.claims))
        console.print(f"{len(verdict.files)} files in {options.out / subject}, {time.perf_counter() - start:.1f} s")
        verdicts.append(verdict)
    console.rule("verdicts")
    for verdict in verdicts:
        mark = "[green]ok[/]" if verdict.ok else "[red]WRONG[/]"
        console.print(f"{mark} [bold]{verdict.subject}[/]: {verdict.sentence}", highlight=False)
    return 0 if all(verdict.ok for verdict in verdicts) else 1


def _add_doctor(commands: "argparse._SubParsersAction") -> None:
    parser = commands.add_parser(
        "doctor", help="is this machine fit? devices, versions, compiler canary, facts about JAX"
    )
    parser.set_defaults(handler=_doctor)


def _doctor(options: argparse.Namespace) -> int:
    _prepare()
    from rich.console import Console
    from rich.table import Table

    from jaxkit.core.environment import versions
    from jaxkit.tools import doctor

    console = Console()
    table = Table(title="versions", show_header=False)
    for name, version in versions().items():
        table.add_row(name, version)
    console.print(table)
    for line in doctor.diagnose():
        console.print(line, highlight=False)
    with console.status("running the compiler canary: every kernel eagerly and jitted ..."):
        differences = doctor.canary()
    bad = {name: gap for name, gap in differences.items() if gap > CANARY_TOLERANCE}
    for name, gap in bad.items():
        console.print(f"[red]WRONG[/] {name}: jitted and eager results differ by {gap:.1e}")
    agree, worst = len(differences) - len(bad), max(differences.values())
    console.print(f"compiler canary: {agree} of {len(differences)} kernels agree, largest difference {worst:.1e}.")
    wrong = doctor.false_facts()
    for sentence, found in wrong.items():
        console.print(f"[red]WRONG[/] {sentence}: {found}", highlight=False)
    console.print(f"JAX's internals: {len(doctor.FACTS) - len(wrong)} of {len(doctor.FACTS)} facts hold.")
    if bad or wrong:
        console.print("Do not trust this JAX: install another (pyproject.toml lists the releases that are allowed).")
    return 1 if bad or wrong else 0


def _add_cite(commands: "argparse._SubParsersAction") -> None:
    parser = commands.add_parser("cite", help="BibTeX of what stands behind a subject or a method")
    parser.add_argument("topics", nargs="*", help="competition, gan, ensemble, dopri8, ...; none: everything")
    parser.set_defaults(handler=_cite)


def _cite(options: argparse.Namespace) -> int:
    from jaxkit.core.citation import cite

    print(cite(*options.topics))
    return 0


def _add_sweep(commands: "argparse._SubParsersAction") -> None:
    parser = commands.add_parser("sweep", help="solve an ensemble in shards (job arrays), one file a shard; then merge")
    parser.add_argument("config", type=Path, help="JSON: field, x0, params, t1, lanes, ... (see jaxkit.tools.sweep)")
    parser.add_argument("--shard", help="i/n; /n or nothing takes i from SLURM_ARRAY_TASK_ID or JOB_COMPLETION_INDEX")
    parser.add_argument("--merge", action="store_true", help="merge the shards that lie in the folder")
    parser.add_argument("--out", type=Path, default=Path("out/sweep"), help="folder of the files (default: out/sweep)")
    parser.set_defaults(handler=_sweep)


def _sweep(options: argparse.Namespace) -> int:
    _prepare()
    sys.path.insert(0, str(Path.cwd()))
    from jaxkit.tools import sweep

    config = sweep.read_config(options.config)
    if options.merge:
        print(f"merged into {sweep.merge(config, options.out)}")
        return 0
    i, n = sweep.shard_of(options.shard)
    path, written = sweep.run_shard(config, (i, n), options.out)
    print(f"shard {i} of {n}: {'written to' if written else 'already in'} {path}")
    return 0


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


def _add_launch(commands: "argparse._SubParsersAction") -> None:
    parser = commands.add_parser("launch", help="run a training script as several processes; start again if one dies")
    parser.add_argument("--processes", type=int, default=2, metavar="N", help="how many processes (default: 2)")
    parser.add_argument("--coordinator", metavar="HOST:PORT", help="of process 0, when the others run elsewhere")
    parser.add_argument("--process", type=int, metavar="I", help="start this one alone, with --coordinator")
    parser.add_argument("--restarts", type=int, default=3, help="times to start again (default: 3)")
    parser.add_argument(
        "--stuck", type=float, metavar="S", help="start again if a process finishes no chunk in S seconds"
    )
    parser.add_argument("program", nargs=argparse.REMAINDER, metavar="-- CMD ...", help="the program and its arguments")
    parser.set_defaults(handler=_launch)


def _launch(options: argparse.Namespace) -> int:
    from jaxkit.tools.launch import launch

    program = options.program[1:] if options.program[:1] == ["--"] else options.program
    if not program:
        raise ValueError("Argument `CMD` must be a program to run, but is missing.")
    if (options.process is None) != (options.coordinator is None):
        raise ValueError("Argument `process` must come with `coordinator`, but one of them is missing.")
    return launch(
        program,
        options.processes,
        coordinator=options.coordinator,
        process=options.process,
        restarts=options.restarts,
        stuck=options.stuck,
    )


def _add_answer(commands: "argparse._SubParsersAction") -> None:
    parser = commands.add_parser("answer", help="answer a question from text files with a trained reader")
    parser.add_argument("model", type=Path, help="file of a reader (`reading.save`; `run reading` writes one)")
    parser.add_argument("question")
    parser.add_argument("passages", nargs="+", type=Path, metavar="FILE", help="text files, UTF-8")
    parser.add_argument("--top", type=int, default=1, help="how many answers (default: 1)")
    parser.add_argument("--always", action="store_true", help="answer even where the reader would rather not")
    parser.set_defaults(handler=_answer)


def _answer(options: argparse.Namespace) -> int:
    _prepare("single")
    from jaxkit.reading.command import answer_command

    return answer_command(options)


COMMANDS: tuple[Callable[["argparse._SubParsersAction"], None], ...] = (
    _add_run,
    _add_root,
    _add_answer,
    _add_sweep,
    _add_launch,
    _add_cite,
    _add_doctor,
)

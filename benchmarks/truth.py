"""Claim: a result that says ok is right; random problems of every verb, many of them nasty, judged independently.

Each verb's problems are scaled by up to 1e+-100, stiff, kinked, near-singular, discontinuous or not finite somewhere.
Counted are the share solved, the share refused, and the results that say ok and are wrong, beside other packages on the
same problems. The first wrong one of each solver is printed in full, so that it can become a test.
"""

import importlib
import importlib.util
from typing import Any

import jax

from benchmarks import _harness as harness
from benchmarks import _truth


def judged(verb: str, count: int, seed: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Judge one verb: rows of the table, and the goal that no ok is false."""
    tallies = importlib.import_module(f"benchmarks._truth.{verb}").judge(count, seed)
    for tally in tallies:
        if tally.first:
            print(f"{verb}, {tally.solver}: first false ok:\n{tally.first}\n", flush=True)
    own = [tally for tally in tallies if tally.solver.startswith("jaxkit")]
    wrong = sum(tally.false for tally in own)
    return [tally.row() for tally in tallies], [harness.goal(f"{verb}: false ok", wrong, 0, at_least=False)]


def main() -> None:
    """Judge, print, save."""
    written = [verb for verb in _truth.VERBS if importlib.util.find_spec(f"benchmarks._truth.{verb}")]
    parser = harness.parser(__doc__)
    parser.add_argument("--verbs", nargs="+", choices=written, default=written, metavar="VERB")
    parser.add_argument("--count", type=int, default=10_000, help="problems a verb")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    rows: list[dict[str, Any]] = []
    goals: list[dict[str, Any]] = []
    for verb in options.verbs:
        new, wanted = judged(verb, 60 if options.quick else options.count, options.seed)
        rows, goals = rows + new, goals + wanted
        print(harness.table(new), flush=True)
    print(harness.table(goals))
    if not options.quick:
        judges = f"judged on {options.count:,} random problems, many of them nasty, of {', '.join(options.verbs)} each"
        harness.save("truth", claim=f"Claim: a result that says ok is right; {judges}.", rows=rows, goals=goals)


if __name__ == "__main__":
    main()

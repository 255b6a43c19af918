"""CLAIM: at one small budget penalties on slopes (R1 + R2) make a game find the grid's 25 modes; relativity does not.

Each row is the same run of a perceptron of 3 x 64 (2,500 steps of one update each; WGAN-GP, with five critic steps, a
third of them) with one thing changed: loss, penalty, momentum, what the critic sees. Without a
penalty all samples fall on one mode: their share near a center is high, and means nothing.

Rows are kept in the file `--rows` as they are measured; a run that was stopped goes on with the next one.
"""

import json
from pathlib import Path

import jax

from benchmarks import _harness
from benchmarks.gan import several
from jaxkit import gan, models

ABLATION = {
    "SGAN": {"loss": "sgan", "penalty": "none"},
    "RSGAN": {"loss": "rsgan", "penalty": "none"},
    "RaSGAN": {"loss": "rasgan", "penalty": "none"},
    "WGAN-GP, five critic steps": {"loss": "wgan-gp", "gamma": None, "critic_steps": 5},
    "SGAN + R1 + R2": {"loss": "sgan", "penalty": "r1+r2"},
    "RSGAN + R1": {"penalty": "r1"},
    "RSGAN + R1 + R2": {},
    "RSGAN + R1 + R2, all pairs": {"all_pairs": True},
    "RSGAN + R1 + R2, momentum 0.5": {"betas": (0.5, 0.99)},
    "RSGAN + R1 + R2, no sines": {"frequencies": ()},
    "RSGAN + R1 + R2, penalty not annealed": {"gamma": (0.1, 0.1)},
}


def main() -> None:
    parser = _harness.parser(__doc__)
    parser.add_argument("--rows", type=Path, default=Path("out/gan-losses.json"), help="rows of a run that was stopped")
    options = parser.parse_args()
    quick, kept = options.quick, options.rows
    steps, seeds = (100, 1) if quick else (2500, 3)
    rows = json.loads(kept.read_text()) if kept.is_file() and not quick else []
    grid = models.plane_law("grid25")
    for name, changes in list(ABLATION.items())[len(rows) :]:
        few = steps // (3 if changes.get("critic_steps") else 1)
        rows.append({"what": name} | several(grid, gan.Config(**{"steps": few, **changes}), seeds))
        print(_harness.table(rows[-1:]), flush=True)
        if not quick:
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_text(json.dumps(rows, default=float))
        jax.clear_caches()
    print(_harness.table(rows))
    by_name = {row["what"]: row for row in rows}
    best, bare = by_name["RSGAN + R1 + R2"], by_name["SGAN"]
    goals = [
        _harness.goal("RSGAN + R1 + R2: modes of 25, least of the seeds", best["modes (least)"], 25),
        _harness.goal("SGAN without penalty: modes of 25 (it collapses)", bare["modes (least)"], 5, at_least=False),
    ]
    print(_harness.table(goals))
    if not quick:
        kept.unlink(missing_ok=True)
        print("written to", _harness.save("gan_losses", claim=__doc__ or "", rows=rows, goals=goals))


if __name__ == "__main__":
    main()

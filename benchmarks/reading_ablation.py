"""Claim: what each part of the reader is worth, one left out (or added) at a time, on the Chinese training set.

Every variant is trained with the same key for the same number of steps and scored on the same questions, spread over
CMRC 2018 dev and DRCD test (simplified), and on the WebQA questions of 20 passages: exact match, F1, and the area under
the ROC curve of existence. Rows of other variants that were measured before are kept, if their steps are the same.
"""

import functools
import json
from typing import Any

import jax

import jaxkit as jk
from benchmarks import _harness as harness
from jaxkit import reading
from jaxkit.reading import tokens

# Name -> (fields of `Config`, of its `Architecture`, of its `Recipe`)
VARIANTS: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "baseline": ({}, {}, {}),
    "without features": ({}, {"features": False}, {}),
    "without gates": ({}, {"gate": False}, {}),
    "random instead of LAC's vectors": ({"pretrained_characters": False}, {}, {}),
    "with position vectors": ({}, {"positions": True}, {}),
    "no token hidden": ({}, {}, {"token_dropout": 0.0}),
    "without averaging": ({}, {}, {"ema": 0.0}),
    "without aligned question": ({}, {"align": False}, {}),
    "without looks and parts of speech": ({}, {"lexical": False}, {}),
    "without jieba's words": ({"words": False}, {}, {}),
    "article's head: sigmoids and focal loss": ({}, {"head": "pointer"}, {}),
    "without negatives": ({}, {}, {"negatives": 0.0}),
    "with windows shorn of their answer": ({}, {}, {"unanswerable": 0.25}),
}


def measured(name: str, steps: int, limit: int) -> dict[str, Any]:
    """Train and score one variant."""
    general, net, recipe = VARIANTS[name]
    get = lambda name: reading.read(reading.corpus(name))
    train = get("cmrc-train") + get("webqa")
    if harness.optional("opencc"):  # DRCD is written in traditional characters
        train = train + reading.simplified(get("drcd-dev"))
    config = reading.Config(reading.Architecture(**net), reading.Recipe(**recipe), steps, **general)
    reader = reading.train(config, train, key=jax.random.key(0), run=jk.Run(chunk=50)).checked().model
    row: dict[str, Any] = {"variant": name, "steps": steps, "training CPU min": reader.report["cpu"] / 60}
    scores = reading.corpus_scores(reader, limit=limit)
    for test, found in scores.items():
        row |= {f"{test} EM": found.exact, f"{test} F1": found.f1, f"{test} questions": found.count}
    asked = reading.read(reading.corpus("webqa-ir"))
    return row | {"webqa-ir AUC": reading.auc(*reader.existence(asked))}


def main() -> None:
    """Measure, print, save after every variant."""
    parser = harness.parser(__doc__)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS), metavar="NAME")
    parser.add_argument("--steps", type=int, default=600, help="steps of 32 windows each variant is trained for")
    parser.add_argument("--limit", type=int, default=600, help="at most so many questions of each test set")
    options = parser.parse_args()
    tokens.segment = functools.cache(tokens.segment)  # all variants read the same texts
    if options.quick:
        print(harness.table([measured("baseline", 20, 20)]))
        return
    for name in options.variants:
        row = measured(name, options.steps, options.limit)
        print(harness.table([row]), flush=True)
        path = harness.RESULTS / "reading_ablation.json"
        old = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.is_file() else []
        kept = [r for r in old if r["steps"] == options.steps and r["variant"] != name]
        rows = sorted([*kept, row], key=lambda r: list(VARIANTS).index(r["variant"]))
        harness.save("reading_ablation", claim=(__doc__ or "").splitlines()[0], rows=rows)


if __name__ == "__main__":
    main()

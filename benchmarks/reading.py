"""Claim: one small net, on given vectors of tokens, reads Chinese and English, trains in minutes, answers in some ms.

1. Synthetic questions, three seeds: exact match after a minute of training.
2. Readers of three seeds, trained on CMRC 2018 + DRCD dev + WebQA (`$JAXKIT_DATA`): exact match and F1 on CMRC dev,
   DRCD test (simplified) and 100 WebQA questions of 20 passages, with and without voting; existence. `--model FOLDER`
   scores FOLDER/0.safetensors, FOLDER/1.safetensors, ..., which `reading.save` wrote; without it readers are trained
   for `--steps` steps.
3. SQuAD 9.4k split by article, the same recipe on words; `--vectors FILE` adds fixed word vectors (GloVe's, 50 wide).
4. Training throughput against the same net in PyTorch (equal inputs, features left out on both sides), and latency of
   one question on 256 characters, features and tokenizing included.
"""

import argparse
import functools
import json
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxkit as jk
from benchmarks import _harness as harness
from jaxkit import reading

QUESTION = 40  # tokens of a question, as the reader cuts them
VOTE = "sum"  # how a reader's passages vote
WANTED = {"cmrc-dev": (46, 65), "drcd-test": (48, 63)}


def templates(*, quick: bool) -> tuple[list[dict], list[dict]]:
    """Exact match on the synthetic set, three seeds."""
    rows, goals = [], []
    for seed in (0,) if quick else (0, 1, 2):
        begun = time.process_time()
        data, test = reading.synthetic(3000, seed=1000 + seed), reading.synthetic(200, seed=seed)
        run = jk.Run(chunk=50)
        reader = reading.train(reading.small(), data, key=jax.random.key(seed), run=run).checked().model
        spent = time.process_time() - begun
        found = reader.evaluate(test, "squad")
        rows.append(
            {"set": f"synthetic, seed {seed}", "EM": found.exact, "F1": found.f1, "CPU s (compiling too)": spent}
        )
        goals.append(harness.goal(f"synthetic EM, seed {seed}", found.exact, 95))
        goals.append(harness.goal(f"synthetic CPU s, compiling included, seed {seed}", spent, 60, at_least=False))
    return rows, goals


@functools.cache
def corpora() -> tuple[Any, Any]:
    """Training questions and dev questions: those of `run reading`."""
    return reading.training_set(say=print), reading.read(reading.corpus("cmrc-dev"))


def trained(steps: int, seed: int) -> reading.Reader:
    """A reader of Chinese: what `run reading` trains, for a number of steps."""
    data, dev = corpora()
    key, run = jax.random.key(seed), jk.Run(chunk=50, progress=True)
    return reading.train(reading.chinese(steps=steps), data, key=key, dev=dev, run=run).checked().model


def read_by(reader: reading.Reader, seed: int, limit: int | None) -> list[dict]:
    """Everything that is asked of one reader."""
    about = {"seed": seed, "training CPU min": reader.report["cpu"] / 60}
    scores = reading.corpus_scores(reader, limit=limit)
    rows = [{"set": n, "EM": s.exact, "F1": s.f1, "questions": s.count} | about for n, s in scores.items()]
    asked = reading.read(reading.corpus("webqa-ir"))
    first = [reading.Example(e.question, e.passages[:1], e.answers) for e in asked]
    alone = reader.evaluate(first, "sogou").mean
    rows.append({"set": "webqa-ir, first passage alone", "score": alone} | about)
    for rule in reading.VOTES:
        score = reader.evaluate(asked, "sogou", vote=rule).mean
        rows.append({"set": f"webqa-ir, vote {rule}", "score": score} | about)
    for by, said in (
        ("span", "best span's score"),
        ("head", "head alone"),
        ("vote", "vote of the question's passages"),
    ):
        area = reading.auc(*reader.existence(asked, by=by))
        rows.append({"set": f"webqa-ir, existence by the {said}", "AUC": area} | about)
    return rows


def chinese(options: argparse.Namespace) -> tuple[list[dict], list[dict]]:
    """The real numbers, of one reader a seed; goals are of their mean."""
    rows = []
    for seed in options.seeds:
        given = None if options.model is None else options.model / f"{seed}.safetensors"
        reader = trained(options.steps, seed) if given is None else reading.load(given)
        new = read_by(reader, seed, options.limit)
        print(harness.table(new), flush=True)
        rows += new
    mean = lambda what, name: float(np.mean([row[what] for row in rows if row["set"] == name]))
    spent = max(row["training CPU min"] for row in rows)
    goals = [harness.goal("training CPU minutes", spent, 30, at_least=False)]
    for name, wanted in WANTED.items():
        goals += [
            harness.goal(f"{name} {what}", mean(what, name), want)
            for what, want in zip(("EM", "F1"), wanted, strict=True)
        ]
    score = mean("score", f"webqa-ir, vote {VOTE}")
    alone, voted = (
        mean("AUC", f"webqa-ir, existence by the {how}")
        for how in ("best span's score", "vote of the question's passages")
    )
    return rows, [
        *goals,
        harness.goal("WebQA, 100 questions x 20 passages, SogouQA score", score, 0.62),
        harness.goal("existence AUC of a passage alone, those that answer against others", alone, 0.85),
        harness.goal("existence AUC by the vote of a question's passages", voted, 0.85),
    ]


def english(options: argparse.Namespace) -> tuple[list[dict], list[dict]]:
    """SQuAD's questions: 36 articles to learn from, 2 to choose the best look by, 10 to be asked."""
    data = reading.read(reading.corpus("squad"))
    learn, test = data.split(0.8)
    learn, dev = learn.split(0.95)
    vectors = None if options.vectors is None else reading.read_vectors(options.vectors)
    if options.english is not None:
        reader = reading.load(options.english)
    else:
        config = reading.Config(
            reading.Architecture(dropout=0.2), reading.Recipe(negatives=0.2), options.steps, metric="squad",
            max_answer_tokens=20, dev_size=400, words=False, min_count=2 if vectors is None else 10,
        )  # fmt: skip
        run = jk.Run(chunk=50, progress=True, checkpoint=options.keep, resume=options.keep is not None)
        trained = reading.train(config, learn, key=jax.random.key(0), dev=dev, vectors=vectors, run=run)
        reader = trained.checked().model
        if options.keep is not None:
            reading.save(options.keep / "reader.safetensors", reader)
    found = reader.evaluate(test.examples[:: max(len(test) // (options.limit or len(test)), 1)], "squad")
    own = "fixed GloVe vectors" if reader.architecture.vector_width else "no pretrained vectors"
    row = {"set": f"SQuAD, split by article, {own}", "EM": found.exact, "F1": found.f1, "questions": found.count}
    row |= {"training CPU min": reader.report["cpu"] / 60, "trained on": len(learn)}
    row |= {"steps": reader.report["steps"], "looks (step, EM + F1 on dev)": str(reader.report["looks"])}
    return [row], [
        harness.goal("SQuAD training CPU minutes", reader.report["cpu"] / 60, 30, at_least=False),
        harness.goal("SQuAD by article EM", found.exact, 40),
        harness.goal("SQuAD by article F1", found.f1, 50),
    ]


def batch_of(size: int, width: int = 128, vocabulary: int = 6000) -> reading.Batch:
    """A random training batch with the shapes of real ones."""
    draw = np.random.default_rng(0)
    ints = lambda n, top: jnp.asarray(draw.integers(1, top, (size, n)), jnp.int32)
    coded = lambda n: reading.Coded(ints(n, vocabulary), ints(n, 500), ints(n, 18), ints(n, 500), ints(n, 81))
    start = jax.nn.one_hot(jnp.asarray(draw.integers(0, width, size)), width, dtype=jnp.float32)
    return reading.Batch(coded(QUESTION), coded(width), start, start)


def throughput(*, quick: bool) -> tuple[list[dict], list[dict]]:
    """A training step of the net alone, ours and torch's, Adam included."""
    torch = harness.optional("torch")
    if torch is None:
        return [], []
    from benchmarks import _reading_torch as peer

    size, steps = (4, 1) if quick else (32, 4)
    config = reading.Architecture(vocabulary_size=6000, features=False)
    batch, net = batch_of(size), reading.network(config)
    params = net.init(jax.random.key(0))

    def loss(p: Any, b: reading.Batch, key: Any) -> Any:
        return reading.span_loss(net.apply(p, b.question, b.passage, key), b.start, b.end, config.head)[0]

    fit = functools.partial(jk.fit, loss, optimizer=optax.adam(1e-3), steps=steps)
    ours = jax.jit(lambda p, b, key: fit(p, b, key=key).params)
    key = jax.random.key(1)
    torch.manual_seed(0)
    theirs = peer.Net(config).train()
    tensors = jax.tree.map(lambda v: torch.tensor(np.asarray(v)), batch)
    optimizer = torch.optim.Adam(theirs.parameters(), lr=1e-3)

    def torch_steps(threads: int) -> None:
        torch.set_num_threads(threads)
        for _ in range(steps):
            optimizer.zero_grad()
            peer.loss(theirs, tensors).backward()
            optimizer.step()

    repeats = 1 if quick else 5
    times = harness.measure(
        {"ours": lambda: ours(params, batch, key), "torch": functools.partial(torch_steps, 1)}, repeats=repeats
    )
    each = {name: timing.cpu / steps for name, timing in times.items()}
    row = {"what": f"training step, {size} windows of 128", "ours CPU ms": each["ours"] * 1e3}
    row |= {"torch CPU ms (1 thread)": each["torch"] * 1e3, "ours samples per CPU s": size / each["ours"]}
    return [row], [harness.goal("training throughput: torch's CPU time / ours", each["torch"] / each["ours"], 1.1)]


def latency(options: argparse.Namespace, *, quick: bool) -> tuple[list[dict], list[dict]]:
    """One question, a passage of 256 characters, from text to answer."""
    if options.model is not None:
        reader = reading.load(options.model / f"{options.seeds[0]}.safetensors")
    else:  # the net's size and not its weights makes the time
        config = reading.Config(recipe=reading.Recipe(batch_size=4), steps=1)
        reader = reading.train(config, reading.synthetic(40), key=jax.random.key(0)).model
    text = "白云山坐落在广州市区北部，主峰海拔382米，是南粤名山之一，自古以来就有羊城第一秀之称。" * 8
    passage, question = text[:256], "白云山的海拔是多少？"
    ask = functools.partial(reader.ask, question, passage, threshold=0.0)
    many = functools.partial(reader.ask, question, [text[i : i + 100] for i in range(20)], threshold=0.0)
    times = harness.measure({"one": ask, "twenty": many}, repeats=1 if quick else 15)
    rows = [
        {"what": label, "wall ms": times[name].wall * 1e3, "CPU ms": times[name].cpu * 1e3}
        for name, label in (("one", "answer, 256 characters"), ("twenty", "answer, 20 passages of 100 characters"))
    ]
    return rows, [
        harness.goal("latency, 256 characters, ms", times["one"].wall * 1e3, 5, at_least=False),
        harness.goal("latency, 20 passages, ms", times["twenty"].wall * 1e3, 40, at_least=False),
    ]


def kept(parts: set[str]) -> tuple[list[dict], list[dict]]:
    """Rows and goals of an earlier run, of the parts that are not measured now."""
    path = harness.RESULTS / "reading.json"
    if not path.is_file():
        return [], []
    old = json.loads(path.read_text(encoding="utf-8"))
    stay = lambda entries: [e for e in entries if e.get("part") not in parts]
    return stay(old["rows"]), stay(old["goals"])


PARTS = ("templates", "chinese", "english", "throughput", "latency")


def main() -> None:
    """Measure, print, save."""
    parser = harness.parser(__doc__)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="measure these, keep the other rows")
    parser.add_argument("--model", type=Path, help="folder of readers to score, each file named after its seed")
    parser.add_argument("--seeds", type=int, nargs="+", default=(0, 1, 2), help="of the Chinese readers")
    parser.add_argument("--english", type=Path, help="file of a trained reader of English to score")
    parser.add_argument("--vectors", type=Path, help="text file of fixed vectors for SQuAD, such as GloVe's 6B.50d")
    parser.add_argument("--keep", type=Path, help="folder for the English reader and its checkpoints, to go on from")
    parser.add_argument("--steps", type=int, default=3000, help="steps of 32 windows where a reader is trained")
    parser.add_argument("--limit", type=int, help="at most so many questions of each test set")
    options = parser.parse_args()
    chosen = set(options.parts) - ({"chinese", "english"} if options.quick else set())
    measures = {
        "templates": functools.partial(templates, quick=options.quick),
        "chinese": functools.partial(chinese, options),
        "english": functools.partial(english, options),
        "throughput": functools.partial(throughput, quick=options.quick),
        "latency": functools.partial(latency, options, quick=options.quick),
    }
    rows, goals = [], []
    for name in PARTS:
        if name in chosen:
            new, wanted = measures[name]()
            print(harness.table(new), end="\n\n", flush=True)
            rows += [{"part": name} | row for row in new]
            goals += [{"part": name} | goal for goal in wanted]
    print(harness.table(goals))
    if not options.quick:
        old_rows, old_goals = kept(chosen)
        rows, goals = old_rows + rows, old_goals + goals
        print(harness.save("reading", claim=(__doc__ or "").splitlines()[0], rows=rows, goals=goals))


if __name__ == "__main__":
    main()

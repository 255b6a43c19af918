"""Claim: in 15 minutes of two cores a denoiser of Fashion-MNIST reaches a distance of 12 or less, an MDSM energy 60.

The Fréchet distance is on the features of our own classifier: it comes with the classifier's accuracy and digest, the
number of samples and the floor that real data reach at that number, and is not to be compared with distances on other
features. One U-Net (`score.train` with its defaults for pictures) is drawn from by four samplers, Heun's with and
without churn: distance, precision, recall, evaluations of the network, CPU time, and how near the samples lie to
training pictures (a ratio of 1 is that of unseen test pictures). The same for one energy of all noise levels (MDSM), by
annealed Langevin motion and by Heun's steps. Needs Fashion-MNIST under `$JAXKIT_DATA`. Models are kept beside this
user's cache and used again if there.

    python -m benchmarks.score_images [--quick] [--models FOLDER] [--count 2000] [--best 10000] [--figures FOLDER]
"""

import dataclasses
import json
import os
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import _harness as harness
from benchmarks.gan_images import eyes_for
from jaxkit import score
from jaxkit.learn import data as datasets
from jaxkit.learn import metrics
from jaxkit.report.figures import save

# Sampler and options. Churn, noise added before each step and removed by it, mends what earlier steps did wrong.
SAMPLERS: dict[str, dict[str, score.Sampler]] = {
    "denoiser": {
        "heun with churn": score.Heun(18, churn=8.0),
        "heun": score.Heun(18),
        "dpmpp_2m": score.DPMSolver(18),
        "ddim": score.DDIM(steps=36),
        "predictor_corrector": score.PredictorCorrector(steps=36),
    },
    "mdsm": {
        "langevin": score.AnnealedLangevin(60, 0.06, 8.0, "geometric", moves=3, step_size=0.3),
        "heun with churn": score.Heun(18, 0.03, 20.0, churn=8.0),
        "heun": score.Heun(18, 0.06, 8.0),
    },
}
BEST = (("denoiser", "heun with churn"), ("mdsm", "heun with churn"))
PART = 250


def trained(kind: str, data: Any, folder: Path, *, quick: bool) -> tuple[score.Denoiser, dict[str, Any]]:
    """The model of a kind: read from `folder` if it is there, else trained and written there."""
    config = score.Config(kind)
    if quick:
        config = score.Config(kind, score.nets.image_net(data.shape[1:], (16, 16)), steps=4)
    path = folder / f"{kind}.safetensors"
    bill = path.with_suffix(".json")
    if not quick and path.is_file():
        model = score.load(path)
        return model, json.loads(bill.read_text()) if bill.is_file() else {}
    start = time.process_time()
    done = score.train(config, data, key=jax.random.key(0)).checked()
    price = {"training CPU s": time.process_time() - start, "steps": int(done.steps)}
    if not quick:
        folder.mkdir(parents=True, exist_ok=True)
        score.save(path, done.model)
        bill.write_text(json.dumps(price))
    return done.model, price


def draw(model: score.Denoiser, count: int, sampler: score.Sampler) -> tuple[np.ndarray, int, float]:
    """Samples, evaluations of the network and CPU seconds (compilation apart)."""
    part = min(count, PART)
    go = jax.jit(lambda key: model.sample(key, part, sampler=sampler))
    program = go.lower(jax.random.key(0)).compile()
    start, parts, evaluations = time.process_time(), [], 0
    for i in range(-(-count // part)):
        drawn = program(jax.random.key(i)).checked()
        parts.append(np.asarray(drawn.x))
        evaluations = int(drawn.evaluations)
    return np.concatenate(parts)[:count], evaluations, time.process_time() - start


def judge(fake: np.ndarray, eyes: Any, real: np.ndarray, held: np.ndarray) -> dict[str, float]:
    """Distance, precision, recall and copies of samples."""
    seen = eyes(jnp.asarray(fake))
    near = metrics.precision_recall(held[:2000], seen[:2000])
    copies = metrics.copying(real[:20_000], held[:2000], seen[:2000])
    found = {"FID": float(metrics.fid(real, seen)), "floor": float(metrics.fid_floor(real, held, len(fake)))}
    if len(fake) >= 4 * seen.shape[1]:  # the line in 1 / samples, to where it meets infinitely many
        found["FID, infinitely many samples"] = metrics.fid_infinity(real, seen).value
    return found | {
        "precision": float(near.precision),
        "recall": float(near.recall),
        "nearest training picture, of that of test data": float(copies.ratio),
        "share nearer than 1 % of test data": float(copies.closest),
    }


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--models", type=Path, default=harness.cache() / "score")
    parser.add_argument("--count", type=int, default=2000, help="samples of each sampler")
    parser.add_argument("--best", type=int, default=10_000, help="samples of the best sampler")
    parser.add_argument("--kinds", nargs="+", default=list(SAMPLERS), help="which of denoiser, mdsm")
    parser.add_argument("--figures", type=Path, default=None, help="folder for a grid of samples")
    options = parser.parse_args()
    quick = options.quick
    data, test = (np.asarray(datasets.load("fashion-mnist", split).x) for split in ("train", "test"))
    eyes = eyes_for("fashion-mnist", quick=quick)
    real, held = eyes(jnp.asarray(data[: 3000 if quick else 30_000])), eyes(jnp.asarray(test))
    grids: dict[str, Any] = {"test data": datasets.scaled(test[:12])}
    rows: list[dict[str, Any]] = []
    best: dict[str, float] = {}
    for kind in options.kinds:
        model, price = trained(kind, data, options.models, quick=quick)
        for name, sampler in SAMPLERS[kind].items():
            count = 260 if quick else options.best if (kind, name) in BEST else options.count
            fake, evaluations, spent = draw(model, count, dataclasses.replace(sampler, steps=4) if quick else sampler)
            row = {"what": f"Fashion-MNIST, {kind}", "sampler": name, "samples": count, "evaluations": evaluations}
            rows.append(row | {"CPU s": spent} | judge(fake, eyes, real, held) | price | {"classifier": str(eyes)})
            best[kind] = min(best.get(kind, np.inf), rows[-1]["FID"])
            grids[f"{kind}, {name}".replace("_", " ")] = fake[:12]
            print(harness.table(rows[-1:]), flush=True)
    wanted = {"denoiser": 12.0, "mdsm": 60.0}
    goals = [harness.goal(f"{k}: distance of the best", v, wanted[k], at_least=False) for k, v in best.items()]
    print(harness.table(goals))
    if options.figures:
        caption = "Fashion-MNIST: test data, and samples of one denoiser and one energy by their samplers."
        save(score.plot_rows(grids, title="Fashion-MNIST"), options.figures / "score-images.png", caption=caption)
    if not quick:
        name = "score_images" if len(options.kinds) > 1 else f"score_images_{options.kinds[0]}"
        print(harness.save(name, claim=(__doc__ or "").splitlines()[0], rows=rows, goals=goals))


if __name__ == "__main__":
    main()

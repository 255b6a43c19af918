"""CLAIM: in ten minutes of two cores the recipe makes Fashion-MNIST images and finds most modes of stacked MNIST.

Fashion-MNIST: Fréchet distance on the features of our own classifier at most 25 on 10,000 samples, recall above 0.2,
and no copies of training images. Stacked MNIST (three digits as colours): at least 900 of 1,000 modes among 26,000
samples. Every number comes with the classifier's accuracy and digest, and with the floor that real data reach; it is
not to be compared with distances on other features. Needs both data sets under `$JAXKIT_DATA`.

Runs keep checkpoints and models in the folder `--models` and go on where they were stopped; a finished model there is
scored again, not trained. The price is what the run's own log says, all parts of a stopped run together.
"""

import dataclasses
import json
from pathlib import Path

import jax
import numpy as np

import jaxkit as jk
from benchmarks import _harness
from jaxkit import gan
from jaxkit.learn import data as datasets
from jaxkit.learn import metrics
from jaxkit.learn.metrics import features

STACKED = {"steps": 16_000, "generator_channels": (64, 32), "critic_channels": (32, 64, 128)}


def eyes_for(name: str, *, quick: bool) -> features.Features:
    """The classifier of a data set, trained once and kept beside the data of this user."""
    kept = _harness.cache() / f"{name}-features.safetensors"
    if kept.is_file() and not quick:
        return features.load(kept)
    data, test = datasets.load(name, "train"), datasets.load(name, "test")
    shift = 2 if name == "mnist" else 0
    found, _ = features.train(data, test, epochs=0.1 if quick else 4 + shift, shift=shift)
    if not quick:
        features.save(kept, found)
    return found


def trained(config: gan.Config, data: jax.Array, folder: Path) -> tuple[gan.GAN, dict]:
    """The model in that folder, trained as far as it is not, and its price."""
    file, log = folder / "model.safetensors", folder / "log"
    if not file.is_file():
        devices = jax.devices() if len(jax.devices()) > 1 else None
        run = jk.Run(chunk=250, devices=devices, log=log, checkpoint=folder / "checkpoints", resume=True, progress=True)
        done = gan.train(config, data, key=jax.random.key(0), run=run)
        gan.save(file, done.checked().model)
    model, rows = gan.load(file), [json.loads(line) for line in (log / "metrics.jsonl").read_text().splitlines()]
    changed = {n: v for n, v in vars(config).items() if v != getattr(model.config, n)}
    if changed:
        print(f"the model in {folder} was trained otherwise; the recipe here has {changed}")
    lengths = np.diff([0, *(row["step"] for row in rows)])
    wall = sum(length / row["steps_per_second"] for length, row in zip(lengths, rows, strict=True))
    about = json.loads((log / "run.json").read_text())
    price = {"steps": rows[-1]["step"], "cpu_s": sum(row["cpu_seconds"] for row in rows), "wall_s": float(wall)}
    return model, price | {"devices": len(about["devices"])}


def fashion(folder: Path, *, quick: bool) -> dict:
    """Distance, recall and copies."""
    data, test = (datasets.load("fashion-mnist", split).x for split in ("train", "test"))
    eyes = eyes_for("fashion-mnist", quick=quick)
    config = dataclasses.replace(gan.IMAGES, steps=20) if quick else gan.IMAGES
    model, price = trained(config, data, folder / "fashion-mnist")
    count = 1000 if quick else 10_000
    real, held, fake = eyes(data), eyes(test), eyes(model.sample(jax.random.key(1), count))
    near = metrics.precision_recall(real[:5000], fake[:5000])
    copies = metrics.copying(real, held[:1000], fake[:1000])
    return {
        "what": f"Fashion-MNIST, {eyes}",
        **price,
        "FID": metrics.fid(real, fake),
        "FID of the test split": metrics.fid_floor(real, held, count),
        "KID": metrics.kid(real[:5000], fake[:5000]).value,
        "precision": near.precision,
        "recall": near.recall,
        "nearest-neighbour ratio": copies.ratio,
        "closest": copies.closest,
        "samples": count,
    }


def stacked(folder: Path, *, quick: bool) -> dict:
    """Modes among 26,000 samples, as the digits' classifier names them."""
    digits = datasets.load("mnist")
    eyes = eyes_for("mnist", quick=quick)
    data = datasets.stacked(digits, jax.random.key(7), 128_000 if not quick else 1000).x
    config = dataclasses.replace(gan.IMAGES, **({"steps": 20} if quick else STACKED))
    model, price = trained(config, data, folder / "stacked")
    name = lambda x: np.stack([eyes.classify(x[..., i : i + 1]) for i in range(3)], 1)
    count = 1000 if quick else 26_000
    found = metrics.stacked_modes(name(np.asarray(model.sample(jax.random.key(1), count))))
    of_data = metrics.stacked_modes(name(np.asarray(data[:count])))
    return {
        "what": f"stacked MNIST, {eyes}",
        **price,
        "modes": found.found,
        "KL": found.kl,
        "modes of the data": of_data.found,
        "KL of the data": of_data.kl,
        "samples": count,
    }


def main() -> None:
    parser = _harness.parser(__doc__)
    parser.add_argument("--only", choices=("fashion-mnist", "stacked"), help="train and score one of the two; no file")
    parser.add_argument("--models", type=Path, default=Path("out/gan-images"), help="where models are kept")
    options = parser.parse_args()
    quick, folder = options.quick, options.models / "quick" if options.quick else options.models
    try:
        parts = {"fashion-mnist": fashion, "stacked": stacked}
        rows = [part(folder, quick=quick) for name, part in parts.items() if options.only in (None, name)]
    except datasets.DataError as error:
        print(f"nothing measured: {error}")
        return
    for row in rows:
        print(_harness.table([{"": k, "value": v} for k, v in row.items()]), "\n")
    if options.only:
        return
    images, digits = rows
    goals = [
        _harness.goal("Fashion-MNIST: FID on own features", images["FID"], 25, at_least=False),
        _harness.goal("Fashion-MNIST: CPU-minutes (ten of two cores)", images["cpu_s"] / 60, 20, at_least=False),
        _harness.goal("Fashion-MNIST: recall", images["recall"], 0.2),
        _harness.goal("Fashion-MNIST: nearest-neighbour ratio", images["nearest-neighbour ratio"], 0.8),
        _harness.goal("stacked MNIST: modes of 1,000", digits["modes"], 900),
    ]  # fmt: skip
    print(_harness.table(goals))
    if not quick:
        print("written to", _harness.save("gan_images", claim=__doc__ or "", rows=rows, goals=goals))


if __name__ == "__main__":
    main()

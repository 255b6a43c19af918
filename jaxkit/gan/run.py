"""`python -m jaxkit run gan`: the grid of 25 modes, then images; figures, table, verdict."""

import contextlib
import dataclasses
import time
from pathlib import Path
from typing import Any, cast

import jax
import numpy as np
from rich.table import Table

from jaxkit import models
from jaxkit.core.environment import data_root
from jaxkit.core.run import Run
from jaxkit.gan import plots
from jaxkit.gan.config import IMAGES, Config
from jaxkit.gan.model import save
from jaxkit.gan.train import train
from jaxkit.learn import data as datasets
from jaxkit.learn import metrics
from jaxkit.learn.data.files import DataError
from jaxkit.report.figures import save as save_figure
from jaxkit.report.figures import style
from jaxkit.report.verdict import Claim, Verdict, judge

CAPTIONS = {
    "dirac": "Both players' gradient flow in the smallest game (data at 0, generator at theta, critic T(x) = psi x).",
    "plane": "Densities of the data and of the generator, and the critic with its gradient, on the grid of 25 modes.",
    "losses": "Losses of both players on the grid.",
    "samples": "Samples of the generator, not selected.",
    "ways": "Samples along ways between pairs of noise.",
}


def run(out: Path, *, quick: bool, console: Any) -> Verdict:
    """Train on the grid, then on Fashion-MNIST (on scikit-learn's digits if it is missing)."""
    with style() as plt:
        figure, panels = plt.subplots(1, 3, figsize=(12.6, 3.9))
        for axes, gamma in zip(panels, (0.0, 0.3, 1.5), strict=True):
            plots.plot_dirac(gamma, axes=axes)
    files = [save_figure(figure, out / "dirac.png", caption=CAPTIONS["dirac"])]
    claims, said, more = _grid(out, console, quick=quick)
    others, also, images = _images(out, console, quick=quick)
    return judge("gan", [*claims, *others], f"{said}; {also}", [*files, *more, *images])


def _grid(out: Path, console: Any, *, quick: bool) -> tuple[list[Claim], str, list[Path]]:
    law = models.plane_law("grid25")
    config = Config(steps=4000 if quick else 16_000)
    console.print(
        f"25 modes: {config.steps} steps of RSGAN + R1 + R2, batch {config.batch_size}, perceptrons of {config.width}"
    )
    start = time.process_time()
    done = train(
        config,
        lambda key, n: law.sample(key, n, "float32"),
        key=jax.random.key(0),
        run=Run(chunk=500, progress=True),
    ).checked()
    seconds = time.process_time() - start
    x = done.model.sample(jax.random.key(1), 10_000)
    found = metrics.modes(x, np.asarray(law.centers), law.width)
    table = Table(title="The grid of 25 modes, 10,000 samples")
    for column in ("", "modes", "within 3 sd", "KL of the shares (nats)", "CPU-seconds"):
        table.add_column(column, justify="right")
    table.add_row("generator", f"{found.found} of 25", f"{found.good:.1%}", f"{found.kl:.4f}", f"{seconds:.0f}")
    table.add_row("perfect sampler", "25 of 25", "98.9%", f"{found.floor:.4f}", "")
    console.print(table)
    with style() as plt:
        plane, panels = plt.subplots(1, 3, figsize=(12, 4.2), sharex=True, sharey=True)
        plots.plot_points(law.sample(jax.random.key(2), 4000), box=law.box, title="data", axes=panels[0])
        plots.plot_points(x[:4000], box=law.box, title="generator", axes=panels[1])
        plots.plot_critic(done.model, box=law.box, axes=panels[2])
    figures: dict[str, Any] = {"plane": plane, "losses": plots.plot_history(done).figure}
    files = [
        save_figure(cast(Any, figure), out / f"{name}.png", caption=CAPTIONS[name]) for name, figure in figures.items()
    ]
    files.append(save(out / "grid.safetensors", done.model))
    claims = [
        Claim("modes of the grid found", found.found, at_least=25),
        Claim("share of samples within 3 sd of a mode", found.good, at_least=0.2 if quick else 0.8),
        Claim("KL of the modes' shares (nats)", found.kl, at_most=0.15 if quick else 0.03),
    ]
    sentence = f"grid: {found.found} of 25 modes, {found.good:.1%} within 3 sd, KL {found.kl:.4f} ({seconds:.0f} CPU-s)"
    return claims, sentence, files


def _images(out: Path, console: Any, *, quick: bool) -> tuple[list[Claim], str, list[Path]]:
    for name in ("digits", "fashion-mnist") if quick else ("fashion-mnist", "digits"):
        with contextlib.suppress(DataError):
            data = datasets.load(name, "train").x
            break
        console.print(f"{name}: not here (data folder {data_root()})")
    else:
        return [], "no images to train on", []
    steps = (800 if name == "digits" else 200) if quick else 6000
    config = dataclasses.replace(IMAGES, steps=steps)
    console.print(f"{name}: {config.steps} steps, batch {config.batch_size}")
    start = time.process_time()
    done = train(config, data, key=jax.random.key(0), run=Run(chunk=250, progress=True)).checked()
    seconds = time.process_time() - start
    samples = done.model.sample(jax.random.key(1), 500)
    flat = lambda x: np.asarray(datasets.scaled(x), float).reshape(len(x), -1)
    distance = metrics.sliced_wasserstein(flat(data[:500]), flat(samples))
    floor = metrics.sliced_wasserstein(flat(data[:500]), flat(data[500:1000]))
    blank = metrics.sliced_wasserstein(flat(data[:500]), flat(0 * data[:500]))
    console.print(
        f"sliced Wasserstein distance of 500 samples from the data {distance:.3f}; of other data {floor:.3f}, "
        f"of blank images {blank:.3f}"
    )
    ways = done.model.interpolate(jax.random.key(2))
    figures = {"samples": plots.plot_images(samples[:80], title=name), "ways": plots.plot_interpolation(ways)}
    files = [save_figure(cast(Any, axes.figure), out / f"{n}.png", caption=CAPTIONS[n]) for n, axes in figures.items()]
    files.append(save(out / "images.safetensors", done.model))
    sentence = f"{name}: sliced Wasserstein {distance:.3f} (data {floor:.3f}) after {seconds:.0f} CPU-s"
    share = distance / blank
    return (
        [Claim(f"{name}: distance as a share of blank images'", share, at_most=0.8 if quick else 0.3)],
        sentence,
        files,
    )

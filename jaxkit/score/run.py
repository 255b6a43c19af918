"""`python -m jaxkit run score`: exact likelihoods, learned densities, samples of one net by four samplers."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from rich.table import Table

from jaxkit import models
from jaxkit.learn import data as datasets
from jaxkit.learn import metrics
from jaxkit.models.mixtures import ring
from jaxkit.report.figures import save
from jaxkit.report.verdict import Claim, Verdict, judge
from jaxkit.score import nets, plots
from jaxkit.score.config import Config
from jaxkit.score.density import DensityConfig, density
from jaxkit.score.inverse import condition
from jaxkit.score.likelihood import ProbabilityFlow, bits_per_dimension
from jaxkit.score.model import Denoiser, exact
from jaxkit.score.samplers import DDIM, DPMSolver, Heun, PredictorCorrector
from jaxkit.score.train import train

# Goals: largest error of a known mixture's likelihood, divergence of a learned density, mean error of a DDE, in nats.
LIKELIHOOD, NATS, ESTIMATOR = 1e-3, 0.03, 0.05
QUICK_NATS, QUICK_ESTIMATOR = 0.3, 0.2
SAMPLERS = {
    "heun": Heun(18, churn=8.0),
    "dpmpp_2m": DPMSolver(18),
    "ddim": DDIM(steps=36),
    "predictor_corrector": PredictorCorrector(steps=36),
}


def run(out: Path, *, quick: bool, console: Any) -> Verdict:
    """Likelihoods of a known mixture, the plane, a denoising density estimator, pictures by four samplers."""
    files: list[Path] = []
    worst = _known(out, console, files, quick=quick)
    nats = _plane(out, console, files, quick=quick)
    off = _estimator(console, quick=quick)
    pictures = _pictures(out, console, files, quick=quick)
    claims = [
        Claim("likelihood of a known mixture: largest error (nats)", worst, at_most=LIKELIHOOD),
        Claim("learned density of the plane: divergence (nats)", nats, at_most=QUICK_NATS if quick else NATS),
        Claim("density estimator: mean error (nats)", off, at_most=QUICK_ESTIMATOR if quick else ESTIMATOR),
        Claim("pictures", pictures or "no finite pictures", ok=pictures is not None),
    ]
    sentence = (
        f"likelihood of a known mixture within {worst:.1e} nats (wanted {LIKELIHOOD:g}); learned density of the plane "
        f"{nats:.3f} nats off, density estimator {off:.3f} on average; {pictures or 'no finite pictures'}"
    )
    return judge("score", claims, sentence, files)


def _known(out: Path, console: Any, files: list[Path], *, quick: bool) -> float:
    """The likelihood of a mixture whose density is known; returns its largest error at a tolerance of 1e-5."""
    mixture = ring(8)
    x = mixture.sample(jax.random.key(0), 300)
    truth = mixture.log_prob(x)
    table = Table(title="Log-likelihood of 8 Gaussians by the probability flow, 300 points")
    for column in ("rtol", "largest error", "largest error bar", "mean steps"):
        table.add_column(column, justify="right")
    tolerances, rows = (1e-5,) if quick else (1e-3, 1e-4, 1e-5, 1e-6, 1e-7), []
    for rtol in tolerances:
        with console.status(f"solving at rtol {rtol:g} ..."):
            flow = ProbabilityFlow(rtol=rtol, error_bars=not quick)
            found = jax.jit(lambda x, flow=flow: exact(mixture).log_prob(x, flow=flow))(x).checked()
        error = float(jnp.max(jnp.abs(found.value - truth)))
        rows.append((error, float(jnp.max(found.tolerance_error))))
        bar = "-" if quick else f"{rows[-1][1]:.2e}"
        table.add_row(f"{rtol:g}", f"{error:.2e}", bar, f"{float(jnp.mean(found.steps)):.0f}")
    console.print(table)
    if not quick:
        errors = {"largest error": [r[0] for r in rows], "largest error bar": [r[1] for r in rows]}
        figure: Any = plots.plot_likelihood(tolerances, errors).figure
        caption = "Largest error and error bar of the log-likelihood of eight Gaussians over the solver's tolerance."
        files.append(save(figure, out / "likelihood.png", caption=caption))
    return rows[tolerances.index(1e-5)][0]


def _plane(out: Path, console: Any, files: list[Path], *, quick: bool) -> float:
    """Learned densities of the plane beside the true ones; returns the divergence for the mixture, in nats."""
    mixture = ring(8)
    laws: dict[str, tuple[Callable[[Array, int], Array], Callable[[Array], Array], float]] = {
        "8 Gaussians": (mixture.sample, mixture.log_prob, 3.0)
    }
    if not quick:
        for name in ("pinwheel", "rings", "checkerboard"):
            law = models.plane_law(name)
            laws[name] = (law.sample, law.log_prob, law.box)
    steps, rows, found = 1000 if quick else 20_000, [], {}
    config = Config(steps=steps, learning_rate=5e-3, batch_size=256 if quick else 1024)
    flow = ProbabilityFlow(error_bars=not quick)
    table = Table(title=f"Densities learned in {steps} steps: nats are those of KL(truth || learned), with their error")
    for column in ("law", "nats", "±", "solver's error bar", "training, CPU s"):
        table.add_column(column, justify="left" if column == "law" else "right")
    for name, (draw, truth, _) in laws.items():
        start = time.process_time()
        with console.status(f"training on {name} ..."):
            data = draw(jax.random.key(0), 100_000).astype(jnp.float32)
            model = train(config, data, key=jax.random.key(1)).checked().model
        spent = time.process_time() - start
        learned = jax.jit(lambda x, model=model: model.log_prob(x, flow=flow))
        x = draw(jax.random.key(2), 1600).astype(jnp.float32)
        value = learned(x).checked()
        gap = truth(x) - value.value
        found[name] = float(jnp.mean(gap))
        spread = float(jnp.std(gap)) / gap.size**0.5
        bar = f"{float(jnp.mean(value.tolerance_error)):.1e}" if flow.error_bars else "-"
        table.add_row(name, f"{found[name]:.4f}", f"{spread:.4f}", bar, f"{spent:.1f}")
        drawn = model.sample(jax.random.key(3), 2000).checked()
        single = lambda x, f=learned: f(x.astype(jnp.float32)).value
        rows.append((name, drawn.x, plots.batched(single), truth, found[name]))
    console.print(table)
    with console.status("drawing the densities ..."):
        figure = plots.plot_suite(rows, [half for _, _, half in laws.values()])
        caption = "Samples of a trained denoiser, its density by the probability flow, and the true density."
        files.append(save(figure, out / "plane.png", caption=caption))
    return found["8 Gaussians"]


def _estimator(console: Any, *, quick: bool) -> float:
    """A denoising density estimator of eight Gaussians; returns the mean error of its log density, in nats."""
    mixture, sigma = ring(8), 0.2
    with console.status("training a denoising density estimator ..."):
        data = mixture.sample(jax.random.key(0), 100_000).astype(jnp.float32)
        config = DensityConfig(sigma / float(jnp.mean(mixture.moments()[1])) ** 0.5, steps=1500 if quick else 8000)
        found = density(config, data, key=jax.random.key(1)).checked()
    y = mixture.sample(jax.random.key(2), 4000) + sigma * jax.random.normal(jax.random.key(3), (4000, 2))
    y = y.astype(jnp.float32)
    off = jnp.abs(found.log_prob(y) - mixture.log_prob(y, sigma))
    console.print(
        f"Denoising density estimator: log density of 8 Gaussians with noise {sigma} off by {float(jnp.mean(off)):.4f} "
        f"nats on average, {float(jnp.max(off)):.3f} at most; log Z {float(found.log_z):.4f} "
        f"± {float(found.log_z_error):.1e}"
    )
    return float(jnp.mean(off))


def _pictures(out: Path, console: Any, files: list[Path], *, quick: bool) -> str | None:
    """One U-Net, four samplers; returns a sentence, or None if a sampler failed."""
    name, data, test = _data(quick=quick)
    if data is None:
        return "no pictures (neither Fashion-MNIST nor scikit-learn's digits are here)"
    small = data.shape[1] < 16
    net = nets.image_net(data.shape[1:], (16, 24) if small else (64, 96), patch=1 if small else 2)
    steps = 250 if quick else (3000 if small else 2000)
    start = time.process_time()
    with console.status(f"training a U-Net on {name}, {steps} steps ..."):
        done = train(Config(net=net, steps=steps), data, key=jax.random.key(0))
    model = done.checked().model
    price = f"{steps} steps (`score.train` takes 10,000), {time.process_time() - start:.0f} CPU s"
    console.print(f"U-Net on {name}: {price}, loss {_late(done):.4f}")
    count, real = 64 if quick else 500, datasets.scaled(test)
    flat = lambda x: np.asarray(x, np.float64).reshape(len(x), -1)
    table = Table(title=f"{name}: {count} samples of one net; sliced W2 to test data (of training data: the floor)")
    for column in ("sampler", "evaluations", "CPU s", "sliced W2"):
        table.add_column(column, justify="left" if column == "sampler" else "right")
    far = lambda x: float(metrics.sliced_wasserstein(flat(real[:count]), flat(x)))
    floor = far(datasets.scaled(data[:count]))
    table.add_row("training data", "", "", f"{floor:.4f}")
    rows, distances = {"data": real[:12]}, {}
    for name_of, sampler in list(SAMPLERS.items())[: 2 if quick else None]:
        start = time.process_time()
        with console.status(f"sampling by {name_of} ..."):
            drawn = jax.jit(lambda key, s=sampler: model.sample(key, count, sampler=s))(jax.random.key(1))
        if not bool(jnp.all(drawn.ok)):
            return None
        distances[name_of] = far(drawn.x)
        rows[name_of.replace("_", " ")] = drawn.x[:12]
        table.add_row(
            name_of, str(int(drawn.evaluations)), f"{time.process_time() - start:.1f}", f"{distances[name_of]:.4f}"
        )
    console.print(table)
    if not quick:
        rows |= _inpaint(model, real[:12])
        _bits(model, real, console)
    caption = f"{name}: test data and samples of one U-Net by {len(distances)} samplers" + (
        "." if quick else "; inpainting."
    )
    files.append(save(plots.plot_rows(rows, title=caption), out / "pictures.png", caption=caption))
    return (
        f"{name} by {len(distances)} samplers of one net, sliced W2 {min(distances.values()):.3f} (floor {floor:.3f})"
    )


def _data(*, quick: bool) -> tuple[str, Any, Any]:
    for name in ("digits",) if quick else ("fashion-mnist", "digits"):
        try:
            parts = [np.asarray(datasets.load(name, split).x) for split in ("train", "test")]
            return name, parts[0], parts[1]
        except (datasets.DataError, ImportError, FileNotFoundError):
            continue
    return "", None, None


def _late(done: Any) -> float:
    return float(jnp.mean(done.history[-100:]))


def _inpaint(model: Denoiser, real: Array) -> dict[str, Array]:
    """The lower half drawn three times, given the upper half."""
    height = real.shape[1] // 2
    upper = lambda x: x[:, :height]
    hidden = real.at[:, height:].set(-1.0)
    given = condition(model, upper, upper(real), noise=0.05, damping=0.001, bounds=(-1.0, 1.0))
    rows = {"upper half": hidden}
    for i in range(3):
        drawn = given.sample(jax.random.key(10 + i), len(real), sampler=Heun(steps=24))
        rows[f"completed {i + 1}"] = drawn.x
    return rows


def _bits(model: Denoiser, real: Array, console: Any) -> None:
    """Bits per pixel of a few test pictures, with both error bars."""
    some = real[:16] + jax.random.uniform(jax.random.key(4), real[:16].shape, real.dtype, 0, 2 / 256)
    with console.status("likelihood of 16 test pictures, 4 probes each ..."):
        flow = ProbabilityFlow(trace=4, rtol=1e-4)
        found = jax.jit(lambda x: model.log_prob(x, flow=flow, key=jax.random.key(5)))(some).checked()
    size = some[0].size
    bits = bits_per_dimension(found.value, size, bin_width=2 / 256)
    nat = 1 / (size * np.log(2.0))
    console.print(
        f"likelihood of 16 test pictures: {float(jnp.mean(bits)):.4f} bits a pixel; of the mean, probes "
        f"±{float(jnp.sqrt(jnp.mean(found.probe_error**2) / 16)) * nat:.4f}, "
        f"solver ±{float(jnp.mean(found.tolerance_error)) * nat:.4f}, pictures ±{float(jnp.std(bits)) / 4:.4f}"
    )

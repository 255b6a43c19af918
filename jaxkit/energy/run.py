"""`python -m jaxkit run energy`: every claim of the three articles with its measured number."""

import dataclasses
import functools
import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxkit.dynamics.mcmc.annealed import Annealed
from jaxkit.dynamics.mcmc.langevin import MALA, ULA
from jaxkit.dynamics.mcmc.log_partition import LogPartition, log_partition
from jaxkit.dynamics.mcmc.sample import sample
from jaxkit.energy import channel, latent, plots
from jaxkit.energy.bounds import BOUNDS
from jaxkit.energy.config import LANDSCAPE, Config, Negatives, ReplayConfig
from jaxkit.energy.digging import DIGGINGS
from jaxkit.energy.experiments import Assessment, assess, by_momentum, landscape
from jaxkit.energy.optimizers import crossings
from jaxkit.energy.train import EnergyModel, train
from jaxkit.models.dirac import DiracGame
from jaxkit.models.mixtures import mixture, ring
from jaxkit.models.plane_laws import PlaneLaw, plane_law
from jaxkit.report.figures import save
from jaxkit.report.verdict import Claim, Verdict, judge


def run(out: Path, *, quick: bool, console: Any) -> Verdict:
    """Measure every claim, draw the figures, and judge the numbers."""
    claims, figures = [], {}
    with console.status("descent with momentum on a double pit ..."):
        claims += _optimizers(figures, quick=quick)
    with console.status("samplers against closed forms ..."):
        claims += _samplers(quick=quick)
    with console.status("bounds of the information against the exact one ..."):
        claims += _bounds(figures, quick=quick)
    with console.status("digging a landscape ..."):
        claims += _landscape(figures, out, quick=quick)
    if not quick:
        with console.status("digging and jumping with momentum ..."):
            claims += _momentum(figures)
    with console.status("maximum entropy on 25 modes ..."):
        claims += _entropy(figures, quick=quick)
    files = [save(figure, out / f"{name}.png", caption=text) for name, (figure, text) in figures.items()]
    judged = [claim.holds for claim in claims if claim.judged]
    sentence = f"{sum(judged)} of {len(judged)} numbers as they must be; " + "; ".join(
        _HEADLINES[claim.text].format(claim.measured) for claim in claims if claim.text in _HEADLINES
    )
    return judge("energy", claims, sentence, [*files, out / "landscape.gif"])


_HEADLINES = {
    "heavy ball, momentum 0.9: share that crosses the ridge": "momentum 0.9 carries {} over the ridge",
    "MALA on N(0, 1), step 1: variance": "{}",
    "MEG, 25 modes": "{}",
    "MEG: least correlation of the energy with the true log density": "energy against log density {}",
}


def _optimizers(figures: dict[str, Any], *, quick: bool) -> list[Claim]:
    """Article I: momentum overshoots the nearest pit."""
    starts = 500 if quick else 2000
    methods = {f"heavy ball, momentum {b:g}": optax.sgd(0.05, momentum=b) for b in (0.0, 0.5, 0.8, 0.9, 0.95)}
    methods |= {f"Adam, b1 = {b:g}": optax.adam(0.05, b1=b) for b in (0.9, 0.99)}
    ends = {name: crossings(method, starts=starts, steps=2000) for name, method in methods.items()}
    share = {name: float(jnp.mean(end < 0)) for name, (_, end) in ends.items()}
    wanted = dict(zip(methods, (0.0, 0.0, 0.015, 0.18, 0.138, 0.0, 0.09), strict=True))
    claims = [
        Claim(
            f"{name}: share that crosses the ridge", f"{share[name]:.1%}", ok=abs(share[name] - wanted[name]) <= 0.015
        )
        for name in methods
    ]
    for gamma in (0.0, 0.3, 1.0):
        for momentum in (0.0, 0.9) if quick else (0.0, 0.5, 0.9):
            descent = DiracGame().descend(gamma, momentum)
            modulus, distance = float(descent.growth), float(descent.distance)
            # Linear theory is local: with a modulus above 1 the game must not come to rest; below 1 it must.
            ok = distance < 1e-6 if modulus < 1 else distance > 1e-3
            text = f"Dirac game, penalty {gamma:g}, momentum {momentum:g}: modulus, distance after 2000 steps"
            claims.append(Claim(text, f"{modulus:.4f}, {distance:.2g}", ok=ok))
    axes = plots.plot_crossings(ends)
    figures["crossings"] = (axes.figure, "Where descent with momentum ends on a double pit.")
    return claims


def _samplers(*, quick: bool) -> list[Claim]:
    """Article II: samplers, latent sampling, log Z."""
    key, claims = jax.random.key(0), []
    normal = lambda x, _: 0.5 * jnp.sum(x**2)
    for method, law in ((MALA, lambda s: 1.0), (ULA, lambda s: 1 / (1 - s / 4))):
        for step in (1.0,) if quick else (0.1, 0.5, 1.0):
            go = jax.jit(
                lambda key, step, method=method: (
                    sample(
                        normal,
                        jax.random.normal(key, (1000, 1)),
                        key=key,
                        steps=4000,
                        method=method(step),
                        thin=10,
                    ).xs
                )
            )
            found, exact = float(jnp.var(go(key, step))), law(step)
            text = f"{method.__name__} on N(0, 1), step {step:g}: variance"
            claims.append(
                Claim(text, f"{method.__name__} variance {found:.3f} ({exact:.3f})", ok=abs(found / exact - 1) < 0.02)
            )
    claims += _weights(key) + _latents(key, quick=quick)
    for d in (2, 6) if quick else (2, 6, 21, 43):
        precision = jnp.asarray(np.diag(np.geomspace(1.0, 4.0, d)))
        exact = 0.5 * d * math.log(2 * math.pi) - 0.5 * float(jnp.sum(jnp.log(jnp.diag(precision))))
        found = _partition(key, precision, chains=1000 if d < 43 else 3000)
        error = float(found.value) - exact
        text = f"log Z of a Gaussian energy, d = {d}: error (nats)"
        claims.append(Claim(text, f"{error:+.4f} +- {float(found.std_error):.4f}", ok=abs(error) <= 0.02))
    return claims


@functools.partial(jax.jit, static_argnames="chains")
def _partition(key: jax.Array, precision: jax.Array, chains: int) -> LogPartition:
    energy = lambda x, p: 0.5 * (x - 0.2) @ p @ (x - 0.2)
    return log_partition(energy, jnp.zeros(len(precision)), precision, key=key, scale=0.8, chains=chains, levels=300)


def _weights(key: jax.Array) -> list[Claim]:
    """Unequal weights of a mixture, by annealing and by plain Langevin steps from the same starts."""
    law = mixture([[-4.0, 0.0], [4.0, 0.0], [0.0, 5.0]], 0.5, [0.6, 0.3, 0.1])
    blurred = lambda x, _, sigma: -law.log_prob(x, sigma)

    def worst(x: jax.Array) -> float:
        nearest = jnp.argmin(jnp.linalg.norm(x[:, None] - law.means[None], axis=-1), axis=1)
        return float(jnp.max(jnp.abs(jnp.bincount(nearest, length=3) / len(x) - law.weights)))

    x0, sigmas = 8.0 * jax.random.normal(key, (4000, 2)), 8.0 * 0.7 ** jnp.arange(14)
    steps = {"steps": 60, "thin": 60, "key": key}
    annealed = sample(blurred, x0, method=Annealed(sigmas, 0.1 * sigmas**2 + 0.02), **steps)
    plain = sample(lambda x, _: blurred(x, None, 0.0), x0, key=key, steps=840, method=ULA(0.03), thin=840)
    errors = worst(annealed.final), worst(plain.final)
    return [
        Claim("weights .6 .3 .1 by annealed Langevin: largest error", errors[0], at_most=0.03),
        Claim("the same by plain Langevin (must fail)", errors[1], at_least=0.03),
    ]


def _latents(key: jax.Array, *, quick: bool) -> list[Claim]:
    """N(2, 1/2) through a generator, by the article's latent energy and by the exact one."""
    target, claims = lambda x, _: jnp.sum((x - 2.0) ** 2), []
    maps = {"affine": lambda z, _: 1.5 * z - 1, "sinh": lambda z, _: jnp.sinh(z)}
    for shape, generator in list(maps.items())[quick:]:
        for way in (latent.article, latent.exact):
            options = {"method": MALA(0.3), "steps": 1500, "warmup": 200, "thin": 5, "key": key}
            x = generator(sample(way(target, generator), jnp.ones((500, 1)), **options).xs, None)
            mean, variance = float(x.mean()), float(x.var())
            right = abs(mean - 2) < 0.03 and abs(variance - 0.5) < 0.02
            text = f"N(2, 0.5) through a generator ({shape}), {way.__name__} latent energy: mean, variance"
            must = way is latent.exact or shape == "affine"
            if not must:
                text += " (must be wrong)"
            claims.append(Claim(text, f"{mean:.3f}, {variance:.3f}", ok=right == must))
    return claims


def _bounds(figures: dict[str, Any], *, quick: bool) -> list[Claim]:
    """Article II: the bounds on a linear-Gaussian channel."""
    rows, claims = [], []
    for noise in (0.6,) if quick else (1.5, 0.6, 0.3):
        matrix = jnp.array([[1.0, 0.3], [-0.2, 0.8]], jnp.float32)
        for name in ("jsd", "infonce") if quick else BOUNDS:
            for corrected in (False, True) if name == "dv" and not quick else (False,):
                found = channel.measure(
                    name, matrix, noise, key=jax.random.key(1), steps=200 if quick else 1500,
                    corrected_gradient=corrected, evaluations=32 if quick else 64,
                )  # fmt: skip
                label = f"{name} (moving average)" if corrected else name
                rows.append(found | {"bound": label})
                near = found["estimate"] > (0.6 if quick else 0.8) * found["exact"]
                ok = near and found["estimate"] < found["exact"] + 4 * found["error"]
                text = f"information of a channel by {label}, against {found['exact']:.3f} nats"
                claims.append(Claim(text, f"{found['estimate']:.3f} +- {found['error']:.3f}", ok=ok))
    axes = plots.plot_bounds(rows)
    figures["bounds"] = (axes.figure, "Lower bounds of the information of a Gaussian channel against the exact one.")
    return claims


def _five_pits() -> PlaneLaw:
    return PlaneLaw.of(ring(5, 1.0, 0.1), name="five pits", box=2.0)


def _landscape(figures: dict[str, Any], out: Path, *, quick: bool) -> list[Claim]:
    """Article I: the landscape being dug."""
    law = _five_pits()
    config = dataclasses.replace(LANDSCAPE, bound="jsd")
    size = {"frames": 12, "every": 75} if quick else {"frames": 48, "every": 50}
    frames = landscape(config, law, key=jax.random.key(0), **size)
    plots.animate_landscape(frames, out / "landscape.gif")
    axes = plots.plot_landscape(frames)
    figures["landscape"] = (axes.figure, "The landscape as dug, and the generated points in its pits.")
    grid = np.stack(np.meshgrid(frames.axis, frames.axis), axis=-1).reshape(-1, 2)
    heights = np.asarray(frames.energy[-1]).ravel()
    near = np.linalg.norm(grid[:, None] - np.asarray(law.centers)[None], axis=-1).min(axis=1) < 0.15
    gap = float(heights[~near].mean() - heights[near].mean())
    spread = float(heights.std())
    return [
        Claim("pits at real points: mean height outside less inside (in deviations)", f"{gap / spread:.2f}", ok=gap > 0)
    ]


def _momentum(figures: dict[str, Any]) -> list[Claim]:
    """Article I in the game itself: with momentum, the generator overshoots the pits."""
    momenta, claims, shares = (0.0, 0.5, 0.9), [], {}
    for digging in DIGGINGS:
        config = dataclasses.replace(LANDSCAPE, digging=digging)
        modes, good = by_momentum(config, _five_pits(), momenta, key=jax.random.key(0))
        shares[digging], mean = good, good.mean(axis=1)
        # The non-negative landscape is flat at the bottom of its pits: with momentum, the seed decides what is left.
        free = digging == "nonnegative"
        text = f"{digging} digging, momentum 0, three seeds: least modes of 5, mean share of good points"
        ok = None if free else bool(modes[0].min() == 5 and mean[0] > 0.8)
        claims.append(Claim(text, f"{modes[0].min()}, {mean[0]:.0%}", ok=ok))
        text = f"{digging} digging, momentum .5 and .9: mean share of good points (.9: all seeds below all without)"
        ok = None if free else bool(good[2].max() < good[0].min())
        claims.append(Claim(text, f"{mean[1]:.0%}, {mean[2]:.0%}", ok=ok))
    axes = plots.plot_momentum(momenta, shares)
    caption = "Momentum in the game of digging and jumping: generated points within three deviations of a mode."
    figures["momentum"] = (axes.figure, caption)
    return claims


def _entropy(figures: dict[str, Any], *, quick: bool) -> list[Claim]:
    """Articles II and III: MEG on the grid, its control without entropy, and training by replay."""
    law = plane_law("grid25")
    edge = 1.25 * law.box
    config = Config(negatives=Negatives(box=(-edge, edge)), steps=1500 if quick else 8000)
    model, assessed = _trained(config, law)
    if quick:
        found = assessed.modes
        ok = found.good > 0.05 and found.found >= 20
        claims = [Claim("MEG, 25 modes", f"{found.found} of 25 modes after 1500 steps (quick)", ok=ok)]
    else:
        claims = _meg(config, law, assessed)
    axes = plots.plot_energy(model, box=edge)
    figures["entropy"] = (axes.figure, "The energy that a maximum entropy generator was trained with, and its points.")
    return claims


def _trained(config: Config | ReplayConfig, law: PlaneLaw, seed: int = 0) -> tuple[EnergyModel, Any]:
    """A model and how well it agrees with its law."""
    first, last = jax.random.split(jax.random.key(seed))
    draw = lambda key, n: law.sample(key, n, jnp.float32)
    model = train(config, draw, key=first).checked().model
    return model, assess(model, law, key=last)


def _meg(config: Config, law: PlaneLaw, first: Assessment) -> list[Claim]:
    """Three seeds of a maximum entropy generator, its controls, and training by replay."""
    runs = [first, *(_trained(config, law, seed)[1] for seed in (1, 2))]
    modes = [run.modes.found for run in runs]
    least = min(run.correlations["square"] for run in runs)
    elsewhere = ", ".join(f"{w} {value:.2f}" for w, value in runs[0].correlations.items() if w != "square")
    bare, plain = (_trained(dataclasses.replace(config, **{name: None}), law)[1] for name in ("bound", "negatives"))
    rings = plane_law("rings")
    edge = 1.25 * rings.box / float(jnp.std(rings.sample(jax.random.key(0), 4096, jnp.float32)))
    replayed = _trained(ReplayConfig(box=(-edge, edge)), rings)[1]
    return [
        Claim("MEG, 25 modes", f"MEG {modes[0]}, {modes[1]}, {modes[2]} modes of 25", ok=min(modes) == 25),
        Claim("MEG: least correlation of the energy with the true log density", least, at_least=0.9),
        Claim("MEG: the same elsewhere", elsewhere),
        Claim(
            "MEG: good points (KL of the modes)",
            ", ".join(f"{run.modes.good:.1%} ({run.modes.kl:.3f})" for run in runs),
        ),
        Claim(
            "the same without entropy: modes, good points",
            f"{bare.modes.found}, {bare.modes.good:.1%} ({bare.modes.kl:.3f})",
        ),
        Claim(
            "the generator's points alone as negatives: modes, good points, correlation",
            f"{plain.modes.found}, {plain.modes.good:.1%}, {plain.correlations['square']:.3f}",
        ),
        Claim(
            "trained by replay (rings): correlation with the true log density",
            replayed.correlations["square"],
            at_least=0.8,
        ),
    ]

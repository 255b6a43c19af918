"""Claim: a generator trained through two denoising density estimators, without an adversary, finds 8 of 8 Gaussians.

`score.density` learns the data with noise; `score.generator` descends the Kullback-Leibler divergence to it. Eight
Gaussians on a ring (standard deviation 0.2, as the noise): modes, share of samples within three standard deviations of
a mode, divergence of the modes' weights from uniform, sliced Wasserstein distance beside that of two sets of real
data, mean log density of noisy samples beside that of noisy data (a collapsed generator has more).
"""

import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import _harness as harness
from jaxkit import models, score
from jaxkit.learn import metrics

SIGMA, COUNT = 0.2, 4000


def ring(*, quick: bool) -> dict[str, Any]:
    """Train both and judge the samples."""
    law = models.ring(8)
    real = lambda seed: law.sample(jax.random.key(seed), COUNT).astype(jnp.float32)
    data = law.sample(jax.random.key(0), 100_000).astype(jnp.float32)
    start = time.process_time()
    target = score.density(
        score.DensityConfig(SIGMA / float(jnp.mean(law.moments()[1])) ** 0.5, steps=20 if quick else 8000),
        data,
        key=jax.random.key(1),
    ).checked()
    middle = time.process_time()
    made = score.generator(score.GeneratorConfig(steps=20 if quick else 4000), target, key=jax.random.key(2)).checked()
    end = time.process_time()
    x = made.sample(jax.random.key(3), COUNT)
    modes = metrics.modes(x, law.means, 0.2)
    flat = lambda x: np.asarray(x, np.float64)
    noisy = lambda x, seed: x + SIGMA * jax.random.normal(jax.random.key(seed), x.shape, x.dtype)
    return {
        "what": "8 Gaussians by a generator",
        "modes": modes.found,
        "within 3 sd": modes.good,
        "KL of weights": modes.kl,
        "sliced W2": float(metrics.sliced_wasserstein(flat(x), flat(real(5)))),
        "sliced W2 of data": float(metrics.sliced_wasserstein(flat(real(6)), flat(real(5)))),
        "mean log density": float(jnp.mean(law.log_prob(noisy(x, 4), SIGMA))),
        "mean log density of data": float(jnp.mean(law.log_prob(noisy(real(5), 7), SIGMA))),
        "density CPU s": middle - start,
        "generator CPU s": end - middle,
    }


def main() -> None:
    options = harness.arguments(__doc__)
    row = ring(quick=options.quick)
    print(harness.table([row]))
    goals = [
        harness.goal("modes found", row["modes"], 8),
        harness.goal("within 3 sd of a mode", row["within 3 sd"], 0.9),
        harness.goal("KL of the modes' weights from uniform", row["KL of weights"], 0.03, at_least=False),
    ]
    print(harness.table(goals))
    if not options.quick:
        print(harness.save("score_generator", claim=(__doc__ or "").splitlines()[0], rows=[row], goals=goals))


if __name__ == "__main__":
    main()

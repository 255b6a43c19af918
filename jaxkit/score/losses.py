"""Losses of denoisers, scores and energies, each a mean over the batch.

Noisy data are `y = x + sigma n`. But for `mdsm`, all are minimised by the optimal denoiser,
`E[x | y] = y + sigma^2 grad log p_sigma(y)`; they differ in what is learned (score, denoiser, energy) and in the
weights of the noise levels. Energies are trained without a second backward pass: see `jaxkit.learn.gradients`.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from jaxkit.learn.gradients import half_square_gradient
from jaxkit.score.model import over

Noisy = Callable[[Array, Array], Array]
Energy = Callable[[Any, Array], Array]


def noised(x: Float[Array, "n ..."], sigma: Float[Array, " n"], key: Array) -> tuple[Array, Array]:
    """Noisy data `x + sigma n`, and the noise `n`."""
    n = jax.random.normal(key, x.shape, x.dtype)
    return x + over(sigma, x) * n, n


def dsm(score: Noisy, x: Float[Array, "n ..."], sigma: Float[Array, " n"], key: Array) -> Float[Array, ""]:
    """Denoising score matching, `1/2 E sigma^2 |s(y, sigma) + n / sigma|^2`.

    Args:
        score: `score(y, sigma)`, of the shape of `y`.
        x: Clean data.
        sigma: Noise level of each datum.
        key: Random key.

    References:
        Vincent (2011), A connection between score matching and denoising autoencoders.
    """
    y, n = noised(x, sigma, key)
    return 0.5 * jnp.mean(_squares(over(sigma, x) * score(y, sigma) + n))


def edm(
    denoise: Noisy, x: Float[Array, "n ..."], sigma: Float[Array, " n"], key: Array, *, sd: float
) -> Float[Array, ""]:
    """EDM's loss, `E (sigma^2 + sd^2) / (sigma sd)^2 |D(y, sigma) - x|^2`: 1 per coordinate for an untrained network.

    Args:
        denoise: `denoise(y, sigma)`, of the shape of `y`.
        x: Clean data.
        sigma: Noise level of each datum.
        key: Random key.
        sd: Standard deviation of the data.

    References:
        Karras et al. (2022), table 1.
    """
    y, _ = noised(x, sigma, key)
    weight = (sigma**2 + sd**2) / (sigma * sd) ** 2
    return jnp.mean(weight * _squares(denoise(y, sigma) - x))


def dde(
    log_density: Energy, params: PyTree, x: Float[Array, "n ..."], sigma: Float[Array, " n"], key: Array
) -> Float[Array, ""]:
    """Denoising density estimator, `1/2 E |sigma grad L(y) + n|^2`: at one noise level, `L = log p_sigma + C`.

    Args:
        log_density: `log_density(params, y)`, shape `(n,)`, up to a constant.
        params: Its parameters.
        x: Clean data.
        sigma: Noise level of each datum.
        key: Random key.

    References:
        Bigdeli et al. (2020), Learning generative models using denoising density estimators;
        Su, kexue.fm/archives/7038.
    """
    y, n = noised(x, sigma, key)
    return jnp.mean(half_square_gradient(lambda p, y: sigma * log_density(p, y), params, y, target=-n))


def mdsm(
    energy: Energy,
    params: PyTree,
    x: Float[Array, "n ..."],
    sigma: Float[Array, " n"],
    key: Array,
    *,
    sd: float = math.inf,
) -> Float[Array, ""]:
    """Multi-scale score matching, `1/2 E w |grad E(y) - (y - x)|^2`: *one* energy for all noise levels.

    The weight is `w = 1 / sigma^2 + 1 / sd^2`: by default that of the paper, which hardly counts what high noise levels
    show of the data as a whole; with the data's standard deviation `sd`, that of EDM, which counts all levels alike.

    Its optimum is `y - grad E(y) = E_w[x | y]`, a mean over `x` *and* over the noise levels with weights
    `w N(y; x, sigma^2)`. In many dimensions, `y` reveals its own noise level, and this is the denoiser of that level;
    in few, it is not the score of any `p_sigma`. Do not read `-E` as a log density there: use the energy of
    `score.train(kind="energy")`.

    Args:
        energy: `energy(params, y)`, shape `(n,)`, in units in which its gradient is a residual of the data's size.
        params: Its parameters.
        x: Clean data.
        sigma: Noise level of each datum.
        key: Random key.
        sd: Standard deviation of the data; infinite for the paper's weights.

    References:
        Li, Chen and Sommer (2019), Learning energy-based models in high-dimensional spaces with multi-scale denoising
        score matching, with the scale `sigma_0^2` moved into the energy.
    """
    y, n = noised(x, sigma, key)
    root = jnp.sqrt(1 / sigma**2 + 1 / sd**2)
    target = over(root * sigma, n) * n
    return jnp.mean(half_square_gradient(lambda p, y: energy(p, y) * root, params, y, target=target))


def _squares(x: Array) -> Float[Array, " n"]:
    return jnp.sum(x**2, axis=tuple(range(1, x.ndim)))

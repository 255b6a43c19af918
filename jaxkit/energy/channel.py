"""A channel whose mutual information is known, against which the bounds are measured."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from jaxkit.core import checks
from jaxkit.core.run import Run
from jaxkit.energy.bounds import BOUNDS, Critic, corrected, gaussian_decoder, moving_mean
from jaxkit.learn import nets
from jaxkit.learn.fit import fit


def transmit(key: Array, matrix: Float[Array, "d k"], noise: float, n: int) -> tuple[Array, Array]:
    """Pairs `(x, z)` of `x = matrix z + noise n`, with `z` and `n` from N(0, 1): shapes `(n, d)`, `(n, k)`."""
    sent, added = jax.random.split(key)
    z = jax.random.normal(sent, (n, matrix.shape[1]), matrix.dtype)
    return z @ matrix.T + noise * jax.random.normal(added, (n, matrix.shape[0]), matrix.dtype), z


def information(matrix: Float[Array, "d k"], noise: float) -> Float[Array, ""]:
    """The exact mutual information of `x` and `z`, in nats: `1/2 log det(1 + A A^T / noise^2)`.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxkit.energy import channel
        >>> round(float(channel.information(jnp.eye(1), 1.0)), 6)  # log(2) / 2
        0.346574
    """
    d = len(matrix)
    return 0.5 * jnp.linalg.slogdet(jnp.eye(d, dtype=matrix.dtype) + matrix @ matrix.T / noise**2)[1]


def log_ratio(matrix: Float[Array, "d k"], noise: float) -> Critic:
    """The exact `log p(x, z) / (p(x) p(z))`: the best critic."""
    covariance = noise**2 * jnp.eye(len(matrix), dtype=matrix.dtype) + matrix @ matrix.T

    def critic(x: Array, z: Array) -> Array:
        given = -0.5 * jnp.sum(jnp.square(x - z @ matrix.T), axis=-1) / noise**2
        alone = -0.5 * jnp.sum(x * jnp.linalg.solve(covariance, x.T).T, axis=-1)
        return given - alone + information(matrix, noise)

    return critic


def measure(
    bound: str,
    matrix: Float[Array, "d k"],
    noise: float,
    *,
    key: Array,
    steps: int = 1500,
    batch_size: int = 64,
    width: int = 64,
    corrected_gradient: bool = False,
    evaluations: int = 64,
) -> dict[str, float]:
    """Train a critic of the channel by a bound, and evaluate the bound on fresh pairs.

    Args:
        bound: A name in `BOUNDS`.
        matrix: The matrix of the channel.
        noise: Standard deviation of its noise.
        key: Random key.
        steps: Training steps.
        batch_size: Pairs per step.
        width: Width of the critic's two hidden layers.
        corrected_gradient: Whether to train `"dv"` by MINE's corrected gradient.
        evaluations: Number of fresh batches over which the bound is averaged, of 8 times the size (of the same size for
            InfoNCE, whose cap depends on it).

    Returns:
        `{"exact": nats, "estimate": nats, "error": standard error of the estimate}`.

    Raises:
        ValueError: The bound is unknown.
    """
    checks.one_of("bound", bound, BOUNDS)
    checks.require(not corrected_gradient or bound == "dv", "corrected_gradient", "go with 'dv'", f"is for {bound!r}")
    rule, (d, k) = BOUNDS[bound], matrix.shape
    init, critic = _critic(bound, d, k, width, matrix.dtype)
    start, train, test = jax.random.split(key, 3)

    def scores(params: Any, key: Array, n: int) -> tuple[Array, Array]:
        pairs, partner = jax.random.split(key)
        x, z = transmit(pairs, matrix, noise, n)
        return rule.scores(lambda x, z: critic(params, x, z), x, z, partner)

    def climb(params: Any, _: None, key: Array, mean: Array) -> tuple[Array, dict, Array]:
        joint, marginal = scores(params, key, batch_size)
        if not corrected_gradient:
            return -rule.objective(joint, marginal), {}, mean
        mean = moving_mean(mean, marginal)
        return -corrected(joint, marginal, mean), {}, mean

    rate = optax.cosine_decay_schedule(2e-3, steps)
    one = jnp.ones((), matrix.dtype)
    run = Run(chunk=steps)
    done = fit(climb, init(start), optimizer=optax.adam(rate), steps=steps, key=train, carry=one, run=run).checked()
    size = batch_size if bound == "infonce" else 8 * batch_size
    estimate = lambda key: rule.estimate(*scores(done.params, key, size))
    values = jax.jit(lambda key: jax.lax.map(estimate, jax.random.split(key, evaluations)))(test)
    exact, error = information(matrix, noise), jnp.std(values) / evaluations**0.5
    return {"exact": float(exact), "estimate": float(jnp.mean(values)), "error": float(error)}


def _critic(bound: str, d: int, k: int, width: int, dtype: Any) -> tuple[Callable, Callable]:
    """A critic of pairs, or one from a Gaussian decoder."""
    x, z = jnp.zeros((1, d), dtype), jnp.zeros((1, k), dtype)
    if bound != "barber-agakov":
        net = nets.plain(nets.MLP((width, width, 1), scalar=True), x, z)
        return net.init, net.apply
    decoder = nets.plain(nets.MLP((width, width, 2 * k)), x)

    def apply(params: Any, x: Array, z: Array) -> Array:
        mean, log_sd = jnp.split(decoder.apply(params, x), 2, axis=-1)
        return gaussian_decoder(lambda _: (mean, log_sd))(x, z)

    return decoder.init, apply

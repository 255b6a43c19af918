"""Estimates of log Z by annealed importance sampling, from either end."""

import math
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.flatten_util
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Int, PyTree

from jaxkit.core import checks
from jaxkit.core.status import Outcome, Status
from jaxkit.core.struct import struct
from jaxkit.dynamics.mcmc.hmc import HMC
from jaxkit.dynamics.mcmc.kernel import Evaluate, start

# Without jitter, a Gaussian direction whose period the trajectory's length meets never forgets its start.
MOVES = HMC(0.3, num_leapfrog_steps=5, jitter=0.3, target_accept=0.8)


@struct
class LogPartition(Outcome):
    """An estimate of `log Z = log of the integral of exp(-energy)`.

    Attributes:
        value: The estimate, in nats.
        std_error: Its standard error, from the spread of the weights.
        log_weights: Log importance weight of each chain, shape `(chains,)`.
        ess: Number of equal weights that these weights are worth.
        acceptance: Mean acceptance at each temperature, shape `(levels,)`.
        status: `Status` code; `not_finite` where a weight is not finite.
    """

    verb: ClassVar[str] = "log_partition"

    value: Float[Array, ""]
    std_error: Float[Array, ""]
    log_weights: Float[Array, " chains"]
    ess: Float[Array, ""]
    acceptance: Float[Array, " levels"]
    status: Int[Array, ""]


def log_partition(
    energy: Callable[[Any, Any], Array],
    center: PyTree,
    args: PyTree = None,
    *,
    key: Array,
    scale: ArrayLike = 1.0,
    chains: int = 500,
    levels: int = 200,
    method: HMC = MOVES,
    samples: PyTree = None,
) -> LogPartition:
    """Estimate log Z of `exp(-energy(x, args))` by annealed importance sampling with Hamiltonian moves.

    Chains start in the Gaussian `N(center, scale^2)`, whose log Z is known, and are cooled into the density along
    `(1 - beta) U_base + beta U`. The estimate errs downwards on average. Given exact `samples` of the density they are
    heated instead, and the estimate errs upwards: the truth lies in between (Grosse et al. 2015).

    Args:
        energy: `energy(x, args) -> scalar` for one state.
        center: Mean of the Gaussian: one state, a pytree of arrays.
        args: Parameters of the energy.
        key: Random key.
        scale: Standard deviation of the Gaussian: one number. The Gaussian should be no narrower than the density.
        chains: Number of chains.
        levels: Number of temperatures.
        method: Moves at each temperature. Its step is in units of `scale`. With a `target_accept`, a first pass changes
            the step at each temperature, and spaces the temperatures closest where the weights spread most; the
            weights come from a second pass with fresh noise, so that they stay unbiased. Without one, the step stays
            the same, and temperatures are close together at both ends.
        samples: Exact samples: `center`'s structure with the chains first. With them, the pass runs backwards.

    Returns:
        A `LogPartition`.

    Raises:
        ValueError: An argument is unusable.

    Example:
        >>> import jax, jax.numpy as jnp, jaxkit as jk
        >>> stretched = lambda x, _: 0.5 * jnp.sum((x / jnp.array([0.5, 2.0])) ** 2)  # Z = 2 pi * 0.5 * 2
        >>> found = jk.log_partition(stretched, jnp.zeros(2), key=jax.random.key(0), scale=2.0).checked()
        >>> bool(abs(found.value - jnp.log(2 * jnp.pi)) < 0.05)
        True

    References:
        Neal (2001), Annealed importance sampling. Grosse, Ghahramani, Adams (2015), bidirectional Monte Carlo.
    """
    for name, number in (("chains", chains), ("levels", levels)):
        checks.require(number > 0, name, "be positive", f"is {number}")
    checks.positive("scale", scale)
    method.check()
    middle, unravel = jax.flatten_util.ravel_pytree(jax.tree.map(lambda v: checks.floating("center", v), center))
    width = jnp.asarray(scale, middle.dtype)
    target = jax.vmap(jax.value_and_grad(lambda x: energy(unravel(x), args)))
    betas = _schedule(levels, middle.dtype)
    first, pilot, final = jax.random.split(key, 3)
    if samples is None:
        x0 = middle[None] + width * jax.random.normal(first, (chains, middle.size), middle.dtype)
    else:
        x0 = jax.vmap(lambda v: jax.flatten_util.ravel_pytree(v)[0])(samples)
        checks.shape("samples", x0, ("chains", middle.size))
        betas = betas[::-1]
    bridge = _Bridge(target, middle, width, method)
    steps = jnp.full(levels, method.step_size * width)
    if method.target_accept is not None:
        _, _, found, spread = bridge.walk(x0, betas, steps, pilot, method.target_accept)
        betas, steps = _respaced(betas, found, spread)
    log_weights, acceptance, *_ = bridge.walk(x0, betas, steps, final, None)
    base = 0.5 * middle.size * math.log(2 * math.pi) + middle.size * jnp.log(width)
    return _estimate(log_weights, base, acceptance, backwards=samples is not None)


def _schedule(levels: int, dtype: Any) -> Float[Array, " rungs"]:
    """Inverse temperatures from 0 to 1, close together at both ends."""
    squashed = jax.nn.sigmoid(jnp.linspace(-4.0, 4.0, levels + 1, dtype=dtype))
    return (squashed - squashed[0]) / (squashed[-1] - squashed[0])


def _respaced(betas: Array, steps: Array, spread: Array) -> tuple[Array, Array]:
    """Temperatures at equal distances in the length that the weights see, and the steps that belong to them.

    The variance of a log weight is the sum of `(spread * width)^2` over the levels: least where all terms are equal.
    """
    widths = jnp.abs(jnp.diff(betas))
    length = jnp.cumsum(jnp.concatenate([jnp.zeros(1, betas.dtype), (spread + 1e-3 * jnp.max(spread)) * widths]))
    length = length / jnp.where(length[-1] > 0, length[-1], 1)
    fine = jnp.all(jnp.isfinite(length)) & (length[-1] > 0)
    even = jnp.interp(jnp.linspace(0.0, 1.0, betas.size, dtype=betas.dtype), length, betas)
    even = jnp.where(fine, even.at[0].set(betas[0]).at[-1].set(betas[-1]), betas)
    order = jnp.argsort(betas[1:])
    return even, jnp.interp(even[1:], betas[1:][order], steps[order])


class _Bridge:
    """The path from the Gaussian to the density."""

    def __init__(self, target: Evaluate, center: Array, scale: Array, method: HMC):
        self.target, self.center, self.scale, self.method = target, center, scale, method

    def base(self, x: Float[Array, "n d"]) -> tuple[Array, Array]:
        """The Gaussian's energies and gradients."""
        z = (x - self.center[None]) / self.scale
        return 0.5 * jnp.sum(z * z, axis=-1), z / self.scale

    def at(self, beta: Array) -> Evaluate:
        """Energies and gradients at one inverse temperature."""

        def evaluate(x: Float[Array, "n d"]) -> tuple[Array, Array]:
            (u0, g0), (u1, g1) = self.base(x), self.target(x)
            return (1 - beta) * u0 + beta * u1, (1 - beta) * g0 + beta * g1

        return evaluate

    def walk(
        self, x: Array, betas: Array, steps: Array, key: Array, aim: float | None
    ) -> tuple[Array, Array, Array, Array]:
        """Weigh and move at every temperature; with an `aim`, each step length follows from the acceptance before it.

        Returns:
            Log weights, shape `(chains,)`; acceptances, step lengths, and standard deviations of the rate at which the
            log weights change with beta, shape `(levels,)`.
        """

        def level(carry: tuple[Array, Array, Array], given: tuple[Array, ...]) -> tuple[Any, tuple[Array, ...]]:
            x, log_weight, drift = carry
            before, beta, step, i = given
            rate = self.base(x)[0] - self.target(x)[0]
            log_weight = log_weight + (beta - before) * rate
            step = step * jnp.exp(drift)
            here = self.at(beta)
            state, accept = self.method.move(here, jax.random.fold_in(key, i), start(here, x), step)
            mean = jnp.mean(accept)
            drift = drift if aim is None else drift + 0.5 * (mean - aim)
            return (state.x, log_weight, drift), (mean, step, jnp.std(rate))

        zero = jnp.zeros((), x.dtype)
        given = (betas[:-1], betas[1:], steps, jnp.arange(steps.size))
        (_, log_weight, _), rows = jax.lax.scan(level, (x, jnp.zeros(len(x), x.dtype), zero), given)
        acceptance, steps, spread = rows
        return log_weight, acceptance, steps, spread


def _estimate(log_weights: Array, base: Array, acceptance: Array, *, backwards: bool) -> LogPartition:
    """The mean weight with its error."""
    n = log_weights.size
    shifted = jnp.exp(log_weights - jnp.max(log_weights))
    log_mean = jnp.log(jnp.mean(shifted)) + jnp.max(log_weights)
    ess = jnp.square(jnp.sum(shifted)) / jnp.sum(jnp.square(shifted))
    error = jnp.sqrt(jnp.maximum(n / ess - 1, 0) / n)
    value = base - log_mean if backwards else base + log_mean
    fine = jnp.all(jnp.isfinite(log_weights))
    status = jnp.where(fine, int(Status.ok), int(Status.not_finite))
    return LogPartition(value, error, log_weights, ess, acceptance, status)

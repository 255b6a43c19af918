"""Exact log-likelihood by the probability-flow ODE, with error bars for what is approximate in it."""

from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxkit.core import checks
from jaxkit.core.status import Outcome, worst
from jaxkit.core.struct import struct
from jaxkit.dynamics.ode.methods import Method
from jaxkit.dynamics.ode.solve import solve
from jaxkit.score.model import Model
from jaxkit.score.noise import VE, Noise

Prior = Callable[[Array, Array], Array]


@struct
class LogProb(Outcome):
    """Log densities and how far to trust them.

    Attributes:
        value: Log density of each datum in nats, shape `(n,)`.
        tolerance_error: How much `value` moves when the tolerance of the solver is ten times coarser (it bounds the
            error at the tolerance asked for, as long as the errors shrink); NaN without `error_bars`.
        probe_error: Standard error of the mean over the probes of the trace: 0 for an exact trace, NaN for one probe.
        latent: Where the flow carries the data, as standard normal codes, shape `(n, *shape)`.
        status: `Status` code of each solve.
        steps: Steps of each solve.
    """

    verb: ClassVar[str] = "score.log_prob"

    value: Float[Array, " n"]
    tolerance_error: Float[Array, " n"]
    probe_error: Float[Array, " n"]
    latent: Float[Array, "n ..."]
    status: Int[Array, " n"]
    steps: Int[Array, " n"]


def log_prob(
    model: Model,
    x: Float[Array, "n ..."],
    *,
    noise: Noise | None = None,
    trace: str | int = "exact",
    key: Array | None = None,
    prior: Prior | None = None,
    rtol: float = 1e-5,
    atol: float | None = None,
    method: str | Method = "tsit5",
    max_steps: int = 4096,
    error_bars: bool = True,
) -> LogProb:
    """Log density that a denoiser gives to data, by the change of variables along the probability-flow ODE.

    The flow carries the data, smoothed by the smallest noise, to the largest; there the density is nearly normal.
    The normal has the variance of the noise *and* of the data: without the latter the result is off by 1e-2 nats at a
    largest noise of 30. Differentiable with respect to `x` and `model.params`.

    Args:
        model: A denoiser.
        x: Data, shape `(n, *model.shape)`.
        noise: The process; `VE(least=1e-3)` by default.
        trace: `"exact"` (all `d` directional derivatives), or the number of random probes (Hutchinson): their *mean*,
            the same probes all along one solve, others for each datum.
        key: Random key of the probes.
        prior: Exact `prior(y, sigma)`, the log density of data with noise `sigma`, shape `(n,)`, where it is known; by
            default the normal with the moments of the noisy data.
        rtol: Relative tolerance of a step.
        atol: Absolute tolerance of a step; `rtol` by default.
        method: Solver, see `jaxkit.solve`.
        max_steps: Most steps.
        error_bars: Solve once more at ten times the tolerances.

    Returns:
        A `LogProb`, one lane a datum.

    Raises:
        ValueError: `x` has not the shape of the model's data, or `trace` is neither "exact" nor a positive number.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxkit import models, score
        >>> mixture = models.ring(8)
        >>> x = jnp.array([[2.0, 0.0], [0.0, 1.5]])
        >>> found = score.log_prob(score.exact(mixture), x).checked()
        >>> bool(jnp.all(jnp.abs(found.value - mixture.log_prob(x)) < 1e-3))
        True

    References:
        Song et al. (2021), section 4.3 and D.2; Chen et al. (2018); Grathwohl et al. (2019), for the probes.
    """
    x = checks.floating("x", x)
    checks.shape("x", x, ("n", *model.shape))
    probes, exact = _probes(model, x, trace, key), trace == "exact"
    process = VE(least=1e-3) if noise is None else noise

    def at(tolerance: float) -> tuple[Array, ...]:
        settings = {"method": method, "max_steps": max_steps, "rtol": tolerance * rtol}
        settings["atol"] = tolerance * (rtol if atol is None else atol)
        one = lambda x, v: _one_density(model, x, v, process, prior, settings, exact=exact)
        return jax.vmap(one, in_axes=(0, None if exact else 0))(x, probes)

    logs, latent, status, steps = at(1.0)
    value = jnp.mean(logs, axis=1)
    count = logs.shape[1]
    if exact:
        spread = jnp.zeros_like(value)
    elif count == 1:
        spread = jnp.full_like(value, jnp.nan)
    else:
        spread = jnp.std(logs, axis=1, ddof=1) / count**0.5
    moved = jnp.full_like(value, jnp.nan)
    if error_bars:
        coarse, _, second, _ = at(10.0)
        moved, status = jnp.abs(value - jnp.mean(coarse, axis=1)), worst(status, second)
    return LogProb(value, moved, spread, latent, status, steps)


def bits_per_dimension(log_prob: Float[Array, " n"], dimensions: int, *, bin_width: float) -> Float[Array, " n"]:
    """Bits a coordinate needs, for data that were integers, spread uniformly over their bins (dequantised).

    Args:
        log_prob: Log densities in nats.
        dimensions: Coordinates of a datum.
        bin_width: Distance of neighbouring values after scaling: 1/256 for bytes in [0, 1], 2/256 in [-1, 1].

    Example:
        >>> from jaxkit import models, score
        >>> float(score.bits_per_dimension(jax.numpy.zeros(1), 2, bin_width=1 / 256)[0])  # uniform on [0, 1]
        8.0
    """
    checks.positive("bin_width", bin_width)
    return -(log_prob / dimensions + jnp.log(bin_width)) / jnp.log(2.0)


def encode(
    model: Model,
    x: Float[Array, "n ..."],
    *,
    noise: Noise | None = None,
    rtol: float = 1e-5,
    atol: float | None = None,
    method: str | Method = "tsit5",
    max_steps: int = 4096,
) -> "Coded":
    """Carry data along the probability-flow ODE to standard normal codes; `decode` carries them back.

    Args:
        model: A denoiser.
        x: Data, shape `(n, *model.shape)`.
        noise: The process; `VE(least=1e-3)` by default.
        rtol: Relative tolerance of `jaxkit.solve`.
        atol: Absolute tolerance; `rtol` by default.
        method: Method of `jaxkit.solve`.
        max_steps: Most steps; beyond, the status is `max_steps`.

    Returns:
        A `Coded`.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxkit import models, score
        >>> model, x = score.exact(models.ring(8)), jnp.array([[2.0, 0.1]])
        >>> codes = score.encode(model, x).checked()
        >>> back = score.decode(model, codes.values).checked()
        >>> bool(jnp.max(jnp.abs(back.values - x)) < 1e-3)
        True
    """
    x = checks.floating("x", x)
    checks.shape("x", x, ("n", *model.shape))
    process = VE(least=1e-3) if noise is None else noise
    settings = _settings(rtol, atol, method, max_steps)

    def one(x: Array) -> tuple[Array, Array]:
        first = process.scale(jnp.asarray(process.low, x.dtype)) * x
        return _carry(_velocity(process), first, process, model, settings)[:2]

    final, status = jax.vmap(one)(x)
    return Coded(jax.vmap(lambda end: _standardise(model, end, process))(final), status)


def decode(
    model: Model,
    codes: Float[Array, "n ..."],
    *,
    noise: Noise | None = None,
    rtol: float = 1e-5,
    atol: float | None = None,
    method: str | Method = "tsit5",
    max_steps: int = 4096,
) -> "Coded":
    """Carry standard normal codes along the probability-flow ODE back to data; arguments as for `encode`."""
    codes = checks.floating("codes", codes)
    checks.shape("codes", codes, ("n", *model.shape))
    process = VE(least=1e-3) if noise is None else noise
    top, settings = jnp.asarray(process.high, codes.dtype), _settings(rtol, atol, method, max_steps)

    def one(code: Array) -> tuple[Array, Array]:
        first = process.scale(top) * (model.mean + _sd(model, process.sigma(top)) * code)
        return _carry(_velocity(process), first, process, model, settings, back=True)[:2]

    final, status = jax.vmap(one)(codes)
    return Coded(final / process.scale(jnp.asarray(process.low, codes.dtype)), status)


@struct
class Coded(Outcome):
    """Where the flow carried something.

    Attributes:
        values: Codes or data, shape `(n, *shape)`.
        status: `Status` code of each solve.
    """

    verb: ClassVar[str] = "score.encode"

    values: Float[Array, "n ..."]
    status: Int[Array, " n"]


def _settings(rtol: float, atol: float | None, method: str | Method, max_steps: int) -> dict[str, Any]:
    return {"rtol": rtol, "atol": rtol if atol is None else atol, "method": method, "max_steps": max_steps}


def _probes(model: Model, x: Array, trace: str | int, key: Array | None) -> Array:
    """Directions along which derivatives are taken: the unit vectors, or Rademacher vectors for each datum."""
    size = x[0].size
    if trace == "exact":
        return jnp.eye(size, dtype=x.dtype).reshape(size, *model.shape)
    known = isinstance(trace, int) and trace > 0
    checks.require(known, "trace", "be 'exact' or a positive number of probes", f"is {trace!r}")
    checks.require(key is not None, "key", "be given with random probes", "is None")
    return jax.random.rademacher(key, (x.shape[0], trace, *model.shape), x.dtype)  # pyright: ignore[reportArgumentType]


def _velocity(process: Noise) -> Callable[[Array, Array, Model], Array]:
    """The probability flow of one datum: `field(t, x, model)`."""

    def velocity(t: Array, x: Array, model: Model) -> Array:
        denoised = model.denoise((x / process.scale(t))[None], process.sigma(t))[0]
        return process.velocity(t, x, denoised)

    return velocity


def _carry(
    field: Any, first: Any, process: Noise, args: Any, settings: dict[str, Any], *, back: bool = False
) -> tuple[Any, Array, Array]:
    """Where `field` carries `first` between the ends of the process, with the status and the steps."""
    dtype = jnp.result_type(*jax.tree.leaves(first))
    low, high = jnp.asarray(process.low, dtype), jnp.asarray(process.high, dtype)
    if back:  # the clock runs forwards in `solve`
        turned = lambda u, x, args: jax.tree.map(jnp.negative, field(high + low - u, x, args))
        found = solve(turned, first, jnp.stack([low, high]), args, **settings)
    else:
        found = solve(field, first, jnp.stack([low, high]), args, **settings)
    return found.final, found.status, found.steps


def _one_density(
    model: Model, x: Array, probes: Array, process: Noise, prior: Prior | None, settings: dict[str, Any], *, exact: bool
) -> tuple[Array, Array, Array, Array]:
    """Log density of one datum by each probe (one entry for the exact trace), its code, status and steps."""
    velocity, axes = _velocity(process), tuple(range(1, probes.ndim))

    def field(t: Array, state: tuple[Array, Array], args: tuple[Model, Array]) -> tuple[Array, Array]:
        model, probes = args
        moved, push = jax.linearize(lambda x: velocity(t, x, model), state[0])
        along = jnp.sum(probes * jax.vmap(push)(probes), axis=axes)
        return moved, jnp.sum(along, keepdims=True) if exact else along

    low, high = jnp.asarray(process.low, x.dtype), jnp.asarray(process.high, x.dtype)
    first = (process.scale(low) * x, jnp.zeros(1 if exact else probes.shape[0], x.dtype))
    (final, grown), status, steps = _carry(field, first, process, (model, probes), settings)
    scale, sigma = process.scale(high), process.sigma(high)
    code = _standardise(model, final, process)
    if prior is None:
        spread = jnp.broadcast_to(_sd(model, sigma), x.shape)
        end = -0.5 * jnp.sum(code**2) - jnp.sum(jnp.log(spread)) - 0.5 * x.size * jnp.log(2 * jnp.pi)
    else:
        end = prior((final / scale)[None], sigma[None])[0]
    # Densities of x / scale at both ends: the scales enter with one factor for each coordinate.
    shrunk = x.size * (jnp.log(scale) - jnp.log(process.scale(low)))
    return end + grown - shrunk, code, status, steps


def _sd(model: Model, sigma: Array) -> Array:
    return jnp.sqrt(model.variance + sigma**2)


def _standardise(model: Model, final: Array, process: Noise) -> Array:
    """Codes of states at the largest noise: with the moments of the noisy data they are standard normal."""
    top = jnp.asarray(process.high, final.dtype)
    return (final / process.scale(top) - model.mean) / _sd(model, process.sigma(top))

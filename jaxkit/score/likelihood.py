"""Exact log-likelihood by the probability-flow ODE, with error bars for its approximations."""

import dataclasses
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxkit.core import checks
from jaxkit.core.status import Outcome, worst
from jaxkit.core.struct import struct
from jaxkit.dynamics.ode.methods import Method
from jaxkit.dynamics.ode.solve import solve
from jaxkit.learn.units import Units
from jaxkit.score.noise import VE, Noise

if TYPE_CHECKING:
    from jaxkit.score.model import Denoiser

Prior = Callable[[Array, Array], Array]


@struct
class LogProb(Outcome):
    """Log densities and their errors.

    Attributes:
        value: Log density of each datum in nats, shape `(n,)`.
        tolerance_error: How much `value` changes when the tolerance of the solver is ten times coarser (a bound on the
            error at the tolerance asked for, as long as the errors shrink); NaN without `error_bars`.
        probe_error: Standard error of the mean over the probes of the trace: 0 for an exact trace, NaN for a single
            probe.
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


@dataclasses.dataclass(frozen=True)
class ProbabilityFlow:
    """How data are carried along the probability-flow ODE: process, trace, and settings of the solver.

    Attributes:
        noise: The process, with noise in units of the data's standard deviation; `VE(sigma_min=1e-3)` by default.
        trace: `"exact"` (all `d` directional derivatives), or the number of random probes (Hutchinson), over which the
            *mean* is taken: the same probes throughout a solve, different ones for each datum.
        prior: The exact log density of data with noise `sigma` (that of `Denoiser.denoise`), `prior(y, sigma)`, shape
            `(n,)`, if it is known; by default the normal with the moments of the noisy data.
        rtol: Relative tolerance of a step.
        atol: Absolute tolerance of a step; `rtol` by default.
        method: Method of `jaxkit.solve`.
        max_steps: Most steps; beyond, the status is `max_steps`.
        error_bars: Whether to solve for a likelihood once more at ten times the tolerances.
    """

    noise: Noise = dataclasses.field(default_factory=lambda: VE(sigma_min=1e-3))
    trace: str | int = "exact"
    prior: Prior | None = None
    rtol: float = 1e-5
    atol: float | None = None
    method: str | Method = "tsit5"
    max_steps: int = 4096
    error_bars: bool = True

    def __post_init__(self) -> None:
        """Check the trace."""
        known = self.trace == "exact" or (isinstance(self.trace, int) and self.trace > 0)
        checks.require(known, "trace", "be 'exact' or a positive number of probes", f"is {self.trace!r}")

    def carry(
        self, field: Any, first: Any, args: Any, *, coarser: float = 1.0, back: bool = False
    ) -> tuple[Any, Array, Array]:
        """Where `field` carries `first` between the ends of the process, with the status and the number of steps."""
        dtype = jnp.result_type(*jax.tree.leaves(first))
        low, high = jnp.asarray(self.noise.t_min, dtype), jnp.asarray(self.noise.t_max, dtype)
        turned = lambda u, x, args: jax.tree.map(jnp.negative, field(high + low - u, x, args))
        found = solve(
            turned if back else field,  # the clock runs forwards in `solve`
            first,
            jnp.stack([low, high]),
            args,
            method=self.method,
            rtol=coarser * self.rtol,
            atol=coarser * (self.rtol if self.atol is None else self.atol),
            max_steps=self.max_steps,
        )
        return found.final, found.status, found.steps


def log_prob(flow: ProbabilityFlow, model: "Denoiser", x: Float[Array, "n ..."], key: Array | None) -> LogProb:
    """What `Denoiser.log_prob` returns."""
    x = checks.floating("x", x)
    checks.shape("x", x, ("n", *model.shape))
    probes, exact = _probes(model, x, flow.trace, key), flow.trace == "exact"
    inner, units, spread = model.standard()
    x, flow = units.inside(x), _with_prior(flow, units, spread, model.shape)

    def at(coarser: float) -> tuple[Array, ...]:
        one = lambda x, v: _one_density(inner, x, v, flow, coarser)
        return jax.vmap(one, in_axes=(0, None if exact else 0))(x, probes)

    logs, latent, status, steps = at(1.0)
    value = jnp.mean(logs, axis=1)
    volume = units.log_det(model.shape).astype(value.dtype)
    count = logs.shape[1]
    if exact:
        error = jnp.zeros_like(value)
    elif count == 1:
        error = jnp.full_like(value, jnp.nan)
    else:
        error = jnp.std(logs, axis=1, ddof=1) / count**0.5
    moved = jnp.full_like(value, jnp.nan)
    if flow.error_bars:
        coarse, _, second, _ = at(10.0)
        moved, status = jnp.abs(value - jnp.mean(coarse, axis=1)), worst(status, second)
    return LogProb(value - volume, moved, error, latent, status, steps)


def _with_prior(flow: ProbabilityFlow, units: Units, spread: Array, shape: tuple[int, ...]) -> ProbabilityFlow:
    """The same flow for a standard model: its prior, if there is one, in that model's units."""
    prior = flow.prior
    if prior is None:
        return flow
    volume = units.log_det(shape)
    return dataclasses.replace(flow, prior=lambda y, sigma: prior(units.outside(y), sigma * spread) + volume)


def bits_per_dimension(log_prob: Float[Array, " n"], dimensions: int, *, bin_width: float) -> Float[Array, " n"]:
    """Bits per coordinate, for integer data that were spread uniformly over their bins (dequantised).

    Args:
        log_prob: Log densities in nats.
        dimensions: Number of coordinates of a datum.
        bin_width: Distance between neighbouring values after scaling: 1/256 for bytes in [0, 1], 2/256 in [-1, 1].

    Example:
        >>> from jaxkit import models, score
        >>> float(score.bits_per_dimension(jax.numpy.zeros(1), 2, bin_width=1 / 256)[0])  # uniform on [0, 1]
        8.0
    """
    checks.positive("bin_width", bin_width)
    return -(log_prob / dimensions + jnp.log(bin_width)) / jnp.log(2.0)


@struct
class Carried(Outcome):
    """Where the flow carried data or codes.

    Attributes:
        values: Codes or data, shape `(n, *shape)`.
        status: `Status` code of each solve.
    """

    verb: ClassVar[str] = "score.encode"

    values: Float[Array, "n ..."]
    status: Int[Array, " n"]


def encode(flow: ProbabilityFlow, model: "Denoiser", x: Float[Array, "n ..."]) -> Carried:
    """What `Denoiser.encode` returns."""
    x, process = checks.floating("x", x), flow.noise
    checks.shape("x", x, ("n", *model.shape))
    low = process.scale(jnp.asarray(process.t_min, x.dtype))
    inner, units, _ = model.standard()
    final, status, _ = jax.vmap(lambda x: flow.carry(_velocity(process), low * x, inner))(units.inside(x))
    return Carried(jax.vmap(lambda end: _standardise(inner, end, process))(final), status)


def decode(flow: ProbabilityFlow, model: "Denoiser", codes: Float[Array, "n ..."]) -> Carried:
    """What `Denoiser.decode` returns."""
    codes, process = checks.floating("codes", codes), flow.noise
    checks.shape("codes", codes, ("n", *model.shape))
    top = jnp.asarray(process.t_max, codes.dtype)
    inner, units, _ = model.standard()

    def one(code: Array) -> tuple[Array, Array, Array]:
        first = process.scale(top) * _sd(inner, process.sigma(top)) * code
        return flow.carry(_velocity(process), first, inner, back=True)

    final, status, _ = jax.vmap(one)(codes)
    return Carried(units.outside(final / process.scale(jnp.asarray(process.t_min, codes.dtype))), status)


def _probes(model: "Denoiser", x: Array, trace: str | int, key: Array | None) -> Array:
    """Directions along which derivatives are taken: the unit vectors, or Rademacher vectors for each datum."""
    size = math.prod(model.shape)
    if trace == "exact":
        return jnp.eye(size, dtype=x.dtype).reshape(size, *model.shape)
    checks.require(key is not None, "key", "be given with random probes", "is None")
    return jax.random.rademacher(key, (x.shape[0], trace, *model.shape), x.dtype)  # pyright: ignore[reportArgumentType]


def _velocity(process: Noise) -> Callable[[Array, Array, Any], Array]:
    """The probability flow of one datum: `field(t, x, model)`."""

    def velocity(t: Array, x: Array, model: "Denoiser") -> Array:
        denoised = model.denoise((x / process.scale(t))[None], process.sigma(t))[0]
        return process.velocity(t, x, denoised)

    return velocity


def _one_density(
    model: "Denoiser", x: Array, probes: Array, flow: ProbabilityFlow, coarser: float
) -> tuple[Array, Array, Array, Array]:
    """Log density of one datum by each probe (one entry for the exact trace), with its code, status and steps."""
    process, exact = flow.noise, flow.trace == "exact"
    velocity, axes = _velocity(process), tuple(range(1, probes.ndim))

    def field(t: Array, state: tuple[Array, Array], args: tuple[Any, Array]) -> tuple[Array, Array]:
        model, probes = args
        moved, push = jax.linearize(lambda x: velocity(t, x, model), state[0])
        along = jnp.sum(probes * jax.vmap(push)(probes), axis=axes)
        return moved, jnp.sum(along, keepdims=True) if exact else along

    low, high = jnp.asarray(process.t_min, x.dtype), jnp.asarray(process.t_max, x.dtype)
    first = (process.scale(low) * x, jnp.zeros(1 if exact else probes.shape[0], x.dtype))
    (final, grown), status, steps = flow.carry(field, first, (model, probes), coarser=coarser)
    scale, sigma = process.scale(high), process.sigma(high)
    code = _standardise(model, final, process)
    if flow.prior is None:
        spread = jnp.broadcast_to(_sd(model, sigma), x.shape)
        end = -0.5 * jnp.sum(code**2) - jnp.sum(jnp.log(spread)) - 0.5 * x.size * jnp.log(2 * jnp.pi)
    else:
        end = flow.prior((final / scale)[None], sigma[None])[0]
    # Densities of x / scale at both ends: the scales enter with one factor per coordinate.
    shrunk = x.size * (jnp.log(scale) - jnp.log(process.scale(low)))
    return end + grown - shrunk, code, status, steps


def _sd(model: "Denoiser", sigma: Array) -> Array:
    return jnp.sqrt(model.variance + sigma**2)


def _standardise(model: "Denoiser", final: Array, process: Noise) -> Array:
    """Codes of states at the largest noise, made standard normal by the moments of the noisy data."""
    top = jnp.asarray(process.t_max, final.dtype)
    return final / process.scale(top) / _sd(model, process.sigma(top))

"""Noisy motion: the `sample` verb. Chains that draw from a density known up to its constant."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import jax
import jax.flatten_util
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from jaxkit.compile.jit_cache import run_kept
from jaxkit.core import checks
from jaxkit.core.status import Outcome, Status
from jaxkit.core.struct import struct
from jaxkit.dynamics.mcmc import adaptation
from jaxkit.dynamics.mcmc.annealed import Annealed
from jaxkit.dynamics.mcmc.diagnostics import effective_sample_size, longest_rest, mixed, split_rhat
from jaxkit.dynamics.mcmc.hmc import HMC
from jaxkit.dynamics.mcmc.kernel import Evaluate, Method, walk
from jaxkit.dynamics.mcmc.langevin import MALA, ULA
from jaxkit.dynamics.mcmc.underdamped import Underdamped

X = TypeVar("X")

# Name -> method. One line makes a method known to `sample`.
METHODS: Mapping[str, Method] = MappingProxyType(
    {"ula": ULA(), "mala": MALA(target_accept=0.57), "hmc": HMC(target_accept=0.8), "underdamped": Underdamped()}
)

TELLING, UNMIXED = 50, 1.1  # kept states needed to judge R-hat, and the R-hat above which chains have surely not mixed
# One in so many proposals diverges, and a chain rests for one in so many of its kept states: together they tell of a
# place that is hardly entered, and not left. (Divergences alone also occur in chains that are right.)
MANY, RESTING = 100, 25


class Score(NamedTuple):
    """The gradient of a log density, in place of an energy, for methods without a test.

    Attributes:
        fn: `fn(x, args)` for one state, or `fn(x, args, level)` under `Annealed`; its value has the structure of `x`.
    """

    fn: Callable[..., Any]


@struct
class Chains(Outcome, Generic[X]):
    """The states that the chains went through, and their outcomes.

    Attributes:
        xs: Kept states: the structure of `x0`, leaves of shape `(kept, chains, ...)`.
        energy: Their energies, shape `(kept, chains)`; zeros where a `Score` was given.
        final: The last state of each chain: `x0`'s structure and shapes. Pass it as `x0` to go on.
        acceptance: Mean acceptance probability of each chain after the warm-up, shape `(chains,)`.
        step_size: The step used after the warm-up.
        status: `Status` code of each chain, shape `(chains,)`: `not_finite` where a state or an energy was not finite;
            `stuck` where no proposal was accepted after the warm-up; `not_mixed` where the chains tell different
            stories (an R-hat above 1.1, said from 50 kept states on: fewer cannot tell); `divergent` where more than
            1% of the proposals diverge and a chain rests at one place for more than 1/25 of its run.
        divergences: Number of proposals of each chain that diverged after the warm-up, shape `(chains,)`: their energy
            grew by more than 1,000, as it does with steps too long for a narrow part of the density, which such chains
            hardly enter. Proposals to an energy that is infinite or NaN have left the domain and do not count.
        moments: What `mean` and `variance` are made of where `thin` leaves states out; else None.
    """

    verb: ClassVar[str] = "sample"

    xs: X
    energy: Float[Array, "kept chains"]
    final: X
    acceptance: Float[Array, " chains"]
    step_size: Float[Array, ""]
    status: Int[Array, " chains"]
    divergences: Int[Array, " chains"]
    moments: tuple[X, X] | None = None

    @property
    def mean(self) -> X:
        """Mean of every chain, of all its states, kept or not: `x0`'s structure and shapes."""
        return jax.tree.map(lambda xs: jnp.mean(xs, 0), self.xs) if self.moments is None else self.moments[0]

    @property
    def variance(self) -> X:
        """Variance of every chain, of all its states, kept or not: `x0`'s structure and shapes."""
        return jax.tree.map(lambda xs: jnp.var(xs, 0, ddof=1), self.xs) if self.moments is None else self.moments[1]

    @property
    def ess(self) -> X:
        """Effective sample size of every coordinate in the bulk over all chains: `x0`'s structure without chains."""
        return jax.tree.map(effective_sample_size, self.xs)

    @property
    def ess_tail(self) -> X:
        """Effective sample size of every coordinate for its 5% and 95% quantiles, the smaller one."""
        return jax.tree.map(lambda xs: effective_sample_size(xs, kind="tail"), self.xs)

    @property
    def rhat(self) -> X:
        """R-hat of every coordinate; if it is above 1.01, take longer chains."""
        return jax.tree.map(split_rhat, self.xs)


def sample(
    energy: Callable[..., Array] | Score,
    x0: X,
    args: PyTree = None,
    *,
    key: Array,
    steps: int,
    method: str | Method | Annealed = "mala",
    warmup: int = 0,
    thin: int = 1,
) -> Chains[X]:
    """Draw from the density proportional to `exp(-energy(x, args))` by many chains at once.

    Methods: `ULA`, `MALA`, `HMC`, `Underdamped` and `Annealed` are objects that carry their settings. The names
    `"mala"` and `"hmc"` stand for methods that find their step in the warm-up, `"ula"` and `"underdamped"` for steps
    of 0.1.

    Args:
        energy: `energy(x, args) -> scalar` for one state (`energy(x, args, level)` under `Annealed`); or a `Score`, for
            methods without a test.
        x0: Where the chains start: a pytree of arrays whose first axis runs over the chains.
        args: Parameters of the energy, any pytree.
        key: Random key.
        steps: Number of steps after the warm-up; under `Annealed`, at each level.
        method: Name or object, see above.
        warmup: Number of steps before those, which are discarded; a method with a `target_accept` adapts its step
            meanwhile.
        thin: Keep every `thin`-th state; it must divide `steps`. `thin=steps` keeps only the last state. The mean and
            the variance of each chain are those of all its states, so that long runs need not keep them.

    Returns:
        `Chains`. It does not raise: call `.checked()` on the host, or look at `.status`.

    Raises:
        ValueError: An argument is unusable.

    Example:
        >>> import jax, jax.numpy as jnp, jaxkit as jk
        >>> normal = lambda x, scale: 0.5 * jnp.sum((x / scale) ** 2)
        >>> x0 = jnp.zeros((100, 2))  # a hundred chains in the plane
        >>> run = jk.sample(normal, x0, 3.0, key=jax.random.key(0), steps=500, method=jk.MALA(9.0), warmup=50)
        >>> run.xs.shape, bool(abs(run.xs.std() / 3.0 - 1) < 0.03), bool(run.checked().rhat.max() < 1.01)
        ((500, 100, 2), True, True)
    """
    if isinstance(method, str):
        checks.one_of("method", method, METHODS)
        method = METHODS[method]
    _check(energy, method, steps, warmup, thin)
    leaves = jax.tree.leaves(x0)
    checks.require(bool(leaves) and all(jnp.ndim(v) for v in leaves), "x0", "have the chains first", "has no axis")
    options = {"method": method, "steps": steps, "warmup": warmup, "thin": thin}
    return run_kept(_chains, (energy, options), (x0, args, key))


def _chains(energy: Any, options: dict[str, Any], x0: Any, args: Any, key: Array) -> Chains:
    method, steps, warmup, thin = (options[name] for name in ("method", "steps", "warmup", "thin"))
    begin: Any = jax.tree.map(lambda v: checks.floating("x0", v), x0)
    unravel = jax.flatten_util.ravel_pytree(jax.tree.map(lambda v: jnp.zeros(v.shape[1:], v.dtype), begin))[1]
    flat = jax.vmap(lambda v: jax.flatten_util.ravel_pytree(v)[0])(begin)
    rise, onward, push = jax.random.split(key, 3)
    family = lambda *level: _evaluate(energy, unravel, args, *level)
    if isinstance(method, Annealed):
        flat, target, method = method.descend(family, flat, steps, rise)
    else:
        target = family()
    step_size = jnp.asarray(method.step_size, flat.dtype)
    checks.require(step_size.ndim == 0, "step_size", "be one number", f"has shape {step_size.shape}")
    state = method.init(target, flat, push)
    if warmup:
        state, step_size = adaptation.warm_up(method, target, state, step_size, warmup, rise)
    begun = state.x
    found = walk(method, target, state, step_size, steps, thin, onward)
    many = MANY * jnp.sum(found.diverged) > steps * len(found.diverged)
    status = _status(begun, found.xs, found.energies, found.acceptance, many, corrected=method.corrected)
    whole = jax.vmap(unravel)
    moments = found.moments and (whole(found.moments[0]), whole(found.moments[1] / max(steps - 1, 1)))
    return Chains(
        jax.vmap(whole)(found.xs),
        found.energies,
        whole(found.last.x),
        found.acceptance,
        step_size,
        status,
        found.diverged,
        moments,
    )


def _check(energy: Any, method: Any, steps: int, warmup: int, thin: int) -> None:
    """Check what does not depend on traced numbers."""
    annealed = isinstance(method, Annealed)
    fits = annealed or (isinstance(method, Method) and not isinstance(method, type))
    checks.require(fits, "method", "be a name or a method", f"is {method!r}")
    checks.require(steps > 0, "steps", "be positive", f"is {steps}")
    checks.require(warmup >= 0, "warmup", "not be negative", f"is {warmup}")
    checks.require(thin > 0 and steps % thin == 0, "thin", "divide `steps`", f"is {thin}, with steps={steps}")
    checks.require(not (annealed and warmup), "warmup", "be 0 for `Annealed`: its levels warm up", f"is {warmup}")
    if not annealed:
        method.check()
        aims = method.target_accept is not None
        checks.require(bool(warmup) or not aims, "warmup", "be positive with a `target_accept`", f"is {warmup}")
    if isinstance(energy, Score):
        exact = not annealed and method.corrected
        checks.require(not exact, "energy", "be no `Score` for a method with a test", "is one")
    else:
        checks.require(callable(energy), "energy", "be a function `energy(x, args)`", f"is {energy!r}")


def _evaluate(energy: Any, unravel: Callable, args: PyTree, *level: PyTree) -> Evaluate:
    """Energies and gradients of all chains, from functions for one state."""
    if isinstance(energy, Score):
        ravel = lambda tree: jax.flatten_util.ravel_pytree(tree)[0]
        slope = jax.vmap(lambda x: -ravel(energy.fn(unravel(x), args, *level)))
        return lambda x: (jnp.zeros(x.shape[0], x.dtype), slope(x))

    def one(x: Float[Array, " d"]) -> Float[Array, ""]:
        value = jnp.asarray(energy(unravel(x), args, *level))
        checks.require(value.ndim == 0, "energy", "return a scalar for one state", f"returns shape {value.shape}")
        return value

    return jax.vmap(jax.value_and_grad(one))


def _status(
    begun: Array, xs: Array, energies: Array, acceptance: Array, many: Array, *, corrected: bool
) -> Int[Array, " chains"]:
    """The outcome of each chain after the warm-up, which ended at `begun`; `many`: whether many proposals diverged."""
    finite = jnp.all(jnp.isfinite(xs), axis=(0, 2)) & jnp.all(jnp.isfinite(energies), axis=0) & jnp.isfinite(acceptance)
    stuck = jnp.all(xs == begun[None], axis=(0, 2)) if corrected else jnp.zeros(finite.shape, bool)
    status = jnp.where(~finite, int(Status.not_finite), jnp.where(stuck, int(Status.stuck), int(Status.ok)))
    if len(xs) < TELLING or not xs.shape[1]:
        return status
    good = status == int(Status.ok)
    rests = lambda: RESTING * jnp.max(jnp.where(good, longest_rest(xs), 0)) > len(xs)
    divergent = jax.lax.cond(many, rests, lambda: False)
    told = jnp.where(
        mixed(xs, good, UNMIXED), jnp.where(divergent, int(Status.divergent), status), int(Status.not_mixed)
    )
    return jnp.where(good, told, status)

"""Noisy motion: the `sample` verb. Chains that draw from a density known up to its constant."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Generic, TypeVar

import jax
import jax.flatten_util
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Int, PyTree

from jaxkit.core import checks
from jaxkit.core.status import Outcome, Status
from jaxkit.core.struct import struct
from jaxkit.dynamics.mcmc import adaptation
from jaxkit.dynamics.mcmc.diagnostics import effective_sample_size, split_rhat
from jaxkit.dynamics.mcmc.hmc import HMC
from jaxkit.dynamics.mcmc.kernel import Evaluate, Kernel, State, Tuning, start
from jaxkit.dynamics.mcmc.langevin import MALA, ULA
from jaxkit.dynamics.mcmc.underdamped import UNDERDAMPED

X = TypeVar("X")

# Name -> kernel. "annealed" is ULA down a ladder of levels.
METHODS: Mapping[str, Kernel] = MappingProxyType(
    {"ula": ULA, "mala": MALA, "hmc": HMC, "underdamped": UNDERDAMPED, "annealed": ULA}
)


@struct
class Samples(Outcome, Generic[X]):
    """What the chains saw.

    Attributes:
        xs: Kept states: the structure of `x0`, leaves of shape `(kept, chains, ...)`.
        energy: Their energies, shape `(kept, chains)`; zeros where only a score was given.
        final: The last state of each chain: `x0`'s structure and shapes. Give it back as `x0` to go on.
        acceptance: Mean acceptance probability of each chain after the warm-up, shape `(chains,)`.
        step: The step used after the warm-up.
        status: `Status` code of each chain, shape `(chains,)`: `not_finite` where a state or an energy was not;
            `stuck` where no proposal was accepted.
    """

    verb: ClassVar[str] = "sample"

    xs: X
    energy: Float[Array, "kept chains"]
    final: X
    acceptance: Float[Array, " chains"]
    step: Float[Array, ""]
    status: Int[Array, " chains"]

    @property
    def ess(self) -> X:
        """Effective sample size of every coordinate, all chains together; `x0`'s structure without the chains."""
        return jax.tree.map(effective_sample_size, self.xs)

    @property
    def rhat(self) -> X:
        """Split R-hat of every coordinate; above 1.01 the chains have not mixed."""
        return jax.tree.map(split_rhat, self.xs)


def sample(
    energy: Callable[..., Array] | None,
    x0: X,
    args: PyTree = None,
    *,
    step: ArrayLike,
    steps: int,
    key: Array,
    method: str = "mala",
    warmup: int = 0,
    thin: int = 1,
    adapt: float | None = None,
    leapfrogs: int = 10,
    friction: float = 1.0,
    jitter: float = 0.0,
    levels: PyTree = None,
    score: Callable[..., Any] | None = None,
) -> Samples[X]:
    """Draw from the density proportional to `exp(-energy(x, args))` by chains that move at once.

    Methods: `"ula"` (`x' = x - step/2 grad U + sqrt(step) noise`; its bias grows with the step), `"mala"` (the same
    with the Metropolis test: exact for any step), `"hmc"` (`leapfrogs` steps of Hamiltonian motion and the test),
    `"underdamped"` (Langevin motion with inertia, `friction`, steps of length `step` in time; no test),
    `"annealed"` (ULA down a ladder of `levels`, the last of which is the density wanted).

    Args:
        energy: `energy(x, args) -> scalar` of one state; `energy(x, args, level)` where `levels` is given.
        x0: Where the chains start: a pytree of arrays whose first axis is the chains.
        args: Parameters of the energy, any pytree.
        step: Length of a step. `"annealed"` also takes one step a level, shape `(L,)`.
        steps: Steps after the warm-up; at each level, for `"annealed"`.
        key: Random key.
        method: See above.
        warmup: Steps before those, thrown away.
        thin: Keep every `thin`-th state; must divide `steps`. `thin=steps` keeps the last one alone.
        adapt: Acceptance probability that the warm-up aims at by changing the step (dual averaging over all
            chains): about 0.57 for MALA, 0.65-0.8 for HMC. None keeps `step`.
        leapfrogs: Of `"hmc"`.
        friction: Of `"underdamped"`; a known number.
        jitter: Of `"hmc"`: each step is changed by up to this share at random, against resonance.
        levels: Of `"annealed"`: pytree of arrays whose first axis is the levels. A vector is read as noise
            levels sigma: a single `step` then becomes `step * (sigma / sigma[-1])**2` (Song and Ermon 2019).
        score: `score(x, args[, level])`, the gradient of the log density, for methods without a test where there
            is no energy (then give None for it).

    Returns:
        `Samples`. It does not raise: call `.checked()` on the host, or look at `.status`.

    Raises:
        ValueError: An argument is unusable.

    Example:
        >>> import jax, jax.numpy as jnp, jaxkit as jk
        >>> normal = lambda x, scale: 0.5 * jnp.sum((x / scale) ** 2)
        >>> x0 = jnp.zeros((100, 2))  # a hundred chains in the plane
        >>> run = jk.sample(normal, x0, 3.0, method="mala", step=9.0, steps=500, warmup=50, key=jax.random.key(0))
        >>> run.xs.shape, bool(abs(run.xs.std() / 3.0 - 1) < 0.03), bool(run.checked().rhat.max() < 1.01)
        ((500, 100, 2), True, True)

    References:
        Su (2019), An energy view of GAN II, kexue.fm/archives/6331 (its MALA has the drift of another step: here
        the test is right). Roberts and Tweedie (1996). Neal (2011). Song and Ermon (2019), annealed.
    """
    _check(energy, method, steps, warmup, thin, adapt, levels, score)
    kernel, tuning = METHODS[method], Tuning(leapfrogs, friction, jitter)
    leaves = jax.tree.leaves(x0)
    checks.require(bool(leaves) and all(jnp.ndim(v) for v in leaves), "x0", "have the chains first", "has no axis")
    begin: Any = jax.tree.map(lambda v: checks.floating("x0", v), x0)
    unravel = jax.flatten_util.ravel_pytree(jax.tree.map(lambda v: v[0], begin))[1]
    flat = jax.vmap(lambda v: jax.flatten_util.ravel_pytree(v)[0])(begin)
    length = jnp.asarray(step, flat.dtype)
    rise, walk, push = jax.random.split(key, 3)
    evaluate = lambda *level: _evaluate(energy, score, unravel, args, *level)
    if method == "annealed":
        flat, target, length = _descend(kernel, tuning, evaluate, flat, length, levels, steps, rise)
    else:
        checks.require(length.ndim == 0, "step", f"be one number for method {method!r}", f"has shape {length.shape}")
        target = evaluate()
    velocity = jax.random.normal(push, flat.shape, flat.dtype) if kernel.velocity else None
    state = start(target, flat, velocity)
    if warmup:
        state, length = adaptation.warm_up(kernel, tuning, target, state, length, warmup, adapt, rise)
    state, xs, energies, acceptance = _walk(kernel, tuning, target, state, length, steps, thin, walk)
    status = _status(kernel, flat, state, energies, acceptance)
    many = jax.vmap(unravel)
    return Samples(jax.vmap(many)(xs), energies, many(state.x), acceptance, length, status)


def _check(
    energy: Any, method: str, steps: int, warmup: int, thin: int, adapt: float | None, levels: Any, score: Any
) -> None:
    """Check what does not depend on numbers inside a trace."""
    checks.one_of("method", method, METHODS)
    checks.require(steps > 0, "steps", "be positive", f"is {steps}")
    checks.require(warmup >= 0, "warmup", "not be negative", f"is {warmup}")
    checks.require(thin > 0 and steps % thin == 0, "thin", "divide `steps`", f"is {thin}, with steps={steps}")
    annealed = method == "annealed"
    checks.require(annealed == (levels is not None), "levels", "go with method 'annealed' alone", f"is {levels}")
    checks.require(not (annealed and warmup), "warmup", "be 0 for 'annealed': its levels warm up", f"is {warmup}")
    if adapt is not None:
        tested = METHODS[method].corrected
        checks.require(tested, "adapt", "go with a method that has a test", f"method is {method!r}")
        checks.require(warmup > 0, "adapt", "come with `warmup` steps", "`warmup` is 0")
        checks.require(0 < adapt < 1, "adapt", "lie between 0 and 1", f"is {adapt}")
    if score is not None:
        checks.require(energy is None, "energy", "be None where `score` is given", "is a function")
        checks.require(not METHODS[method].corrected, "score", "go with a method without a test", f"it is {method!r}")
    else:
        checks.require(callable(energy), "energy", "be a function `energy(x, args)`", f"is {energy!r}")


def _evaluate(energy: Any, score: Any, unravel: Callable, args: PyTree, *level: PyTree) -> Evaluate:
    """Energies and gradients of all chains, from functions of one state."""
    if score is not None:
        ravel = lambda tree: jax.flatten_util.ravel_pytree(tree)[0]
        slope = jax.vmap(lambda x: -ravel(score(unravel(x), args, *level)))
        return lambda x: (jnp.zeros(x.shape[0], x.dtype), slope(x))

    def one(x: Float[Array, " d"]) -> Float[Array, ""]:
        value = jnp.asarray(energy(unravel(x), args, *level))
        checks.require(value.ndim == 0, "energy", "return a scalar for one state", f"returns shape {value.shape}")
        return value

    return jax.vmap(jax.value_and_grad(one))


def _walk(
    kernel: Kernel, tuning: Tuning, evaluate: Evaluate, state: State, step: Array, steps: int, thin: int, key: Array
) -> tuple[State, Array, Array, Array]:
    """All steps after the warm-up: last state, kept states and energies, mean acceptance."""

    def move(i: Any, carry: tuple[State, Array]) -> tuple[State, Array]:
        state, total = carry
        state, probability = kernel.move(evaluate, jax.random.fold_in(key, i), state, step, tuning)
        return state, total + probability

    def stretch(carry: tuple[State, Array], block: Array) -> tuple[tuple[State, Array], tuple[Array, Array]]:
        if thin == 1:
            state, total = move(block, carry)
        else:
            state, total = jax.lax.fori_loop(0, thin, lambda i, c: move(block * thin + i, c), carry)
        return (state, total), (state.x, state.energy)

    first = (state, jnp.zeros_like(state.energy))
    (state, total), (xs, energies) = jax.lax.scan(stretch, first, jnp.arange(steps // thin))
    return state, xs, energies, total / steps


def _descend(
    kernel: Kernel,
    tuning: Tuning,
    evaluate: Callable[..., Evaluate],
    x: Array,
    step: Array,
    levels: PyTree,
    steps: int,
    key: Array,
) -> tuple[Array, Evaluate, Array]:
    """Down the ladder: states before the last level, the energy of the last level, and its step."""
    ladder = jax.tree.map(jnp.asarray, levels)
    sizes = {jnp.shape(leaf)[0] if jnp.ndim(leaf) else 0 for leaf in jax.tree.leaves(ladder)}
    count = sizes.pop() if len(sizes) == 1 else 0
    checks.require(count > 0, "levels", "have one common length along the first axis of every leaf", "has not")
    if step.ndim == 0:
        sigmas = isinstance(ladder, jax.Array) and ladder.ndim == 1
        checks.require(sigmas, "step", "be one number a level where `levels` is no vector", "is one number")
        step = step * jnp.square(ladder / ladder[-1]).astype(step.dtype)
    checks.shape("step", step, (count,))
    last = jax.tree.map(lambda v: v[-1], ladder)

    def level(x: Array, given: tuple[Any, Array, Array]) -> tuple[Array, None]:
        level, step, i = given
        here = evaluate(level)
        state, *_ = _walk(kernel, tuning, here, start(here, x), step, steps, steps, jax.random.fold_in(key, i))
        return state.x, None

    above = (jax.tree.map(lambda v: v[:-1], ladder), step[:-1], jnp.arange(count - 1))
    x, _ = jax.lax.scan(level, x, above)
    return x, evaluate(last), step[-1]


def _status(kernel: Kernel, x0: Array, state: State, energies: Array, acceptance: Array) -> Int[Array, " chains"]:
    """How each chain fared."""
    finite = jnp.all(jnp.isfinite(state.x), axis=-1) & jnp.all(jnp.isfinite(energies), axis=0)
    finite = finite & jnp.isfinite(acceptance)
    stuck = jnp.all(state.x == x0, axis=-1) if kernel.corrected else jnp.zeros(finite.shape, bool)
    return jnp.where(~finite, int(Status.not_finite), jnp.where(stuck, int(Status.stuck), int(Status.ok)))

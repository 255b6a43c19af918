"""Parameters of a vector field from a few observations: train the cell that solves it."""

from collections.abc import Callable
from typing import Any, ClassVar, Generic, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Int

from jaxkit.compile.jit_cache import run_kept
from jaxkit.core import checks
from jaxkit.core.status import Outcome
from jaxkit.core.struct import struct
from jaxkit.dynamics.ode.field import Field
from jaxkit.recurrent.fields import from_field
from jaxkit.recurrent.methods import METHODS, Found, Method
from jaxkit.recurrent.problem import FreeStart, Observations, Problem

P = TypeVar("P")


@struct
class Inference(Outcome, Generic[P]):
    """Inferred parameters, how good they are, and where the fits started.

    Attributes:
        params: The parameters, in the structure of the first guess.
        standard_errors: Their standard errors (asymptotic), in the same structure.
        start: State at the first time.
        start_errors: Its standard errors; zeros if it was given.
        sse: Sum of squared residuals over what was observed (after the start, if that was taken as exact).
        residuals: Model minus observation, one entry per observed number.
        covariance: Covariance of the parameters (and the start), flattened.
        xs: States of the cell at `times`, time first.
        times: `t0, t0 + dt, ...` up to the last observation.
        status: `Status` code of the fit that was chosen.
        starts: First guesses, with a leading axis over starts in every leaf.
        all_params: Parameters that each start led to, with the same leading axis.
        all_sse: Their sums of squares, shape `(starts,)`.
        all_status: Their `Status` codes, shape `(starts,)`.
        history: Loss before each step of the gradient method; empty for the other methods.
    """

    verb: ClassVar[str] = "infer"

    params: P
    standard_errors: P
    start: Any
    start_errors: Any
    sse: Float[Array, ""]
    residuals: Float[Array, " m"]
    covariance: Float[Array, "n n"]
    xs: Any
    times: Float[Array, " t"]
    status: Int[Array, ""]
    starts: Any
    all_params: Any
    all_sse: Float[Array, " k"]
    all_status: Int[Array, " k"]
    history: Float[Array, " steps"]

    @property
    def degrees_of_freedom(self) -> int:
        """Number of observed values minus number of fitted ones."""
        return self.residuals.shape[-1] - self.covariance.shape[-1]


def infer(
    field: Field,
    params0: P,
    observations: Observations | tuple[ArrayLike, ArrayLike],
    *,
    dt: float,
    scheme: Any = "rk4",
    method: str | Method = "multistart",
    start: Any | FreeStart = None,
    observe: Callable[[Any], Array] | None = None,
    positive: bool = True,
) -> Inference[P]:
    """Infer parameters of `dx/dt = field(t, x, params)` from a few observations, by training the cell that solves it.

    The cell runs over the whole time with fixed steps; the loss looks only where something was observed. Methods:

    - `"multistart"` (`Multistart`): Levenberg-Marquardt from many starts at once; all fits are returned.
    - `"shooting"` (`Shooting`): multiple shooting, for which one start is often enough.
    - `"levenberg_marquardt"`: `Multistart` from `params0` alone.
    - `"adam"` (`Adam`): the article's recipe: gradient descent from `params0` on the sum of squares.

    Args:
        field: Velocity of the state, `field(t, x, params)`.
        params0: First guess: a pytree of real arrays.
        observations: `Observations`, or the pair (times, values): shapes `(m,)` and `(m, d)`, NaN where missing. Every
            time must be a whole number of steps after the first.
        dt: Step of the cell, in units of the times.
        scheme: Scheme of the cell: see `from_field`.
        method: A name, or an object that carries the method's settings.
        start: State at the first time; by default the first row, taken as exact. A `FreeStart` is fitted too.
        observe: What is seen of a state, shape `(d,)`; by default the state itself, flattened.
        positive: Whether parameters (and a free start) keep the sign of their first guess: the fit then works on
            logarithms.

    Returns:
        An `Inference`. A failed fit does not raise: call `.checked()`, or look at `.status` and `.all_status`.

    Raises:
        ValueError: An argument is unusable: a time between two steps, a parameter 0 whose sign is to be kept, ...

    Example:
        >>> import jax.numpy as jnp, jaxkit as jk
        >>> decay = lambda t, x, p: -p["rate"] * x
        >>> times = jnp.array([0.0, 1.0, 2.0, 4.0])
        >>> seen = 3 * jnp.exp(-0.5 * times)[:, None]
        >>> found = jk.recurrent.infer(decay, {"rate": 0.1}, (times, seen), dt=0.25, method="levenberg_marquardt")
        >>> round(float(found.checked().params["rate"]), 4)
        0.5

    References:
        Su (2018), RNN and ODE, kexue.fm/archives/5643.
    """
    if isinstance(method, str):
        checks.one_of("method", method, METHODS)
        method = METHODS[method]
    checks.require(isinstance(method, Method), "method", "be a name or a method", f"is {method!r}")
    seen = observations
    if not isinstance(seen, Observations):
        seen = Observations(*(checks.floating(name, v) for name, v in zip(("times", "values"), seen, strict=True)))
    problem = Problem.of(from_field(field, scheme=scheme, dt=dt), params0, seen, start, observe, positive=positive)
    return run_kept(_collected, (), (method.fit(problem),))


def _collected(found: Found) -> Inference:
    """The result in the unknowns' own units."""
    problem, best, every = found.problem, found.best, found.every
    unknowns = problem.unknowns
    natural, covariance = unknowns.natural(best.params), unknowns.covariance(best.params, best.covariance)
    errors = unknowns.unravel(jnp.sqrt(jnp.diagonal(covariance)))
    params, start = problem.unpack(natural)
    lanes = lambda z: jax.vmap(lambda v: unknowns.tree(v)["params"])(z)
    steps = jnp.arange(problem.length + 1)
    return Inference(
        params=params,
        standard_errors=errors["params"],
        start=start,
        start_errors=errors.get("start", jax.tree.map(jnp.zeros_like, start)),
        sse=best.sse,
        residuals=best.residuals,
        covariance=covariance,
        xs=problem.run(params, start),
        times=jnp.asarray(problem.cell.t0 + problem.cell.dt * steps.astype(unknowns.base.dtype)),
        status=best.status,
        starts=lanes(found.starts),
        all_params=lanes(every.params),
        all_sse=every.sse,
        all_status=every.status,
        history=found.history,
    )

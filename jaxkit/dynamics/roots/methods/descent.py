"""Methods for hard systems: every step must lower the residual, by a line search or within a trust region.

The unknown is a vector here (a scalar is one of length 1). The error estimate is the full Newton step at the present
point, so a short step alone never looks like convergence.
"""

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array

from jaxkit.core.checks import one_of, positive
from jaxkit.core.status import Status
from jaxkit.dynamics.linear.dense import solve_dense, value_and_jacobian
from jaxkit.dynamics.roots.methods.method import (
    Ends,
    Iterate,
    Method,
    Problem,
    Settings,
    code,
    tolerated,
    unknown_error,
)
from jaxkit.dynamics.roots.methods.newton import NEWTON
from jaxkit.dynamics.roots.trust_region import (
    DOGLEG,
    FRACTION,
    MARQUARDT,
    Region,
    Rule,
    advance,
    begin,
    column_norms,
    pull,
    unseen,
)

LEAST = 1e-4  # fraction of the predicted decrease that a step must reach to be accepted


@dataclasses.dataclass(frozen=True)
class LevenbergMarquardt(Settings):
    """Damped least squares, for `root` and `least_squares`.

    Attributes:
        damping: First damping, relative to the scaled normal matrix.
        jacobian: `"forward"` or `"reverse"`: the mode in which the Jacobian is computed.

    Example:
        >>> import jax.numpy as jnp, jaxkit as jk
        >>> method = jk.LevenbergMarquardt(damping=1.0)
        >>> round(float(jk.root(lambda x, _: jnp.exp(x) - 2, 3.0, method=method).checked().value), 6)
        0.693147
    """

    damping: float = 1e-3
    jacobian: str = "forward"

    def __post_init__(self) -> None:
        """Check the settings."""
        positive("damping", self.damping)
        one_of("jacobian", self.jacobian, ("forward", "reverse"))

    def finder(self) -> Method:
        """The root finder with these settings."""
        return _finder("levenberg_marquardt", MARQUARDT._replace(size=self.damping), self.jacobian)


def _finder(name: str, rule: Rule, mode: str = "forward") -> Method:
    """The root finder that chooses its steps by a rule of the trust-region core."""

    def start(problem: Problem, x0: Array, ends: Ends) -> Iterate:
        del problem, ends
        error = unknown_error(x0)
        return Iterate(x0, error, code(Status.ok), begin(x0, x0.size, rule.size), error)

    def step(problem: Problem, state: Iterate) -> Iterate:
        both = lambda x: value_and_jacobian(problem.fn, x, mode=mode)
        region, ratio, accepted = advance(both, state.memory, squared=rule.squared, least=LEAST)
        newton = solve_dense(region.slope, -region.value)
        region = rule.propose(region, ratio, accepted, newton)
        error = jnp.where(jnp.isfinite(newton), jnp.abs(newton), jnp.inf)
        error = jnp.where(jnp.all(region.value == 0), 0, error)
        allowed = tolerated(region.x, region.value, region.slope)
        return Iterate(region.x, error, _status(region, newton, rule), region, allowed)

    return Method(name, start, step, flat=True, finish=_finish, opening=1, dense=True)


def _status(region: Region, newton: Array, rule: Rule) -> Array:
    """Failure where the step has vanished, or the point is stationary for `|f|^2` without being a zero."""
    steepest = jnp.max(jnp.abs(pull(region)) / column_norms(region.slope))
    stationary = steepest <= 1e-11 * jnp.linalg.norm(region.value)
    lost = (rule.vanished(region) | stationary) & jnp.any(region.value != 0)
    singular = ~jnp.all(jnp.isfinite(newton)) & ~stationary
    flat = jnp.any(jnp.all(region.slope == 0, axis=1))
    lost |= flat & ~jnp.any(region.value)  # zero, but it may have underflowed
    status = jnp.where(lost, jnp.where(singular, code(Status.singular), code(Status.no_progress)), code(Status.ok))
    return jnp.where(unseen(region), code(Status.not_finite), status)


def _finish(problem: Problem, state: Iterate) -> Array:
    """Take the last Newton step, which is short."""
    del problem
    newton = solve_dense(state.memory.slope, -state.memory.value)
    good = (state.status == code(Status.ok)) & jnp.all(jnp.isfinite(newton))
    return jnp.where(good, state.x + newton, state.x)


DAMPED = _finder("damped", FRACTION)
LEVENBERG_MARQUARDT = LevenbergMarquardt().finder()
HYBRID = _finder("dogleg", DOGLEG)
ROBUST = dataclasses.replace(HYBRID, name="robust", fallbacks=(NEWTON, LEVENBERG_MARQUARDT, DAMPED))

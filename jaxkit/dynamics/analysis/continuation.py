"""Branches of equilibria as a parameter moves: pseudo-arclength continuation."""

import enum
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Complex, Float, Int

from jaxkit.core import checks
from jaxkit.core.status import Outcome, Status
from jaxkit.core.struct import struct
from jaxkit.dynamics.analysis.linearize import eigenvalues
from jaxkit.dynamics.ode.field import Field


class Special(enum.IntEnum):
    """What happens between two points of a branch."""

    none = 0
    fold = 1
    branch_point = 2
    hopf = 3


@struct
class Branch(Outcome):
    """A branch of equilibria.

    Attributes:
        x: Points, shape `(steps + 1, n)`.
        parameter: The parameter at each, shape `(steps + 1,)`.
        eigenvalues: Of the field's Jacobian at each, shape `(steps + 1, n)`.
        special: `Special` code of what lies between this point and the one before.
        special_x: Where: the state there (meaningful where `special` is not 0).
        special_parameter: Where: the parameter there.
        status: `Status` code of the corrector at each point.
    """

    verb: ClassVar[str] = "continuation"

    x: Float[Array, "steps n"]
    parameter: Float[Array, " steps"]
    eigenvalues: Complex[Array, "steps n"]
    special: Int[Array, " steps"]
    special_x: Float[Array, "steps n"]
    special_parameter: Float[Array, " steps"]
    status: Int[Array, " steps"]

    @property
    def stable(self) -> Bool[Array, " steps"]:
        """Whether each point is stable."""
        return jnp.all(jnp.real(self.eigenvalues) < 0, axis=-1)


def continuation(
    field: Field,
    x0: ArrayLike,
    parameter0: ArrayLike,
    args_of: Callable[[Array], Any] = lambda p: p,
    *,
    step: float = 0.02,
    steps: int = 200,
    scale: ArrayLike = 1.0,
    parameter_scale: float = 1.0,
    backward: bool = False,
) -> Branch:
    """Follow an equilibrium of `field(t, x, args_of(parameter))` along its branch, through folds.

    Folds (the branch turns back), branch points (another branch crosses: transcritical, pitchfork) and Hopf points
    between two steps are located by bisection along the arc to rounding, and flagged.

    Args:
        field: `field(t, x, args)` with a state of shape `(n,)`.
        x0: An equilibrium (or near one) at `parameter0`, shape `(n,)`.
        parameter0: Where to start.
        args_of: Maps the parameter to the field's `args`.
        step: Arc length of a step, in scaled units.
        steps: Number of steps.
        scale: Typical size of the state, a number or shape `(n,)`; arc length is measured in these units.
        parameter_scale: Typical size of the parameter.
        backward: Start towards smaller parameters.

    Returns:
        A `Branch` of `steps + 1` points.

    Example:
        >>> import jax.numpy as jnp, jaxkit as jk
        >>> fold = lambda t, x, p: p - x**2  # x = +-sqrt(p): turns back at p = 0
        >>> branch = jk.continuation(fold, jnp.array([1.0]), 1.0, step=0.05, steps=60, backward=True)
        >>> at = branch.special == 1
        >>> int(at.sum()), abs(round(float(branch.special_parameter[at][0]), 8))
        (1, 0.0)

    References:
        Keller (1977); Govaerts (2000), Numerical Methods for Bifurcations of Dynamical Equilibria, chapters 2-4.
    """
    x0 = checks.floating("x0", x0)
    checks.shape("x0", x0, ("n",))
    checks.require(step > 0, "step", "be positive", f"is {step}")
    units = jnp.append(jnp.broadcast_to(jnp.asarray(scale, x0.dtype), x0.shape), jnp.asarray(parameter_scale, x0.dtype))
    zero = jnp.zeros((), x0.dtype)
    residual = lambda u: field(zero, (u * units)[:-1], args_of((u * units)[-1])) / units[:-1]
    u0 = jnp.append(x0, jnp.asarray(parameter0, x0.dtype)) / units
    along_parameter = jnp.zeros_like(u0).at[-1].set(-1.0 if backward else 1.0)
    u0, ok0 = _correct(residual, u0, along_parameter, u0)
    first = _point(residual, u0, _tangent(residual, u0, along_parameter))

    def advance(before: dict[str, Array], _: None) -> tuple[dict[str, Array], dict[str, Array]]:
        reach = lambda s: _reach(residual, before, s)
        after, ok = reach(jnp.asarray(step, x0.dtype))
        crossed = before["tests"] * after["tests"] < 0
        # A fold changes the first test alone; a branch point changes the augmented determinant (and the direction).
        kind = jnp.where(crossed[1], Special.branch_point.value, jnp.where(crossed[0], Special.fold.value, 0))
        kind = jnp.where((kind == 0) & crossed[2], Special.hopf.value, kind)
        which = jnp.where(crossed[1], 1, jnp.where(crossed[0], 0, 2))

        def locate() -> Array:
            near = _bisect(reach, before["tests"], which, step)
            return jnp.where(which == 1, _branch_point(residual, near), near)

        there = jax.lax.cond(kind > 0, locate, lambda: jnp.full_like(u0, jnp.nan))
        return after, after | {"ok": ok, "special": kind, "there": there}

    _, trail = jax.lax.scan(advance, first, None, length=steps)
    us = jnp.concatenate([first["u"][None], trail["u"]]) * units[None, :]
    there = jnp.concatenate([jnp.full_like(u0, jnp.nan)[None], trail["there"]]) * units[None, :]
    values = jnp.concatenate([first["values"][None], trail["values"]])
    ok = jnp.append(ok0, trail["ok"])
    special = jnp.append(0, trail["special"])
    status = jnp.where(ok, int(Status.ok), int(Status.no_progress))
    return Branch(us[:, :-1], us[:, -1], values, special, there[:, :-1], there[:, -1], status)


def _tangent(residual: Callable, u: Array, like: Array) -> Array:
    """The unit tangent of the branch at `u`, pointing along `like`."""
    jac = jax.jacfwd(residual)(u)
    tangent = jnp.linalg.svd(jac, full_matrices=True)[2][-1]
    return tangent * jnp.where(tangent @ like >= 0, 1, -1)


def _correct(residual: Callable, u: Array, tangent: Array, guess: Array) -> tuple[Array, Array]:
    """Newton on the branch within the plane through `guess` normal to `tangent`."""

    def step(carry: Any, _: None) -> tuple[Any, None]:
        v, _ = carry
        value = jnp.append(residual(v), tangent @ (v - guess))
        matrix = jnp.concatenate([jax.jacfwd(residual)(v), tangent[None]])
        # At a branch point the matrix is singular; without the cut-off rounding would throw the iterate far away.
        move = jnp.linalg.lstsq(matrix, -value, rcond=1e-7)[0]
        return (v + move, jnp.linalg.norm(move)), None

    (v, move), _ = jax.lax.scan(step, (u, jnp.asarray(jnp.inf, u.dtype)), None, length=8)
    return v, jnp.isfinite(move) & (move <= 1e3 * float(jnp.finfo(u.dtype).eps) ** 0.75)


def _point(residual: Callable, u: Array, tangent: Array) -> dict[str, Array]:
    """A point with its tangent, eigenvalues, and the functions whose zeros are special points."""
    jac = jax.jacfwd(residual)(u)
    values = eigenvalues(jac[:, :-1])
    bordered = jnp.linalg.det(jnp.concatenate([jac, tangent[None]]))
    n = u.size - 1
    pairs = [values[i] + values[j] for i in range(n) for j in range(i + 1, n)]
    sums = jnp.real(jnp.prod(jnp.stack(pairs))) if pairs else jnp.ones((), u.dtype)
    turning = jnp.any(jnp.abs(jnp.imag(values)) > 0)  # real pairs of opposite sign are neutral saddles, not Hopf points
    tests = jnp.stack([tangent[-1], bordered, jnp.where(turning, sums, jnp.nan)])
    return {"u": u, "tangent": tangent, "values": values, "tests": tests}


def _reach(residual: Callable, before: dict[str, Array], s: Array) -> tuple[dict[str, Array], Array]:
    """The point at arc length `s` after `before`."""
    guess = before["u"] + s * before["tangent"]
    u, ok = _correct(residual, guess, before["tangent"], guess)
    return _point(residual, u, _tangent(residual, u, before["tangent"])), ok


def _branch_point(residual: Callable, u: Array) -> Array:
    """Newton on the extended system that is regular at a simple branch point, where the branch's own is singular.

    Unknowns `(u, beta, psi)`: `G(u) + beta psi = 0`, `G'(u)^T psi = 0`, `|psi| = 1` (`beta` ends at 0).
    """
    n = u.size - 1
    psi = jnp.linalg.svd(jax.jacfwd(residual)(u))[0][:, -1]

    def system(z: Array) -> Array:
        u, beta, psi = z[: n + 1], z[n + 1], z[n + 2 :]
        value, pull = jax.vjp(residual, u)
        return jnp.concatenate([value + beta * psi, pull(psi)[0], (psi @ psi - 1)[None]])

    def step(z: Array, _: None) -> tuple[Array, None]:
        return z - jnp.linalg.lstsq(jax.jacfwd(system)(z), system(z))[0], None

    z, _ = jax.lax.scan(step, jnp.concatenate([u, jnp.zeros_like(psi[:1]), psi]), None, length=6)
    near = (
        jnp.linalg.norm(z[: n + 1] - u) <= 1e-2
    )  # in scaled units: a wild iterate is no improvement (NaN is not near)
    return jnp.where(near, z[: n + 1], u)


def _bisect(reach: Callable, tests: Array, which: Array, step: float) -> Array:
    """The point where test `which` vanishes."""

    def halve(interval: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], None]:
        low, high = interval
        middle = 0.5 * (low + high)
        point, _ = reach(middle)
        left = point["tests"][which] * tests[which] > 0
        return (jnp.where(left, middle, low), jnp.where(left, high, middle)), None

    ends = (jnp.zeros((), tests.dtype), jnp.asarray(step, tests.dtype))
    (low, high), _ = jax.lax.scan(halve, ends, None, length=50)
    return reach(0.5 * (low + high))[0]["u"]

"""Branches of equilibria as a parameter moves: pseudo-arclength continuation."""

from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Complex, Float, Int

from jaxkit.compile.jit_cache import run_kept
from jaxkit.core import checks
from jaxkit.core.status import Outcome, Status
from jaxkit.core.struct import struct
from jaxkit.dynamics.analysis.branch import SHRINK, Curve, Dense, Place, Step, forward
from jaxkit.dynamics.analysis.wide_branch import Wide
from jaxkit.dynamics.linear import ways
from jaxkit.dynamics.ode.field import Field

MANY = 200  # unknowns above which not all eigenvalues are looked at


@struct
class Branch(Outcome):
    """A branch of equilibria.

    Attributes:
        x: Points, shape `(steps + 1, n)`.
        parameter: The parameter at each point, shape `(steps + 1,)`.
        eigenvalues: Eigenvalues of the field's Jacobian at each point, shape `(steps + 1, n)`; with sparse factors the
            8 next to zero, NaN where one did not converge.
        unstable: Number of unstable directions at each point, shape `(steps + 1,)`: eigenvalues whose real part is
            positive by more than rounding can make it; -1 where the branch was lost.
        stable: Whether all eigenvalues at a point have a real part that is surely negative.
        special: `Special` code of what lies between a point and the one before; never `none` where `unstable`
            changes.
        special_x: The state at that special point; NaN where `special` is 0.
        special_parameter: The parameter at that special point; NaN where `special` is 0.
        status: `Status` code of each point: `branch_lost` from where the corrector found no next point, however short
            the step; all of a point's numbers are NaN then.
    """

    verb: ClassVar[str] = "continuation"

    x: Float[Array, "steps n"]
    parameter: Float[Array, " steps"]
    eigenvalues: Complex[Array, "steps k"]
    unstable: Int[Array, " steps"]
    stable: Bool[Array, " steps"]
    special: Int[Array, " steps"]
    special_x: Float[Array, "steps n"]
    special_parameter: Float[Array, " steps"]
    status: Int[Array, " steps"]


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
    jacobian: str = "auto",
) -> Branch:
    """Follow an equilibrium of `field(t, x, args_of(parameter))` along its branch, through folds.

    Folds (the branch turns back), branch points (another branch crosses: transcritical, pitchfork, also several at
    once), Hopf points (also several) and kinks (the field is not smooth, and stability jumps) between two steps are
    located along the arc to rounding, and flagged. Steps are shortened where the corrector fails, where the branch
    turns by more than 40 degrees, and so that each passes one special point; points nearer to each other than a
    hundredth of a step count as one. Two that undo each other within one step (stability lost and regained) are not
    seen: take shorter steps. Nor are two at one and the same point of which one direction gains what the other loses.

    Args:
        field: `field(t, x, args)` with `x` of shape `(n,)`.
        x0: An equilibrium (or near one) at `parameter0`, shape `(n,)`.
        parameter0: Where to start.
        args_of: Maps the parameter to the field's `args`.
        step: Largest arc length of a step, in scaled units.
        steps: Number of steps.
        scale: Typical size of the state, a number or shape `(n,)`; arc length is measured in these units.
        parameter_scale: Typical size of the parameter.
        backward: Whether to start towards smaller parameters.
        jacobian: `"dense"`, with all eigenvalues; `"sparse"`, with sparse factors and the eigenvalues next to zero
            alone; or `"auto"`, which is sparse from 200 unknowns on where the field leaves most of them out. Folds and
            branch points are found then as well (branch points less sharply), but a Hopf point whose pair is not among
            some twenty eigenvalues next to zero is not seen, and `unstable` and `stable` speak of those alone.

    Returns:
        A `Branch` of `steps + 1` points. It does not raise: call `.checked()` on the host, or look at `.status`.

    Example:
        >>> import jax.numpy as jnp, jaxkit as jk
        >>> fold = lambda t, x, p: p - x**2  # x = +-sqrt(p): turns back at p = 0
        >>> branch = jk.continuation(fold, jnp.array([1.0]), 1.0, step=0.05, steps=60, backward=True)
        >>> at = branch.special == 1
        >>> int(at.sum()), abs(round(float(branch.special_parameter[at][0]), 8)), bool(branch.ok.all())
        (1, 0.0, True)

    References:
        Keller (1977); Govaerts (2000), Numerical Methods for Bifurcations of Dynamical Equilibria, chapters 2-4.
    """
    checks.require(step > 0, "step", "be positive", f"is {step}")
    options = {"step": step, "steps": steps, "backward": backward, "jacobian": jacobian}
    return run_kept(_follow, (field, args_of, options), (x0, parameter0, scale, parameter_scale))


def _follow(
    field: Field, args_of: Callable[[Array], Any], options: dict[str, Any], x0: Any, parameter0: Any, scale: Any,
    parameter_scale: Any,
) -> Branch:  # fmt: skip
    step, steps, backward, jacobian = (options[name] for name in ("step", "steps", "backward", "jacobian"))
    x0 = checks.floating("x0", x0)
    checks.shape("x0", x0, ("n",))
    units = jnp.append(jnp.broadcast_to(jnp.asarray(scale, x0.dtype), x0.shape), jnp.asarray(parameter_scale, x0.dtype))
    zero = jnp.zeros((), x0.dtype)
    residual = lambda u: field(zero, (u * units)[:-1], args_of((u * units)[-1])) / units[:-1]
    along_parameter = jnp.zeros(x0.size + 1, x0.dtype).at[-1].set(-1.0 if backward else 1.0)
    curve = _curve(residual, x0, parameter0, units, jacobian)
    u0, status0 = curve.correct(jnp.append(x0, jnp.asarray(parameter0, x0.dtype)) / units, along_parameter)
    first = curve.place(u0, along_parameter, status0 == int(Status.ok))
    status0 = jnp.where((status0 == int(Status.ok)) & ~first.fine, int(Status.singular), status0)
    longest = jnp.asarray(step, x0.dtype)

    def advance(carry: tuple[Place, Array, Array], _: None) -> tuple[tuple[Place, Array, Array], tuple[Step, Array]]:
        before, length, status = carry
        taken = forward(curve, before, length, step, status == int(Status.ok))
        lost = (status == int(Status.ok)) & ~taken.end.fine
        status = jnp.where(lost, int(Status.branch_lost), status)
        return (taken.end, jnp.minimum(taken.length / SHRINK, longest), status), (taken, status)

    _, (trail, status) = jax.lax.scan(advance, (first, longest, status0), None, length=steps)
    places: Place = jax.tree.map(lambda one, more: jnp.concatenate([one[None], more]), first, trail.end)
    status = jnp.append(status0, status)
    ok = status == int(Status.ok)
    known = lambda v: jnp.where(ok.reshape(-1, *(1,) * (v.ndim - 1)), v, jnp.nan)
    us = known(places.u * units[None, :])
    special = jnp.append(0, jnp.where(ok[1:], trail.kind, 0))
    there = jnp.concatenate([jnp.full_like(u0, jnp.nan)[None], trail.there]) * units[None, :]
    unstable = jnp.where(ok, places.up, -1)
    stable = ok & (places.down == x0.size)
    return Branch(
        us[:, :-1], us[:, -1], known(places.values), unstable, stable, special, there[:, :-1], there[:, -1], status
    )


def _curve(residual: Callable[[Array], Array], x0: Array, parameter0: Any, units: Array, jacobian: str) -> Curve:
    checks.one_of("jacobian", jacobian, ("auto", "dense", "sparse"))
    if jacobian == "dense" or (jacobian == "auto" and x0.size < MANY):
        return Dense(residual)
    of_state = lambda x: residual(jnp.append(x, jnp.asarray(parameter0, x0.dtype) / units[-1]))
    way = ways.chosen(of_state, x0 / units[:-1], jacobian)
    return Wide(residual, way.pattern) if way.name == "sparse" and way.pattern is not None else Dense(residual)

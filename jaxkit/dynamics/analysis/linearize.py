"""`linearize` and `classify`: what a motion does near a point, read off the eigenvalues of its Jacobian."""

import enum
from typing import Any

import jax
import jax.flatten_util
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Complex, Float, Int, PyTree

from jaxkit.compile.jit_cache import run_kept
from jaxkit.core import checks
from jaxkit.core.struct import struct
from jaxkit.dynamics.analysis.eigenvalues import eigenvalues
from jaxkit.dynamics.analysis.leading import leading_eigenvalues
from jaxkit.dynamics.ode.field import Field


class Kind(enum.IntEnum):
    """What a motion near a rest point looks like; an integer, so that it can be traced and vmapped."""

    label: str

    def __new__(cls, code: int, label: str) -> "Kind":
        """Make the member: its value is `code` alone."""
        member = int.__new__(cls, code)
        member._value_ = code
        member.label = label
        return member

    none = 0, "no equilibrium"
    stable_node = 1, "stable node"
    stable_focus = 2, "stable focus"
    saddle = 3, "saddle"
    unstable_node = 4, "unstable node"
    unstable_focus = 5, "unstable focus"
    center = 6, "center (of the linear part)"
    degenerate = 7, "degenerate (an eigenvalue is zero)"


@struct
class Linearization:
    """The linear part of a field at a point.

    Attributes:
        jacobian: Jacobian with respect to the flattened state, shape `(..., n, n)`; None with `leading`.
        eigenvalues: Eigenvalues of the Jacobian, shape `(..., n)`; or the leading ones, by decreasing real part.
        kind: `Kind` code, shape `(...)`.
    """

    jacobian: Float[Array, "... n n"] | None
    eigenvalues: Complex[Array, "... k"]
    kind: Int[Array, "..."]

    @property
    def stable(self) -> Bool[Array, "..."]:
        """Whether every small displacement decays (all real parts negative)."""
        return (self.kind == int(Kind.stable_node)) | (self.kind == int(Kind.stable_focus))


def linearize(
    field: Field,
    x: PyTree,
    args: PyTree = None,
    *,
    t: ArrayLike = 0.0,
    atol: float | None = None,
    leading: int | None = None,
) -> Linearization:
    """The Jacobian of a field at a point, its eigenvalues, and the name of the motion near it.

    Args:
        field: `field(t, x, args)`.
        x: The point: any pytree of real arrays, `n` numbers in all.
        args: Parameters.
        t: Time at which the field is taken.
        atol: Real or imaginary parts below `atol` count as zero, see `classify`.
        leading: How many eigenvalues, those of the largest real part; all if None. For thousands of unknowns: with
            `jaxkit[sparse]` the Jacobian is never written out. One eigenvalue of each is found if they are repeated,
            one far from the real axis can be missed, and one that did not converge is NaN. `kind` is what these few
            tell (stable or not). First derivatives only, where the Jacobian is not written out.

    Returns:
        A `Linearization`; differentiable, and works under `vmap`.

    Raises:
        ValueError: `leading` is not between 1 and the number of unknowns.

    Example:
        >>> import jax.numpy as jnp, jaxkit as jk
        >>> spring = lambda t, x, friction: jnp.stack([x[1], -x[0] - friction * x[1]])
        >>> jk.Kind(int(jk.linearize(spring, jnp.zeros(2), 0.0).kind)).label
        'center (of the linear part)'
        >>> jk.Kind(int(jk.linearize(spring, jnp.zeros(2), 0.5).kind)).label
        'stable focus'
        >>> rod = lambda t, u, d: d * jnp.diff(jnp.pad(u, 1), n=2) * 401**2  # heat in a rod of 400 cells
        >>> slow = jk.linearize(rod, jnp.zeros(400), 1.0, leading=2).eigenvalues.real
        >>> [round(float(value) / jnp.pi**2, 2) for value in slow]  # -1 and -4
        [-1.0, -4.0]
    """
    return run_kept(_linearized, (field, atol, leading), (x, args, t))


def _linearized(field: Field, atol: float | None, leading: int | None, x: Any, args: Any, t: Any) -> Linearization:
    flat, unravel = jax.flatten_util.ravel_pytree(jax.tree.map(lambda v: checks.floating("x", v), x))
    velocity = lambda x: jax.flatten_util.ravel_pytree(field(jnp.asarray(t, flat.dtype), unravel(x), args))[0]
    if leading is None:
        jacobian = jax.jacfwd(velocity)(flat)
        values = eigenvalues(jacobian)
    else:
        fits = isinstance(leading, int) and 0 < leading <= flat.size
        checks.require(fits, "leading", f"be between 1 and {flat.size}", f"is {leading!r}")
        jacobian, values = None, leading_eigenvalues(velocity, flat, leading)
    kind = jnp.where(jnp.all(jnp.isfinite(flat)), classify(values, atol=atol), int(Kind.none))
    return Linearization(jacobian, values, kind)


def classify(values: Complex[Array, "... n"], *, atol: float | None = None) -> Int[Array, "..."]:
    """Name the motion that eigenvalues describe.

    Args:
        values: Eigenvalues, shape `(..., n)`.
        atol: Parts below it count as zero; by default 100 eps times the largest modulus of an eigenvalue.

    Returns:
        `Kind` codes, shape `(...)`; `none` where an eigenvalue is not finite.

    Example:
        >>> import jax.numpy as jnp, jaxkit as jk
        >>> jk.Kind(int(jk.classify(jnp.array([-1.0 + 0j, 2.0])))).name
        'saddle'
    """
    values = jnp.asarray(values)
    size = jnp.max(jnp.abs(values), axis=-1, keepdims=True)
    small = 100 * float(jnp.finfo(jnp.real(values).dtype).eps) * size if atol is None else atol
    up, down = jnp.real(values) > small, jnp.real(values) < -small
    turns = jnp.any(jnp.abs(jnp.imag(values)) > small, axis=-1)
    zero = jnp.any(jnp.abs(values) <= small, axis=-1)
    pure = jnp.any(~up & ~down, axis=-1)
    any_up, any_down = jnp.any(up, axis=-1), jnp.any(down, axis=-1)
    code = jnp.where(turns, int(Kind.stable_focus), int(Kind.stable_node))
    code = jnp.where(any_up, jnp.where(turns, int(Kind.unstable_focus), int(Kind.unstable_node)), code)
    code = jnp.where(any_up & any_down, int(Kind.saddle), code)
    code = jnp.where(pure & ~any_up, int(Kind.center), code)
    code = jnp.where(zero, int(Kind.degenerate), code)
    return jnp.where(jnp.all(jnp.isfinite(values), axis=-1), code, int(Kind.none))

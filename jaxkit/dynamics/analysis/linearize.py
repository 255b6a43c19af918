"""linearize -> classify: read a motion off the eigenvalues of its Jacobian."""

import enum
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Complex, Float, Int, PyTree

from jaxkit.core import checks
from jaxkit.core.numerics import safe_sqrt
from jaxkit.core.status import Outcome
from jaxkit.core.struct import struct
from jaxkit.dynamics.ode.field import Field
from jaxkit.dynamics.roots.root import root


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
        jacobian: Shape `(..., n, n)`, over the flattened state.
        eigenvalues: Shape `(..., n)`.
        kind: `Kind` code, shape `(...)`.
    """

    jacobian: Float[Array, "... n n"]
    eigenvalues: Complex[Array, "... n"]
    kind: Int[Array, "..."]

    @property
    def stable(self) -> Bool[Array, "..."]:
        """Whether every small displacement decays (all real parts negative)."""
        return (self.kind == int(Kind.stable_node)) | (self.kind == int(Kind.stable_focus))


def linearize(
    field: Field, x: PyTree, args: PyTree = None, *, t: ArrayLike = 0.0, atol: float | None = None
) -> Linearization:
    """The Jacobian of a field at a point, its eigenvalues, and the name of the motion near it.

    Args:
        field: `field(t, x, args)`.
        x: The point: any pytree of real arrays, `n` numbers in all.
        args: Parameters.
        t: Time at which the field is taken.
        atol: Real or imaginary parts below `atol` count as zero, see `classify`.

    Returns:
        A `Linearization`; differentiable, vmaps.

    Example:
        >>> import jax.numpy as jnp, jaxkit as jk
        >>> spring = lambda t, x, friction: jnp.stack([x[1], -x[0] - friction * x[1]])
        >>> jk.Kind(int(jk.linearize(spring, jnp.zeros(2), 0.0).kind)).label
        'center (of the linear part)'
        >>> jk.Kind(int(jk.linearize(spring, jnp.zeros(2), 0.5).kind)).label
        'stable focus'
    """
    flat, unravel = jax.flatten_util.ravel_pytree(jax.tree.map(lambda v: checks.floating("x", v), x))
    velocity = lambda x: jax.flatten_util.ravel_pytree(field(jnp.asarray(t, flat.dtype), unravel(x), args))[0]
    jacobian = jax.jacfwd(velocity)(flat)
    values = eigenvalues(jacobian)
    return Linearization(jacobian, values, classify(values, atol=atol))


def eigenvalues(matrix: Float[Array, "n n"]) -> Complex[Array, " n"]:
    """Eigenvalues of a small real matrix by falling real part; closed form for n <= 2 (any device, any mode)."""
    n = matrix.shape[-1]
    if n == 1:
        return jax.lax.complex(matrix[0], jnp.zeros_like(matrix[0]))
    if n == 2:
        half = 0.5 * (matrix[0, 0] + matrix[1, 1])
        square = 0.25 * (matrix[0, 0] - matrix[1, 1]) ** 2 + matrix[0, 1] * matrix[1, 0]
        real, imag = safe_sqrt(square), safe_sqrt(-square)
        # The determinant gives the smaller real root without cancellation.
        big = half + jnp.where(half >= 0, real, -real)
        det = matrix[0, 0] * matrix[1, 1] - matrix[0, 1] * matrix[1, 0]
        small = jnp.where(big != 0, det / jnp.where(big != 0, big, 1), 0)
        first = jnp.where(square >= 0, jnp.maximum(big, small), half)
        second = jnp.where(square >= 0, jnp.minimum(big, small), half)
        return jax.lax.complex(jnp.stack([first, second]), jnp.stack([imag, -imag]))
    values = jnp.linalg.eigvals(matrix)
    return values[jnp.argsort(-jnp.real(values))]


def classify(values: Complex[Array, "... n"], *, atol: float | None = None) -> Int[Array, "..."]:
    """Name the motion that eigenvalues describe.

    Args:
        values: Eigenvalues, shape `(..., n)`.
        atol: Parts below it count as zero; default 100 eps times the largest eigenvalue.

    Returns:
        `Kind` codes, shape `(...)`.

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
    return jnp.where(zero, int(Kind.degenerate), code)


@struct
class Equilibria(Outcome):
    """Rest points of a field, padded to a fixed capacity.

    Attributes:
        x: Points: the state's structure, leading axis `capacity`.
        found: Which entries are rest points (the others are padding).
        linearization: At each point.
        status: `Status` code of the search from each start.
    """

    verb: ClassVar[str] = "equilibria"

    x: Any
    found: Bool[Array, " capacity"]
    linearization: Linearization
    status: Int[Array, " capacity"]


def equilibria(
    field: Field, starts: PyTree, args: PyTree = None, *, rtol: float = 1e-8, atol: float = 1e-10, apart: float = 1e-5
) -> Equilibria:
    """Rest points of a field, by Newton from many starts; each distinct point is kept once.

    Args:
        field: `field(t, x, args)`, taken at `t = 0`.
        starts: Guesses, stacked along a leading axis of every leaf (the capacity of the result).
        args: Parameters; the points are differentiable in them.
        rtol: See `root`.
        atol: See `root`.
        apart: Points nearer than `apart * (1 + |x|)` are one point.

    Returns:
        `Equilibria`, with `found` marking the distinct ones in the order of the starts.

    Example:
        >>> import jax.numpy as jnp, jaxkit as jk
        >>> eq = jk.equilibria(lambda t, x, a: x * (a - x**2), jnp.array([-2.0, 0.1, 0.2, 3.0]), 4.0)
        >>> [round(float(x), 6) for x in eq.x[eq.found]]
        [-2.0, 0.0, 2.0]
    """
    zero = jnp.zeros((), jnp.result_type(float))
    residual = lambda x, a: field(zero, x, a)
    found = jax.vmap(lambda start: root(residual, start, args, rtol=rtol, atol=atol))(starts)
    flat = jax.vmap(lambda x: jax.flatten_util.ravel_pytree(x)[0])(found.value)
    gap = jnp.linalg.norm(flat[:, None, :] - flat[None, :, :], axis=-1)
    same = gap <= apart * (1 + jnp.linalg.norm(flat, axis=-1))[:, None]
    before = jnp.tril(jnp.ones_like(same), -1) & same & found.ok[None, :]
    keep = found.ok & ~jnp.any(before, axis=1)
    linear = jax.vmap(lambda x: linearize(field, x, args))(found.value)
    linear = Linearization(linear.jacobian, linear.eigenvalues, jnp.where(keep, linear.kind, int(Kind.none)))
    return Equilibria(found.value, keep, linear, found.status)


def nullclines(
    field: Field, window: tuple[float, float, float, float], args: PyTree = None, *, points: int = 200
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The curves on which each component of a field of two variables vanishes; on the host.

    Args:
        field: `field(t, x, args)`, taken at `t = 0`, with `x` of shape `(2,)`.
        window: `(x_low, x_high, y_low, y_high)`.
        args: Parameters.
        points: Grid points an axis; the curves are as exact as a linear interpolation between them.

    Returns:
        Polylines of shape `(k, 2)`: those where the first component vanishes, and those where the second does. Where
        they cross, the motion rests.

    Example:
        >>> import jax.numpy as jnp, jaxkit as jk
        >>> circle = lambda t, x, r: jnp.stack([x @ x - r**2, x[0]])
        >>> (ring,), (axis,) = jk.nullclines(circle, (-2.1, 2.0, -2.0, 2.0), 1.0)
        >>> bool(abs((ring**2).sum(axis=1) - 1).max() < 1e-3), bool(abs(axis[:, 0]).max() < 1e-12)
        (True, True)
    """
    import contourpy  # comes with matplotlib, and is not needed elsewhere in this layer

    x, y = np.linspace(*window[:2], points), np.linspace(*window[2:], points)
    grid = jnp.asarray(np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2))
    velocity = np.asarray(jax.vmap(lambda p: field(jnp.zeros((), grid.dtype), p, args))(grid)).reshape(
        points, points, 2
    )
    first, second = (contourpy.contour_generator(x, y, velocity[..., i]).lines(0.0) for i in range(2))
    return [np.asarray(line) for line in first], [np.asarray(line) for line in second]


def divergence(field: Field, weight: Callable[[Any], Array] | None = None) -> Callable[[Any, Any], Array]:
    """Divergence of `weight * field` by automatic differentiation: `(x, args) -> number`.

    With a positive `weight` (a Dulac function) a divergence of one sign excludes cycles (Bendixson-Dulac).

    Example:
        >>> import jax.numpy as jnp, jaxkit as jk
        >>> float(jk.divergence(lambda t, x, a: a * x)(jnp.ones(3), 2.0))
        6.0
    """

    def of(x: Any, args: Any) -> Array:
        flat, unravel = jax.flatten_util.ravel_pytree(x)

        def flow(flat: Array) -> Array:
            velocity = jax.flatten_util.ravel_pytree(field(jnp.zeros((), flat.dtype), unravel(flat), args))[0]
            return velocity if weight is None else weight(unravel(flat)) * velocity

        return jnp.trace(jax.jacfwd(flow)(flat))

    return of

"""One step along a branch of equilibria, and what lies between its two ends.

A point carries a signature of three whole numbers: the number of eigenvalues to the right of the imaginary axis, the
direction of the parameter, and the orientation of the bordered Jacobian. Every special point changes it. Signs are
compared, never products, so that nothing over- or underflows and eigenvalues that cross together do not cancel.
"""

import dataclasses
import enum
from collections.abc import Callable
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Complex, Float, Int

from jaxkit.core.status import Status
from jaxkit.dynamics.analysis.eigenvalues import eigenvalues
from jaxkit.dynamics.linear.dense import solve_dense, value_and_jacobian
from jaxkit.dynamics.roots.methods.bracket import bisected
from jaxkit.dynamics.roots.root import root

Residual = Callable[[Array], Array]  # (n + 1,) scaled state and parameter -> (n,)

SHRINK, SHORTEST = 0.6, 1e-6  # a failed step is shortened by this factor, down to this fraction of the longest
TURN = 0.75  # least cosine between the tangents of a step's ends
LIMIT = 0.01  # special points nearer than this fraction of a step are one; also, what counts as small


class Special(enum.IntEnum):
    """What happens between two points of a branch."""

    none = 0
    fold = 1
    branch_point = 2
    hopf = 3
    kink = 4  # the signature jumps although nothing vanishes: the field is not smooth there


class Place(NamedTuple):
    """A point of a branch.

    Attributes:
        u: State and parameter in scaled units, shape `(n + 1,)`.
        tangent: Unit tangent, shape `(n + 1,)`.
        values: Eigenvalues, shape `(n,)`.
        up: Number of eigenvalues whose real part is surely positive.
        down: Number of eigenvalues whose real part is surely negative.
        neutral: Number of eigenvalues that cannot be told from the imaginary axis.
        border: Sign of the determinant of the Jacobian bordered by the tangent.
        sizes: Logarithms of what vanishes at a fold, a branch point and a Hopf point, shape `(3,)`.
        fine: Whether this is a point of the branch at all.
    """

    u: Float[Array, " m"]
    tangent: Float[Array, " m"]
    values: Complex[Array, " n"]
    up: Int[Array, ""]
    down: Int[Array, ""]
    neutral: Int[Array, ""]
    border: Int[Array, ""]
    sizes: Float[Array, " 3"]
    fine: Bool[Array, ""]

    @property
    def signature(self) -> Int[Array, "... 3"]:
        """What changes at a special point."""
        return jnp.stack([jnp.sign(self.tangent[..., -1]).astype(int), self.border, self.up], axis=-1)


class Step(NamedTuple):
    """Where a step ended.

    Attributes:
        end: The last point of the step; not `fine` where the branch was lost.
        length: Length of the step.
        kind: `Special` code of the point it passed.
        there: That point, in scaled units; NaN where it passed none.
    """

    end: Place
    length: Float[Array, ""]
    kind: Int[Array, ""]
    there: Float[Array, " m"]


class Curve(Protocol):
    """A curve of equilibria: how it is corrected to, and what is known at a point."""

    def correct(self, guess: Array, normal: Array) -> tuple[Array, Int[Array, ""]]:
        """The point of the curve in the plane through `guess` with normal `normal`, and its `Status` code."""
        ...

    def place(self, u: Array, like: Array, fine: Array) -> Place:
        """The properties of a point `u`; the tangent points along `like`."""
        ...

    def branch_point(self, u: Array, length: Array) -> Array:
        """A simple branch point near `u`."""
        ...


@dataclasses.dataclass(frozen=True)
class Dense:
    """A curve with dense Jacobians, all of whose eigenvalues are looked at.

    Attributes:
        residual: What vanishes on it.
    """

    residual: Residual

    def correct(self, guess: Array, normal: Array) -> tuple[Array, Int[Array, ""]]:
        """The point of the curve in the plane through `guess` with normal `normal`, and its `Status` code."""
        found = root(lambda u, _: jnp.append(self.residual(u), normal @ (u - guess)), guess, max_steps=16)
        return found.value, found.status

    def place(self, u: Array, like: Array, fine: Array) -> Place:
        """The properties of a point `u`; the tangent points along `like`."""
        jac = value_and_jacobian(self.residual, u)[1]
        tangent = solve_dense(jnp.concatenate([jac, like[None]]), jnp.zeros_like(u).at[-1].set(1))
        tangent = tangent / jnp.linalg.norm(tangent)
        bordered = jnp.concatenate([jac, tangent[None]])
        values, tolerance = _spectrum(jac[:, :-1])
        real = jnp.real(values)
        border, volume = jnp.linalg.slogdet(bordered)
        sizes = jnp.stack([jnp.log(jnp.abs(tangent[-1])), volume, jnp.log(jnp.min(jnp.abs(real)))])
        fine = fine & jnp.all(jnp.isfinite(bordered)) & jnp.all(jnp.isfinite(values))
        border = jnp.where(fine, border, 0).astype(int)
        up, down = jnp.sum(real > tolerance), jnp.sum(real < -tolerance)
        return Place(u, tangent, values, up, down, values.size - up - down, border, sizes, fine)

    def branch_point(self, u: Array, length: Array) -> Array:
        """A simple branch point near `u`."""
        return _branch_point(self.residual, u, length)


def _spectrum(matrix: Float[Array, "n n"]) -> tuple[Complex[Array, " n"], Float[Array, " n"]]:
    """Eigenvalues, and how far each may be off by rounding (componentwise, from its left and right eigenvectors)."""
    n = len(matrix)
    rounding = 64 * n * float(jnp.finfo(matrix.dtype).eps)
    if n == 1:
        return eigenvalues(matrix), rounding * jnp.abs(matrix[0])
    if n == 2:
        values = eigenvalues(matrix)
        trace, product = jnp.abs(jnp.diagonal(matrix)).sum(), jnp.abs(matrix[0, 1] * matrix[1, 0])
        size = jnp.abs(values[::-1])
        paired = jnp.abs(jnp.imag(values)) > 0
        smaller = (jnp.abs(matrix[0, 0] * matrix[1, 1]) + product) / jnp.where(size > 0, size, 1)
        return values, rounding * jnp.where(paired, trace, jnp.minimum(smaller, trace + jnp.sqrt(product)))
    values, right = jnp.linalg.eig(matrix)
    order = jnp.argsort(-jnp.real(values))
    values, right = values[order], right[:, order]
    left = jnp.linalg.inv(right)
    size = jnp.einsum("ij,jk,ki->i", jnp.abs(left), jnp.abs(matrix), jnp.abs(right))
    most = jnp.linalg.norm(matrix) / rounding**0.5  # a defective eigenvalue is off by the square root of the rounding
    return values, rounding * jnp.where(size < most, size, most)


def forward(curve: Curve, before: Place, length: Array, longest: float, alive: Array) -> Step:
    """One step from `before`: as long as `length` if the corrector allows it, else shorter.

    It is shortened where the corrector fails or goes elsewhere than the tangent says, where the branch turns too much,
    and where the end lies on a special point; and so that it passes only one special point.
    """

    def trying(carry: tuple[Place, Array, Array]) -> Array:
        end, _, following = carry
        return alive & ~end.fine & (following >= SHORTEST * longest)

    def attempt(carry: tuple[Place, Array, Array]) -> tuple[Place, Array, Array]:
        _, _, length = carry
        return _reach(curve, before, length), length, SHRINK * length

    nowhere = before._replace(fine=jnp.zeros((), bool))
    end, length, _ = jax.lax.while_loop(trying, attempt, (nowhere, length, length))
    passed = end.fine & jnp.any(end.signature != before.signature)
    straight = Step(end, length, jnp.asarray(Special.none.value), jnp.full_like(end.u, jnp.nan))
    return jax.lax.cond(passed, lambda: _locate(curve, before, end, length), lambda: straight)


def _reach(curve: Curve, before: Place, length: Array) -> Place:
    """The point one step along the tangent; it is `fine` if it can be trusted."""
    guess = before.u + length * before.tangent
    u, status = curve.correct(guess, before.tangent)
    near = (jnp.linalg.norm(u - guess) <= 0.5 * length) & (jnp.linalg.norm(u - before.u) >= 0.5 * length)
    end = curve.place(u, before.tangent, (status == int(Status.ok)) & near)
    # det of the Jacobian = direction * det of the bordered one = (-1)^down: an end on a special point fails this.
    parity = jnp.sign(end.tangent[-1]).astype(int) * end.border * (1 - 2 * (end.down % 2)) > 0
    clear = (end.neutral <= before.neutral) & (parity | (end.neutral > 0))
    return end._replace(fine=end.fine & clear & (end.tangent @ before.tangent >= TURN))


def _locate(curve: Curve, before: Place, after: Place, length: Array) -> Step:
    """Bisect for the first change of signature, name it, and end the step before the next one."""
    between = lambda s: _between(curve, before, after, s)
    same = lambda s: (lambda p: p.fine & jnp.all(p.signature == before.signature))(between(s))
    zero = jnp.zeros((), length.dtype)
    low, high = bisected(same, zero, zero + 1, halvings=45)
    soon = jnp.minimum(high + LIMIT, 1)
    later = soon + (1 - soon) * 2.0 ** -jnp.arange(1, 7, dtype=length.dtype)
    shares = jnp.concatenate([jnp.stack([low, high, 0.5 * low]), later, soon[None]])
    places = jax.lax.map(between, shares)  # one after another, so that the program holds the corrector once
    pick = lambda i: jax.tree.map(lambda v: v[i], places)
    low_place, high_place, back = pick(0), pick(1), pick(2)
    # The step ends where the signature is still the one right behind the special point.
    alone = places.fine & jnp.all(places.signature == places.signature[-1:], axis=-1)
    whole = (soon >= 1) | ~places.fine[-1] | jnp.all(after.signature == places.signature[-1])
    last = 3 + jnp.argmax(alone[3:])
    end, share = jax.tree.map(lambda x, y: jnp.where(whole, x, y), (after, zero + 1), (pick(last), shares[last]))
    kind, vanishes = _named(before, low_place, end)
    joined = high_place.fine & (jnp.linalg.norm(high_place.u - low_place.u) <= LIMIT * length)
    kind = jnp.where(vanishes, kind, jnp.where(joined, Special.kink.value, Special.none.value))
    single = (kind == Special.branch_point.value) & (end.border != before.border)
    there = jnp.where(single, curve.branch_point(low_place.u, length), low_place.u)
    # Neither: the corrector went to another branch. Stay on this one.
    torn = ~vanishes & ~joined
    back = back._replace(fine=back.fine & (low > 0) & jnp.all(back.signature == before.signature))
    end, share = jax.tree.map(lambda x, y: jnp.where(torn, x, y), (back, 0.5 * low), (end, share))
    return Step(end, share * length, kind, jnp.where(kind > 0, there, jnp.nan))


def _named(before: Place, spot: Place, end: Place) -> tuple[Int[Array, ""], Bool[Array, ""]]:
    """The name of the change between two ends, and whether what should vanish for it does so at the spot."""
    direction, border, _ = end.signature != before.signature
    real, imag = jnp.abs(jnp.real(spot.values)), jnp.abs(jnp.imag(spot.values))
    pair = imag[jnp.argmin(real)] > 1e3 * jnp.min(real)
    crossing = jnp.where(pair, Special.hopf.value, Special.branch_point.value)
    kind = jnp.where(border, Special.branch_point.value, jnp.where(direction, Special.fold.value, crossing))
    size = lambda p: jnp.where(border, p.sizes[1], jnp.where(direction, p.sizes[0], p.sizes[2]))
    return kind, size(spot) <= jnp.log(LIMIT) + jnp.maximum(size(before), size(end))


def _between(curve: Curve, before: Place, after: Place, s: Array) -> Place:
    """The point at the fraction `s` of the way, guessed from the cubic through both ends with their tangents."""
    chord = after.u - before.u
    length = jnp.linalg.norm(chord)
    first, last = length * before.tangent, length * after.tangent
    bend, twist = 3 * chord - 2 * first - last, first + last - 2 * chord
    guess = before.u + s * (first + s * (bend + s * twist))
    normal = first + s * (2 * bend + 3 * s * twist)
    normal = normal / jnp.linalg.norm(normal)
    u, status = curve.correct(guess, normal)
    near = jnp.linalg.norm(u - guess) <= 0.25 * length
    return curve.place(u, normal, (status == int(Status.ok)) & near)


def _branch_point(residual: Residual, u: Array, length: Array) -> Array:
    """The root of the extended system that is regular at a simple branch point, where the branch's own is singular.

    The unknowns are `(u, beta, psi)`: `G(u) + beta psi = 0`, `G'(u)^T psi = 0`, `|psi| = 1` (`beta` ends at 0). Returns
    `u` itself where that system has no root nearby.
    """
    n = u.size - 1
    psi = jnp.linalg.svd(value_and_jacobian(residual, u)[1])[0][:, -1]

    def system(z: Array, _: None) -> Array:
        u, beta, psi = z[: n + 1], z[n + 1], z[n + 2 :]
        value, pull = jax.vjp(residual, u)
        return jnp.concatenate([value + beta * psi, pull(psi)[0], (psi @ psi - 1)[None]])

    found = root(system, jnp.concatenate([u, jnp.zeros_like(psi[:1]), psi]), max_steps=20)
    better = found.value[: n + 1]
    return jnp.where(found.ok & (jnp.linalg.norm(better - u) <= 0.1 * length), better, u)

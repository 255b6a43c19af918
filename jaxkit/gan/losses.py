"""The losses of two players as pairs of pure functions of the critic's outputs on real and on fake samples.

All losses in the table come from three families, each made from convex functions of one number: losses of real and
fake samples separately, losses of pairs `r - f` (relativistic), and losses that compare each sample with the mean of
the other kind (relativistic average). `loss.critic(r, f)` and `loss.generator(r, f)` are both to be minimised.
"""

import dataclasses
from collections.abc import Callable
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxkit.core import checks

Weights: TypeAlias = tuple[Array, Array] | None
Player: TypeAlias = Callable[..., Array]
Curve: TypeAlias = Callable[[Array], Array]


@dataclasses.dataclass(frozen=True)
class Loss:
    """A pair of losses.

    Attributes:
        name: Its name in `LOSSES`.
        critic: `critic(r, f, *, weights=None)`: what the critic minimises; `r` and `f` have shape `(batch,)`.
            `weights = (w_r, w_f)`, each summing to 1, turn means into weighted ones (quadrature, importance weights).
        generator: `generator(r, f, *, weights=None)`: what the generator minimises.
        relativistic: Whether adding a constant to the critic changes nothing.
        centre: Number with which the loss is the same for the critic `2 centre - T` with real and fake exchanged.
        penalty: Name of the gradient penalty that belongs to it, or None.
        distance: Whether the critic's loss needs `distance=`, shape `(batch,)`: how far each real sample is from its
            fake (GAN-QP).
        slope: The `phi` of the family of pairs, which `all_pairs` needs, or None.
    """

    name: str
    critic: Player
    generator: Player
    relativistic: bool
    centre: float = 0.0
    penalty: str | None = None
    distance: bool = False
    slope: Curve | None = None


def _mean(values: Array, weights: Array | None) -> Array:
    return jnp.mean(values) if weights is None else jnp.sum(weights * values)


def _pair(weights: Weights) -> tuple[Array | None, Array | None]:
    return (None, None) if weights is None else weights


# The players of the families are records, not closures, so that they compare by value, and a model that was trained
# with a user's own loss can be saved.


@dataclasses.dataclass(frozen=True)
class _Swapped:
    """A player with the loss of another, with real and fake exchanged."""

    other: Player

    def __call__(self, r: Array, f: Array, *, weights: Weights = None) -> Array:
        return self.other(f, r, weights=None if weights is None else (weights[1], weights[0]))


@dataclasses.dataclass(frozen=True)
class _Apart:
    real: Curve
    fake: Curve

    def __call__(self, r: Array, f: Array, *, weights: Weights = None) -> Array:
        w_r, w_f = _pair(weights)
        return _mean(self.real(r), w_r) + _mean(self.fake(f), w_f)


@dataclasses.dataclass(frozen=True)
class _Fool:
    curve: Curve

    def __call__(self, r: Array, f: Array, *, weights: Weights = None) -> Array:
        return _mean(self.curve(f), _pair(weights)[1])


@dataclasses.dataclass(frozen=True)
class _Pairs:
    phi: Curve
    every: bool

    def __call__(self, r: Array, f: Array, *, weights: Weights = None) -> Array:
        if weights is None and not self.every:
            return jnp.mean(self.phi(r - f))
        values = self.phi(r[:, None] - f[None, :])
        return jnp.mean(values) if weights is None else weights[0] @ values @ weights[1]


@dataclasses.dataclass(frozen=True)
class _Average:
    phi: Curve

    def __call__(self, r: Array, f: Array, *, weights: Weights = None) -> Array:
        w_r, w_f = _pair(weights)
        at_real, at_fake = self.phi(r - _mean(f, w_f)), self.phi(_mean(r, w_r) - f)
        return 0.5 * (_mean(at_real, w_r) + _mean(at_fake, w_f))


@dataclasses.dataclass(frozen=True)
class _Quadratic:
    strength: float | None

    def __call__(self, r: Array, f: Array, *, distance: Array | None = None, weights: Weights = None) -> Array:
        checks.require(weights is None, "weights", "be None for GAN-QP", "is given")
        if self.strength is None:
            return jnp.mean(r - f)
        if distance is None:
            raise ValueError("Argument `distance` must be given for GAN-QP, but is None.")
        return jnp.mean(f - r + (r - f) ** 2 / (2 * self.strength * distance))


def apart(name: str, real: Curve, fake: Curve, generator: Curve, *, centre: float = 0.0) -> Loss:
    """The loss `E real(r) + E fake(f)` of the critic and `E generator(f)` of the generator."""
    return Loss(name, _Apart(real, fake), _Fool(generator), relativistic=False, centre=centre)


def pairs(name: str, phi: Curve, *, penalty: str | None = None, every: bool = False) -> Loss:
    """The loss `E phi(r - f)` of the critic and `E phi(f - r)` of the generator.

    Args:
        name: Name of the loss.
        phi: A function that decreases as the critic does better.
        penalty: See `Loss`.
        every: Whether every real sample is paired with every fake one (the U-statistic), not only with its own. With
            weights, the expectation over independent pairs is taken in either case.
    """
    critic = _Pairs(phi, every)
    return Loss(name, critic, _Swapped(critic), relativistic=True, penalty=penalty, slope=phi)


def average(name: str, phi: Curve) -> Loss:
    """The loss `[E phi(r - mean f) + E phi(mean r - f)] / 2` of the critic; the generator's has `r` and `f` swapped."""
    critic = _Average(phi)
    return Loss(name, critic, _Swapped(critic), relativistic=True)


def quadratic_potential(name: str, strength: float = 10.0) -> Loss:
    """GAN-QP: `E [f - r + (r - f)^2 / (2 strength d)]`, with `d` the distance between the two samples."""
    return Loss(name, _Quadratic(strength), _Quadratic(None), relativistic=True, distance=True)


def find(loss: str | Loss) -> Loss:
    """The loss of that name, or the loss itself."""
    if isinstance(loss, Loss):
        return loss
    checks.one_of("loss", loss, LOSSES)
    return LOSSES[loss]


def all_pairs(loss: Loss) -> Loss:
    """The same loss of pairs, but with every real sample against every fake one: less variance, the same optimum.

    Raises:
        ValueError: The loss is not a loss of pairs.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxkit import gan
        >>> r, f = jnp.array([1.0, 2.0]), jnp.array([0.0, 3.0])
        >>> rpls = gan.LOSSES["rpls"]
        >>> float(rpls.critic(r, f)), float(gan.all_pairs(rpls).critic(r, f))
        (2.0, 3.5)
    """
    if loss.slope is None:
        raise ValueError(f"Argument `loss` must be a loss of pairs, but is {loss.name!r}.")
    return pairs(f"{loss.name} (all pairs)", loss.slope, penalty=loss.penalty, every=True)


def distances(real: Float[Array, "batch ..."], fake: Float[Array, "batch ..."]) -> Float[Array, " batch"]:
    """Mean absolute difference of each real sample from its fake: the distance in GAN-QP, always positive."""
    return jnp.mean(jnp.abs(real - fake), axis=tuple(range(1, real.ndim))) + 1e-6


sp = jax.nn.softplus
relu = jax.nn.relu
_TABLE = (
    apart("sgan", lambda r: sp(-r), sp, lambda f: sp(-f)),
    apart("sgan-saturating", lambda r: sp(-r), sp, lambda f: -sp(f)),
    pairs("rsgan", lambda d: sp(-d)),
    average("rasgan", lambda d: sp(-d)),
    apart("lsgan", lambda r: 0.5 * (r - 1) ** 2, lambda f: 0.5 * f**2, lambda f: 0.5 * (f - 1) ** 2, centre=0.5),
    average("ralsgan", lambda d: (d - 1) ** 2),
    pairs("rpls", lambda d: (d - 1) ** 2),
    apart("hinge", lambda r: relu(1 - r), lambda f: relu(1 + f), lambda f: -f),
    average("rahinge", lambda d: relu(1 - d)),
    pairs("rphinge", lambda d: relu(1 - d)),
    pairs("wgan", lambda d: -d),
    pairs("wgan-gp", lambda d: -d, penalty="gp"),
    pairs("wgan-lp", lambda d: -d, penalty="lp"),
    pairs("wgan-div", lambda d: -d, penalty="div"),
    quadratic_potential("gan-qp"),
)
LOSSES: dict[str, Loss] = {loss.name: loss for loss in _TABLE}
"""All losses by name.

References:
    sgan: Goodfellow et al. (2014). rsgan: Su, kexue.fm/archives/6110; Jolicoeur-Martineau (2018), also all of `ra*` and
    `rp*`. lsgan: Mao et al. (2016). hinge: Lim and Ye (2017). wgan: Arjovsky et al. (2017); -gp: Gulrajani et al.
    (2017); -lp: Petzka et al. (2017); -div: Wu et al. (2017), kexue.fm/archives/6139. gan-qp: Su (2018),
    kexue.fm/archives/6163.
"""

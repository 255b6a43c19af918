"""Penalties on the gradient of the critic in its input. Norms are over all axes of a sample, channels and pixels."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from jaxkit.core import checks
from jaxkit.learn.gradients import half_square_gradient

Critic = Callable[[Any, Array], Array]
TINY = 1e-12
"""Added under the root where a norm is differentiated, so that the gradient at zero is zero, not NaN."""


@dataclasses.dataclass(frozen=True)
class Penalty:
    """A penalty: where the gradient is taken, and what its size costs.

    Attributes:
        name: Its name in `PENALTIES`.
        at: `"real"`, `"fake"`, `"both"` (the sum of the two means), or `"between"` (one point on the segment between
            each real sample and its fake, uniform).
        price: Maps half the squared norms, shape `(batch,)`, to their costs.
        weight: Its usual weight.
    """

    name: str
    at: str
    price: Callable[[Array], Array]
    weight: float


def _norm(half: Array) -> Array:
    return jnp.sqrt(2 * half + TINY)


_TABLE = (
    Penalty("none", "real", jnp.zeros_like, 0.0),
    Penalty("r1", "real", lambda half: half, 1.0),
    Penalty("r2", "fake", lambda half: half, 1.0),
    Penalty("r1+r2", "both", lambda half: half, 1.0),
    Penalty("zero", "between", lambda half: 2 * half, 10.0),
    Penalty("gp", "between", lambda half: (_norm(half) - 1) ** 2, 10.0),
    Penalty("lp", "between", lambda half: jax.nn.relu(_norm(half) - 1) ** 2, 10.0),
    Penalty("div", "both", lambda half: (2 * half) ** 3, 1.0),
)
PENALTIES: dict[str, Penalty] = {penalty.name: penalty for penalty in _TABLE}
"""All penalties by name.

`r1`, `r2`: half the squared norm (Mescheder et al. 2018; Roth et al. 2017). `zero`: zero-centred between real and fake
(Thanh-Tung et al. 2019). `gp`, `lp`: one-centred, two- and one-sided (Gulrajani et al. 2017; Petzka et al. 2017).
`div`: WGAN-div with k = 2, p = 6 (Wu et al. 2017), `k/2 (E |grad real|^p + E |grad fake|^p)`.
"""


def penalise(
    penalty: str | Penalty,
    critic: Critic,
    params: PyTree,
    real: Float[Array, "batch ..."],
    fake: Float[Array, "batch ..."],
    *,
    key: Array | None = None,
    mode: str = "forward",
) -> Float[Array, ""]:
    """The penalty of a critic, without its weight; first derivatives in `params` are exact and cheap.

    Args:
        penalty: A `Penalty` or its name.
        critic: `critic(params, x)`, which gives one number per sample.
        params: Its parameters.
        real: Real samples.
        fake: As many fake samples.
        key: Random key, for penalties between real and fake.
        mode: See `jaxkit.learn.gradients.half_square_gradient`.

    Raises:
        ValueError: The name is unknown, or a key is needed but not given.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxkit import gan
        >>> critic = lambda a, x: a * jnp.sum(x, axis=1)
        >>> x = jnp.ones((4, 2))
        >>> float(gan.penalise("r1+r2", critic, 3.0, x, -x))  # the gradient is (3, 3) everywhere
        18.0
    """
    penalty = find(penalty)
    if penalty.name == "none":
        return jnp.zeros((), real.dtype)
    half = lambda x: penalty.price(half_square_gradient(critic, params, x, mode=mode))
    if penalty.at == "both":
        return 2 * jnp.mean(half(jnp.concatenate([real, fake])))
    return jnp.mean(half(points(penalty, real, fake, key)))


def find(penalty: str | Penalty) -> Penalty:
    """The penalty of that name, or the penalty itself."""
    if isinstance(penalty, Penalty):
        return penalty
    checks.one_of("penalty", penalty, PENALTIES)
    return PENALTIES[penalty]


def points(penalty: Penalty, real: Array, fake: Array, key: Array | None) -> Array:
    """Where a penalty takes the gradient, unless at both."""
    if penalty.at != "between":
        return {"real": real, "fake": fake}[penalty.at]
    if key is None:
        raise ValueError(f"Argument `key` must be given for the penalty {penalty.name!r}, but is None.")
    share = jax.random.uniform(key, (len(real),) + (1,) * (real.ndim - 1), real.dtype)
    return share * real + (1 - share) * fake

"""Article I: how a landscape is dug."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Energies = Float[Array, " batch"]


def unbounded(u: Energies) -> Energies:
    """The energies as they are."""
    return u


class Digging(NamedTuple):
    """How the landscape is dug.

    Attributes:
        dig: Loss of the landscape, from the energies at real and at fake points.
        jump: Loss of the generator, from the energies at fake points.
        floor: Applied first to the network's output: it sets the range of the energy.
    """

    dig: Callable[[Energies, Energies], Float[Array, ""]]
    jump: Callable[[Energies], Float[Array, ""]]
    floor: Callable[[Energies], Energies] = unbounded


MARGIN = 1.0
DIGGINGS: Mapping[str, Digging] = MappingProxyType(
    {
        "linear": Digging(lambda real, fake: jnp.mean(real) - jnp.mean(fake), jnp.mean),
        "hinge": Digging(
            lambda real, fake: jnp.mean(jax.nn.relu(1 + real)) + jnp.mean(jax.nn.relu(1 - fake)), jnp.mean
        ),
        "nonnegative": Digging(
            lambda real, fake: jnp.mean(real) + jnp.mean(jax.nn.relu(MARGIN - fake)), jnp.mean, jax.nn.softplus
        ),
    }
)
"""Name -> how to dig. `linear`: `E_real U - E_fake U`; `hinge`; `nonnegative`: `E_real U + E_fake max(0, m - U)`."""

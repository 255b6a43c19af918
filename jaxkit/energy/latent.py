"""Sampling through a generator: densities of the latent variable, two of which are often confused."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

LatentEnergy = Callable[[Float[Array, " k"], Any], Float[Array, ""]]


def article(energy: Callable[[Array, PyTree], Array], generator: Callable[[Array, PyTree], Array]) -> LatentEnergy:
    """The article's energy `U(G(z))`, for `jk.sample`: a truncation trick, not a sampler of `exp(-U(x))`.

    The resulting `x = G(z)` has the density `exp(-U(x)) / |det dG/dz|`: right if the generator changes volumes equally
    everywhere (an affine one), wrong otherwise. The energy and the generator take one point and args.

    References:
        Su, An energy view of GAN II, kexue.fm/archives/6331 (which notes that it needs det J = 1).
    """
    return lambda z, args: energy(generator(z, args), args)


def exact(energy: Callable[[Array, PyTree], Array], generator: Callable[[Array, PyTree], Array]) -> LatentEnergy:
    """The exact energy `U(G(z)) - 1/2 log det(J^T J)`, `J = dG/dz`: then `x = G(z)` has the density `exp(-U)`.

    This holds for an invertible generator; if it maps into more dimensions, for the density on its surface.

    Example:
        >>> import jax, jax.numpy as jnp, jaxkit as jk
        >>> from jaxkit.energy import latent
        >>> target = lambda x, _: (x[0] - 2.0) ** 2  # N(2, 1/2)
        >>> G = lambda z, _: jnp.sinh(z)
        >>> z0 = jnp.ones((500, 1))
        >>> for way in (latent.article, latent.exact):
        ...     run = jk.sample(way(target, G), z0, key=jax.random.key(0), steps=1000, method=jk.MALA(0.2), warmup=100)
        ...     x = jnp.sinh(run.xs)
        ...     print(way.__name__, round(float(x.mean()), 1), round(float(x.var()), 1))
        article 1.8 0.5
        exact 2.0 0.5
    """

    def latent_energy(z: Float[Array, " k"], args: Any) -> Float[Array, ""]:
        jacobian = jax.jacfwd(lambda z: generator(z, args))(z)
        if jacobian.shape[0] == jacobian.shape[1]:
            volume = jnp.linalg.slogdet(jacobian)[1]
        else:
            volume = 0.5 * jnp.linalg.slogdet(jacobian.T @ jacobian)[1]
        return energy(generator(z, args), args) - volume

    return latent_energy


def driven(log_ratio: Callable[[Array, PyTree], Array], generator: Callable[[Array, PyTree], Array]) -> LatentEnergy:
    """`|z|^2 / 2 - T(G(z))`: exact for any generator when `T` is `log p_data / p_generator` (Che et al. 2020)."""
    return lambda z, args: 0.5 * jnp.sum(jnp.square(z)) - log_ratio(generator(z, args), args)

"""A denoiser with what one must know of its data: the object every verb of the subject takes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, PyTree

from jaxkit.core import checks
from jaxkit.core.struct import static, struct
from jaxkit.models.mixtures import Mixture


@struct
class Model:
    """A denoiser of data of one shape.

    Attributes:
        params: Parameters of `apply`.
        mean: Mean of the data: a scalar, or of the data's shape.
        variance: Variance of one coordinate of the data: a scalar, or of the data's shape.
        apply: `apply(params, y, sigma)`: the mean of `x` given `y = x + sigma n`, for `y` of shape `(n, *shape)` and
            `sigma` of shape `(n,)`.
        shape: Shape of one datum.
    """

    params: PyTree
    mean: Float[Array, "..."]
    variance: Float[Array, "..."]
    apply: Callable[[Any, Array, Array], Array] = static()
    shape: tuple[int, ...] = static()

    def denoise(self, y: Float[Array, "n ..."], sigma: ArrayLike) -> Float[Array, "n ..."]:
        """See `jaxkit.score.denoise`."""
        return denoise(self, y, sigma)

    def score(self, y: Float[Array, "n ..."], sigma: ArrayLike) -> Float[Array, "n ..."]:
        """Score of the noisy density, `grad log p_sigma(y)`, by Tweedie's identity."""
        levels = over(jnp.broadcast_to(jnp.asarray(sigma, y.dtype), y.shape[:1]), y)
        return (self.denoise(y, sigma) - y) / levels**2


def over(values: Float[Array, " n"], like: Array) -> Array:
    """`values`, one a datum, with trailing axes of length 1 to broadcast against `like`."""
    return values.reshape(values.shape + (1,) * (like.ndim - values.ndim))


def denoise(model: Model, y: Float[Array, "n ..."], sigma: ArrayLike) -> Float[Array, "n ..."]:
    """The mean of the data behind noisy ones: `r(y) = E[x | y = x + sigma n] = y + sigma^2 grad log p_sigma(y)`.

    Args:
        model: A denoiser.
        y: Noisy data, shape `(n, *model.shape)`.
        sigma: Noise: a scalar, or one value a datum, shape `(n,)`.

    Returns:
        Denoised data, of `y`'s shape.

    Raises:
        ValueError: `y` has not the shape of the model's data.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxkit import models, score
        >>> normal = score.exact(models.mixture([[0.0, 0.0]], 1.0))
        >>> score.denoise(normal, jnp.array([[2.0, -4.0]]), 1.0).tolist()  # y / (1 + sigma^2)
        [[1.0, -2.0]]

    References:
        Su, From denoising autoencoders to generative models (kexue.fm/archives/7038); Vincent (2011); Tweedie.
    """
    checks.shape("y", y, ("n", *model.shape))
    levels = jnp.broadcast_to(jnp.asarray(sigma, y.dtype), y.shape[:1])
    return model.apply(model.params, y, levels)


def exact(law: Mixture) -> Model:
    """The exact denoiser of a mixture of Gaussians, for everything that takes a model.

    Example:
        >>> import jax.numpy as jnp, jaxkit as jk
        >>> normal = jk.score.exact(jk.models.mixture([[0.0, 0.0]], 1.0))
        >>> normal.denoise(jnp.array([[2.0, -4.0]]), 1.0).tolist()  # y / (1 + sigma^2)
        [[1.0, -2.0]]
    """
    return Model(law, *law.moments(), Mixture.denoise, (law.means.shape[1],))


def save(path: str | Path, model: Model) -> Path:
    """Write a model's parameters and moments to one file (safetensors with a checksum).

    Args:
        path: Where to.
        model: The model; its `apply` is code and is not written.
    """
    from jaxkit.learn import checkpoint

    checkpoint.save(path, _arrays(model), meta={"shape": list(model.shape)})
    return Path(path)


def load(path: str | Path, like: Model) -> Model:
    """Read what `save` wrote into a model of the same construction.

    Args:
        path: The file.
        like: A model with the same `apply`, names, shapes and dtypes, for instance one that was not trained.

    Raises:
        ValueError: The file is damaged, or holds something else.
    """
    from jaxkit.learn import checkpoint

    tree = checkpoint.load(path, _arrays(like))
    return Model(tree["params"], tree["mean"], tree["variance"], like.apply, like.shape)


def _arrays(model: Model) -> dict[str, PyTree]:
    return jax.tree.map(jnp.asarray, {"params": model.params, "mean": model.mean, "variance": model.variance})

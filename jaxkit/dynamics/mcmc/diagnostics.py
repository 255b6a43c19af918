"""Are the chains good? Effective sample sizes and R-hat, as Stan computes them (Vehtari et al. 2021).

Draws count by their ranks, so that heavy tails and huge numbers do no harm. Each chain is cut in two. The folded draws,
`|x - median|`, tell chains apart that differ only in their spread.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxkit.core import checks

TOGETHER = 1 << 21  # most draws whose coordinates are judged side by side
ENOUGH = 250  # draws of each chain that tell whether R-hat is far above 1
ROUNDING = 16  # a variance of fewer eps of the mean square is none
KINDS = ("bulk", "tail", "mean")


def _draws(xs: Any) -> Array:
    xs = checks.floating("xs", xs)
    fits = xs.ndim >= 2 and xs.shape[0] >= 4
    checks.require(fits, "xs", "have shape (draws, chains, ...) with 4 draws or more", f"has shape {xs.shape}")
    return xs


def autocovariance(xs: Float[Array, "draws ..."]) -> Float[Array, "draws ..."]:
    """Autocovariances over the first axis at every lag, by the Fourier transform, divided by the number of draws.

    Args:
        xs: Draws, shape `(draws, ...)`.
    """
    n = xs.shape[0]
    centred = xs - jnp.mean(xs, axis=0, keepdims=True)
    spectrum = jnp.fft.rfft(centred, n=2 * n, axis=0)
    return jnp.fft.irfft(jnp.real(spectrum * jnp.conj(spectrum)), n=2 * n, axis=0)[:n].astype(xs.dtype) / n


@functools.partial(jax.jit, static_argnames="kind")
def effective_sample_size(xs: Float[Array, "draws chains ..."], kind: str = "bulk") -> Float[Array, "..."]:
    """The number of independent draws that the chains are worth.

    Args:
        xs: Draws, shape `(draws, chains, ...)`.
        kind: `"bulk"` for the middle of the distribution (of the rank-normalised draws); `"tail"` for its 5% and 95%
            quantiles, the smaller of the two; `"mean"` for the mean of the draws as they are.

    Returns:
        Shape `(...)`; at most `draws * chains * log10(draws * chains)`. NaN where a draw is not finite or all are
        the same.

    Example:
        >>> import jax
        >>> from jaxkit.dynamics.mcmc.diagnostics import effective_sample_size
        >>> independent = jax.random.normal(jax.random.key(0), (1000, 4))
        >>> 3000 < float(effective_sample_size(independent)) < 5000
        True

    References:
        Vehtari, Gelman, Simpson, Carpenter and Bürkner (2021), Rank-normalization, folding, and localization: an
        improved R-hat, Bayesian Analysis 16. Geyer (1992), Practical Markov chain Monte Carlo.
    """
    checks.one_of("kind", kind, KINDS)
    return _by_coordinate(functools.partial(_effective, kind=kind), _draws(xs))


def _effective(xs: Float[Array, "draws chains ..."], kind: str) -> Float[Array, "..."]:
    if kind == "bulk":
        found = _geyer(_halves(_normalised(xs)))
    elif kind == "tail":
        below = [xs <= jnp.quantile(xs, q, axis=(0, 1), keepdims=True) for q in (0.05, 0.95)]
        found = jnp.minimum(*(_geyer(_halves(inside.astype(xs.dtype))) for inside in below))
    else:
        largest = jnp.max(jnp.abs(xs), axis=(0, 1), keepdims=True)
        found = _geyer(_halves(xs / jnp.where(largest > 0, largest, 1)))
    return jnp.where(_usable(xs), found, jnp.nan)


@jax.jit
def split_rhat(xs: Float[Array, "draws chains ..."]) -> Float[Array, "..."]:
    """R-hat: the spread between half chains over the spread within them; near 1 where all tell the same story.

    It is the larger of the values for the rank-normalised draws and for the folded draws, as Stan prints it.

    Args:
        xs: Draws, shape `(draws, chains, ...)`; one chain is enough, since each is cut in two.

    Returns:
        Shape `(...)`. Above 1.01 the chains have not mixed (Vehtari et al. 2021). Infinite or very large where no chain
        moves and they differ; NaN where a draw is not finite or all are the same.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxkit.dynamics.mcmc.diagnostics import split_rhat
        >>> draws = jax.random.normal(jax.random.key(0), (1000, 2))
        >>> apart = draws + jnp.array([[0.0, 3.0]])  # two chains in two places
        >>> bool(split_rhat(draws) < 1.01), bool(split_rhat(apart) > 1.5)
        (True, True)
    """
    return _by_coordinate(_largest_rhat, _draws(xs))


def _largest_rhat(xs: Float[Array, "draws chains ..."]) -> Float[Array, "..."]:
    folded = jnp.abs(xs - jnp.median(xs, axis=(0, 1), keepdims=True))
    found = jnp.maximum(*(_rhat(_halves(_normalised(v))) for v in (xs, folded)))
    return jnp.where(_usable(xs), found, jnp.nan)


def _by_coordinate(fn: Callable[[Array], Array], xs: Float[Array, "draws chains ..."]) -> Float[Array, "..."]:
    """`fn` of all draws, some coordinates after others: it needs several times the memory of what it is given."""
    draws, chains, *shape = xs.shape
    d = math.prod(shape)
    width = max(1, TOGETHER // max(1, draws * chains))
    if d <= width:
        return fn(xs)
    flat = xs.reshape(draws, chains, d)
    return jax.lax.map(lambda i: fn(flat[:, :, i]), jnp.arange(d), batch_size=width).reshape(shape)


def mixed(xs: Float[Array, "draws chains d"], count: Bool[Array, " chains"], most: float) -> Bool[Array, ""]:
    """Whether R-hat is at most `most` in every coordinate, of the draws as they are and folded about their mean.

    It runs at the end of every `sample`, so it uses no ranks, which need a sort of all draws, and where there are many
    draws, `ENOUGH` of them or somewhat more.

    Args:
        xs: Draws, shape `(draws, chains, d)`.
        count: Which chains count.
        most: Largest R-hat.
    """
    weight = jnp.tile(count, 2).astype(xs.dtype)
    weight = weight / jnp.maximum(jnp.sum(weight), 1)
    whole = lambda v: jnp.tensordot(weight, v, 1)
    xs = xs[:: max(1, len(xs) // ENOUGH)]
    half = len(xs) // 2

    def means(fn: Callable[[Array], Array]) -> Array:
        return jnp.concatenate([jnp.mean(fn(v), axis=0) for v in (xs[:half], xs[-half:])])

    kept = lambda v: jnp.where(count.reshape(1, -1, *(1,) * (v.ndim - 2)), v, 0)
    size = whole(means(lambda v: jnp.abs(kept(v)) / half))  # (divided first: sums of huge draws overflow)
    unit = 1 / jnp.where(size > 0, size, 1)[None, None]
    centre = whole(means(lambda v: kept(v) * unit))
    apart = lambda v: kept(v) * unit - centre[None, None]
    square = means(lambda v: jnp.square(apart(v)))

    def usual(mean: Array) -> Array:
        """R-hat from the means of both halves of each chain."""
        spread = square - jnp.square(mean)
        spread = jnp.where(spread > ROUNDING * jnp.finfo(xs.dtype).eps * square, spread, 0)
        return _total(mean, spread * half / (half - 1), weight, half)

    worst = jnp.maximum(usual(means(apart)), usual(means(lambda v: jnp.abs(apart(v)))))
    return jnp.all(worst <= most)


def longest_rest(xs: Float[Array, "draws chains d"]) -> Int[Array, " chains"]:
    """The largest number of draws in a row for which each chain stayed where it was."""
    moves = jnp.any(xs[1:] != xs[:-1], axis=-1)
    draw = jnp.arange(1, len(xs))[:, None]
    return jnp.max(draw - jax.lax.cummax(jnp.where(moves, draw, 0), axis=0), axis=0, initial=0)


def _usable(xs: Array) -> Array:
    """Where every draw is finite and not all are the same."""
    moves = jnp.max(xs, axis=(0, 1)) > jnp.min(xs, axis=(0, 1))
    return jnp.all(jnp.isfinite(xs), axis=(0, 1)) & moves


def _halves(xs: Array) -> Array:
    """Each chain cut in two; the middle one of an odd number of draws is left out."""
    half = xs.shape[0] // 2
    return jnp.concatenate([xs[:half], xs[-half:]], axis=1)


def _normalised(xs: Array) -> Array:
    """The normal quantiles of the draws' ranks among all chains; ties share their mean rank."""
    flat = xs.reshape(xs.shape[0] * xs.shape[1], -1)

    def ranks(column: Array) -> Array:
        ordered = jnp.sort(column)
        below, upto = (jnp.searchsorted(ordered, column, side=side) for side in ("left", "right"))
        return 0.5 * (below + upto + 1).astype(column.dtype)

    rank = jax.vmap(ranks, in_axes=1, out_axes=1)(flat)
    return jax.scipy.special.ndtri((rank - 0.375) / (len(flat) + 0.25)).reshape(xs.shape)


def _rhat(xs: Array) -> Array:
    """The square root of total over within-chain variance."""
    n, chains = xs.shape[:2]
    weight = jnp.full(chains, 1 / chains, xs.dtype)
    return _total(jnp.mean(xs, axis=0), jnp.var(xs, axis=0, ddof=1), weight, n)


def _total(means: Array, variances: Array, weight: Array, n: int) -> Array:
    """R-hat from each chain's mean and variance of `n` draws, and the weights of the chains."""
    mean = lambda v: jnp.tensordot(weight, v, 1)
    share = 1 - jnp.sum(weight**2)  # (chains - 1) / chains where all weights are equal
    between = mean(jnp.square(means - mean(means)[None])) / jnp.where(share > 0, share, 1)
    return jnp.sqrt((n - 1) / n + between / mean(variances))


def _geyer(xs: Array) -> Array:
    """Draws over autocorrelation time, by Geyer's initial monotone sequence over all chains together."""
    n, chains = xs.shape[:2]
    covariance = jnp.mean(autocovariance(xs), axis=1)
    within = covariance[0] * n / (n - 1)
    total = covariance[0] + jnp.var(jnp.mean(xs, axis=0), axis=0, ddof=1)
    correlation = (1 - (within[None] - covariance) / total[None]).at[0].set(1)
    even, odd = correlation[: n // 2 * 2 : 2], correlation[1::2]
    pairs = even + odd
    last = min(max(-(-(n - 5) // 2), 0), len(pairs) - 1)  # Stan goes no further
    index = jnp.arange(len(pairs)).reshape(-1, *(1,) * (pairs.ndim - 1))
    positive = jax.lax.associative_scan(jnp.logical_and, (pairs > 0) & (index < last))
    falling = jax.lax.associative_scan(jnp.minimum, pairs)
    end = jnp.sum(positive, axis=0, keepdims=True)
    # The even lag behind the last pair counts once, unless the pair and it are negative.
    rest, pair = (jnp.take_along_axis(v, end, axis=0)[0] for v in (even[: len(pairs)], pairs))
    rest = jnp.where(pair >= 0, rest, jnp.maximum(rest, 0))
    time = -1 + 2 * jnp.sum(jnp.where(positive, falling, 0), axis=0) + rest
    return n * chains / jnp.maximum(time, 1 / jnp.log10(jnp.asarray(n * chains, xs.dtype)))

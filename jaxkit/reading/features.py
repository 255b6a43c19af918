"""Where question and passage agree: the article's eight features, exact and compiled, and the reader's own set.

The article's (kexue.fm/archives/5409) are match, co-occurrence between passages, and two soft matches of a window with
the question (Jaccard, relative edit distance), at the level of words, and the same at the level of characters, averaged
over each word. All functions take padded integer arrays (0 is padding); use `jax.vmap` for leading axes.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxkit.core import checks
from jaxkit.core.numerics import safe_divide
from jaxkit.reading import tokens as tk

DENSE = 11  # features per token in `dense`
BLOCK = 32  # bits of a machine word in `edit_distance`

_range = lambda n: jnp.arange(n, dtype=jnp.int32)


def match(question: Int[Array, " q"], passage: Int[Array, " p"]) -> Float[Array, " p"]:
    """1 where a token of the passage occurs in the question, else 0."""
    return jnp.any(_equal(question, passage), axis=1).astype(jnp.float32)


def cooccurrence(passages: Int[Array, "m p"]) -> Float[Array, "m p"]:
    """For each token, the number of other passages of the question that contain it, over that of all passages.

    A token in 4 of the 9 others of 10 passages has 4/10.
    """
    count = passages.shape[0]
    present = jax.vmap(lambda other: jax.vmap(lambda tokens: match(other, tokens))(passages))(passages)  # other, own
    others = present * (1 - jnp.eye(count, dtype=jnp.float32))[:, :, None]
    real = jnp.sum(jnp.any(passages > 0, axis=1)).astype(jnp.float32)
    return safe_divide(jnp.sum(others, axis=0), real[None, None])


def windows(question: Int[Array, " q"], passage: Int[Array, " p"]) -> tuple[Int[Array, " p"], Int[Array, " p"]]:
    """First token and length of the window around each token: `[i - n//2, i - n//2 + n)`, cut at the passage's ends."""
    n, size = _count(question), _count(passage)
    first = _range(passage.shape[0]) - n // 2
    start = jnp.maximum(first, 0)
    return start, jnp.maximum(jnp.minimum(first + n, size) - start, 0)


def jaccard(question: Int[Array, " q"], passage: Int[Array, " p"]) -> Float[Array, " p"]:
    """Jaccard similarity of the set of a window's tokens and the set of the question's."""
    start, length = windows(question, passage)
    size_q, size_p = question.shape[0], passage.shape[0]
    before = lambda v: jnp.tril(v[:, None] == v[None, :], -1)
    new = ~jnp.any(before(question), axis=1) & (question > 0)  # first occurrence in the question
    # A token counts once in a window: only where its previous occurrence lies before the window.
    previous = jnp.max(jnp.where(before(passage), _range(size_p)[None, :], -1), axis=1)
    index = start[:, None] + _range(size_q)[None, :]
    inside = _range(size_q)[None, :] < length[:, None]
    index = jnp.minimum(index, size_p - 1)
    distinct = inside & (previous[index] < start[:, None])
    in_question = jnp.any(_equal(question, passage), axis=1)
    both = jnp.sum(distinct & in_question[index], axis=1)
    either = jnp.sum(distinct, axis=1) + jnp.sum(new) - both
    score = safe_divide(both.astype(jnp.float32), either.astype(jnp.float32))
    return jnp.where(passage > 0, score, 0.0)


def edit_distance(question: Int[Array, " q"], passage: Int[Array, " p"]) -> Int[Array, " p"]:
    """Levenshtein distance between each token's window and the question, for all windows at once.

    It is bit-parallel (Myers 1999, in blocks after Hyyro 2003): a column of the table is a few machine words, so that a
    token of all windows costs about twenty integer operations for each word.

    Args:
        question: Tokens, 0 is padding.
        passage: Tokens, 0 is padding.

    Returns:
        The distance; the question's length where the passage is padding.
    """
    start, length = windows(question, passage)
    n, size_p = _count(question), passage.shape[0]
    blocks = -(-question.shape[0] // BLOCK)
    equal = jnp.pad(_equal(question, passage), ((0, 0), (0, blocks * BLOCK - question.shape[0])))
    bits = jnp.left_shift(jnp.uint32(1), jnp.arange(BLOCK, dtype=jnp.uint32))
    words = equal.reshape(size_p, blocks, BLOCK).astype(jnp.uint32) * bits[None, None, :]
    peq = jnp.sum(words, axis=-1, dtype=jnp.uint32)
    one, last = jnp.uint32(1), jnp.maximum(n - 1, 0)
    top = jnp.left_shift(one, (last % BLOCK).astype(jnp.uint32))

    def column(carry: tuple, k: Array) -> tuple[tuple, None]:
        plus, minus, score = carry
        eq = peq[jnp.minimum(start + k, size_p - 1)]
        live = k < length
        up, down = jnp.ones(size_p, bool), jnp.zeros(size_p, bool)  # the table's top row grows by one per column
        pluses, minuses, moved = [], [], score
        for b in range(blocks):
            pv, mv = plus[:, b], minus[:, b]
            xv = eq[:, b] | mv
            e = eq[:, b] | down.astype(jnp.uint32)
            xh = (((e & pv) + pv) ^ pv) | e
            ph, mh = mv | ~(xh | pv), pv & xh
            here = last // BLOCK == b
            rise = (ph & top != 0).astype(jnp.int32) - (mh & top != 0).astype(jnp.int32)
            moved = moved + jnp.where(here, rise, 0)
            out_up, out_down = ph >> jnp.uint32(31) != 0, mh >> jnp.uint32(31) != 0
            ph, mh = (ph << one) | up.astype(jnp.uint32), (mh << one) | down.astype(jnp.uint32)
            pluses.append(mh | ~(xv | ph))
            minuses.append(ph & xv)
            up, down = out_up, out_down
        keep = lambda new, old: jnp.where(live[:, None], new, old)
        plus, minus = keep(jnp.stack(pluses, 1), plus), keep(jnp.stack(minuses, 1), minus)
        return (plus, minus, jnp.where(live, moved, score)), None

    full = jnp.full((size_p, blocks), 0xFFFFFFFF, jnp.uint32)
    first = (full, jnp.zeros((size_p, blocks), jnp.uint32), jnp.broadcast_to(n, (size_p,)))
    (_, _, score), _ = jax.lax.scan(column, first, _range(question.shape[0]))
    return score


def article_features(question: Sequence[str], passages: Sequence[Sequence[str]]) -> np.ndarray:
    """The article's eight features of every word of every passage of a question.

    Args:
        question: Words of the question.
        passages: Words of each passage.

    Returns:
        Shape `(passages, words, 8)`, zero after a passage's last word. The last axis holds match, co-occurrence,
        Jaccard, and edit distance over the question's length; then the same four of characters, averaged over words.

    Example:
        >>> from jaxkit.reading import features
        >>> question, passage = "白云山 的 海拔 是 多少 ？".split(), "白云山 坐落 在 广州 ， 主峰 海拔 3 8 2 米".split()
        >>> f = features.article_features(question, [passage])
        >>> [round(float(v), 2) for v in f[0, :, 2]], [round(float(v), 2) for v in f[0, :4, 3]]
        ([0.12, 0.11, 0.1, 0.09, 0.09, 0.09, 0.09, 0.09, 0.09, 0.1, 0.0], [0.83, 0.83, 0.83, 0.83])
    """
    width = max((len(p) for p in passages), default=0)
    if not width:
        return np.zeros((len(passages), 0, 8), np.float32)
    by_word = _four(_codes([question])[0], _codes(passages))
    letters = lambda words: [c for word in words for c in word]
    by_letter = _four(_codes([letters(question)])[0], _codes([letters(p) for p in passages]))
    averaged = np.zeros((len(passages), width, 4), np.float32)
    for i, passage in enumerate(passages):
        owner = np.repeat(np.arange(len(passage)), [len(w) for w in passage])
        np.add.at(averaged[i], owner, by_letter[i, : len(owner)])
        averaged[i, : len(passage)] /= np.array([max(len(w), 1) for w in passage], np.float32)[:, None]
    return np.concatenate([by_word[:, :width], averaged], axis=-1)


def dense(
    question: Int[Array, " q"], passage: Int[Array, " p"], question_words: Int[Array, " q"], words: Int[Array, " p"]
) -> Float[Array, "p features"]:
    """The reader's features of a passage's tokens.

    Args:
        question: Fingerprints of the question's tokens, 0 is padding.
        passage: Fingerprints of the passage's tokens.
        question_words: Fingerprints of the words that cover them.
        words: The same for the passage.

    Returns:
        Shape `(p, DENSE)`: match; matches of two and three tokens in a row; word match; Jaccard; 1 - edit distance /
        length; the density of matches over 5, 17 and 65 tokens; rarity of a match in this passage; distance to a match.
    """
    equal = _equal(question, passage)
    valid = passage > 0
    single = jnp.any(equal, axis=1)
    runs = equal
    grown = []
    for _ in range(2):  # runs[i, j]: passage tokens up to i and question tokens up to j agree, one more each time
        runs = jnp.pad(runs[:-1, :-1], ((1, 0), (1, 0))) & equal
        grown.append(jnp.any(runs, axis=1))
    double, triple = grown
    double = double | _left(double, 1)  # a run marks all of its tokens
    triple = triple | _left(triple, 1) | _left(triple, 2)
    word = jnp.any(_equal(question_words, words), axis=1)
    n = jnp.maximum(jnp.sum(question > 0), 1).astype(jnp.float32)
    distance = 1 - edit_distance(question, passage).astype(jnp.float32) / n
    hits = single.astype(jnp.float32)
    often = jnp.sum(passage[:, None] == passage[None, :], axis=1).astype(jnp.float32)
    rare = hits / jnp.sqrt(often)
    near = _nearest(double | word, passage.shape[0])
    columns = [hits, double, triple, word, jaccard(question, passage), distance]
    columns += [_density(v, r) for v, r in ((rare, 2), (rare, 8), (rare, 32))] + [rare, near]
    table = jnp.stack([c.astype(jnp.float32) for c in columns], axis=1)
    return jnp.where(valid[:, None], table, 0.0)


def _count(tokens: Array) -> Array:
    return jnp.sum(tokens > 0, dtype=jnp.int32)


def _equal(question: Array, passage: Array) -> Bool[Array, "p q"]:
    return (passage[:, None] == question[None, :]) & (question > 0)[None, :]


def _left(v: Array, by: int) -> Array:
    return jnp.pad(v[by:], (0, by))


def _density(v: Array, reach: int) -> Array:
    """Mean over a window of `reach` tokens to each side."""
    total = jnp.cumsum(jnp.pad(v, (reach + 1, reach)))
    return (total[2 * reach + 1 :] - total[: -2 * reach - 1]) / (2 * reach + 1)


def _nearest(hit: Array, size: int) -> Array:
    """`1 / (1 + distance)` to the nearest hit; 0 without any."""
    at, index = jnp.where(hit, _range(size), -size), _range(size)
    left = index - jax.lax.cummax(at)
    right = jax.lax.cummin(jnp.where(hit, index, 2 * size), reverse=True) - index
    # Without a hit it is 0 for any padding: a number that depends on its length would leak.
    return jnp.where(jnp.any(hit), 1 / (1 + jnp.minimum(left, right).astype(jnp.float32)), 0)


@functools.partial(jax.jit, static_argnums=())
def _four(question: Array, passages: Array) -> Array:
    n = jnp.maximum(jnp.sum(question > 0), 1).astype(jnp.float32)
    relative = lambda p: jnp.where(p > 0, edit_distance(question, p).astype(jnp.float32) / n, 0.0)
    one = jax.vmap(lambda p: jnp.stack([match(question, p), jaccard(question, p), relative(p)], axis=1))(passages)
    together = jnp.where(passages > 0, cooccurrence(passages), 0.0)
    return jnp.stack([one[..., 0], together, one[..., 1], one[..., 2]], axis=-1)


def _codes(texts: Sequence[Sequence[str]]) -> np.ndarray:
    """Fingerprints, padded to a multiple of 32, so that few programs are compiled."""
    checks.require(all(all(words) for words in texts), "question", "hold no empty words", "holds one")
    width = -(-max(len(words) for words in texts) // BLOCK) * BLOCK or BLOCK
    table = np.zeros((len(texts), width), np.int32)
    for row, words in zip(table, texts, strict=True):
        row[: len(words)] = [tk.fingerprint(tk.normal(w)) for w in words]
    return table

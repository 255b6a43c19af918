"""DGCNN: a question as one vector, put to every place of a passage; where does the answer start, end, and is there one?

After Su Jianlin, kexue.fm/archives/5409 (2018) and 6906 (2019). The net also gets the features of `features.dense`, the
kinds of the tokens, and for each place the most similar tokens of the question (DrQA, arXiv 1704.00051).
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float

from jaxkit.core.struct import struct
from jaxkit.learn import nets
from jaxkit.learn.nets.mlp import Dense
from jaxkit.learn.nets.text import FORMS, AttentionPool, GatedDilatedConv, masked_softmax, product
from jaxkit.reading import features as ft
from jaxkit.reading import tokens as tk
from jaxkit.reading.config import Architecture
from jaxkit.reading.encode import UNKNOWN, Coded
from jaxkit.reading.pool import QUESTION

FLOAT = jnp.float32
EXISTENCE_WEIGHT = 1.0
FROZEN = ("vectors",)  # parameters that training does not change


@struct
class Logits:
    """What the net says about each passage.

    Attributes:
        start: Logit that the answer starts at each token, shape `(b, n)`.
        end: Logit that it ends there (inclusive), shape `(b, n)`.
        exists: Logit that there is an answer, shape `(b,)`.
        mask: Where there are tokens, shape `(b, n)`.
    """

    start: Float[Array, "b n"]
    end: Float[Array, "b n"]
    exists: Float[Array, " b"]
    mask: Bool[Array, "b n"]


class DGCNN(nn.Module):
    """The net, as a Flax module of `(question, passage)`; see `Architecture`."""

    config: Architecture

    @nn.compact
    def __call__(
        self, question: Coded, passage: Coded, key: Array | None = None, emphasis: Array | None = None
    ) -> Logits:
        """Logits of passages `(b, n)` for questions `(b, q)`.

        `key` is that of the noise, and None outside training; `emphasis`, shape `(b, n)`, multiplies the embedding of
        each of the passage's tokens: the derivative in it says how much the token matters.
        """
        c = self.config
        keys = iter([None] * 20 if key is None else jax.random.split(key, 20))
        q_mask, p_mask = jnp.asarray(question.match) > 0, jnp.asarray(passage.match) > 0
        dense: Any = functools.partial(_dense, c.width)
        embed = self._embedder(dense)
        q, p = embed(question, q_mask, next(keys)), embed(passage, p_mask, next(keys))
        p = p if emphasis is None else p * emphasis[..., None]
        if c.features:
            seen = jax.vmap(ft.match)(passage.match, question.match) * q_mask.astype(FLOAT)
            q = q + dense("question_seen")(seen[..., None])
        encoded = q
        for i, dilation in enumerate(c.question_dilations):
            encoded = self._block(f"question{i}", dilation)(encoded, q_mask, next(keys))
        asked = AttentionPool(FLOAT, name="question_pool")(encoded, q_mask)

        x = dense("word", use_bias=True)(p) + dense("asked")(asked)[:, None, :]
        if c.features:
            table = jax.vmap(ft.dense)(question.match, passage.match, question.word, passage.word)
            x = x + dense("features")(jax.lax.stop_gradient(table.astype(p.dtype)))
        if c.align:
            near = dense("align_key")
            weight = jnp.einsum("bnc,bqc->bnq", jax.nn.relu(near(p)), jax.nn.relu(near(q))) * (c.width**-0.5)
            nearest = masked_softmax(weight, q_mask[:, None, :])
            x = x + dense("align")(jnp.einsum("bnq,bqc->bnc", nearest, encoded))
        if c.positions:
            x = x + dense("position")(positions(x.shape[1], c.width))[None]
        for i, dilation in enumerate(c.passage_dilations):
            x = self._block(f"passage{i}", dilation)(x, p_mask, next(keys))
        x = x * p_mask[..., None].astype(x.dtype)
        pooled = AttentionPool(FLOAT, name="passage_pool")(x, p_mask, asked)
        exists = dense("exists", 1, use_bias=True)(jnp.concatenate([pooled, jnp.max(x, axis=1)], axis=-1))[:, 0]
        start, end = (self._pointer(name, x, asked, dense) for name in ("start", "end"))
        return Logits(start, end, exists, p_mask)

    def _embedder(self, dense: Any) -> Any:
        c = self.config
        table = lambda name, rows: self.param(name, nn.initializers.normal(0.3), (rows, c.width), FLOAT)
        tables = [table("embedding", c.learned_rows or c.vocabulary_size)]
        tables += [table("kinds", tk.KINDS), table("tags", tk.TAG_CODES)] if c.lexical else []

        if c.vector_width:
            fixed = self.param("vectors", nn.initializers.zeros, (c.vocabulary_size, c.vector_width), FLOAT)
            project = dense("vector")

        def embed(coded: Coded, mask: Array, key: Array | None) -> Array:
            ids = jnp.asarray(coded.ids)
            own = jnp.where(ids < len(tables[0]), ids, UNKNOWN)
            x = tables[0][own] * (ids > 0)[..., None].astype(FLOAT)  # row 0 stands for a hidden token
            if c.vector_width:
                x = x + project(fixed[ids])
            if c.lexical:
                # Products instead of look-ups, whose derivative adds row by row, which is slow on a CPU.
                x = x + jax.nn.one_hot(coded.kind, tk.KINDS, dtype=FLOAT) @ tables[1]
                x = x + jax.nn.one_hot(coded.tag, tk.TAG_CODES, dtype=FLOAT) @ tables[2]
            if key is not None and c.dropout:
                kept = jax.random.bernoulli(key, 1 - c.dropout, (x.shape[0], 1, c.width))
                x = x * kept.astype(x.dtype) / (1 - c.dropout)
            return x * mask[..., None].astype(x.dtype)

        return embed

    def _block(self, name: str, dilation: int) -> Any:
        c = self.config
        if c.gate:
            return GatedDilatedConv(dilation, form=c.convolution, noise=c.gate_noise, param_dtype=FLOAT, name=name)
        return Ungated(dilation, c.convolution, name=name)

    def _pointer(self, name: str, x: Array, asked: Array, dense: Any) -> Array:
        """The logit of a place: linear in the place and in the question, and bilinear in both."""
        own, general = dense(f"{name}_question")(asked), dense(f"{name}_bias", 1, use_bias=True)(asked)
        return dense(name, 1)(x)[..., 0] + jnp.einsum("bnc,bc->bn", x, own) * (x.shape[-1] ** -0.5) + general


def network(architecture: Architecture) -> nets.Net:
    """The net as two plain functions: `apply(params, question, passage, key=None, emphasis=None) -> Logits`."""
    example = lambda n: Coded(*[jnp.zeros((1, n), jnp.int32)] * 5)
    net = nets.plain(DGCNN(architecture), example(QUESTION), example(64))
    return nets.Net(jax.jit(net.init), net.apply)  # compiled, making weights does not evaluate the net


class Ungated(nn.Module):
    """`y = x + relu(conv(x))`: the block of the ablation without gates."""

    dilation: int
    form: str

    @nn.compact
    def __call__(self, x: Array, mask: Array, key: Array | None = None) -> Array:
        """The layer of `x`."""
        real = mask[..., None].astype(x.dtype)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (3, x.shape[-1], x.shape[-1]), FLOAT)
        return (x * real + jax.nn.relu(FORMS[self.form](x * real, kernel, self.dilation))) * real


def _dense(width: int, name: str, size: int | None = None, *, use_bias: bool = False) -> Dense:
    return Dense(width if size is None else size, use_bias=use_bias, param_dtype=FLOAT, product=product, name=name)


def positions(size: int, width: int) -> Float[Array, "n c"]:
    """The article's position vectors: `sin` and `cos` of `p / 10000^(2i / width)`, alternating."""
    rate = 10000.0 ** (-2 * jnp.arange(width // 2, dtype=FLOAT) / width)
    angle = jnp.arange(size, dtype=FLOAT)[:, None] * rate[None, :]
    return jnp.stack([jnp.sin(angle), jnp.cos(angle)], axis=-1).reshape(size, width)


def probabilities(logits: Logits, head: str) -> tuple[Array, Array, Array]:
    """Probabilities of the start and of the end (each `(b, n)`), and of an answer's existence `(b,)`.

    The score of a span is `start[i] * end[j]`: both carry their share of existence, so that scores of different
    passages can be compared.
    """
    exists = jax.nn.sigmoid(logits.exists)
    if head == "softmax":
        share = jnp.sqrt(exists)[:, None]
        return (
            masked_softmax(logits.start, logits.mask) * share,
            masked_softmax(logits.end, logits.mask) * share,
            exists,
        )
    at = lambda v: jnp.where(logits.mask, exists[:, None] * jax.nn.sigmoid(v), 0)
    return at(logits.start), at(logits.end), exists


def span_loss(
    logits: Logits, start: Float[Array, "b n"], end: Float[Array, "b n"], head: str
) -> tuple[Float[Array, ""], dict[str, Array]]:
    """The loss of a batch, and its parts.

    Args:
        logits: What the net says.
        start: 1 at every token where the answer starts.
        end: 1 at every token where it ends.
        head: `"softmax"`: negative log-likelihood of all right places together, where there is an answer, plus the
            binary cross-entropy of its existence; `"pointer"`: the article's focal loss of sigmoids times existence.

    Returns:
        The loss and `{"pointer": ..., "existence": ...}`.
    """
    positive = (jnp.max(start, axis=1) > 0).astype(FLOAT)
    sure = jax.nn.log_sigmoid(logits.exists) * positive + jax.nn.log_sigmoid(-logits.exists) * (1 - positive)
    existence = -jnp.mean(sure)
    if head == "softmax":
        missed = _negative_log_likelihood(logits.start, start, logits.mask)
        missed = missed + _negative_log_likelihood(logits.end, end, logits.mask)
        pointer = jnp.sum(missed * positive) / jnp.maximum(jnp.sum(positive), 1)
        value = jnp.mean(missed * positive) + EXISTENCE_WEIGHT * existence
    else:
        p_start, p_end, _ = probabilities(logits, head)
        count = jnp.maximum(jnp.sum(logits.mask.astype(FLOAT)), 1)
        cost = jnp.where(logits.mask, focal(p_start, start) + focal(p_end, end), 0)
        pointer = 100 * jnp.sum(cost) / count
        value = pointer
    return value, {"pointer": pointer, "existence": existence}


def focal(p: Float[Array, "..."], label: Float[Array, "..."], *, alpha: float = 0.25, gamma: float = 2.0) -> Array:
    """Focal loss of a probability: `-alpha y log(p) (1-p)^gamma - (1-alpha) (1-y) log(1-p) p^gamma`.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxkit.reading import model
        >>> [round(float(model.focal(jnp.float32(0.5), jnp.float32(y))), 4) for y in (1, 0)]
        [0.0433, 0.13]
    """
    p = jnp.clip(p, 1e-7, 1 - 1e-7)  # 1 minus the article's 1e-8 is 1 in single precision
    return -alpha * label * jnp.log(p) * (1 - p) ** gamma - (1 - alpha) * (1 - label) * jnp.log1p(-p) * p**gamma


def _negative_log_likelihood(logit: Array, label: Array, mask: Array) -> Array:
    """Minus the log of the probability of all labelled places together; 0 if none is labelled."""
    low = jnp.finfo(logit.dtype).min
    right = (label > 0) & mask
    some = jnp.any(right, axis=1)
    right = right | ~some[:, None]  # all places if there is none: the difference is then 0, and finite
    total = jax.nn.logsumexp(jnp.where(mask, logit, low), axis=1)
    return jnp.where(some, total - jax.nn.logsumexp(jnp.where(right & mask, logit, low), axis=1), 0.0)

"""Why an answer: how much each character matters, and what the net says of each place."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxkit.reading import decode, model
from jaxkit.reading.encode import Vocabulary, pad
from jaxkit.reading.pool import QUESTION
from jaxkit.reading.train import network
from jaxkit.reading.windows import BUCKETS


def saliency(
    params: Any, config: model.Config, vocabulary: Vocabulary, longest: int, question: str, passage: str
) -> np.ndarray:
    """See `Reader.saliency`."""
    coded, cutting = vocabulary.encode(passage)
    asked, _ = vocabulary.encode(question)
    result = np.zeros(len(passage), np.float32)
    if not len(cutting) or not len(asked.ids):
        return result
    bucket = next((b for b in BUCKETS if len(cutting) <= b), BUCKETS[-1])
    row = lambda c, n, keep: jax.tree.map(lambda v: jnp.asarray(v)[None], pad(c, n, keep=keep))
    slope = _slope(config, longest)(params, row(asked, QUESTION, "end"), row(coded, bucket, "start"))
    for value, a, b in zip(np.asarray(slope), cutting.start, cutting.end, strict=False):
        result[a:b] = value
    return result


def places(
    params: Any, config: model.Config, vocabulary: Vocabulary, question: str, passage: str
) -> tuple[list[str], np.ndarray, np.ndarray, float]:
    """See `Reader.places`."""
    coded, cutting = vocabulary.encode(passage)
    asked, _ = vocabulary.encode(question)
    size = min(len(cutting), BUCKETS[-1])
    if not size or not len(asked.ids):
        return cutting.words()[:size], np.zeros(size), np.zeros(size), 0.0
    bucket = next(b for b in BUCKETS if size <= b)
    row = lambda c, n, keep: jax.tree.map(lambda v: jnp.asarray(v)[None], pad(c, n, keep=keep))
    net = network(config)
    logits = jax.jit(net.apply)(params, row(asked, QUESTION, "end"), row(coded, bucket, "start"))
    bare = dataclasses.replace(logits, exists=jnp.full_like(logits.exists, jnp.inf))  # places apart from existence
    start, end, _ = model.probabilities(bare, config.head)
    exists = float(jax.nn.sigmoid(logits.exists)[0])
    return cutting.words()[:size], np.asarray(start[0, :size]), np.asarray(end[0, :size]), exists


def _slope(config: model.Config, longest: int) -> Callable[..., Any]:
    net = network(config)

    def value(emphasis: Any, params: Any, question: Any, passage: Any) -> Any:
        start, end, _ = model.probabilities(net.apply(params, question, passage, emphasis=emphasis), config.head)
        score, _, _ = decode.spans(start, end, longest=longest, count=1)
        return jnp.log(jnp.maximum(score[0, 0], 1e-30))

    @jax.jit
    def slope(params: Any, question: Any, passage: Any) -> Any:
        ones = jnp.ones(passage.match.shape, jnp.float32)
        return jax.grad(value)(ones, params, question, passage)[0]

    return slope

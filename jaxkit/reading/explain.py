"""Explanations of an answer: how much each character matters, and what the net says about each token."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxkit.reading import decode, model
from jaxkit.reading.config import Architecture
from jaxkit.reading.encode import Vocabulary, pad
from jaxkit.reading.pool import QUESTION
from jaxkit.reading.tokens import Tokens
from jaxkit.reading.windows import BUCKETS


def saliency(
    params: Any, architecture: Architecture, vocabulary: Vocabulary, max_answer_tokens: int, question: str, passage: str
) -> np.ndarray:
    """See `Reader.saliency`."""
    cutting, said = _read(params, architecture, vocabulary, max_answer_tokens, question, passage)
    result = np.zeros(len(passage), np.float32)
    if said is not None:
        for value, a, b in zip(said[0], cutting.start, cutting.end, strict=False):
            result[a:b] = value
    return result


def places(
    params: Any, architecture: Architecture, vocabulary: Vocabulary, max_answer_tokens: int, question: str, passage: str
) -> tuple[list[str], np.ndarray, np.ndarray, float]:
    """See `Reader.token_probabilities`."""
    cutting, said = _read(params, architecture, vocabulary, max_answer_tokens, question, passage)
    size = min(len(cutting), BUCKETS[-1])
    if said is None:
        return cutting.words()[:size], np.zeros(size), np.zeros(size), 0.0
    _, start, end, exists = said
    return cutting.words()[:size], start[:size], end[:size], float(exists)


def _read(
    params: Any, architecture: Architecture, vocabulary: Vocabulary, max_answer_tokens: int, question: str, passage: str
) -> tuple[Tokens, Any]:
    """The passage's tokens and what `_program` returns for them; None if there is nothing to read."""
    coded, cutting = vocabulary.encode(passage)
    asked, _ = vocabulary.encode(question)
    if not len(cutting) or not len(asked.ids):
        return cutting, None
    bucket = next((b for b in BUCKETS if len(cutting) <= b), BUCKETS[-1])
    row = lambda c, n, keep: jax.tree.map(lambda v: jnp.asarray(v)[None], pad(c, n, keep=keep))
    return cutting, jax.device_get(
        _program(architecture, max_answer_tokens)(params, row(asked, QUESTION, "end"), row(coded, bucket, "start"))
    )


@functools.lru_cache(maxsize=16)
def _program(architecture: Architecture, max_answer_tokens: int) -> Callable[..., Any]:
    """The compiled `(params, question, passage) -> (saliency, start, end, existence)` of one row."""
    net = model.network(architecture)

    def value(emphasis: Any, params: Any, question: Any, passage: Any) -> Any:
        logits = net.apply(params, question, passage, emphasis=emphasis)
        start, end, exists = model.probabilities(logits, architecture.head)
        score, _, _ = decode.spans(start, end, max_answer_tokens=max_answer_tokens, count=1)
        bare = dataclasses.replace(logits, exists=jnp.full_like(logits.exists, jnp.inf))  # pointers without existence
        start, end, _ = model.probabilities(bare, architecture.head)
        return jnp.log(jnp.maximum(score[0, 0], 1e-30)), (start[0], end[0], exists[0])

    @jax.jit
    def read(params: Any, question: Any, passage: Any) -> Any:
        ones = jnp.ones(passage.match.shape, jnp.float32)
        slope, said = jax.grad(value, has_aux=True)(ones, params, question, passage)
        return slope[0], *said

    return read

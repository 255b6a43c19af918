"""Readers as files: one file that holds weights, net and vocabulary, and knows whether it is whole."""

import dataclasses
import json
from pathlib import Path

import jax
import numpy as np

from jaxkit.learn import checkpoint
from jaxkit.reading.config import Architecture
from jaxkit.reading.encode import Vocabulary
from jaxkit.reading.model import network
from jaxkit.reading.reader import Reader


def save(path: str | Path, model: Reader) -> Path:
    """Write a reader into a file.

    Args:
        path: The file; its folder is made.
        model: The reader.

    Returns:
        The file.

    Example:
        >>> import tempfile, jax
        >>> from jaxkit import reading
        >>> vocabulary = reading.Vocabulary(("a", "b"))
        >>> net = reading.Architecture(width=4, vocabulary_size=len(vocabulary))
        >>> reader = reading.Reader(reading.network(net).init(jax.random.key(0)), net, vocabulary)
        >>> path = reading.save(tempfile.mkdtemp() + "/reader.safetensors", reader)
        >>> reading.load(path).vocabulary.keys
        ('a', 'b')
    """
    about = {"keys": model.vocabulary.keys, "words": model.vocabulary.words, "threshold": float(model.threshold)}
    about |= {"max_answer_tokens": model.max_answer_tokens, "report": model.report}
    packed = np.frombuffer(json.dumps(about, ensure_ascii=False).encode(), np.uint8)
    meta = {"architecture": dataclasses.asdict(model.architecture), "about": len(packed)}
    return checkpoint.write(path, {"params": model.params, "about": packed}, meta=meta)


def load(path: str | Path) -> Reader:
    """Read what `save` wrote.

    Raises:
        FileNotFoundError: There is no such file.
        CheckpointError: A byte has changed; one sentence.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"Argument `path` must be the file of a saved reader, but {path} is none.")
    meta = checkpoint.meta(path)
    architecture = Architecture(**meta["architecture"])
    like = jax.eval_shape(network(architecture).init, jax.random.key(0))
    tree = checkpoint.read(path, {"params": like, "about": jax.ShapeDtypeStruct((meta["about"],), np.uint8)})
    about = json.loads(bytes(np.asarray(tree["about"])))
    vocabulary = Vocabulary(tuple(about["keys"]), about["words"])
    return Reader(
        tree["params"], architecture, vocabulary, about["max_answer_tokens"], about["threshold"], about["report"]
    )

"""Readers as files: one file holds weights, net and vocabulary, and can tell whether it is intact."""

from pathlib import Path

from jaxkit.learn import saving
from jaxkit.reading.reader import Reader


def save(path: str | Path, model: Reader) -> Path:
    """Write a reader into a file.

    Args:
        path: The file; its folder is created if missing.
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
    return saving.save(path, model)


def load(path: str | Path) -> Reader:
    """Read what `save` wrote.

    Raises:
        FileNotFoundError: There is no such file.
        CheckpointError: The file is damaged, or holds something else.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"Argument `path` must be the file of a saved reader, but {path} is none.")
    return saving.load(path, Reader)

"""Files that are written whole or not at all."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: str | Path, *, synced: bool = False) -> Iterator[Path]:
    """A temporary file name beside `path`, with its suffix, that becomes `path` when the block ends without an error.

    Whatever happens, `path` holds the old content or the new one, and a block that fails leaves nothing behind.

    Args:
        path: The file; its folder is created.
        synced: Whether the content and the folder are on the disk before the block is left.

    Example:
        >>> import pathlib, tempfile
        >>> from jaxkit.core.files import replacing
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "a.txt"
        >>> with replacing(path) as temporary:
        ...     _ = temporary.write_text("whole")
        >>> path.read_text(), len(list(path.parent.iterdir()))
        ('whole', 1)
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".tmp-{os.getpid()}-{path.name}")
    try:
        yield temporary
        if synced:
            _sync(temporary)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if synced:
        with contextlib.suppress(OSError):  # some file systems cannot sync a folder
            _sync(path.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""Finding, checking and fetching the files of data sets; what is missing or damaged is named in one sentence."""

import contextlib
import gzip
import hashlib
import tarfile
import urllib.request
import zlib
from pathlib import Path

from jaxkit.core.files import replacing


class DataError(RuntimeError):
    """A data set is missing or damaged; the sentence gives its path and its publisher's address."""


def find(root: Path, name: str, files: tuple[str, ...]) -> Path | None:
    """The first of `files` that lies in `root/images/name` or `root/name`."""
    folders = (root / "images" / name, root / name)
    return next((folder / file for folder in folders for file in files if (folder / file).is_file()), None)


def read(path: Path) -> bytes:
    """A file's content, unpacked if it is a gzip file; empty if it cannot be unpacked (then no checksum agrees)."""
    content = path.read_bytes()
    if path.suffix != ".gz":
        return content
    with contextlib.suppress(OSError, EOFError, zlib.error):
        return gzip.decompress(content)
    return b""


def unpack(archive: Path, member: str, address: str) -> bytes:
    """One member of a tar archive."""
    try:
        with tarfile.open(archive) as opened:
            stored = opened.extractfile(member)
            return stored.read() if stored else b""
    except (OSError, KeyError, EOFError, tarfile.TarError, zlib.error):
        raise DataError(f"The file {archive} is damaged: fetch it again from {address}") from None


def checked(content: bytes, md5: str, path: Path | None, address: str) -> bytes:
    """`content`, if its MD5 sum is the published one."""
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != md5:
        raise DataError(f"The file {path} is damaged: its content does not have the published sum {md5}; see {address}")
    return content


def fetch(root: Path, name: str, file: str, address: str, md5: str | None, *, download: bool) -> Path:
    """Download `address + file` into `root/images/name`, check it, and only then give it its name.

    Args:
        root: Data folder.
        name: Folder of the set.
        file: Name of the file.
        address: HTTPS address of its folder.
        md5: Published MD5 sum of the unpacked content; None where it is checked later.
        download: Whether to download it; otherwise the file counts as missing.
    """
    path = root / "images" / name / file
    if not download:
        raise DataError(f"The file {path} is missing: fetch {address}{file} or call with `download=True`.")
    checks_https = address.startswith("https://")
    if not checks_https:
        raise DataError(f"Files are fetched by HTTPS alone, but the address is {address}{file}")
    path.parent.mkdir(parents=True, exist_ok=True)  # outside `try`: not the address's fault
    try:
        with replacing(path) as partial:  # its suffix still says how it is packed
            with urllib.request.urlopen(address + file, timeout=60) as source, partial.open("wb") as sink:  # noqa: S310
                while block := source.read(1 << 20):
                    sink.write(block)
            if md5 is not None:
                checked(read(partial), md5, path, address + file)
    except OSError as error:
        raise DataError(f"The file {path} is missing and {address}{file} cannot be read ({error}).") from None
    return path

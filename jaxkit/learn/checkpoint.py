"""Checkpoints: a pytree of arrays in one safetensors file that can tell whether it is intact.

The file holds its own SHA-256 (taken with zeros in the digest's place). It is written under a temporary name, synced
and renamed: whatever happens, a name holds the old content or the new. Nothing in the file is ever executed.
"""

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
from jaxtyping import Array

from jaxkit.core import checks
from jaxkit.core.files import replacing

T = TypeVar("T")

HEADER_LIMIT = 1 << 20  # bytes: a header that claims more is not read
_DIGEST = re.compile(rb'"sha256":"([0-9a-f]{64})"')
_STEP = re.compile(r"step-(\d{9,})\.safetensors")


class CheckpointError(ValueError):
    """A checkpoint is damaged, or does not fit the template; the message is one sentence."""


class DamagedError(CheckpointError):
    """The bytes are not those that were written."""


def write(path: str | Path, tree: Any, *, meta: Mapping[str, Any] | None = None) -> Path:
    """Write a pytree of arrays.

    Args:
        path: The file; its folder is created if missing.
        tree: Any pytree of arrays (also bfloat16, integers, random keys, empty arrays).
        meta: A few JSON values to keep with it.

    Returns:
        The file.

    Raises:
        ValueError: Two leaves have the same name, or the names need a header of more than a megabyte.

    Example:
        >>> import tempfile, jax.numpy as jnp
        >>> from jaxkit.learn import checkpoint
        >>> tree = {"w": jnp.arange(3.0), "b": jnp.zeros(())}
        >>> path = checkpoint.write(tempfile.mkdtemp() + "/model.safetensors", tree, meta={"epoch": 3})
        >>> checkpoint.read(path, tree)["w"].tolist(), checkpoint.meta(path)
        ([0.0, 1.0, 2.0], {'epoch': 3})
    """
    path, leaves = Path(path), _named(tree)
    keys = {name: str(jax.random.key_impl(leaf)) for name, leaf in leaves.items() if _is_key(leaf)}
    arrays = {name: np.asarray(_plain(leaf), _form(leaf)[1]) for name, leaf in leaves.items()}
    metadata = {"meta": json.dumps(dict(meta or {})), "keys": json.dumps(keys), "sha256": "0" * 64}
    data = _encode(arrays, metadata)
    header = int.from_bytes(data[:8], "little")
    checks.require(header <= HEADER_LIMIT, "tree", f"need a header of at most {HEADER_LIMIT} bytes", f"needs {header}")
    place = _DIGEST.search(data, 8, 8 + header)
    assert place is not None  # noqa: S101  (just written)
    data[place.start(1) : place.end(1)] = hashlib.sha256(data).hexdigest().encode()
    _write(path, data)
    return path


def read(path: str | Path, like: T) -> T:
    """Read a pytree with the structure of `like`.

    Args:
        path: A file that `write` wrote.
        like: Template (arrays, or `jax.ShapeDtypeStruct`s): names, shapes and dtypes must be equal.

    Returns:
        The pytree, of JAX arrays.

    Raises:
        CheckpointError: The file is damaged, or does not fit; one sentence says which, and where.
        FileNotFoundError: There is no such file.
    """
    return _restore(Path(path), _read(Path(path)), like)


def arrays(path: str | Path) -> tuple[dict[str, Any], dict[str, Array]]:
    """All arrays that a checkpoint holds, by name, and the JSON values kept with it.

    Raises:
        CheckpointError: The file is damaged, or holds double precision where that is not enabled.
        FileNotFoundError: There is no such file.
    """
    path = Path(path)
    content = _read(path)
    kept, keys, tensors = content
    forms = {name: jax.ShapeDtypeStruct(t["shape"], _DTYPES[t["dtype"]]) for name, t in tensors.items()}
    key_form = lambda name: jax.eval_shape(lambda bits: jax.random.wrap_key_data(bits, impl=keys[name]), forms[name])
    like: dict[str, Any] = {name: key_form(name) if name in keys else form for name, form in forms.items()}
    return kept, _restore(path, content, like)


def meta(path: str | Path) -> dict[str, Any]:
    """The JSON values kept with a checkpoint, after checking that the file is whole."""
    return _read(Path(path))[0]


def store(folder: str | Path, step: int, tree: Any, *, keep: int = 2, meta: Mapping[str, Any] | None = None) -> Path:
    """Write the checkpoint of a step into a folder, and remove all but the newest `keep`."""
    checks.require(keep > 0, "keep", "be positive", f"is {keep}")
    path = write(Path(folder) / f"step-{step:09d}.safetensors", tree, meta={"step": step, **(meta or {})})
    for old in steps(folder)[keep:]:
        with contextlib.suppress(FileNotFoundError):
            old.unlink()
    return path


def newest(folder: str | Path, like: Callable[[dict[str, Any]], T]) -> tuple[T | None, dict[str, Any], list[str]]:
    """The newest intact checkpoint of a folder.

    Args:
        folder: Where `store` wrote. Temporary files of writers that have died are removed.
        like: Template, as a function of what is kept with the checkpoint (which holds `step`).

    Returns:
        The pytree (None if there is no intact one), what was kept with it, and a sentence for each damaged file.

    Raises:
        CheckpointError: An intact checkpoint does not fit the template.
    """
    _sweep(Path(folder))
    refused = []
    for path in steps(folder):
        try:
            content = _read(path)
        except DamagedError as error:
            refused.append(str(error))
            continue
        return _restore(path, content, like(content[0])), content[0], refused
    return None, {}, refused


def steps(folder: str | Path) -> list[Path]:
    """The checkpoints of a folder, newest first."""
    return sorted((p for p in Path(folder).glob("step-*") if _STEP.fullmatch(p.name)), reverse=True)


def _named(tree: Any) -> dict[str, Any]:
    pairs = jax.tree_util.tree_leaves_with_path(tree)
    named = {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in pairs}
    checks.require(len(named) == len(pairs), "tree", "give every leaf a name of its own", "has two of the same")
    return named


def _is_key(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _kind(leaf: Any, stored: str | None) -> str | None:
    """The generator of a random key; a template that holds only shapes accepts any."""
    if not _is_key(leaf):
        return None
    return stored if isinstance(leaf, jax.ShapeDtypeStruct) else str(jax.random.key_impl(leaf))


def _plain(leaf: Any) -> Any:
    return jax.random.key_data(leaf) if _is_key(leaf) else leaf


def _form(leaf: Any) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and dtype with which a leaf is kept.

    A number or a NumPy array counts as the JAX array made from it: float32 in single precision, like its template then.
    """
    if _is_key(leaf):
        bits = jax.eval_shape(jax.random.key_data, leaf)
        return bits.shape, np.dtype(bits.dtype)
    dtype = leaf.dtype if hasattr(leaf, "dtype") else np.asarray(leaf).dtype
    return tuple(np.shape(leaf)), jax.dtypes.canonicalize_dtype(dtype)


def _encode(arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> bytearray:
    """The format "safetensors": length of the header, header (JSON), data; wide items first: all lie aligned.

    Not the library's own writer, which orders the metadata at random: equal trees must make equal files.
    """
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    order = sorted(arrays, key=lambda name: (-arrays[name].dtype.itemsize, name))
    end = 0
    for name in order:
        array, start = arrays[name], end
        known = array.dtype.name in _CODES
        checks.require(known, "tree", f"hold arrays of {', '.join(_CODES)}", f"holds `{name}` of {array.dtype.name}")
        end += array.nbytes
        header[name] = {"dtype": _CODES[array.dtype.name], "shape": array.shape, "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return bytearray(b"".join([len(text).to_bytes(8, "little"), text, *(arrays[name].tobytes() for name in order)]))


_CODES = {
    "bool": "BOOL", "uint8": "U8", "int8": "I8", "uint16": "U16", "int16": "I16", "uint32": "U32", "int32": "I32",
    "uint64": "U64", "int64": "I64", "float16": "F16", "bfloat16": "BF16", "float32": "F32", "float64": "F64",
    "complex64": "C64", "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2",
}  # fmt: skip
_DTYPES = {code: name for name, code in _CODES.items()}


def _read(path: Path) -> tuple[dict[str, Any], dict[str, str], dict[str, dict[str, Any]]]:
    """The metadata, the kinds of the random keys, and the tensors; nothing is decoded before the digest agrees."""
    data = memoryview(path.read_bytes())
    header = int.from_bytes(data[:8], "little")
    # A slice of the header alone: the data may hold anything.
    place = _DIGEST.search(data[8 : 8 + header]) if len(data) >= 8 and header <= HEADER_LIMIT else None
    if place is None or header + 8 > len(data):
        raise DamagedError(f"Checkpoint {path} is damaged: it has no header of ours.")
    low, high = 8 + place.start(1), 8 + place.end(1)
    digest = hashlib.sha256(data[:low])
    digest.update(b"0" * 64)
    digest.update(data[high:])
    if digest.hexdigest() != bytes(data[low:high]).decode():
        raise DamagedError(f"Checkpoint {path} is damaged: its SHA-256 is not the one it was written with.")
    try:
        fields = json.loads(bytes(data[8 : 8 + header]))["__metadata__"]
        return json.loads(fields["meta"]), json.loads(fields["keys"]), dict(safetensors.deserialize(bytes(data)))
    except (KeyError, ValueError, safetensors.SafetensorError) as error:  # its digest agrees, but it is not one of ours
        raise DamagedError(f"Checkpoint {path} is damaged: {error}.") from None


def _restore(path: Path, content: tuple[dict, dict[str, str], dict[str, dict[str, Any]]], like: T) -> T:
    _, keys, tensors = content
    wanted = _named(like)
    for missing in [*sorted(wanted.keys() - tensors.keys()), *sorted(tensors.keys() - wanted.keys())]:
        where = "lacks" if missing in wanted else "has an extra"
        raise CheckpointError(f"Checkpoint {path} does not fit: it {where} array `{missing}`.")
    leaves = []
    for name, leaf in wanted.items():
        tensor, (shape, dtype) = tensors[name], _form(leaf)
        kind = _kind(leaf, keys.get(name))
        have = f"{_DTYPES.get(tensor['dtype'], tensor['dtype'])}{tuple(tensor['shape'])}"
        want = f"{dtype.name}{shape}"
        have, want = (f"{keys.get(name, '')} {have}".strip(), f"{kind or ''} {want}".strip())
        if have != want:
            raise CheckpointError(f"Checkpoint {path} does not fit: `{name}` must be {want}, but is {have}.")
        array = jnp.asarray(np.frombuffer(tensor["data"], dtype).reshape(shape))
        leaves.append(jax.random.wrap_key_data(array, impl=keys[name]) if name in keys else array)
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def _write(path: Path, data: bytes | bytearray) -> None:
    """Write all or nothing: a temporary file is synced and renamed, and the folder synced."""
    with replacing(path, synced=True) as temporary:
        temporary.write_bytes(data)


def _sweep(folder: Path) -> None:
    """Remove temporary files whose writer no longer runs."""
    for stale in folder.glob(".tmp-*"):
        writer = stale.name.split("-")[1]
        if not (writer.isdigit() and _runs(int(writer))):
            stale.unlink(missing_ok=True)


def _runs(pid: int) -> bool:
    if pid == os.getpid():
        return False  # we are not writing now: a leftover of a process that had our process id
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True

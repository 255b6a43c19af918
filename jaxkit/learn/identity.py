"""What tells one run from another: digests of its program and of its data, which its checkpoints carry."""

import hashlib
import re
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxkit.core.jax_internals import constants

# Addresses in memory and names of functions, which say nothing about what is computed.
_UNSTABLE = re.compile(r"0x[0-9a-f]+|\bname=\S+")


def of_run(step: Callable[[Any, Any], Any], state: Any, data: Any) -> dict[str, str]:
    """What a run is: JSON values that are equal for the same run in another process.

    The program is that of one step as JAX traces it, with every number that it closes over: the loss, the optimizer
    with its schedules, the decay of the average, the key. The number of steps, the chunks and the devices are not part
    of it.

    Args:
        step: One step of the run, `step(state, data)`.
        state: Its first state.
        data: Its batches, as `step` takes them.
    """
    program = jax.make_jaxpr(step)(state, data)
    digest = hashlib.sha256(_UNSTABLE.sub("", str(program)).encode())
    for value in constants(program):
        _add(digest, value)
    content = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(data):
        content.update(jax.tree_util.keystr(path).encode())
        _add(content, leaf)
    return {"program": digest.hexdigest(), "data": content.hexdigest(), "jax": jax.__version__}


def difference(stored: Any, own: dict[str, str]) -> str | None:
    """How a stored run differs from this one, in words; None if they are the same.

    Another release of JAX prints the same program differently: then only the data are compared.
    """
    if not isinstance(stored, dict):
        return "no word about its run"
    if stored.get("data") != own["data"]:
        return "other data"
    same = stored.get("jax") != own["jax"] or stored.get("program") == own["program"]
    return None if same else "another loss, optimizer or configuration"


def _add(digest: Any, value: Any) -> None:
    if isinstance(value, jax.Array):
        if jax.numpy.issubdtype(value.dtype, jax.dtypes.prng_key):
            value = jax.random.key_data(value)
        if not value.is_fully_addressable:  # other processes hold a part of it
            digest.update(f"{value.dtype}{value.shape}".encode())
            return
    array = np.asarray(value)
    digest.update(f"{array.dtype}{array.shape}".encode())
    digest.update(array.tobytes())

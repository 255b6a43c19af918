"""The libraries of sparse matrices, which `pip install 'jaxkit[sparse]'` brings: imported when first needed."""

import functools
import importlib
import importlib.util
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType

import jax


@functools.cache
def missing() -> str | None:
    """Why there are no patterns and sparse factors; None where there are. A library may be there and not fit JAX."""
    if any(importlib.util.find_spec(name) is None for name in ("asdex", "klujax")):
        return "`pip install 'jaxkit[sparse]'` looks for its zeros"
    try:
        importlib.import_module("asdex")
        klujax()
    except ImportError as error:
        return f"the libraries that look for its zeros cannot be imported with jax {jax.__version__} ({error})"
    return None


@functools.cache
def klujax() -> ModuleType:
    """Sparse factors. Importing klujax switches JAX to double precision for good; that is taken back."""

    def load() -> ModuleType:
        double = jax.config.read("jax_enable_x64")
        module = importlib.import_module("klujax")
        jax.config.update("jax_enable_x64", double)
        return module

    # In a thread of its own, where no `with jax.enable_x64(...)` of the caller hides the setting.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(load).result()

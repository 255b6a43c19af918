"""Strict settings for every test: double precision, no silent promotion, several devices, warnings are errors."""

import gc
import os
import platform
from importlib import metadata
from pathlib import Path

# Before jax is imported. Forced host devices deadlock on two cores unless the thread pool is larger than they are.
os.environ.setdefault("NPROC", "16")
# The suite compiles thousands of programs and runs each for milliseconds: cheap compilation takes a quarter as long.
# Docstrings, notebooks and benchmarks run with the compiler's defaults.
FLAGS = "--xla_force_host_platform_device_count=4 --xla_backend_optimization_level=0"
FLAGS += " --xla_cpu_parallel_codegen_split_count=1"
# The older emitters take half the time. (Later compilers do not know them, and end the process. Where they may use FMA
# they compile one iteration of `ParallelNewton` wrong, which `test_newton_arrives_at_chaos` sees.)
if metadata.version("jaxlib").startswith("0.10.") and platform.machine() in ("x86_64", "AMD64"):
    FLAGS += " --xla_cpu_use_fusion_emitters=false --xla_cpu_max_isa=AVX"
os.environ.setdefault("XLA_FLAGS", FLAGS)
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("MPLBACKEND", "Agg")

import hypothesis  # noqa: E402
import jax  # noqa: E402
import pytest  # noqa: E402
from jaxtyping import install_import_hook  # noqa: E402

import tests.shapes  # noqa: E402, F401

# Arrays are checked against the annotations while the tests run. (Not in the parser, which is recursive: each checked
# call takes frames of its own.)
CHECKED = ("compile", "dynamics", "inverse", "models", "recurrent")
install_import_hook([f"jaxkit.{name}" for name in CHECKED], "tests.shapes.arrays_only")

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

# Tracing makes millions of small objects, few of them garbage: the collector's default looks at them again and again.
gc.freeze()
gc.set_threshold(100_000, 20, 10)

hypothesis.settings.register_profile("ci", derandomize=True, deadline=None, max_examples=50)
hypothesis.settings.load_profile("ci")


def pytest_collection_modifyitems(items):
    """Mark as long what was seen to take more than about 2.5 seconds, most of them the compiler's: `long.txt`.

    A line is a test, one of its cases, a class or a file. `pytest -m "" --durations 0` measures anew.
    """
    lines = (Path(__file__).parent / "long.txt").read_text().split("\n")
    long = {line for line in lines if line}
    for item in items:
        name = item.nodeid.split("[")[0]
        parts = name.split("::")
        if long & {item.nodeid, *("::".join(parts[:i]) for i in range(1, len(parts) + 1))}:
            item.add_marker("long")


@pytest.fixture
def key():
    """A random key, the same in every run."""
    return jax.random.key(0)


@pytest.fixture(autouse=True, scope="module")
def _compiled_programs_are_dropped():
    """A process has 65,530 memory maps; compiled programs take them all, and then the compiler crashes."""
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > 15_000:
        jax.clear_caches()
        gc.collect()

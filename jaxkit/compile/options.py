"""Options of the compiler: fast compilation, wide vectors, programs kept between processes."""

import functools
import os

import jax

from jaxkit.core.environment import set_precision

# Never add the flag `--xla_cpu_use_fusion_emitters=false` to it: with both, jaxlib 0.10.1 computes wrong numbers (the
# Hessian of an eighth-order solve was off by 0.14), although each flag alone is right.
FAST_COMPILE = "--xla_backend_optimization_level=0"


def compile_fast() -> None:
    """Trade run time for compile time in this process: for scripts of many small programs.

    Call it before the first computation. It does nothing where XLA_FLAGS is already set.
    """
    os.environ.setdefault("XLA_FLAGS", FAST_COMPILE)


@functools.cache
def wide_vectors() -> dict[str, int]:
    """Compiler options that let element-wise loops use 512-bit vectors, where the CPU has them.

    Pass them as `jax.jit(..., compiler_options=wide_vectors())` to programs that are only called outside a trace.
    """
    options = {"xla_cpu_prefer_vector_width": 512}
    if jax.default_backend() != "cpu":
        return {}
    try:
        jax.jit(lambda x: x, compiler_options=options)(0)
    except jax.errors.JaxRuntimeError:  # the compiler lacks the option
        return {}
    return options


def use_compile_cache() -> None:
    """Keep compiled programs between processes in `$JAXKIT_CACHE`, where that is set (call it before the first jit)."""
    folder = os.environ.get("JAXKIT_CACHE")
    if folder:
        jax.config.update("jax_compilation_cache_dir", folder)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def prepare(precision: str, *, light: bool = False) -> None:
    """Apply the settings of a command: its precision, the compile cache, and fast compilation where it pays."""
    use_compile_cache()
    if light:
        compile_fast()
    set_precision(precision)

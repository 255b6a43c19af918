"""A Flax module as two plain functions, and the rule for types that all our modules keep.

The rule: parameters are made in the module's `param_dtype`, or in the type of the input where that is None, and every
layer computes in the type of its input. So `float64` inputs are computed in `float64` under any parameters, nothing is
promoted silently, and `bfloat16` inputs with `float32` parameters are mixed precision.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, DTypeLike, PyTree


class Net(NamedTuple):
    """A network as two pure functions.

    Attributes:
        init: `init(key) -> params`: fresh parameters, a nested dict of arrays.
        apply: `apply(params, *inputs) -> output`.
    """

    init: Callable[[Array], PyTree]
    apply: Callable[..., Any]


def plain(module: nn.Module, *examples: Any, **named: Any) -> Net:
    """The plain functions of a Flax module that keeps no state but its parameters.

    Args:
        module: The module.
        *examples: Inputs of the right shape and type (arrays, or `jax.ShapeDtypeStruct`s): only these two matter.
        **named: Inputs by name.

    Returns:
        A `Net`. Its `init` computes nothing with the examples.

    Raises:
        ValueError: The module keeps other variables than parameters (batch statistics, say).

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxkit.learn import nets
        >>> net = nets.plain(nets.MLP((16, 1), scalar=True), jnp.zeros((1, 2)))
        >>> params = net.init(jax.random.key(0))
        >>> net.apply(params, jnp.ones((5, 2))).shape
        (5,)
    """
    zeros = lambda tree: jax.tree.map(lambda v: jnp.zeros(jnp.shape(v), v.dtype), tree)

    def init(key: Array) -> PyTree:
        variables = module.init(key, *zeros(examples), **zeros(named))
        if extra := sorted(set(variables) - {"params"}):
            raise ValueError(f"Argument `module` must keep parameters alone, but also keeps {', '.join(extra)}.")
        return variables.get("params", {})

    return Net(init, lambda params, *inputs, **more: module.apply({"params": params}, *inputs, **more))


def count(params: PyTree) -> int:
    """How many numbers a pytree of parameters holds."""
    return sum(int(leaf.size) for leaf in jax.tree.leaves(params))


def parameter(
    module: nn.Module, name: str, init: Callable[..., Array], shape: tuple[int, ...], dtype: DTypeLike, like: Array
) -> Array:
    """A parameter of `module` made in `dtype` (that of `like`, if None) and handed out in the type of `like`."""
    return module.param(name, init, shape, like.dtype if dtype is None else dtype).astype(like.dtype)

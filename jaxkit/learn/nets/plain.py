"""Networks as two plain functions, whether written in Flax Linen, in Flax NNX, or by hand.

All our own modules keep one rule for types: parameters are made in the module's `param_dtype`, or in the type of the
input where that is None, and every layer computes in the type of its input. So `float64` inputs are computed in
`float64` with any parameters, nothing is promoted silently, and `bfloat16` inputs with `float32` parameters give mixed
precision.
"""

import dataclasses
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, DTypeLike, PyTree

from jaxkit.learn.nets import nnx


@dataclasses.dataclass(frozen=True)
class Net:
    """A network as two pure functions.

    Nets that `plain` makes are compared by value: two of the same module and the same input shapes are equal, so the
    models that hold them share compiled programs. A net made by hand from two functions equals another of the same two.

    Attributes:
        init: `init(key) -> params`: fresh parameters, a nested dict of arrays.
        apply: `apply(params, *inputs) -> output`.
    """

    init: Callable[[Array], PyTree]
    apply: Callable[..., Any]


def plain(module: Any, *examples: Any, **named: Any) -> Net:
    """The plain functions of a network that keeps no state but its parameters.

    Args:
        module: A Linen module; an NNX module's class, or a `functools.partial` of it (it is called with `rngs=`), or an
            instance, which starts from its own weights whatever the key; a pair of functions
            `(init(key) -> params, apply(params, *inputs))`; or a `Net`, which is returned as it is.
        *examples: Inputs of the right shape and type (arrays, or `jax.ShapeDtypeStruct`s): only these two matter. Only
            Linen modules need them.
        **named: Inputs by name.

    Returns:
        A `Net`. Its `init` computes nothing with the examples.

    Raises:
        ValueError: `module` is none of these, or keeps other variables than parameters (batch statistics, say).

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxkit.learn import nets
        >>> net = nets.plain(nets.MLP((16, 1), scalar=True), jnp.zeros((1, 2)))
        >>> params = net.init(jax.random.key(0))
        >>> net.apply(params, jnp.ones((5, 2))).shape
        (5,)
        >>> net == nets.plain(nets.MLP((16, 1), scalar=True), jnp.zeros((1, 2)))
        True
    """
    if isinstance(module, Net):
        return module
    if isinstance(module, nn.Module):
        fields = {f.name: getattr(module, f.name, None) for f in dataclasses.fields(module)}
        lists: dict[str, Any] = {name: tuple(v) for name, v in fields.items() if isinstance(v, list)}
        module = module.clone(**lists) if lists else module  # to be hashable
        return Net(LinenInit(module, Examples.of(examples, named)), LinenApply(module))
    if isinstance(module, tuple) and len(module) == 2 and all(map(callable, module)):
        return Net(*module)
    if "flax.nnx" in sys.modules and nnx.known(module):  # otherwise nobody can have made one
        return Net(*nnx.functions(module))
    raise ValueError(
        "Argument `module` must be a Linen module, an NNX module or its class, a pair of functions (init, apply) or a "
        f"`Net`, but is {module!r}."
    )


@dataclasses.dataclass(frozen=True)
class Examples:
    """Shapes and types of inputs, compared by value."""

    tree: Any
    forms: tuple[tuple[tuple[int, ...], str], ...]

    @classmethod
    def of(cls, examples: tuple, named: dict[str, Any]) -> "Examples":
        """The shapes and types of positional and named inputs."""
        leaves, tree = jax.tree.flatten((examples, named))
        return cls(tree, tuple((tuple(jnp.shape(v)), jnp.result_type(v).name) for v in leaves))

    def zeros(self) -> tuple[tuple, dict[str, Any]]:
        """Inputs that hold nothing but zeros."""
        return jax.tree.unflatten(self.tree, [jnp.zeros(shape, dtype) for shape, dtype in self.forms])


@dataclasses.dataclass(frozen=True)
class LinenInit:
    """Fresh parameters of a Linen module for inputs of the given form."""

    module: nn.Module
    examples: Examples

    def __call__(self, key: Array) -> PyTree:
        """The parameters."""
        inputs, named = self.examples.zeros()
        variables = self.module.init(key, *inputs, **named)
        if extra := sorted(set(variables) - {"params"}):
            raise ValueError(f"Argument `module` must keep parameters alone, but also keeps {', '.join(extra)}.")
        return variables.get("params", {})


@dataclasses.dataclass(frozen=True)
class LinenApply:
    """A Linen module as a function of its parameters and inputs."""

    module: nn.Module

    def __call__(self, params: PyTree, *inputs: Any, **named: Any) -> Any:
        """The module's output."""
        return self.module.apply({"params": params}, *inputs, **named)


def count(params: PyTree) -> int:
    """Count the numbers in a pytree of parameters."""
    return sum(int(leaf.size) for leaf in jax.tree.leaves(params))


def parameter(
    module: nn.Module, name: str, init: Callable[..., Array], shape: tuple[int, ...], dtype: DTypeLike, like: Array
) -> Array:
    """A parameter of `module`, made in `dtype` (that of `like` if None) and returned in the type of `like`."""
    return module.param(name, init, shape, like.dtype if dtype is None else dtype).astype(like.dtype)

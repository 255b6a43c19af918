"""Flax NNX modules as plain functions: split into a definition and parameters, and merged again at every call.

The parameters are a nested dictionary of arrays, as those of Linen modules are. `flax.nnx` is imported late: it is slow
to import, and only NNX modules need it.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any

import jax
from jaxtyping import Array, PyTree


def known(module: Any) -> bool:
    """Whether this is an NNX module, its class, or a partial of the class."""
    from flax import nnx

    made_by = module.func if isinstance(module, functools.partial) else module
    return isinstance(module, nnx.Module) or (inspect.isclass(made_by) and issubclass(made_by, nnx.Module))


def functions(module: Any) -> tuple[Callable[[Array], PyTree], Callable[..., Any]]:
    """`init` and `apply` of an NNX module."""
    from flax import nnx

    if isinstance(module, nnx.Module):
        own, apply = _split(module)
        return Own(own), apply
    partial = functools.partial(module) if not isinstance(module, functools.partial) else module
    init = NNXInit(partial.func, partial.args, tuple(sorted(partial.keywords.items())))
    return init, NNXApply(init)


@dataclasses.dataclass(frozen=True)
class NNXInit:
    """Fresh parameters of an NNX module, made by its class and arguments."""

    make: Callable[..., Any]
    args: tuple[Any, ...] = ()
    named: tuple[tuple[str, Any], ...] = ()

    def module(self, key: Array) -> Any:
        """A new instance."""
        from flax import nnx

        return self.make(*self.args, **dict(self.named), rngs=nnx.Rngs(key))

    def __call__(self, key: Array) -> PyTree:
        """The parameters."""
        return _split(self.module(key))[0]


@dataclasses.dataclass(frozen=True)
class NNXApply:
    """An NNX module as a function of its parameters and inputs, made by its class and arguments."""

    init: NNXInit

    def __call__(self, params: PyTree, *inputs: Any, **named: Any) -> Any:
        """The module's output."""
        return _definition(self.init)(params, *inputs, **named)


@dataclasses.dataclass(frozen=True)
class _Merged:
    """The same, made from a definition and the shapes of the parameters."""

    definition: Any
    tree: Any
    leaves: tuple[Any, ...]

    def __call__(self, params: PyTree, *inputs: Any, **named: Any) -> Any:
        from flax import nnx

        state = jax.tree.unflatten(self.tree, self.leaves)
        nnx.replace_by_pure_dict(state, params)
        return nnx.merge(self.definition, state)(*inputs, **named)


@dataclasses.dataclass(frozen=True, eq=False)
class Own:
    """The weights that an instance came with; the key is not used."""

    params: PyTree

    def __call__(self, key: Array) -> PyTree:
        """The parameters."""
        del key
        return self.params


@functools.lru_cache(maxsize=64)
def _definition(init: NNXInit) -> _Merged:
    from flax import nnx

    return _split(nnx.eval_shape(lambda: init.module(jax.random.key(0))))[1]


def _split(module: Any) -> tuple[PyTree, _Merged]:
    """The parameters as a dictionary, and the function that takes them."""
    from flax import nnx

    definition, params, rest = nnx.split(module, nnx.Param, ...)
    if extra := sorted({type(v).__name__ for _, v in nnx.to_flat_state(rest)}):
        raise ValueError(f"Argument `module` must keep parameters alone, but also keeps {', '.join(extra)}.")
    leaves, tree = jax.tree.flatten(jax.tree.map(lambda v: jax.ShapeDtypeStruct(v.shape, v.dtype), params))
    return nnx.to_pure_dict(params), _Merged(definition, tree, tuple(leaves))

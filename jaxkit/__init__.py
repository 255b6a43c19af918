"""jaxkit: differentiable scientific computing in JAX. Everything moves, and every motion has a derivative.

The verbs live at the top (`jk.solve`, `jk.root`, ...), the subjects in modules of their own
(`jaxkit.competition`, ...). Names are loaded when first used: `import jaxkit` costs little more than `import jax`.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Public name -> the module that defines it. One line makes a name public.
_HOME = {
    "Root": "jaxkit.dynamics.root",
    "SolverError": "jaxkit.core.status",
    "Status": "jaxkit.core.status",
    "fixed_point": "jaxkit.dynamics.fixed_point",
    "root": "jaxkit.dynamics.root",
    "set_precision": "jaxkit.core.environment",
}
_SUBJECTS = ("newton",)

__all__ = [*sorted(_HOME), *sorted(_SUBJECTS)]  # noqa: PLE0604, RUF100

if TYPE_CHECKING:
    from jaxkit import newton as newton
    from jaxkit.core.environment import set_precision as set_precision
    from jaxkit.core.status import SolverError as SolverError
    from jaxkit.core.status import Status as Status
    from jaxkit.dynamics.fixed_point import fixed_point as fixed_point
    from jaxkit.dynamics.root import Root as Root
    from jaxkit.dynamics.root import root as root


def __getattr__(name: str) -> Any:
    if name in _SUBJECTS:
        return importlib.import_module(f"jaxkit.{name}")
    if name in _HOME:
        value = getattr(importlib.import_module(_HOME[name]), name)
        globals()[name] = value  # next time without this function; also keeps a verb from being shadowed by its module
        return value
    raise AttributeError(f"module 'jaxkit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

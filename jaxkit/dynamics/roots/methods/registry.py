"""Every root finder by name."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from jaxkit.core.checks import one_of
from jaxkit.dynamics.roots.methods import bracket, descent, newton
from jaxkit.dynamics.roots.methods.method import Method, Settings

METHODS: Mapping[str, Method] = MappingProxyType(
    {
        method.name: method
        for method in (
            newton.NEWTON,
            newton.HALLEY,
            newton.householder(3),
            newton.householder(4),
            newton.CHORD,
            bracket.BISECT,
            bracket.SAFEGUARDED,
            bracket.ITP,
            bracket.CHANDRUPATLA,
            descent.DAMPED,
            descent.LEVENBERG_MARQUARDT,
            descent.HYBRID,
            descent.ROBUST,
        )
    }
)


def choose(method: str | Method | Settings | None, ends: Any) -> Method:
    """The method asked for; by default Newton's, safeguarded where there is a bracket."""
    if isinstance(method, Settings):
        return method.finder()
    if isinstance(method, Method):
        return method
    name = method or ("newton" if ends is None else "safeguarded")
    one_of("method", name, METHODS)
    return METHODS[name]

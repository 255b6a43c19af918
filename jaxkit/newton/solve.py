"""Type an equation, get a root."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxkit.core.checks import is_traced, require
from jaxkit.core.status import Status
from jaxkit.dynamics.roots.history import History, history
from jaxkit.dynamics.roots.methods.deflation import deflated
from jaxkit.dynamics.roots.root import Root, root
from jaxkit.newton.certify import certify as prove
from jaxkit.newton.certify import search
from jaxkit.newton.equations import Equations, residual_function
from jaxkit.newton.nearby import nearby, touching
from jaxkit.newton.result import EquationRoot
from jaxkit.newton.start import RTOL, first_guess

SPAN = 1000.0  # half width of the interval in which roots are sought, or excluded, when Newton's method finds none


def solve(
    equations: str | Equations | Callable[[Any, Any], Any],
    x0: Any = None,
    args: Any = None,
    *,
    method: str | None = None,
    certify: bool = False,
    bracket: tuple[float, float] | None = None,
    rtol: float | None = None,
    atol: float | None = None,
    max_steps: int = 200,
) -> EquationRoot:
    """Find a root of an equation or a system, given as text or as a function.

    Args:
        equations: `"x*exp(x) = 2"`, or several separated by `;`, or `Equations`, or a function `fn(x, args)`. Text is
            read by jaxkit's own parser and never executed.
        x0: First guess: a number or, for several unknowns, name -> number; a complex one, such as `1 + 1j`, for a
            complex root. By default a sign change near 0 is sought, or 1 is taken (for functions it must be given).
        args: Name -> value of the names that are not unknowns; the root is differentiable in them. For a function,
            its second argument.
        method: As for `jaxkit.root`; by default Newton's and, where that fails, one that must lower the residual.
        certify: Whether to prove the root by interval arithmetic (real text equations): see `EquationRoot.enclosure`.
        bracket: Ends of an interval with a sign change (one unknown).
        rtol: See `jaxkit.root`; for text 1e-12 by default.
        atol: See `jaxkit.root`.
        max_steps: Most iterations.

    Returns:
        An `EquationRoot`: `print` it, or take its `value`.

    Raises:
        ParseError: The text is not an equation; the message points at the place.
        ValueError: The numbers of equations and unknowns differ, or `x0` does not name the unknowns.

    Example:
        >>> from jaxkit import newton
        >>> r = newton.solve("x*exp(x) = 2", x0=1.0)
        >>> print(round(float(r.value), 6), r.derivatives[0])
        0.852606 f'(x) = exp(x) + x*exp(x)
        >>> r = newton.solve("x^2 + y^2 = 4; x*y = 1", x0={"x": 2.0, "y": 0.5})
        >>> print({name: round(float(value), 6) for name, value in r.value.items()})
        {'x': 1.931852, 'y': 0.517638}
        >>> slope = jax.grad(lambda a: newton.solve("x^2 = a", 1.0, {"a": a}).value)(4.0)
        >>> print(round(float(slope), 6))
        0.25
    """
    if rtol is None and not callable(equations):
        rtol = RTOL  # in single precision: 4 eps
    settings = {"bracket": bracket, "rtol": rtol, "atol": atol, "max_steps": max_steps}
    if callable(equations):
        require(not certify, "equations", "be text for a proof", "is a function")
        found, way, remark = _attempt(equations, x0, args, method, settings)
        return EquationRoot(found.value, found.residual, found.status, found.steps, way, remark=remark)
    system = Equations.of(equations, args, x0)
    fn = residual_function(system)
    is_complex = system.is_complex or any(jnp.iscomplexobj(v) for v in jax.tree.leaves((x0, args)))
    _check_functions(system, is_complex)
    require(not (certify and is_complex), "equations", "be real for a proof", "are complex")
    start = _start(system, x0, args, is_complex, bracket)
    known = {name: _number(value, jnp.iscomplexobj(value)) for name, value in (args or {}).items()}
    typed = system if system.single and not is_complex else None
    found, way, remark = _attempt(fn, start, known, method, settings, typed)
    enclosure, value = None, found.value
    if not is_traced((found, known)):
        remark, enclosure = _conclude(system, found, way, remark, known, is_complex, certify)
    if enclosure:  # the root shown lies in its own box
        within = {name: jnp.clip(v, *enclosure[name]) for name, v in _named(system, value).items()}
        value = within if isinstance(value, Mapping) else within[system.unknowns[0]]
    return EquationRoot(value, found.residual, found.status, found.steps, way, system, remark, enclosure)


def _attempt(
    fn: Callable, x0: Any, args: Any, method: str | None, settings: dict[str, Any], system: Equations | None = None
) -> tuple[Root, History | None, str]:
    """Newton's method with its history; if it fails and no method was asked for, one with a falling residual.

    If that fails, too, a change of sign is looked for.
    """
    found = root(fn, x0, args, method=method, **settings)
    if is_traced(found):
        return found, None, ""
    settings_shown = {**settings, "max_steps": min(settings["max_steps"], 60)}
    way = history(fn, x0, args, method=method, **settings_shown)
    if bool(found.ok) or method is not None or settings["bracket"] is not None:
        return found, way, ""
    other, failed = root(fn, x0, args, method="robust", **settings), Status(int(found.status)).name
    if bool(other.ok):
        return other, way, f"Newton's method failed ({failed}); a method with a falling residual found this root."
    third = nearby(fn, x0, args, settings, system)
    if third is None:
        return found, way, ""
    return third, way, f"Newton's method failed ({failed}); a search for a change of sign found this root."


def _check_functions(system: Equations, is_complex: bool) -> None:  # noqa: FBT001
    if is_complex:
        bad = [shown for shown, f in zip(system.shown, system.residuals, strict=True) if not f.is_holomorphic]
        require(not bad, "equations", "be free of abs, sign, cbrt and erf to have complex roots", f"are {bad}")


def _number(value: Any, is_complex: bool) -> jax.Array:  # noqa: FBT001
    least = np.complex64 if is_complex else np.float32
    return jnp.asarray(value, np.promote_types(jnp.result_type(float), least))


def _start(system: Equations, x0: Any, args: Any, is_complex: bool, bracket: Any) -> Any:  # noqa: FBT001
    """The first guess in the dtype of the computation; none where a bracket takes its place."""
    if system.single and (x0.get(system.unknowns[0]) if isinstance(x0, Mapping) else x0) is None:
        if bracket is not None:
            return None
        x0 = 1.0 if is_traced(args) and not is_complex else None
    guess = first_guess(system, x0, args, complex_plane=is_complex)
    return jax.tree.map(lambda value: _number(value, is_complex), guess)


def _conclude(
    system: Equations,
    found: Root,
    way: History | None,
    remark: str,
    known: Any,
    is_complex: bool,  # noqa: FBT001
    certify: bool,  # noqa: FBT001
) -> tuple[str, Any]:
    """What else can be said: a multiple root, no root, a proof."""
    parameters = {name: float(value) for name, value in known.items()} if not is_complex else {}
    if not bool(found.ok):
        if system.single and not is_complex:
            remark = _absence(system, parameters) or _touch(system, found, parameters)
        return remark, None
    if way is not None and (order := multiplicity(way)) > 1 and _flat(system, found, parameters):
        remark = f"{remark} The derivative vanishes here: a root of multiplicity {order}, so Newton converges slowly."
    if not certify:
        return remark.strip(), None
    values = {name: float(value) for name, value in _named(system, found.value).items()}
    box = prove(system.residuals, values, parameters)
    doubt = "No proof: interval arithmetic cannot separate this root (it may be multiple, or at a corner)."
    return (remark if box else f"{remark} {doubt}").strip(), box


def _named(system: Equations, value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {system.unknowns[0]: value}


def _absence(system: Equations, parameters: Mapping[str, float]) -> str:
    found = search(system.residuals[0], system.unknowns[0], (-SPAN, SPAN), parameters, most=20_000)
    where = f"[{-SPAN:g}, {SPAN:g}]"
    if len(found.proven):
        shown = ", ".join(f"{value:.6g}" for value in found.proven.mean(1)[:5])
        return f"But there are roots in {where}, proven by interval arithmetic: {shown}; start nearer to one."
    if found.complete:
        hint = "Try a complex guess, `x0=1 + 1j` (--complex)."
        return f"There is no real root in {where}: proven by interval arithmetic. {hint}"
    return ""


def _touch(system: Equations, found: Root, parameters: Mapping[str, float]) -> str:
    at = touching(system, float(found.value), parameters) if np.isfinite(float(found.value)) else None
    if at is None:
        return ""
    many = "a double root, or two, or none, closer together than rounding tells"
    return f"At {system.unknowns[0]} = {at:.10g} the curve touches zero as far as rounding tells: {many}."


def _flat(system: Equations, found: Root, parameters: Mapping[str, float]) -> bool:
    """Whether the derivative is small compared with the change of the function over the size of the root."""
    if not system.single or jnp.iscomplexobj(found.value):
        return True
    x = float(found.value)
    far = abs(x) or 1.0
    near = 1e-6 * far
    at = np.array([x - far, x - near, x + near, x + far])
    with np.errstate(all="ignore"):
        f = np.asarray(system.on_host(at, {name: np.float64(value) for name, value in parameters.items()}))
    slope = abs(f[2] - f[1]) / (2 * near)
    return bool(slope * far <= 1e-3 * np.nanmax(np.abs(f[[0, 3]])))


def multiplicity(way: History) -> int:
    """The multiplicity `m` of the root: each of the last Newton steps shrank by a factor of `1 - 1/m`."""
    steps = np.asarray(way.step)[1 : int(way.steps) + 1]
    if len(steps) < 8 or not np.all(steps[-5:] > 0):
        return 1
    rates = steps[-4:] / steps[-5:-1]
    rate = float(np.median(rates))
    if not 0.4 < rate < 0.97 or np.ptp(rates) > 0.05:
        return 1
    return round(1 / (1 - rate))


def distinct_roots(
    equations: str | Equations | Callable[[Any, Any], Any],
    x0: Any,
    args: Any = None,
    *,
    most: int = 10,
    max_steps: int = 200,
) -> list[Any]:
    """Several roots of a system from one guess: each root found is made to repel the search, until no other is found.

    Args:
        equations: As for `solve`.
        x0: First guess.
        args: As for `solve`.
        most: Number of roots after which to stop.
        max_steps: Most iterations for each.

    Returns:
        The roots, in the order found; there may be more.

    Example:
        >>> from jaxkit import newton
        >>> found = newton.distinct_roots("x^2 + y^2 = 4; x*y = 1", {"x": 2.0, "y": 0.5})
        >>> print(len(found))
        4
    """
    fn: Any = equations
    if not callable(equations):
        system = Equations.of(equations, args, x0)
        fn = residual_function(system)
        is_complex = system.is_complex or any(jnp.iscomplexobj(v) for v in jax.tree.leaves((x0, args)))
        x0 = _start(system, x0, args, is_complex, None)
    roots: list[Any] = []
    repelled = lambda x, given: deflated(fn, given["roots"], given["used"])(x, given["args"])
    while len(roots) < most:
        # If a root lies at the guess, the search cannot leave it: step aside a little each time.
        start = jax.tree.map(lambda v: v * (1 + 0.01 * len(roots)) + 0.01 * len(roots), x0)
        value = None
        known = roots + [start] * (most - len(roots))
        given = {"args": args, "roots": known, "used": np.arange(most) < len(roots)}
        for method in ("damped", "robust"):
            found = root(repelled, start, given, method=method, max_steps=max_steps)
            polished = root(fn, found.value, args)
            if bool(found.ok) and bool(polished.ok) and not _known(polished.value, roots):
                value = polished.value
                break
        if value is None:
            break
        roots.append(value)
    return roots


def _known(value: Any, roots: list[Any]) -> bool:
    flat = lambda tree: np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])
    return any(np.max(np.abs(flat(value) - flat(other))) < 1e-6 * (1 + np.max(np.abs(flat(other)))) for other in roots)

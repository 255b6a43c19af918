"""How an equation is solved: the methods with their settings, and the equation with noise."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import diffrax
from jaxtyping import Array

from jaxkit.core import checks
from jaxkit.core.struct import static, struct
from jaxkit.dynamics.linear.ways import JACOBIANS
from jaxkit.dynamics.ode.auto import Auto
from jaxkit.dynamics.ode.chord import StageChord
from jaxkit.dynamics.ode.field import Field
from jaxkit.dynamics.ode.schemes import TABLEAUS, Tableau, from_diffrax


def _by_chord(solver: Callable[..., diffrax.AbstractSolver]) -> diffrax.AbstractSolver:
    return solver(root_finder=diffrax.with_stepsize_controller_tols(StageChord)())


SOLVERS: Mapping[str, Callable[[], diffrax.AbstractSolver]] = MappingProxyType(
    {
        "euler": diffrax.Euler,
        "midpoint": diffrax.Midpoint,
        "heun": diffrax.Heun,
        "ralston": diffrax.Ralston,
        "bosh3": diffrax.Bosh3,
        "tsit5": diffrax.Tsit5,
        "dopri5": diffrax.Dopri5,
        "dopri8": diffrax.Dopri8,
        "implicit_euler": diffrax.ImplicitEuler,
        "auto": Auto,
        "rodas5p": functools.partial(Auto, explicit=False),
        "kvaerno3": functools.partial(_by_chord, diffrax.Kvaerno3),
        "kvaerno5": functools.partial(_by_chord, diffrax.Kvaerno5),
    }
)
# Which derivatives a solve offers. `BacksolveAdjoint` is left out: on the competition model it is silently wrong by 3%.
ADJOINTS: Mapping[str, type[diffrax.AbstractAdjoint]] = MappingProxyType(
    {
        "direct": diffrax.DirectAdjoint,
        "checkpointed": diffrax.RecursiveCheckpointAdjoint,
        "forward": diffrax.ForwardMode,
    }
)
# Schemes of `ensemble`: explicit, with an error estimate.
EMBEDDED = tuple(name for name, table in TABLEAUS.items() if table.explicit and table.error is not None)

CONTROLS = ("auto", "tangents")

Alike = Callable[[Any, Any], tuple[Array, Array]]


@dataclasses.dataclass(frozen=True)
class Taylor:
    """Taylor's method, for smooth fields: the solution's power series at each step.

    Attributes:
        order: Order of the series; None takes `ceil(1 - ln(rtol) / 2)`.
        width: Number of lanes that `ensemble` moves together; None chooses for the machine.
        control: What sets the steps while derivatives are computed: with `"auto"`, the state and, along up to 20
            directions, its tangents; with `"tangents"`, these always.
        alike: `alike(x0, args)` gives two numbers of a lane of `ensemble`; lanes in which they are near need about
            equally many steps, and are moved together. This saves time and leaves the results the same.

    Example:
        >>> import jax.numpy as jnp, jaxkit as jk
        >>> decay = lambda t, x, rate: -rate * x
        >>> found = jk.ensemble(decay, jnp.ones(3), (0.0, 1.0), 0.5, method=jk.Taylor(order=12)).checked()
        >>> round(float(found.final[0]), 6)  # exp(-1/2)
        0.606531
    """

    order: int | None = None
    width: int | None = None
    alike: Alike | None = None
    control: str = "auto"

    def __post_init__(self) -> None:
        """Check the values."""
        checks.require(self.order is None or self.order >= 2, "order", "be at least 2", f"is {self.order}")
        checks.one_of("control", self.control, CONTROLS)
        _check_width(self.width)


@dataclasses.dataclass(frozen=True)
class RungeKutta:
    """A Runge-Kutta method.

    Attributes:
        scheme: For `solve`, a name (`"euler"`, `"midpoint"`, `"heun"`, `"ralston"`, `"bosh3"`, `"tsit5"`, `"dopri5"`,
            `"dopri8"`, and for stiff fields `"implicit_euler"`, `"kvaerno3"`, `"kvaerno5"`, `"rodas5p"`; `"auto"` is
            `"tsit5"` that goes on as `"rodas5p"` while the motion is stiff) or any diffrax solver. For `ensemble`, an
            explicit scheme with an error estimate: a name, a diffrax solver or a `Tableau`.
        dt: Fixed step in units of time, for `solve`; None adapts the step to the tolerances.
        adjoint: Which derivatives `solve` has. `"auto"` has both modes, to any order: tangents by `"forward"`,
            cotangents by `"checkpointed"`, second derivatives by `"direct"`. By themselves, these three have forward
            mode alone, reverse mode alone with the least memory, and both modes with the memory of all steps.
            `ensemble` always has both modes.
        width: Number of lanes that `ensemble` moves together; None chooses for the machine.
        alike: As in `Taylor`.
        control: What sets the steps while derivatives are computed. With `"auto"`, in `solve` the state alone: the
            derivative is that of the steps, and only as accurate as they happen to be for it; in `ensemble`, as in
            `Taylor`. With `"tangents"`, the derivatives have the tolerance `rtol`, too (see `sensitivity`); in `solve`
            this is for explicit schemes with an error estimate, and a gradient costs as much as all tangents.
        jacobian: How `"rodas5p"` and `"auto"` hold the field's Jacobian, in `solve`: `"dense"`; `"sparse"`, its
            possible nonzeros alone, with sparse factors (on the CPU, in double precision); `"krylov"`, by products
            with it alone (GMRES); or `"auto"`, which from 100 numbers on looks for zeros in the field and takes sparse
            factors unless they fill up, as on large grids in two dimensions. The zeros are found by the libraries of
            `jaxkit[sparse]`. Other implicit schemes hold a dense Jacobian.

    Example:
        >>> import jax.numpy as jnp, jaxkit as jk
        >>> euler = jk.RungeKutta("euler", dt=0.1)
        >>> sol = jk.solve(lambda t, x, _: -x, 1.0, jnp.array([0.0, 1.0]), method=euler).checked()
        >>> round(float(sol.final), 6)  # 0.9^10
        0.348678
    """

    scheme: str | Tableau | diffrax.AbstractSolver = "tsit5"
    dt: float | None = None
    adjoint: str = "auto"
    width: int | None = None
    alike: Alike | None = None
    control: str = "auto"
    jacobian: str = "auto"

    def __post_init__(self) -> None:
        """Check the values."""
        checks.one_of("control", self.control, CONTROLS)
        checks.one_of("jacobian", self.jacobian, JACOBIANS)
        checks.one_of("adjoint", self.adjoint, ("auto", *ADJOINTS))
        _check_width(self.width)


@struct
class SDE:
    """The stochastic equation `dx = drift(t, x, args) dt + diffusion(t, x, args) dW`, for `solve` in place of a field.

    Attributes:
        drift: `drift(t, x, args)`, with the state's structure and shapes.
        diffusion: `diffusion(t, x, args)`, with the state's structure. With its shapes, each number of the state has
            its own noise; with one more axis of length `m` behind those of each leaf, the state shares `m` noises.
        key: Random key of the Brownian path.
        sense: `"ito"` or `"stratonovich"`: the meaning of the equation. Any scheme solves either: `"euler"` converges
            to Itô's solution, `"heun"`, `"midpoint"` and `"ralston"` to Stratonovich's; to an equation in the other
            sense, half of the noise's drift along itself is added, or taken from it.

    Example:
        >>> import jax, jax.numpy as jnp, jaxkit as jk
        >>> walk = jk.SDE(lambda t, x, _: -x, lambda t, x, _: 0.1 * jnp.ones_like(x), jax.random.key(0))
        >>> sol = jk.solve(walk, 1.0, jnp.array([0.0, 1.0]), method=jk.RungeKutta("euler", dt=0.01))
        >>> bool(abs(sol.checked().final - jnp.exp(-1.0)) < 0.3)
        True
        >>> shared = jk.SDE(lambda t, x, _: -x, lambda t, x, _: jnp.array([[0.3], [0.3]]), jax.random.key(0))
        >>> sol = jk.solve(shared, jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0]), method=jk.RungeKutta("heun", dt=0.01))
        >>> round(float(sol.checked().final[0] - sol.final[1]), 4)  # both have the same noise: exp(-1) is left
        0.3679

    References:
        Kloeden and Platen (1992), Numerical Solution of Stochastic Differential Equations, chapters 4 and 10.
    """

    drift: Field = static()
    diffusion: Field = static()
    key: Array
    sense: str = static(default="ito")

    def __post_init__(self) -> None:
        """Check the sense."""
        checks.one_of("sense", self.sense, ("ito", "stratonovich"))


Method = Taylor | RungeKutta


def of_solve(method: Any) -> Taylor | tuple[RungeKutta, diffrax.AbstractSolver]:
    """The method of a `solve`, with diffrax's solver where it is not Taylor's."""
    method = _as_object(method, ("taylor", *SOLVERS))
    if isinstance(method, Taylor):
        return method
    scheme = method.scheme
    if isinstance(scheme, diffrax.AbstractSolver):
        return method, scheme
    checks.one_of("scheme", scheme, SOLVERS)
    adapts = scheme != "auto" or method.dt is None
    checks.require(adapts, "dt", "be left out with the scheme 'auto', whose steps adapt", f"is {method.dt!r}")
    held = method.jacobian in ("auto", "dense") or scheme in ("auto", "rodas5p")
    must = f"be 'auto' or 'dense' with the scheme {scheme!r}"
    checks.require(held, "jacobian", must + "; 'rodas5p' takes others", f"is {method.jacobian!r}")
    return method, SOLVERS[scheme]()  # pyright: ignore[reportArgumentType]


def of_ensemble(method: Any) -> Method:
    """The method of an `ensemble`, checked; its scheme is a name or a tableau."""
    method = _as_object(method, ("taylor", *EMBEDDED))
    if isinstance(method, Taylor):
        return method
    for name, usual in (("dt", None), ("adjoint", "auto"), ("jacobian", "auto")):
        value = getattr(method, name)
        must = "be left out in ensembles and with control='tangents', whose steps adapt"
        checks.require(value == usual, name, must, f"is {value!r}")
    scheme = from_diffrax(method.scheme) if isinstance(method.scheme, diffrax.AbstractSolver) else method.scheme
    if isinstance(scheme, Tableau):
        usable = scheme.explicit and scheme.error is not None
        checks.require(usable, "scheme", "be explicit and have an error estimate", f"is {scheme.name}")
    else:
        checks.one_of("scheme", scheme, EMBEDDED)
    return dataclasses.replace(method, scheme=scheme)


def _as_object(method: Any, names: tuple[str, ...]) -> Method:
    if isinstance(method, str):
        return _named(method, names)
    if isinstance(method, Taylor | RungeKutta):
        return method
    must = "be a name, `Taylor`, `RungeKutta` or a diffrax solver"
    checks.require(isinstance(method, diffrax.AbstractSolver), "method", must, "is not")
    return RungeKutta(method)


@functools.cache
def _named(method: str, names: tuple[str, ...]) -> Method:
    checks.one_of("method", method, names)
    return Taylor() if method == "taylor" else RungeKutta(method)


def _check_width(width: int | None) -> None:
    checks.require(width is None or width >= 1, "width", "be at least 1", f"is {width}")

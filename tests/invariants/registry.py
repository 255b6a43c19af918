"""Every verb with every registered method, as small problems that the invariants are tested on.

A new method of a registry enters by itself; a new verb is a function here and a line of `CASES`.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxkit as jk
from jaxkit.dynamics.mcmc import sample as mcmc
from jaxkit.dynamics.ode.methods import EMBEDDED, SOLVERS
from jaxkit.dynamics.recurrence import unroll as recurrence
from jaxkit.dynamics.roots.fixed_point import ITERATIONS
from jaxkit.dynamics.roots.methods.registry import METHODS as FINDERS

Inputs = Mapping[str, Any]  # every differentiable argument of the verb, of one lane


class Vector:
    """The state as it is."""

    def pack(self, x):
        return x

    def unpack(self, x):
        return x


class Tree:
    """The same state as a dictionary with a tuple in it."""

    def pack(self, x):
        return {"p": x} if x.ndim == 0 else {"p": x[0], "q": (x[1:],)}

    def unpack(self, tree):
        return tree["p"] if "q" not in tree else jnp.concatenate([tree["p"][None], tree["q"][0]])


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """A verb with a method on a problem.

    Attributes:
        name: Verb and method.
        one: `one(inputs, form, mode)` gives the answer and the status of one lane, its state as `form` (a `Vector` or
            a `Tree`) has it; `mode` is the derivative it must offer, "rev" or "fwd".
        inputs: Of a good lane.
        failing: What differs in a lane that fails.
        exact: The answer in closed form, to `rtol`.
        lanes: The verb's own lanes: `lanes(inputs)`, all inputs with a leading axis; else `vmap` makes them.
        modes: Derivatives that the verb promises.
        step: Of the central differences, which hold to `slack`.
        forms: Whether the state may be a pytree.
        quick: Whether it is one of the quick tests.
    """

    name: str
    one: Callable[..., tuple[Any, Any]]
    inputs: Inputs
    failing: Inputs
    exact: Callable[..., Any] | None = None
    rtol: float = 1e-5
    lanes: Callable[[Inputs], tuple[Any, Any]] | None = None
    modes: tuple[str, ...] = ("fwd", "rev")
    step: float = 1e-4
    slack: float = 2e-5
    forms: bool = True
    quick: bool = False


def _array(*numbers: float) -> np.ndarray:
    return np.array(numbers)


# solve, ensemble, sensitivity: x' = a x^2 from x0, which blows up at t = 1 / (a x0).
FIELD = {"x0": _array(1.0, 0.7), "ts": _array(0.0, 0.4, 1.0), "args": np.array(-0.8)}
BLOW_UP = {"args": np.array(9.0)}
# A step that no time is a multiple of: where a time moves over a step's end, a difference is one of two programs.
FIXED = dict.fromkeys(("euler", "midpoint", "heun", "ralston", "implicit_euler"), 0.0217)


def _field(form):
    return lambda t, x, a: form.pack(a * form.unpack(x) ** 2 + 0 * t)


def _hyperbola(x0, ts, args):
    return x0 / (1 - args * x0 * (ts[-1] - ts[0]))


def _solve(method: Any) -> Callable:
    def one(given: Inputs, form: Any, mode: str) -> tuple[Any, Any]:
        del mode
        chosen, field, single = method, _field(form), given["x0"].dtype == jnp.float32
        if method != "taylor":
            name = "euler" if method == "noise" else method
            chosen = jk.RungeKutta(name, dt=0.0217 if method == "noise" else FIXED.get(name))
        if method == "noise":
            small = lambda t, x, a: form.pack(0.01 * jnp.ones_like(form.unpack(x)))
            field = jk.SDE(field, small, jax.random.key(3))
        rtol = 1e-4 if single else 1e-8
        found = jk.solve(
            field, form.pack(given["x0"]), given["ts"], given["args"], method=chosen, rtol=rtol, atol=rtol / 10
        )
        return found.final, found.status

    return one


def solve(method: str, *, quick: bool) -> Case:
    rough = method in FIXED or method == "noise"
    rtol = 0.05 if rough else 1e-6
    return Case(f"solve-{method}", _solve(method), FIELD, BLOW_UP, _hyperbola, rtol, quick=quick)


def _batch(verb: Callable, method: Any, given: Inputs, form: Any) -> Any:
    """All lanes of an ensemble or a sensitivity, each with a span of its own."""
    rtol = 1e-4 if given["x0"].dtype == jnp.float32 else 1e-6 if method in LOW else 1e-9
    starts = jax.vmap(form.pack)(given["x0"])
    return verb(_field(form), starts, given["ts"], given["args"], method=method, rtol=rtol, atol=rtol / 10)


def _lane(many: Callable) -> Callable:
    """One lane of what has lanes."""

    def one(given: Inputs, form: Any, mode: str) -> tuple[Any, Any]:
        del mode
        return jax.tree.map(lambda v: v[0], many(jax.tree.map(lambda v: v[None], given), form))

    return one


LOW = ("heun", "ralston")  # of order two: at 1e-9 they honestly run out of steps
SPANS = FIELD | {"ts": _array(0.0, 1.0)}


def ensemble(method: str, *, quick: bool) -> Case:
    def many(given: Inputs, form: Any) -> tuple[Any, Any]:
        found = _batch(jk.ensemble, method, given, form)
        return found.final, found.status

    lanes = lambda given: many(given, Vector())
    low = method in LOW
    slack, rtol = (1e-3, 1e-4) if low else (2e-5, 1e-6)
    return Case(f"ensemble-{method}", _lane(many), SPANS, BLOW_UP, _hyperbola, rtol, lanes, slack=slack, quick=quick)


def sensitivity(method: str, *, quick: bool) -> Case:
    def many(given: Inputs, form: Any) -> tuple[Any, Any]:
        found = _batch(jk.sensitivity, method, given, form)
        return (found.ensemble.final, found.x0s, found.args), found.ensemble.status

    def exact(x0, ts, args):
        shrunk = 1 - args * x0 * (ts[1] - ts[0])
        return x0 / shrunk, jnp.diag(1 / shrunk**2), (ts[1] - ts[0]) * x0**2 / shrunk**2

    lanes = lambda given: many(given, Vector())
    rtol = 1e-4 if method in LOW else 1e-6
    return Case(f"sensitivity-{method}", _lane(many), SPANS, BLOW_UP, exact, rtol, lanes, quick=quick, modes=())


class Decay:
    """A linear cell: x' = a x + u."""

    def __call__(self, x, u, a):
        x = a * x + u
        return x, x

    def affine(self, u, a):
        return jnp.broadcast_to(a, u.shape), u

    def readout(self, x, u, a):
        return x


def _steps(x0, inputs, args, *, linear):
    for u in inputs:
        x0 = args * x0 * (1 if linear else 1 - x0) + u
    return x0


def unroll(name: str, *, quick: bool) -> Case:
    method = recurrence.METHODS[name]
    linear = isinstance(method, jk.Associative)

    def one(given: Inputs, form: Any, mode: str) -> tuple[Any, Any]:
        del mode

        def step(x, u, a):
            x = form.unpack(x)
            x = a * x * (1 - x) + u
            return form.pack(x), x

        start = form.pack(given["x0"])
        found = jk.unroll(Decay() if linear else step, start, given["inputs"], given["args"], method=method)
        return found.final, found.status

    inputs = {"x0": _array(0.3, 0.5), "inputs": np.array([[0.1, 0.0], [0.0, 0.2], [-0.1, 0.1]]), "args": np.array(0.8)}
    failing = {"args": np.array(1e250), "inputs": np.ones((3, 2))}
    exact = functools.partial(_steps, linear=linear)
    return Case(f"unroll-{name}", one, inputs, failing, exact, 1e-9, forms=not linear, quick=quick)


# root, fixed_point: the square root; below zero there is none.
def _square_root(x0, args):
    return jnp.sqrt(args) + 0 * x0


def root(name: str, *, quick: bool) -> Case:
    finder = FINDERS[name]

    def one(given: Inputs, form: Any, mode: str) -> tuple[Any, Any]:
        del mode
        fn = lambda x, a: form.pack(form.unpack(x) ** 2 - a)
        if finder.bracketing:
            bare = lambda x, a: x**2 - a
            found = jk.root(bare, None, given["args"], method=name, bracket=(given["low"], given["high"]))
        else:
            found = jk.root(fn, form.pack(given["x0"]), given["args"], method=name)
        return found.value, found.status

    inputs: Inputs = {"x0": _array(1.3, 1.1), "args": _array(2.0, 1.5)}
    if finder.bracketing:
        inputs = {"low": np.array(0.2), "high": np.array(4.0), "args": np.array(2.0)}
    elif name.startswith("householder"):
        inputs = {"x0": np.array(1.3), "args": np.array(2.0)}
    exact = (lambda low, high, args: jnp.sqrt(args)) if finder.bracketing else _square_root
    failing = {"args": -inputs["args"]}
    forms = not finder.bracketing
    return Case(f"root-{name}", one, inputs, failing, exact, 1e-7, slack=1e-4, step=1e-3, forms=forms, quick=quick)


def fixed_point(name: str, *, quick: bool) -> Case:
    def one(given: Inputs, form: Any, mode: str) -> tuple[Any, Any]:
        del mode
        heron = lambda x, a: form.pack(0.5 * (form.unpack(x) + a / form.unpack(x)))
        found = jk.fixed_point(heron, form.pack(given["x0"]), given["args"], method=name)
        return found.value, found.status

    scalar = name.startswith("householder")
    inputs = {"x0": np.array(1.3), "args": np.array(2.0)}
    if not scalar:
        inputs = {"x0": _array(1.3, 1.1), "args": _array(2.0, 1.5)}
    failing = {"args": -inputs["args"]}
    return Case(f"fixed_point-{name}", one, inputs, failing, _square_root, 1e-7, slack=1e-4, step=1e-3, quick=quick)


def least_squares(jacobian: str, *, quick: bool) -> Case:
    def one(given: Inputs, form: Any, mode: str) -> tuple[Any, Any]:
        del mode
        times = jnp.linspace(0.0, 2.0, 5, dtype=given["x0"].dtype)
        curve = lambda p: p[0] * jnp.exp(-p[1] * times)
        residuals = lambda p, data: curve(form.unpack(p)) - data
        single = given["x0"].dtype == jnp.float32
        method, tight = jk.LevenbergMarquardt(jacobian=jacobian), {"rtol": 1e-5, "gtol": 1e-4} if single else {}
        found = jk.least_squares(residuals, form.pack(given["x0"]), curve(given["args"]), method=method, **tight)
        return found.params, found.status

    inputs, failing = {"x0": _array(1.0, 1.0), "args": _array(2.0, 0.7)}, {"args": _array(2.0, -2000.0)}
    exact = lambda x0, args: args
    return Case(f"least_squares-{jacobian}", one, inputs, failing, exact, 1e-6, slack=1e-4, quick=quick)


# fit, play: gradient steps of 0.1 on a parabola.
DESCENT = {"x0": _array(1.0, -0.5), "args": _array(0.3, 2.0)}
TOO_FAR = {"args": _array(1e200, 1.0)}


def fit(*, quick: bool) -> Case:
    def one(given: Inputs, form: Any, mode: str) -> tuple[Any, Any]:
        del mode
        loss = lambda p, a: 0.5 * jnp.sum((form.unpack(p) - a) ** 2)
        start = form.pack(given["x0"])
        found = jk.fit(lambda p, _: loss(p, given["args"]), start, optimizer=optax.sgd(0.1), steps=10)
        return found.params, found.status

    exact = lambda x0, args: args + 0.9**10 * (x0 - args)
    return Case("fit-sgd", one, DESCENT, TOO_FAR, exact, 1e-9, quick=quick)


def play(turns: str, *, quick: bool) -> Case:
    def one(given: Inputs, form: Any, mode: str) -> tuple[Any, Any]:
        del mode
        value = lambda p: form.unpack(p["x"])
        losses = {
            "x": lambda p, a, key: 0.5 * jnp.sum((value(p) - a) ** 2),
            "y": lambda p, a, key: 0.5 * jnp.sum((p["y"] - jax.lax.stop_gradient(value(p))) ** 2),
        }
        players = {"x": form.pack(given["x0"]), "y": given["x0"]}
        sgd = {"x": optax.sgd(0.1), "y": optax.sgd(1.0)}
        data = lambda i: given["args"]
        found = jk.play(losses, players, data, optimizers=sgd, steps=10, key=jax.random.key(0), turns=turns)
        return (found.players["x"], found.players["y"]), found.status

    last = 9 if turns == "simultaneous" else 10
    at = lambda x0, args, steps: args + 0.9**steps * (x0 - args)
    exact = lambda x0, args: (at(x0, args, 10), at(x0, args, last))
    return Case(f"play-{turns}", one, DESCENT, TOO_FAR, exact, 1e-9, quick=quick, modes=())


def sample(name: str, *, quick: bool) -> Case:
    def one(given: Inputs, form: Any, mode: str) -> tuple[Any, Any]:
        del mode
        energy = lambda x, a, *level: 0.5 * jnp.sum((form.unpack(x) - a) ** 2)
        start = jax.tree.map(lambda v: v[None], form.pack(given["x0"]))
        method, warmup = mcmc.METHODS.get(name), 20
        if name == "annealed":
            method, warmup = jk.Annealed(jnp.array([2.0, 1.0], given["x0"].dtype), 0.1), 0
        found = jk.sample(
            energy, start, given["args"], key=jax.random.key(1), steps=20, method=method, warmup=warmup, thin=20
        )
        return jax.tree.map(lambda v: v[0], found.final), found.status[0]

    return Case(f"sample-{name}", one, DESCENT, TOO_FAR, quick=quick, modes=())


def linearize(*, quick: bool) -> Case:
    def one(given: Inputs, form: Any, mode: str) -> tuple[Any, Any]:
        del mode

        def field(t, x, a):
            x = form.unpack(x)
            return form.pack(jnp.stack([x[1] + 0 * t, -a[0] * x[0] ** 3 / 3 - a[1] * x[1]]))

        found = jk.linearize(field, form.pack(given["x0"]), given["args"])
        status = jnp.where(found.kind == int(jk.Kind.none), int(jk.Status.not_finite), int(jk.Status.ok))
        return (jnp.real(found.eigenvalues), jnp.imag(found.eigenvalues), found.jacobian[1]), status

    def exact(x0, args):
        stiffness, half = args[0] * x0[0] ** 2, -0.5 * args[1]
        turn = jnp.sqrt(stiffness - half**2)
        return jnp.stack([half, half]), jnp.stack([turn, -turn]), jnp.stack([-stiffness, -args[1]])

    inputs, failing = {"x0": _array(1.0, 0.2), "args": _array(2.0, 0.5)}, {"args": _array(np.inf, 0.5)}
    return Case("linearize-eigenvalues", one, inputs, failing, exact, 1e-9, quick=quick)


def equilibria(*, quick: bool) -> Case:
    def one(given: Inputs, form: Any, mode: str) -> tuple[Any, Any]:
        del mode
        field = lambda t, x, a: form.pack(a - form.unpack(x) ** 2 + 0 * t)
        starts = jax.tree.map(lambda v: v[None], form.pack(given["x0"]))
        single = given["x0"].dtype == jnp.float32
        found = jk.equilibria(field, starts, given["args"], rtol=1e-5 if single else 1e-8)
        return jax.tree.map(lambda v: v[0], found.x), found.status[0]

    inputs = {"x0": _array(1.3, 1.1), "args": _array(2.0, 1.5)}
    failing = {"args": _array(-2.0, 1.5)}
    return Case("equilibria-newton", one, inputs, failing, _square_root, 1e-7, slack=1e-4, step=1e-3, quick=quick)


def continuation(*, quick: bool) -> Case:
    def one(given: Inputs, form: Any, mode: str) -> tuple[Any, Any]:
        del form, mode
        fold = lambda t, x, p: jnp.stack([p - x[0] ** 2 + 0 * t, x[0] - x[1]])
        found = jk.continuation(fold, given["x0"], given["args"], steps=2)
        return (found.x[0], found.x[-1] ** 2 - found.parameter[-1]), jnp.max(found.status)

    exact = lambda x0, args: (jnp.sqrt(args) + 0 * x0, 0 * x0)
    inputs, failing = {"x0": _array(1.1, 1.0), "args": np.array(1.2)}, {"args": np.array(-1.0)}
    return Case("continuation-arclength", one, inputs, failing, exact, 1e-6, forms=False, modes=(), quick=quick)


CASES: tuple[Case, ...] = (
    *(solve(name, quick=name == "tsit5") for name in ("taylor", *SOLVERS, "noise")),
    *(ensemble(name, quick=name == "taylor") for name in ("taylor", *EMBEDDED)),
    *(sensitivity(name, quick=False) for name in ("taylor", *EMBEDDED)),
    *(unroll(name, quick=name == "scan") for name in recurrence.METHODS),
    *(root(name, quick=name == "newton") for name in FINDERS),
    *(
        fixed_point(name, quick=name == "anderson")
        for name in (*ITERATIONS, *(name for name, finder in FINDERS.items() if not finder.bracketing))
    ),
    *(least_squares(jacobian, quick=jacobian == "forward") for jacobian in ("forward", "reverse")),
    fit(quick=True),
    *(play(turns, quick=turns == "alternating") for turns in ("alternating", "simultaneous")),
    *(sample(name, quick=name == "ula") for name in (*mcmc.METHODS, "annealed")),
    linearize(quick=True),
    equilibria(quick=True),
    continuation(quick=True),
)

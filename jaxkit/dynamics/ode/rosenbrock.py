"""A Rosenbrock method for stiff fields: Newton's idea without an iteration, one factored Jacobian a step.

Each stage is a linear solve, so a step has derivatives in both modes like any formula, and no stage that fails to
converge. It needs the field's Jacobian exactly, with the derivative by time.

References:
    Steinebach (2023), Construction of Rosenbrock-Wanner method Rodas5P and numerical benchmarks within the Julia
    Differential Equations package, BIT Numerical Mathematics 63, 27 (the coefficients).
    Hairer and Wanner (1996), Solving Ordinary Differential Equations II, section IV.7 (this form of the stages).
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxkit.core.numerics import all_finite
from jaxkit.dynamics.linear.both_modes import both_modes
from jaxkit.dynamics.linear.dense import value_and_jacobian
from jaxkit.dynamics.linear.implicit import closed
from jaxkit.dynamics.linear.klu import Factors, held
from jaxkit.dynamics.linear.pattern import Pattern
from jaxkit.dynamics.linear.ways import DENSE, Entries, Way, bound, solver

Velocity = Callable[[Any, Array], Array]  # of the fraction of the step and the state
Vector = Float[Array, " n"]


class Scheme(NamedTuple):
    """A Rosenbrock method: stage `i` is `(1 - g h J) u_i = g (h f(t + c_i h, x + a_i u) + C_i u + d_i h df/ds)`.

    The end is the last stage's state plus its `u`, which is also the error estimate.

    Attributes:
        g: The diagonal coefficient.
        a: What the stages' states take of the earlier `u`.
        c: Nodes.
        mixed: What the stages' right sides take of the earlier `u`, `C`.
        d: What they take of the derivative by the fraction of the step, `s`.
        dense: What the state within the step takes of all `u`: three rows.
    """

    g: float
    a: np.ndarray
    c: np.ndarray
    mixed: np.ndarray
    d: np.ndarray
    dense: np.ndarray


def _lower(*rows: list[float]) -> np.ndarray:
    full = np.zeros((len(rows), len(rows)))
    for i, row in enumerate(rows):
        full[i, : len(row)] = row
    return full


_LAST = [-7.502846399306121, 2.561846144803919, -11.627539656261098, -0.18268767659942256, 0.030198172008377946]
_A = _lower(
    [],
    [3.0],
    [2.849394379747939, 0.45842242204463923],
    [-6.954028509809101, 2.489845061869568, -10.358996098473584],
    [2.8029986275628964, 0.5072464736228206, -0.3988312541770524, -0.04721187230404641],
    _LAST,
    [*_LAST, 1.0],
    [*_LAST, 1.0, 1.0],
)
_MIXED = _lower(
    [],
    [-14.155112264123755],
    [-17.97296035885952, -2.859693295451294],
    [147.12150275711716, -1.41221402718213, 71.68940251302358],
    [165.43517024871676, -0.4592823456491126, 42.90938336958603, -5.961986721573306],
    [24.854864614690072, -3.0009227002832186, 47.4931110020768, 5.5814197821558125, -0.6610691825249471],
    [
        30.91273214028599,
        -3.1208243349937974,
        77.79954646070892,
        34.28646028294783,
        -19.097331116725623,
        -28.087943162872662,
    ],
    [
        37.80277123390563,
        -3.2571969029072276,
        112.26918849496327,
        66.9347231244047,
        -40.06618937091002,
        -54.66780262877968,
        -9.48861652309627,
    ],
)
_DENSE = np.array(
    [
        [
            25.948786856663858,
            -2.5579724845846235,
            10.433815404888879,
            -2.3679251022685204,
            0.524948541321073,
            1.1241088310450404,
            0.4272876194431874,
            -0.17202221070155493,
        ],
        [
            -9.91568850695171,
            -0.9689944594115154,
            3.0438037242978453,
            -24.495224566215796,
            20.176138334709044,
            15.98066361424651,
            -6.789040303419874,
            -6.710236069923372,
        ],
        [
            11.419903575922262,
            2.8879645146136994,
            72.92137995996029,
            80.12511834622643,
            -52.072871366152654,
            -59.78993625266729,
            -0.15582684282751913,
            4.883087185713722,
        ],
    ]
)
_NODES = [0.0, 0.6358126895828704, 0.4095798393397535, 0.9769306725060716, 0.4288403609558664, 1.0, 1.0, 1.0]
_BY_TIME = [-0.42387512638858027, -0.3384627126235924, 1.8046452872882734, 2.325825639765069, 0.0, 0.0, 0.0]
_G = 0.21193756319429014
RODAS5P = Scheme(_G, _A, np.array(_NODES), _MIXED, np.array([_G, *_BY_TIME]), _DENSE)


class Taken(NamedTuple):
    """A step.

    Attributes:
        x: The state at its end.
        error: The error estimate.
        path: The state within the step: coefficients of the powers 1 to 4 of the fraction of the step.
    """

    x: Vector
    error: Vector
    path: Float[Array, "4 n"]


def step(
    velocity: Velocity, x: Vector, h: Array, first: Vector, scheme: Scheme = RODAS5P, way: Way = DENSE
) -> tuple[Taken, Array, Array]:
    """One step of a flat state; then the fastest rate times the step, about, and whether the Jacobian is finite.

    Args:
        velocity: The field, of the fraction of the step and the state.
        x: State at its beginning.
        h: Length, signed.
        first: The velocity at its beginning.
        scheme: The method.
        way: How the linear systems are solved.
    """
    start = jnp.zeros((), x.dtype)
    if way.name == "dense":
        slope = value_and_jacobian(lambda x: velocity(start, x), x)[1]
        solve = factored(jnp.eye(x.size, dtype=x.dtype) - scheme.g * h * slope)
        held = jax.lax.stop_gradient(slope)
        return _stages(velocity, x, h, first, scheme, solve), _fastest(held) * jnp.abs(h), all_finite(held)
    if way.name == "krylov":
        rate = jax.lax.stop_gradient(bound(way.slope(lambda x: velocity(start, x), x)[1]) * jnp.abs(h))
        solve = solver(_matrix(velocity, x, h, scheme), x, way)
        return _stages_in_a_loop(velocity, x, h, scheme, solve), rate, jnp.isfinite(rate)
    taken, rate = _with_factors(velocity, x, h, scheme, way)
    return taken, rate, jnp.isfinite(rate)


def _stages(velocity: Velocity, x: Vector, h: Array, first: Vector, scheme: Scheme, solve: Callable) -> Taken:
    by_time = _by_time(velocity, x)
    there, taken, good = x, [], jnp.asarray(True)  # noqa: FBT003
    for i in range(len(scheme.c)):
        there = x + _blend(scheme.a[i], taken) if i else x
        rate = velocity(float(scheme.c[i]), there) if i else first
        mixed = _blend(scheme.mixed[i], taken) if i else 0
        right = scheme.g * (h * (rate + float(scheme.d[i]) * by_time) + mixed)
        good = good & jnp.all(jnp.isfinite(right))  # a step that overflows is refused, and has no derivative
        taken.append(solve(jnp.where(good, right, 0)))
    end = jnp.where(good, there + taken[-1], jnp.nan)
    rows = [_blend(row, taken) for row in scheme.dense]
    return Taken(end, jnp.where(good, taken[-1], jnp.inf), _path(x, end, rows))


def _stages_in_a_loop(velocity: Velocity, x: Vector, h: Array, scheme: Scheme, solve: Callable) -> Taken:
    """The same, for large states: one stage is compiled instead of eight."""
    by_time = _by_time(velocity, x)
    tables = [jnp.asarray(table, x.dtype) for table in (scheme.a, scheme.c, scheme.mixed, _padded(scheme))]

    def stage(taken: Array, given: Any) -> tuple[Array, Vector]:
        i, a, c, mixed, d = given
        there = x + a @ taken
        right = scheme.g * (h * (velocity(c, there) + d * by_time) + mixed @ taken)
        return taken.at[i].set(solve(right)), there

    count = len(scheme.c)
    taken, there = jax.lax.scan(stage, jnp.zeros((count, x.size), x.dtype), (jnp.arange(count), *tables))
    end = there[-1] + taken[-1]
    return Taken(end, taken[-1], _path(x, end, jnp.asarray(scheme.dense, x.dtype) @ taken))


def _path(x: Vector, end: Vector, rows: Any) -> Float[Array, "4 n"]:
    """The coefficients of the polynomial within the step."""
    return jnp.stack([end - x + rows[0], rows[1] - rows[0], rows[2] - rows[1], -rows[2]])


def _by_time(velocity: Velocity, x: Vector) -> Vector:
    start = jnp.zeros((), x.dtype)
    return jax.jvp(lambda s: velocity(s, x), (start,), (jnp.ones_like(start),))[1]


def _padded(scheme: Scheme) -> np.ndarray:
    return np.concatenate([scheme.d, np.zeros(len(scheme.c) - len(scheme.d))])


def _matrix(velocity: Velocity, x: Vector, h: Array, scheme: Scheme) -> Callable[[Vector], Vector]:
    """Products with `1 - g h J`."""
    start = jnp.zeros((), x.dtype)
    return lambda v: v - scheme.g * h * jax.jvp(lambda x: velocity(start, x), (x,), (v,))[1]


def _with_factors(velocity: Velocity, x: Vector, h: Array, scheme: Scheme, way: Way) -> tuple[Taken, Array]:
    """The step with sparse factors, which are made once for its stages, and once more for their derivatives.

    Then the fastest rate times the step, from the matrix that was factored.
    """
    pattern = cast(Pattern, way.pattern)
    of, values = closed(velocity, jnp.zeros((), x.dtype), x)

    def around(inputs: Any, use: Callable[[tuple[Any, ...]], Any]) -> Any:
        x, h, values = inputs
        entries = pattern.entries(_matrix(lambda s, x: of(s, x, *values), x, h, scheme), x)
        rate = bound(Entries(entries.at[pattern.diagonal].add(-1), pattern)) / scheme.g
        return held(pattern, entries, lambda factors: use(((factors, rate),)))

    def program(tool: tuple[Factors, Array] | None, x: Vector, h: Array, values: list[Array]) -> tuple[Taken, Array]:
        moving = lambda s, x: of(s, x, *values)
        product = _matrix(moving, x, h, scheme)
        if tool is None:
            return _stages_in_a_loop(moving, x, h, scheme, solver(product, x, way)), jnp.zeros((), x.dtype)
        factors, rate = tool
        there, back = (lambda _, right: factors.solve(right)), (lambda _, right: factors.solve(right, transposed=True))
        solve = lambda right: jax.lax.custom_linear_solve(product, right, there, back)
        return _stages_in_a_loop(moving, x, h, scheme, solve), rate

    return both_modes(program, program, program, x, h, values, around=around)


def _fastest(slope: Array) -> Array:
    """A bound on the rates of a Jacobian: the root of a norm of its square."""
    size = jnp.maximum(jnp.max(jnp.abs(slope)), jnp.finfo(slope.dtype).tiny)
    square = jnp.abs((slope / size) @ (slope / size))
    return size * jnp.sqrt(jnp.minimum(jnp.max(jnp.sum(square, 0)), jnp.max(jnp.sum(square, 1))))


def _blend(weights: np.ndarray, taken: list[Vector]) -> Vector:
    terms = [float(w) * u for w, u in zip(weights, taken, strict=False) if w]
    return functools.reduce(jnp.add, terms)


def factored(matrix: Float[Array, "n n"]) -> Callable[[Vector], Vector]:
    """Solves with one matrix, factored once, whose derivatives take further solves with the same factors."""
    held = jax.lax.stop_gradient(matrix)
    if len(held) == 1:
        return lambda right: right / matrix[0]
    lu, _, order = jax.lax.linalg.lu(held)
    triangle = jax.lax.linalg.triangular_solve

    def there(_: Callable, right: Vector) -> Vector:
        y = triangle(lu, right[order][:, None], left_side=True, lower=True, unit_diagonal=True)
        return triangle(lu, y, left_side=True, lower=False)[:, 0]

    def back(_: Callable, right: Vector) -> Vector:
        y = triangle(lu, right[:, None], left_side=True, lower=False, transpose_a=True)
        y = triangle(lu, y, left_side=True, lower=True, unit_diagonal=True, transpose_a=True)[:, 0]
        return jnp.zeros_like(y).at[order].set(y)

    return lambda right: jax.lax.custom_linear_solve(lambda v: matrix @ v, right, there, back)

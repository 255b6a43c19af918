"""Problem tables for root finders.

Scalars: scipy's `_tstutils` (starts, brackets, roots), its functions written again for JAX. "aps" is Alefeld, Potra
and Shi, TOMS 21 (1995); "chandrupatla" is Adv. Eng. Softw. 28 (1997).
Systems: the 23 of More, Garbow and Hillstrom (TOMS 7, 1981) and Burkardt's TEST_NONLIN, with their standard starts.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize._tstutils import get_tests

II = np.arange(1.0, 21.0)


def _aps13(x):
    return jnp.where(x == 0, 0.0, x * jnp.exp(-1 / jnp.where(x == 0, 1.0, x) ** 2))


def _aps15(x, n):
    inside = jnp.exp((n + 1) * jnp.clip(x, 0, 2e-3 / (1 + n)) * 500) - 1.859
    return jnp.where(x < 0, -0.859, jnp.where(x > 2e-3 / (1 + n), np.e - 1.859, inside))


APS = (
    lambda x, p: jnp.sin(x) - x / 2,
    lambda x, p: -2 * jnp.sum((2 * II - 5) ** 2 / (x - II**2) ** 3),
    lambda x, p: p[0] * x * jnp.exp(p[1] * x),
    lambda x, p: x ** p[0] - p[1],
    lambda x, p: jnp.sin(x) - 0.5,
    lambda x, p: 2 * x * jnp.exp(-p[0]) - 2 * jnp.exp(-p[0] * x) + 1,
    lambda x, p: (1 + (1 - p[0]) ** 2) * x - (1 - p[0] * x) ** 2,
    lambda x, p: x * x - (1 - x) ** p[0],
    lambda x, p: (1 + (1 - p[0]) ** 4) * x - (1 - p[0] * x) ** 4,
    lambda x, p: jnp.exp(-p[0] * x) * (x - 1) + x ** p[0],
    lambda x, p: (p[0] * x - 1) / ((p[0] - 1) * x),
    lambda x, p: x ** (1 / p[0]) - p[0] ** (1 / p[0]),
    lambda x, p: _aps13(x),
    lambda x, p: jnp.where(x <= 0, -p[0] / 20, p[0] / 20 * (x / 1.5 + jnp.sin(x) - 1)),
    lambda x, p: _aps15(x, p[0]),
)
XI = 0.61489
CHANDRUPATLA = (
    lambda x, p: x**3 - 2 * x - 5,
    lambda x, p: 1 - 1 / x**2,
    lambda x, p: (x - 3) ** 3,
    lambda x, p: 6 * (x - 2) ** 5,
    lambda x, p: x**9,
    lambda x, p: x**19,
    lambda x, p: jnp.where(jnp.abs(x) < 3.8e-4, 0.0, x * jnp.exp(-1 / jnp.where(x == 0, 1.0, x) ** 2)),
    lambda x, p: -(3062 * (1 - XI) * jnp.exp(-x)) / (XI + (1 - XI) * jnp.exp(-x)) - 1013 + 1628 / x,
    lambda x, p: jnp.exp(x) - 2 - 0.01 / x**2 + 0.000002 / x**3,
)
ORIGINAL = (
    lambda x, p: x * (x - 1),
    lambda x, p: x**2 - 1,
    lambda x, p: x * (x - 1) * (x - 2) * (x - 3),
    lambda x, p: jnp.where(x > 1, 1 + 0.1 * x, jnp.where(x < 1, -1 + 0.1 * x, 0.0)),  # jumps through its root
    lambda x, p: jnp.where(x == 1, 0.0, 1 / jnp.where(x == 1, 1.0, 1 - x)),  # a pole in place of the root
    # random, of the sign of x - 1: the "random" number is a hash of x
    lambda x, p: jnp.sign(x - 1) * (0.1 + 0.9 * jnp.abs(jnp.sin(1e6 * x))),
)
COMPLEX = (lambda z, p: z ** p[0] - p[1], lambda z, p: jnp.exp(z) - p[0])


class Table(NamedTuple):
    """Scalar problems as lanes of one program: `fn(x, (family, parameters))`."""

    fn: Callable
    ids: list[str]
    args: tuple[np.ndarray, np.ndarray]
    x0: np.ndarray
    bracket: tuple[np.ndarray, np.ndarray] | None
    root: np.ndarray


def table(collection: str) -> Table:
    """One of scipy's collections."""
    rows = get_tests(collection)
    families = {"aps": APS, "chandrupatla": CHANDRUPATLA, "original": ORIGINAL, "complex": COMPLEX}[collection]
    if collection == "original":
        index = list(range(len(rows)))
    elif collection == "chandrupatla":
        index = [int(row["ID"].split(".")[0][3:]) - 1 for row in rows]
    else:
        index = [int(row["ID"].split(".")[1]) - 1 for row in rows]
    parameters = [[*row.get("args", ()), 0, 0][:2] for row in rows]
    number = complex if collection == "complex" else float
    bracket = None if collection == "complex" else tuple(np.array([row["bracket"] for row in rows], float).T)
    return Table(
        lambda x, p: jax.lax.switch(p[0], families, x, p[1]),
        [row["ID"] for row in rows],
        (np.array(index), np.array(parameters, number)),
        np.array([row.get("x0", np.mean(row.get("bracket", 0))) for row in rows], number),
        bracket,
        np.array([row["root"] for row in rows], number),
    )


def _watson(x):
    t = np.arange(1, 30)[:, None] / 29
    j = np.arange(x.size)[None, :]
    rate, value = (j * t ** np.maximum(j - 1, 0)) @ x, (t**j) @ x
    return 0.5 * (jnp.sum((rate - value**2 - 1) ** 2) + x[0] ** 2 + (x[1] - x[0] ** 2 - 1) ** 2)


def _wood(x):
    a, b, c, d = x
    u, v = b - a**2, d - c**2
    f = [-200 * a * u - (1 - a), 200 * u + 20.2 * (b - 1) + 19.8 * (d - 1)]
    return jnp.stack([*f, -180 * c * v - (1 - c), 180 * v + 20.2 * (d - 1) + 19.8 * (b - 1)])


def _helical(x):
    angle = jnp.arctan2(x[1], x[0]) / (2 * jnp.pi)
    return jnp.stack([10 * (x[2] - 10 * angle), 10 * (jnp.hypot(x[0], x[1]) - 1), x[2]])


def _chebyquad(x):
    n, t = x.size, 2 * x - 1
    before, now, sums = jnp.ones_like(t), t, []
    for i in range(1, n + 1):
        sums.append(jnp.mean(now) + (1 / (i * i - 1) if i % 2 == 0 else 0))
        before, now = now, 2 * t * now - before
    return jnp.stack(sums)


def _boundary(x):
    n = x.size
    h, t = 1 / (n + 1), np.arange(1, n + 1) / (n + 1)
    wide = jnp.pad(x, 1)
    return 2 * x - wide[:-2] - wide[2:] + 0.5 * h**2 * (x + t + 1) ** 3


def _integral(x):
    n = x.size
    h, t = 1 / (n + 1), np.arange(1, n + 1) / (n + 1)
    kernel = np.minimum.outer(t, t) * (1 - np.maximum.outer(t, t))
    return x + 0.5 * h * kernel @ (x + t + 1) ** 3


def _trigonometric(x):
    n, k = x.size, np.arange(1.0, x.size + 1)
    return n + k - jnp.sum(jnp.cos(x)) - jnp.sin(x) - k * jnp.cos(x)


def _variable(x):
    k = np.arange(1.0, x.size + 1)
    total = jnp.sum(k * (x - 1))
    return x - 1 + k * total * (1 + 2 * total**2)


def _tridiagonal(x):
    wide = jnp.pad(x, 1)
    return (3 - 2 * x) * x - wide[:-2] - 2 * wide[2:] + 1


def _banded(x):
    n = x.size
    i, j = np.arange(n)[:, None], np.arange(n)[None, :]
    near = ((j >= i - 5) & (j <= i + 1) & (j != i)).astype(float)
    return x * (2 + 5 * x**2) + 1 - near @ (x * (1 + x))


def _square_root(n):
    matrix = 1e-4 * np.eye(n)
    matrix[0, 1] = 1

    def fn(x):
        square = x.reshape(n, n)
        return (square @ square - matrix).ravel()

    return fn


def _sample18(x):
    part = lambda v: jnp.where(v == 0, v, -jnp.expm1(-(v**2)) / jnp.where(v == 0, 1.0, v))
    return jnp.stack([x[1] ** 2 * part(x[0]), x[0] * part(x[1])])


def _chandrasekhar(x):
    n = x.size
    mu = (np.arange(1, n + 1) - 0.5) / n
    return x - 1 / (1 - 0.9 / (2 * n) * (mu[:, None] / (mu[:, None] + mu[None, :])) @ x)


def _grid(n):
    return np.arange(1, n + 1) / (n + 1)


def _freudenstein(x):
    a, b = x
    return jnp.stack([a - b**3 + 5 * b**2 - 2 * b - 13, a + b**3 + b**2 - 14 * b - 29])


# Name -> (residual, start). In the order of TEST_NONLIN.
SYSTEMS = {
    "rosenbrock": (lambda x: jnp.concatenate([1 - x[:1], 10 * (x[1:] - x[:-1] ** 2)]), [-1.2, 1, 1, 1]),
    "powell singular": (
        lambda x: jnp.stack(
            [x[0] + 10 * x[1], 5**0.5 * (x[2] - x[3]), (x[1] - 2 * x[2]) ** 2, 10**0.5 * (x[0] - x[3]) ** 2]
        ),
        [3, -1, 0, 1],
    ),
    "powell badly scaled": (
        lambda x: jnp.stack([1e4 * x[0] * x[1] - 1, jnp.exp(-x[0]) + jnp.exp(-x[1]) - 1.0001]),
        [0, 1],
    ),
    "wood": (_wood, [-3, -1, -3, -1]),
    "helical valley": (_helical, [-1, 0, 0]),
    "watson": (jax.grad(_watson), np.zeros(6)),
    "chebyquad": (_chebyquad, _grid(7)),
    "brown almost linear": (
        lambda x: jnp.concatenate([x[:-1] + jnp.sum(x) - (x.size + 1), jnp.prod(x)[None] - 1]),
        np.full(10, 0.5),
    ),
    "discrete boundary value": (_boundary, _grid(10) * (_grid(10) - 1)),
    "discrete integral": (_integral, _grid(10) * (_grid(10) - 1)),
    "trigonometric": (_trigonometric, np.full(10, 0.1)),
    "variably dimensioned": (_variable, 1 - np.arange(1, 11) / 10),
    "broyden tridiagonal": (_tridiagonal, -np.ones(10)),
    "broyden banded": (_banded, -np.ones(10)),
    "hammarling 2x2": (_square_root(2), np.eye(2).ravel()),
    "hammarling 3x3": (_square_root(3), np.eye(3).ravel()),
    "dennis schnabel": (lambda x: jnp.stack([x[0] + x[1] - 3, x[0] ** 2 + x[1] ** 2 - 9]), [1, 5]),
    "sample 18": (_sample18, [2, 2]),
    "sample 19": (lambda x: x * jnp.sum(x**2), [3, 3]),
    "scalar": (lambda x: x * (x - 5) ** 2, [1]),
    "freudenstein roth": (_freudenstein, [15, -2]),
    "boggs": (lambda x: jnp.stack([x[0] ** 2 - x[1] + 1, x[0] - jnp.cos(jnp.pi * x[1] / 2)]), [1, 0]),
    "chandrasekhar": (_chandrasekhar, np.ones(10)),
}

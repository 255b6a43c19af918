"""Basins of attraction of Newton's method in the complex plane: which start leads to which root."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Int

from jaxkit.compile.jit_cache import run_kept
from jaxkit.core.checks import require
from jaxkit.core.expression import Expression
from jaxkit.core.struct import static, struct
from jaxkit.newton.equations import Equations
from jaxkit.newton.split import evaluate_split, is_splittable

Window = tuple[float, float, float, float]
CHUNK = 250


@struct
class Basins:
    """Where Newton's method leads from each point of a window.

    Attributes:
        root: Index of the root reached, shape `(rows, columns)`, the first row at the lowest imaginary part; -1 where
            none was reached.
        steps: Iterations until it was reached, shape `(rows, columns)`.
        roots: The roots, shape `(k,)`, sorted by real, then imaginary part.
        window: (least real, greatest real, least imaginary, greatest imaginary part).
        equations: The equation.
    """

    root: Int[Array, "rows columns"]
    steps: Int[Array, "rows columns"]
    roots: Complex[Array, " k"]
    window: Window = static(default=(-1.0, 1.0, -1.0, 1.0))
    equations: Equations = static(default=None)


def basins(
    equation: str | Equations,
    window: Window = (-2.0, 2.0, -2.0, 2.0),
    *,
    size: int = 1000,
    max_steps: int = 30,
    atol: float = 1e-6,
) -> Basins:
    """Newton's method from every point of a grid in the complex plane.

    Args:
        equation: Text with one unknown, such as `"z^3 = 1"`, or `Equations`.
        window: (least real, greatest real, least imaginary, greatest imaginary part).
        size: Grid points along the longer side.
        max_steps: Most iterations.
        atol: A point counts as arrived when its Newton step is shorter than this.

    Returns:
        A `Basins`; draw it with `plot_basins`.

    Raises:
        ParseError: The text is not an equation.
        ValueError: It has several unknowns or no complex derivative, or the window is empty.

    Example:
        >>> from jaxkit import newton
        >>> found = newton.basins("z^3 = 1", size=32)
        >>> found.root.shape, len(found.roots)
        ((32, 32), 3)
    """
    system = Equations.of(equation)
    require(system.single, "equation", "have one unknown", f"has {', '.join(system.unknowns)}")
    require(
        system.residuals[0].is_holomorphic, "equation", "be free of abs, sign, cbrt and erf", f"is {system.shown[0]!r}"
    )
    require(
        len(window) == 4 and window[0] < window[1] and window[2] < window[3],
        "window",
        "be (a, b, c, d) with a < b, c < d",
        f"is {window}",
    )
    require(2 <= size <= 20_000, "size", "be between 2 and 20000", f"is {size}")
    last, steps = iterate_basins(system.residuals[0], window, size=size, max_steps=max_steps, atol=atol)
    roots, index = _gathered(np.asarray(last), np.asarray(steps) <= max_steps, atol)
    return Basins(jnp.asarray(index), steps, jnp.asarray(roots), window, system)


def grid(window: Window, size: int) -> tuple[Array, Array]:
    """Real and imaginary parts of the grid points, shape `(rows, columns)`."""
    width, height = window[1] - window[0], window[3] - window[2]
    columns, rows = (max(2, round(size * side / max(width, height))) for side in (width, height))
    real, imag = jnp.linspace(*window[:2], columns), jnp.linspace(*window[2:], rows)
    return tuple(jnp.broadcast_to(v, (rows, columns)) for v in (real[None, :], imag[:, None]))  # pyright: ignore


def iterate_basins(
    residual: Expression, window: Window, *, size: int, max_steps: int, atol: float
) -> tuple[Array, Array]:
    """Last iterates (complex) and the steps that each point took (`max_steps + 1` if it did not arrive); on the host.

    Small chunks stay in cache and end when their last point has arrived, which is checked every few steps; real and
    imaginary parts are separate arrays, which vectorise where XLA's complex numbers do not.
    """
    return run_kept(_iterate, (residual, window, size, max_steps, atol), (), wide=True)


def _iterate(residual: Expression, window: Window, size: int, max_steps: int, atol: float) -> tuple[Array, Array]:
    z = grid(window, size)
    step = _newton(residual)
    shape, count = z[0].shape, z[0].size
    padding = -count % CHUNK
    chunks = tuple(jnp.pad(v.ravel(), (0, padding), constant_values=1).reshape(-1, CHUNK) for v in z)
    batch = next(k for k in (3, 4, 5, 2, 1) if max_steps % k == 0)  # steps between two checks

    def one(_: Any, state: tuple) -> tuple:
        (x, y), steps, _ = state
        dx, dy = step((x, y))
        moved = dx * dx + dy * dy
        return (x - dx, y - dy), steps + (moved > atol**2).astype(jnp.int32), moved

    def chunk(point: tuple[Array, Array]) -> tuple[Array, Array, Array]:
        unfinished = lambda state: (state[1] < max_steps) & jnp.any(state[0][2] > atol**2)
        several = lambda state: (jax.lax.fori_loop(0, batch, one, state[0]), state[1] + batch)
        start = (point, jnp.ones(CHUNK, jnp.int32), jnp.full_like(point[0], jnp.inf))
        ((x, y), steps, _), _ = jax.lax.while_loop(unfinished, several, (start, 0))
        return x, y, steps

    x, y, steps = (v.ravel()[:count].reshape(shape) for v in jax.lax.map(chunk, chunks))
    return jax.lax.complex(x, y), steps


def _newton(residual: Expression) -> Callable[[tuple[Array, Array]], tuple[Array, Array]]:
    """The Newton step f/f' on split complex numbers."""
    (name,) = residual.names
    f, slope = residual, residual.derivative(name)
    if is_splittable(f.tree) and is_splittable(slope.tree):

        def split(z: tuple[Array, Array]) -> tuple[Array, Array]:
            a, b = evaluate_split(f.tree, {name: z})
            c, d = evaluate_split(slope.tree, {name: z})
            scale = 1 / (c * c + d * d)
            return (a * c + b * d) * scale, (b * c - a * d) * scale

        return split
    return _joined(f, slope, name)


def _joined(f: Expression, slope: Expression, name: str) -> Callable[[tuple[Array, Array]], tuple[Array, Array]]:
    def step(z: tuple[Array, Array]) -> tuple[Array, Array]:
        whole = jax.lax.complex(*z)
        dz = f(**{name: whole}) / slope(**{name: whole})
        return jnp.real(dz), jnp.imag(dz)

    return step


def _gathered(last: np.ndarray, arrived: np.ndarray, atol: float) -> tuple[np.ndarray, np.ndarray]:
    """Distinct limits and, for each point, the index of its own."""
    arrived = arrived & np.isfinite(last)
    spacing = max(100 * atol, 1e-9)
    keys = np.round(last / spacing) * spacing
    values, counts = np.unique(keys[arrived], return_counts=True)
    roots: list[complex] = []
    for value in values[np.argsort(-counts)]:
        if all(abs(value - other) > 10 * spacing for other in roots) and len(roots) < 256:
            roots.append(complex(value))
    roots.sort(key=lambda z: (round(z.real, 6), round(z.imag, 6)))
    index = np.full(last.shape, -1, np.int32)
    exact = np.zeros(len(roots), complex)
    for k, value in enumerate(roots):
        near = arrived & (np.abs(last - value) <= 10 * spacing)
        index[near] = k
        exact[k] = np.median(np.real(last[near])) + 1j * np.median(np.imag(last[near]))
    return exact, index


def shares(found: Basins) -> Mapping[str, float]:
    """The share of the window that each root attracts."""
    index = np.asarray(found.root)
    return {f"{root:.4g}": float(np.mean(index == k)) for k, root in enumerate(np.asarray(found.roots))}

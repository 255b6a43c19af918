"""Densities whose moments are known: chains that say ok are judged by how far their means are from the true ones.

The standard error of a mean is computed here, from the means of the chains' halves: chains are independent of each
other, whatever the package says of them.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxkit as jk
from benchmarks._truth import Tally

CHAINS, STEPS, WARMUP = 16, 1000, 500
FAR = 6.0  # standard errors beyond which a mean is wrong
LAWS = ("normal", "correlated", "banana", "mixture", "funnel", "student", "half", "laplace")


def _energy(x: jax.Array, args: Any) -> jax.Array:
    """One program for all laws: which law it is, its scale, its place, its shape, and a coordinate's ratio."""
    kind, scale, place, shape, ratio = args
    u, v = (x[0] - place) / scale, (x[1] - place) / (scale * ratio)
    far = -0.5 * jnp.stack([jnp.square(u - shape), jnp.square(u + shape)]) + jnp.log(jnp.stack([0.3, 0.7]))
    freedom = 3.0 + shape
    return jax.lax.switch(
        kind,
        [
            lambda: 0.5 * (u**2 + v**2),
            lambda: 0.5 * (u**2 - 1.8 * u * v + v**2) / (1 - 0.81),
            lambda: 0.5 * (u**2 + (v - 0.3 * shape * (u**2 - 1)) ** 2),
            lambda: 0.5 * v**2 - jax.nn.logsumexp(far),
            lambda: 0.5 * (u / shape) ** 2 + 0.5 * v**2 * jnp.exp(-u) + 0.5 * u,
            lambda: 0.5 * (freedom + 1) * (jnp.log1p(u**2 / freedom) + jnp.log1p(v**2 / freedom)),
            lambda: 0.5 * v**2 + jnp.sqrt(2.0) * jnp.exp(0.5 * jnp.log(u)) ** 2 - jnp.log(u),  # NaN below 0
            lambda: jnp.abs(u) + jnp.abs(v),
        ],
    )


def _means(kind: int, shape: float) -> np.ndarray:
    """True means and second moments of `(u, v)`; NaN where draws are too heavy-tailed for a standard error."""
    table: list[tuple[float, float, float, float]] = [
        (0, 0, 1, 1),
        (0, 0, 1, 1),
        (0, 0, 1, 1 + 2 * (0.3 * shape) ** 2),
        (0.3 * shape - 0.7 * shape, 0, 1 + shape**2, 1),
        (0, 0, shape**2, np.nan),
        (0, 0, np.nan, np.nan),
        (np.sqrt(2.0), 0, 3.0, 1),  # Gamma(2, rate sqrt(2))
        (0, 0, 2, 2),
    ]
    return np.array(table[kind])


def _problem(rng: np.random.Generator) -> tuple[int, tuple[float, ...], float]:
    """A law, its scale, place, shape and ratio of scales; how far out the chains start, in deviations."""
    kind = int(rng.integers(len(LAWS)))
    scale, ratio = 10.0 ** rng.uniform(-3, 3), 10.0 ** rng.uniform(-1, 1)
    place = 0.0 if kind == 6 else float(rng.choice([0.0, rng.normal() * 10 * scale]))
    shape = float(rng.uniform(0.5, 4.0) if LAWS[kind] == "mixture" else rng.uniform(0.3, 1.5))
    return kind, (scale, place, shape, ratio), float(rng.choice([0.1, 1.0, 3.0]))


def _reference(draws: np.ndarray, truth: np.ndarray) -> bool:
    """Whether means and second moments of `(draws, chains, 2)` are the true ones within their standard errors."""
    seen = np.concatenate([draws, draws**2], axis=2)
    halves = seen.reshape(2, len(seen) // 2, *seen.shape[1:]).mean(1).reshape(-1, 4)  # means of half chains
    error = halves.std(0, ddof=1) / np.sqrt(len(halves))
    return bool(np.all(np.isnan(truth) | (np.abs(halves.mean(0) - truth) <= FAR * error + 1e-12)))


def _start(rng: np.random.Generator, kind: int, numbers: tuple[float, ...], out: float) -> np.ndarray:
    scale, place, _, ratio = numbers
    unit = out * rng.normal(size=(CHAINS, 2))
    unit = np.abs(unit) + 0.1 if LAWS[kind] == "half" else unit
    return place + scale * unit * np.array([1.0, ratio])


@functools.partial(jax.jit, static_argnames="method")
def _run(x0: jax.Array, args: Any, key: jax.Array, method: str) -> tuple[jax.Array, jax.Array]:
    run = jk.sample(_energy, x0, args, key=key, steps=STEPS, method=method, warmup=WARMUP)
    return run.xs, run.status


def _blackjax() -> Callable[..., Any] | None:
    try:
        import blackjax
    except ImportError:
        return None

    @jax.jit
    def run(x0: jax.Array, args: Any, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        density = lambda x: -_energy(x, args)
        adapt, walk = jax.random.split(key)
        (_, tuned), _ = blackjax.window_adaptation(blackjax.nuts, density).run(adapt, x0[0], WARMUP)
        kernel = blackjax.nuts(density, **tuned)

        def step(states: Any, key: jax.Array) -> tuple[Any, jax.Array]:
            states, _ = jax.vmap(kernel.step)(jax.random.split(key, CHAINS), states)
            return states, states.position

        xs = jax.lax.scan(step, jax.vmap(kernel.init)(x0), jax.random.split(walk, STEPS))[1]
        return xs, jnp.zeros(CHAINS, int)

    return run


def judge(count: int, seed: int) -> list[Tally]:
    """Judge `sample` by MALA and HMC with their warm-ups; the peer, where it is installed, says nothing: it is ok."""
    rng, peer = np.random.default_rng(seed), _blackjax() if count > 100 else None
    runs: dict[str, Any] = {f"jaxkit, {m}": functools.partial(_run, method=m) for m in ("hmc", "mala")}
    runs |= {"blackjax, nuts (no status)": peer} if peer else {}
    tallies = {name: Tally("sample", name) for name in runs}
    for i in range(count):
        kind, numbers, out = _problem(rng)
        scale, place, shape, ratio = numbers
        x0, truth = _start(rng, kind, numbers, out), _means(kind, shape)
        args = (jnp.asarray(kind), *(jnp.asarray(v) for v in numbers))
        for name, run in runs.items():
            xs, status = (np.asarray(v) for v in run(jnp.asarray(x0), args, jax.random.key(seed * 1_000_003 + i)))
            draws = (xs - place) / (scale * np.array([1.0, ratio]))
            problem = (
                f"{LAWS[kind]}: scale {scale:g}, place {place:g}, shape {shape:g}, ratio {ratio:g}, start {out:g}\n"
            )
            problem += f"moments {draws.mean((0, 1))}, {(draws**2).mean((0, 1))}; truth {truth}; {i} of seed {seed}"
            tallies[name].add(
                ok=bool(np.all(status == 0)), right=_reference(draws, truth), problem=problem, solvable=True
            )
    return list(tallies.values())

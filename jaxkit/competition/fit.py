"""Parameters from data, through the solver, with standard errors, profiles and bands."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int

from jaxkit.competition.model import simulate
from jaxkit.compile.jit_cache import run_kept
from jaxkit.core import checks
from jaxkit.core.status import Outcome, Status
from jaxkit.core.struct import struct
from jaxkit.dynamics.roots.least_squares import LeastSquares
from jaxkit.inverse.estimate import multistart
from jaxkit.inverse.predict import predict
from jaxkit.inverse.problem import Unknowns as Coordinates
from jaxkit.inverse.profile import Profile
from jaxkit.inverse.profile import profile as profile_of
from jaxkit.models.gause import Counts
from jaxkit.models.lotka_volterra import Params, Rates

Unknowns = dict[str, Array]  # "A" (n, n), "r" (n,), "x0" (n,): flattened in this order


@struct
class CompetitionFit(Outcome):
    """A fit of n species and its uncertainty.

    Attributes:
        rates: The `r` and `A` of `dx_i/dt = x_i (r_i - sum_j A_ij x_j)`.
        x0: State at `data.start`, shape `(n,)`.
        sse: Sum of squared residuals.
        residuals: Model minus observation, shape `(m,)`.
        covariance: Covariance of the flattened `A`, `r`, `x0`.
        standard_errors: Standard errors, in the structure `{"A", "r", "x0"}`.
        start_sse: Sum of squares reached from each start, shape `(starts,)`.
        status: `Status` code of the best start; `at_boundary` if a rate or a harm would have been negative: it is
            held at its bound (nearly zero), with a standard error of 0.
        steps: Iterations of the best start.
        data: The observations that were fitted.
    """

    verb: ClassVar[str] = "competition.fit"

    rates: Rates
    x0: Float[Array, " n"]
    sse: Float[Array, ""]
    residuals: Float[Array, " m"]
    covariance: Float[Array, "k k"]
    standard_errors: Unknowns
    start_sse: Float[Array, " starts"]
    status: Int[Array, ""]
    steps: Int[Array, ""]
    data: Counts

    @property
    def unknowns(self) -> Unknowns:
        """The fitted numbers as one pytree."""
        return {"A": self.rates.A, "r": self.rates.r, "x0": self.x0}

    @property
    def params(self) -> Params:
        """The two-species form `r, N, a`."""
        return self.rates.params

    @property
    def params_errors(self) -> Params:
        """Standard errors of `params`, by the delta method."""
        return predict(lambda u: Rates(u["r"], u["A"]).params, self.unknowns, self.covariance)[1]

    @property
    def capacities(self) -> tuple[Array, Array]:
        """Capacities, which each species reaches alone, `r_i / A_ii`, and their standard errors; shapes `(n,)`."""
        return predict(lambda u: u["r"] / jnp.diagonal(u["A"]), self.unknowns, self.covariance)

    @property
    def degrees_of_freedom(self) -> int:
        """Number of observations minus number of parameters."""
        return self.residuals.size - self.covariance.shape[0]

    @property
    def residual_standard_error(self) -> Array:
        """`sqrt(sse / degrees_of_freedom)`."""
        return jnp.sqrt(self.sse / self.degrees_of_freedom)

    @property
    def r_squared(self) -> Array:
        """Share of the variance about each species' mean that the model explains."""
        member = jax.nn.one_hot(self.data.species, len(self.data.names), axis=0, dtype=self.sse.dtype)
        means = jnp.sum(member * self.data.volume[None, :], axis=1) / jnp.sum(member, axis=1)
        return 1 - self.sse / jnp.sum((self.data.volume - means[self.data.species]) ** 2)


def fit(data: Counts, *, starts: int = 12, key: Array | None = None, rtol: float = 1e-9) -> CompetitionFit:
    """Fit growth rates, interactions and the initial state to data, by least squares through the solver.

    Several starts run at once: a straight-line guess from the logarithmic slopes of the data, and scattered copies.

    Args:
        data: Observations, e.g. `gause("paramecium")`.
        starts: Number of starts.
        key: Random key of the scatter.
        rtol: Tolerance of the integration.

    Returns:
        A `CompetitionFit`; call `.checked()` to raise if it did not converge.

    Raises:
        ValueError: There are not more observations than parameters, or a species was never observed.

    Example:
        >>> import jax
        >>> from jaxkit import competition as comp
        >>> found = comp.fit(comp.gause("paramecium caudatum")).checked()
        >>> round(float(found.rates.r[0]), 4), round(float(found.capacities[0][0]), 2), round(float(found.sse), 2)
        (0.9593, 202.3, 2494.94)
    """
    species = len(data.names)
    unknown = species * (species + 2)
    count = data.volume.size
    checks.require(count > unknown, "data", f"have more than {unknown} observations", f"has {count}")
    seen = np.unique(np.asarray(data.species))
    checks.require(seen.size == species, "data", "observe every species", f"observes {seen.size} of {species}")
    checks.require(starts >= 1, "starts", "be at least 1", f"is {starts}")
    guess = Coordinates(first_guess(data))
    scattered = guess.scatter(starts, jax.random.key(0) if key is None else key, spread=0.3, normal=True)
    return _admissible(jax.vmap(guess.tree)(scattered), data, rtol)


def _admissible(starts: Unknowns, data: Counts, rtol: float) -> CompetitionFit:
    """The best fit with positive rates and harms: what would be negative is held at its bound, the rest refitted."""
    sampling, edge = _sampling(data), _edge(data)
    search = lambda starts, held: _search(starts, sampling, held, edge, rtol)
    free = jax.tree.map(lambda v: jnp.zeros(v.shape, bool), edge)
    best, every = search(starts, free)
    chosen, held = _held_in_turn(best, free, edge, lambda held: search(starts, held)[0])
    inside = _best_inside(every)
    if inside is not None and float(inside.sse) <= float(chosen.sse):
        chosen, held = inside, free
    found = _as_fit(chosen, every.sse, data, held, edge)
    if int(found.status) != int(Status.at_boundary):
        return found
    release = _lowers(found, held, edge, sampling)
    if _any(release):  # once more from here, with those that would become positive set free
        raised = lambda size: {k: jnp.where(release[k], size * edge[k], found.unknowns[k]) for k in edge}
        freed = {k: held[k] & ~release[k] for k in edge}
        again, _ = search(jax.vmap(raised)(10 ** jnp.linspace(1, 6, starts["r"].shape[0])), freed)
        positive = all(bool(jnp.all(freed[k] | (again.params[k] > 0))) for k in ("A", "r"))
        if positive and again.sse < found.sse:
            found = _as_fit(again, every.sse, data, freed, edge)
            release = _lowers(found, freed, edge, sampling)
    return dataclasses.replace(found, status=jnp.asarray(int(Status.max_steps))) if _any(release) else found


def _held_in_turn(
    best: LeastSquares, held: Unknowns, edge: Unknowns, refit: Callable[[Unknowns], LeastSquares]
) -> tuple[LeastSquares, Unknowns]:
    """The fit with negative entries held at their bounds, one at a time: then the others may turn positive."""
    for _ in range(edge["A"].size + edge["r"].size):
        size = {
            k: jnp.where(held[k] | (k == "x0"), 0, best.params[k] / jnp.where(v > 0, v, 1)) for k, v in edge.items()
        }
        flat, unravel = jax.flatten_util.ravel_pytree(size)
        worst = int(jnp.argmin(flat))
        if not float(flat[worst]) < 0:
            break
        mark = unravel(jnp.zeros_like(flat).at[worst].set(1))
        held = jax.tree.map(lambda h, m: h | (m > 0), held, mark)
        best = refit(held)
    return best, held


def _best_inside(every: LeastSquares) -> LeastSquares | None:
    """The best of the fits that have converged to positive rates and harms."""
    positive = [jnp.all(v > 0, axis=tuple(range(1, v.ndim))) for v in (every.params["A"], every.params["r"])]
    inside = positive[0] & positive[1] & (every.status == int(Status.ok))
    i = int(jnp.argmin(jnp.where(inside, every.sse, jnp.inf)))
    return jax.tree.map(lambda v: v[i], every) if bool(inside[i]) else None


def _any(marks: Unknowns) -> bool:
    return any(bool(jnp.any(v)) for v in marks.values())


def _lowers(found: CompetitionFit, held: Unknowns, edge: Unknowns, sampling: "_Sampling") -> Unknowns:
    """The held entries that would lower the sum of squares if they had their natural size instead of nearly zero."""
    slope = _slope(found.unknowns, sampling)
    return {k: held[k] & (slope[k] * 1e6 * edge[k] < -1e-3 * found.sse) for k in edge}


@jax.jit
def _slope(unknowns: Unknowns, sampling: "_Sampling") -> Unknowns:
    """Derivative of the sum of squares in each unknown."""
    return jax.jacfwd(lambda u: jnp.sum(_misfit(u, sampling, 1e-9) ** 2))(unknowns)


def _edge(data: Counts) -> Unknowns:
    """The least admissible rates and harms: a millionth of what the data could show."""
    time, volume = np.asarray(data.time, float), np.asarray(data.volume, float)
    span, species = max(float(np.ptp(time)), 1e-300), len(data.names)
    rate = np.full(species, 1e-6 / span)
    largest = np.array([np.max(np.abs(volume[np.asarray(data.species) == j])) for j in range(species)])
    harm = np.broadcast_to(1e-6 / span / np.maximum(largest, 1e-300), (species, species))
    tree = {"A": harm, "r": rate, "x0": np.zeros(species)}
    return {k: jnp.asarray(v, data.volume.dtype) for k, v in tree.items()}


def first_guess(data: Counts) -> Unknowns:
    """Straight-line guess: logarithmic slopes of smoothed data regressed on the populations (gradient matching)."""
    time, species, volume = (np.asarray(v, float) for v in (data.time, data.species, data.volume))
    grid = np.linspace(time.min(), time.max(), 40)
    floor = 0.02 * volume.max()
    width = max(float(np.median(np.diff(np.unique(time)))), 1e-12) * 1.5
    paths = []
    for i in range(len(data.names)):
        here, found = time[species == i], np.maximum(volume[species == i], floor)
        weights = np.exp(-0.5 * ((grid[:, None] - here) / width) ** 2) + 1e-9
        paths.append(weights @ found / weights.sum(1))
    smooth = np.stack(paths, 1)
    slopes = np.gradient(np.log(smooth), grid, axis=0)
    r, a = [], []
    for i in range(len(data.names)):
        design = np.concatenate([np.ones((len(grid), 1)), -smooth], axis=1)
        rate, *row = np.linalg.lstsq(design, slopes[:, i], rcond=None)[0]
        span = 4 / (grid[-1] - grid[0])
        r.append(max(rate, span))
        capacity = smooth[:, i].max()
        row = np.maximum(row, 0.1 * r[-1] / capacity)
        a.append(np.minimum(row, 3 * r[-1] / capacity))
    first = np.maximum(smooth[0] * np.exp(-np.array(r) * (grid[0] - data.start)), 1e-3 * floor)
    return {k: jnp.asarray(np.array(v), data.volume.dtype) for k, v in (("A", a), ("r", r), ("x0", first))}


def profile(
    found: CompetitionFit, name: str, index: int | tuple[int, ...], *, span: float = 3.0, points: int = 21
) -> Profile:
    """Profile of the sum of squares: one unknown is fixed at values around its estimate, and all others are refitted.

    Args:
        found: A fit.
        name: `"A"`, `"r"` or `"x0"`.
        index: Index of the entry in it.
        span: Half width of the range, in standard errors.
        points: Number of values.

    Returns:
        The values, and the least sum of squares and a status for each.
    """
    checks.one_of("name", name, ("A", "r", "x0"))
    mark = jax.tree.map(jnp.zeros_like, found.unknowns)
    mark[name] = mark[name].at[index].set(1)
    place = int(jnp.argmax(jax.flatten_util.ravel_pytree(mark)[0]))

    given = (found.unknowns, found.covariance, _sampling(found.data), span)
    return run_kept(_profile, (place, points), given)


def _profile(place: int, points: int, u: Unknowns, covariance: Array, sampling: "_Sampling", span: Array) -> Profile:
    misfit = lambda u, sampling: _misfit(u, sampling, 1e-8)
    options: Any = {"span": span, "points": points, "rtol": 1e-9, "max_steps": 60}
    return profile_of(misfit, u, covariance, place, sampling, **options)


def band(found: CompetitionFit, ts: ArrayLike) -> tuple[Float[Array, "m n"], Float[Array, "m n"]]:
    """Fitted populations at `ts` and their standard errors (delta method), shapes `(m, n)`.

    Args:
        found: A fit; its populations start at `found.data.start`.
        ts: Increasing times, none before that start, shape `(m,)`.

    Raises:
        ValueError: A time lies before the start of the fit.
    """
    ts, start = checks.floating("ts", ts), found.data.start
    checks.increasing("ts", ts)
    known = not checks.is_traced(ts)
    if known:
        first = float(ts[0])
        checks.require(
            first >= start, "ts", f"begin no earlier than the fit's start, {start:g}", f"begins at {first:g}"
        )
        if first == start:
            return _band(found, ts)
    mean, error = _band(found, jnp.concatenate([jnp.full(1, start, ts.dtype), ts]))
    return mean[1:], error[1:]


@jax.jit
def _band(found: CompetitionFit, ts: Array) -> tuple[Array, Array]:
    path = lambda u: simulate(Rates(u["r"], u["A"]), u["x0"], ts).xs
    return predict(path, found.unknowns, found.covariance)


@struct
class _Sampling:
    """When and what was observed, padded with entries of weight 0 so that similar experiments share a program.

    Attributes:
        times: Increasing times at which the solver saves, the start first.
        row: Index of the time of each observation.
        species: Its species.
        volume: Its value.
        weight: Its weight: 1, or 0 for padding.
    """

    times: Array
    row: Array
    species: Array
    volume: Array
    weight: Array


def _sampling(data: Counts, multiple: int = 8) -> _Sampling:
    time, volume = np.asarray(data.time), np.asarray(data.volume)
    distinct = np.unique(np.append(time, data.start))
    checks.require(distinct[0] == data.start, "data", "start no later than its first time", f"starts at {data.start}")
    fill = lambda v: np.pad(v, (0, -len(v) % multiple))
    extra = distinct[-1] + (distinct[-1] - distinct[0]) * 1e-3 * np.arange(1, 1 + -len(distinct) % multiple)
    arrays = (
        np.concatenate([distinct, extra]),
        fill(np.searchsorted(distinct, time)),
        fill(np.asarray(data.species)),
        fill(volume),
        fill(np.ones_like(volume)),
    )
    return _Sampling(*(jnp.asarray(v) for v in arrays))  # pyright: ignore[reportCallIssue]


def _misfit(unknowns: Unknowns, sampling: _Sampling, rtol: float) -> Float[Array, " m"]:
    """Model minus observation. A search may pass through any values, so nothing is checked here."""
    rates, x0 = Rates(unknowns["r"], unknowns["A"]), jnp.abs(unknowns["x0"])
    xs = simulate(rates, x0, sampling.times, rtol=rtol, atol=1e-3 * rtol, max_steps=1024).xs
    return sampling.weight * (xs[sampling.row, sampling.species] - sampling.volume)


@functools.partial(jax.jit, static_argnums=4)
def _search(
    starts: Unknowns, sampling: _Sampling, held: Unknowns, edge: Unknowns, rtol: float
) -> tuple[LeastSquares, LeastSquares]:
    """The best of several fits, and all of them; what is held is drawn to its bound by extra residuals."""
    flat = lambda tree: jax.flatten_util.ravel_pytree(tree)[0]

    def residuals(u: Unknowns, _: None) -> Array:
        used = jax.tree.map(jnp.where, held, edge, u)
        drawn = jax.tree.map(lambda h, v, e: jnp.where(h, (v - e) / jnp.where(e > 0, e, 1), 0), held, u, edge)
        return jnp.concatenate([_misfit(used, sampling, rtol), 1e-3 * flat(drawn)])

    first = jax.vmap(lambda start: jax.tree.map(jnp.where, held, edge, start))(starts)
    return multistart(residuals, first, rtol=1e-11, max_steps=200)


def _as_fit(best: LeastSquares, every: Array, data: Counts, held: Unknowns, edge: Unknowns) -> CompetitionFit:
    u, count = jax.tree.map(jnp.where, held, edge, best.params), data.volume.size
    free = ~jax.flatten_util.ravel_pytree(held)[0]
    # The padding was counted as observations; the variance is per degree of freedom of the true ones.
    widen = best.degrees_of_freedom / (count - jnp.sum(free))
    edged = (best.status == int(Status.ok)) & ~jnp.all(free)
    return CompetitionFit(
        rates=Rates(u["r"], u["A"]),
        x0=jnp.abs(u["x0"]),
        sse=best.sse,
        residuals=best.residuals[:count],
        covariance=jnp.where(free[:, None] & free[None, :], best.covariance * widen, 0),
        standard_errors=jax.tree.map(lambda v, h: jnp.where(h, 0, v * widen**0.5), best.standard_errors, held),
        start_sse=every,
        status=jnp.where(edged, int(Status.at_boundary), best.status),
        steps=best.steps,
        data=data,
    )

"""Metrics against closed forms, other libraries' pieces, and what must happen to them."""

import jax
import numpy as np
import pytest
from scipy import linalg, spatial, stats

from jaxkit import models
from jaxkit.learn import metrics


def normal(n, d, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d))


def random_gaussian(d, seed):
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(d, d))
    return rng.normal(size=d), a @ a.T / d + 0.1 * np.eye(d)


def test_frechet_of_gaussians():
    (m, s), (n, t) = random_gaussian(6, 0), random_gaussian(6, 1)
    by_scipy = np.sum((m - n) ** 2) + np.trace(s + t - 2 * linalg.sqrtm(s @ t).real)
    assert abs(metrics.frechet(m, s, n, t) - by_scipy) < 1e-10
    assert abs(metrics.frechet(m, s, n, t) - metrics.frechet(n, t, m, s)) < 1e-10
    assert abs(metrics.frechet(m, s, m, s)) < 1e-10
    flat = np.diag([1.0, 0.0, 0.0, 2.0, 0.0, 1.0])  # singular: the root of a product would fail
    assert abs(metrics.frechet(m, flat, m, 4 * flat) - np.trace(flat)) < 1e-10


def test_fid_of_samples():
    (m, s), (n, t) = random_gaussian(4, 2), random_gaussian(4, 3)
    x = normal(40000, 4, 1) @ np.linalg.cholesky(s).T + m
    y = normal(40000, 4, 2) @ np.linalg.cholesky(t).T + n
    exact = metrics.frechet(m, s, n, t)
    assert abs(metrics.fid(x, y) / exact - 1) < 0.02
    a, b = metrics.fid(x.astype(np.float32), y), metrics.fid(x, y)
    assert abs(a - b) < 1e-5
    # An affine map that keeps distances changes nothing.
    turn = linalg.qr(normal(4, 4, 3))[0]
    assert abs(metrics.fid(x @ turn + 5, y @ turn + 5) - b) < 1e-8


def test_frechet_is_never_negative():
    """Moments of rank 3 in 40 dimensions, equal and nearly so: the trace formula gave -1e-8 for them."""
    for seed in range(20):
        half = normal(40, 3, seed) * 10.0 ** np.random.default_rng(seed).uniform(-3, 3)
        s, m = half @ half.T, normal(1, 40, seed)[0]
        assert 0 <= metrics.frechet(m, s, m, s) < 1e-13 * np.trace(s)
        assert metrics.frechet(m, s, m, 4 * s) == pytest.approx(np.trace(s), rel=1e-12)
    with pytest.raises(ValueError, match="`other_covariance` must be positive semidefinite, but has the eigenvalue -1"):
        metrics.frechet(np.zeros(2), np.eye(2), np.zeros(2), np.diag([1.0, -1.0]))
    with pytest.raises(ValueError, match="`covariance` must be finite"):
        metrics.frechet(np.zeros(2), np.full((2, 2), np.nan), np.zeros(2), np.eye(2))


def test_fid_of_fewer_rows_than_columns():
    x, y = normal(50, 10), normal(8, 10, 1)
    assert metrics.fid(y, y) == pytest.approx(0, abs=1e-12)
    by_scipy = linalg.sqrtm(np.cov(x.T) @ np.cov(y.T)).real
    trace = np.trace(np.cov(x.T) + np.cov(y.T) - 2 * by_scipy)
    assert metrics.fid(x, y) == pytest.approx(np.sum((x.mean(0) - y.mean(0)) ** 2) + trace, rel=1e-5)
    with pytest.raises(ValueError, match="`fake` must have at least two rows, but has 1"):
        metrics.fid(normal(50, 10), normal(1, 10))
    with pytest.raises(ValueError, match="`fake` must have 10 columns, like `real`, but has 3"):
        metrics.fid(normal(50, 10), normal(50, 3))
    with pytest.raises(ValueError, match="`real` must be finite"):
        metrics.fid(np.full((20, 3), np.nan), normal(20, 3))


def test_bias_floor_and_limit():
    """For equal laws the distance is all bias, about as 1/n; the limit removes it and the floor shows it."""
    x, test = normal(60000, 8, 0), normal(8000, 8, 1)
    floors = [metrics.fid_floor(x, test, n, repeats=6) for n in (500, 1000, 2000)]
    assert 1.5 < floors[0] / floors[1] < 2.7
    assert 1.5 < floors[1] / floors[2] < 2.7
    limit = metrics.fid_infinity(x, test[:2000])
    assert abs(limit.value) < 0.15 * limit.distances[0]
    assert limit.slope > 0
    shifted = metrics.fid_infinity(x, test[:2000] + 0.5)
    assert abs(shifted.value - 8 * 0.25) < 0.1
    with pytest.raises(ValueError, match=r"`size` must lie in 2\.\.8000"):
        metrics.fid_floor(x, test, 1)


def test_kid_is_unbiased_and_exact():
    x, y = normal(40, 3, 0), normal(30, 3, 1) + 0.3
    kernel = lambda a, b: (a @ b / 3 + 1) ** 3
    mean = lambda a, b, same: np.mean(
        [kernel(p, q) for i, p in enumerate(a) for j, q in enumerate(b) if not (same and i == j)]
    )
    rng = np.random.default_rng(0)
    a, b = x[rng.permutation(40)[:30]], y[rng.permutation(30)[:30]]
    want = mean(a, a, True) + mean(b, b, True) - 2 * mean(a, b, False)
    assert abs(metrics.kid(x, y).value - want) < 1e-12
    many = [metrics.kid(normal(200, 3, s), normal(200, 3, 1000 + s)).value for s in range(200)]
    assert abs(np.mean(many)) < 4 * np.std(many) / np.sqrt(200)
    assert min(many) < 0
    blocks = metrics.kid(normal(4000, 3, 0), normal(4000, 3, 1) + 0.3, block=500)
    assert blocks.value > 10 * blocks.error > 0


def test_mmd_and_its_level():
    x, y = normal(30, 2, 0), normal(25, 2, 1) + 0.5
    joint = np.concatenate([x, y])
    distances = spatial.distance.pdist(joint)
    square = spatial.distance.squareform(distances) ** 2
    kernel = np.mean([np.exp(-square / (2 * (w * np.median(distances)) ** 2)) for w in (0.5, 1, 2)], axis=0)
    inside = lambda k: (k.sum() - np.trace(k)) / (len(k) * (len(k) - 1))
    want = inside(kernel[:30, :30]) + inside(kernel[30:, 30:]) - 2 * kernel[:30, 30:].mean()
    assert abs(metrics.mmd(x, y).value - want) < 1e-12
    levels = [metrics.mmd(normal(40, 2, s), normal(40, 2, 500 + s), permutations=99).p for s in range(120)]
    assert stats.kstest(levels, "uniform").pvalue > 1e-3
    assert metrics.mmd(normal(200, 2, 0), normal(200, 2, 1) + 0.5, permutations=199).p == pytest.approx(1 / 200)
    assert np.isnan(metrics.mmd(x, y, permutations=0).p)


def test_precision_recall_and_density_by_hand():
    real = np.array([[0.0], [1.0], [2.0], [10.0]])
    fake = np.array([[0.5], [2.5], [30.0], [31.0], [32.5]])
    # k = 1: real balls have radii 1, 1, 1, 8; fake ones 2, 2, 1, 1, 1.5.
    found = metrics.precision_recall(real, fake, k=1)
    assert found.precision == pytest.approx(2 / 5)
    assert found.recall == pytest.approx(3 / 4)
    both = metrics.density_coverage(real, fake, k=1)
    assert both.density == pytest.approx((2 + 2) / 5)
    assert both.coverage == pytest.approx(4 / 4)
    empty = metrics.density_coverage(real, fake[2:], k=1)
    assert (empty.density, empty.coverage) == (0, 0)


def test_precision_recall_against_scikit_learn():
    neighbors = pytest.importorskip("sklearn.neighbors", reason="scikit-learn, the oracle, is not installed")
    x, y = normal(1200, 6, 0), 0.8 * normal(1100, 6, 1)
    reach = lambda v, k: neighbors.NearestNeighbors().fit(v).kneighbors(v, k + 1)[0][:, -1]
    d = spatial.distance.cdist(x, y)
    found, both = metrics.precision_recall(x, y), metrics.density_coverage(x, y)
    assert found.precision == pytest.approx(np.mean(np.any(d <= reach(x, 3)[:, None], 0)))
    assert found.recall == pytest.approx(np.mean(np.any(d <= reach(y, 3)[None], 1)))
    within = d <= reach(x, 5)[:, None]
    assert both.density == pytest.approx(within.sum() / (5 * 1100))
    assert both.coverage == pytest.approx(np.mean(np.any(within, 1)))


def test_equal_laws_have_density_one_and_coverage_as_in_theory():
    k, n = 5, 1500
    found = metrics.density_coverage(normal(n, 4, 0), normal(n, 4, 1), k=k)
    assert abs(found.density - 1) < 0.08
    theory = 1 - np.prod([(n - i) / (2 * n - 1 - i) for i in range(1, k + 1)])  # Naeem et al., lemma 2, near it
    assert abs(found.coverage - theory) < 0.03


def test_copying():
    train, test, fresh = normal(2000, 5, 0), normal(500, 5, 1), normal(500, 5, 2)
    assert abs(metrics.copying(train, test, fresh).ratio - 1) < 0.1
    assert metrics.copying(train, test, fresh).closest < 0.04
    copies = metrics.copying(train, test, train[:500] + 0.01 * normal(500, 5, 3))
    assert copies.ratio < 0.05
    assert copies.closest > 0.95
    assert metrics.copying(train, test, train[:100]).ratio == 0  # exactly: no rounding makes a distance


def test_sliced_wasserstein():
    x, y = normal(300, 1, 0), 2 * normal(450, 1, 1) + 1
    first = metrics.sliced_wasserstein(x, y, order=1)
    assert first == pytest.approx(stats.wasserstein_distance(x[:, 0], y[:, 0]), abs=1e-12)
    ordered = np.sqrt(np.mean((np.sort(x[:, 0]) - np.sort(y[:300, 0])) ** 2))
    assert metrics.sliced_wasserstein(x, y[:300]) == pytest.approx(ordered, abs=1e-12)
    shift = metrics.sliced_wasserstein(normal(500, 3, 0), normal(500, 3, 0) + np.array([3.0, 0, 0]), projections=4000)
    assert shift == pytest.approx(np.sqrt(3.0**2 / 3), rel=0.03)  # mean square of a direction's component: 1/d


def test_modes_of_mixtures():
    law = models.plane_law("grid25")
    x = np.asarray(law.sample(jax.random.key(0), 2500))
    whole = metrics.modes(x, law.centers, law.width)
    assert (whole.found, whole.total) == (25, 25)
    assert abs(whole.good - (1 - np.exp(-4.5))) < 0.01  # Rayleigh within three standard deviations
    assert whole.kl < 3 * whole.floor
    part = metrics.modes(x[x[:, 0] < 0.2], law.centers, law.width)
    assert part.found == 15
    assert part.kl == pytest.approx(np.log(25 / 15), abs=0.02)
    wide = metrics.modes(x + 0.1, law.centers, law.width)
    assert wide.good == 0
    assert wide.found == 0
    uneven = metrics.modes(np.array([[0.0], [0.0], [0.0], [1.0]]), [[0.0], [1.0]], 0.1, [3, 1])
    assert uneven.kl == 0


def test_stacked_modes():
    labels = np.stack(np.unravel_index(np.arange(1000), (10, 10, 10)), 1)
    found = metrics.stacked_modes(labels)
    assert (found.found, found.kl) == (1000, 0)
    assert metrics.stacked_modes(labels[:100]).kl == pytest.approx(np.log(10))
    drawn = np.random.default_rng(0).integers(0, 10, (26000, 3))
    sample = metrics.stacked_modes(drawn)
    assert sample.found == 1000
    assert sample.kl == pytest.approx(sample.floor, rel=0.15)
    assert sample.floor == pytest.approx(999 / 52000)
    with pytest.raises(ValueError, match=r"`labels` must lie in 0\.\.9"):
        metrics.stacked_modes([[1, 2, 10]])


def test_answers():
    assert metrics.exact_match("北京", ["上海", "北京"]) == 1
    assert metrics.exact_match("北京市", ["北京"]) == 0
    assert metrics.f1("北京市", ["北京"]) == pytest.approx(0.8)
    assert metrics.f1("aab", ["ab"]) == pytest.approx(0.8)
    assert metrics.f1("", [""]) == 1
    assert metrics.f1("a", [""]) == 0
    with pytest.raises(ValueError, match="`answers` must hold at least one"):
        metrics.f1("a", [])

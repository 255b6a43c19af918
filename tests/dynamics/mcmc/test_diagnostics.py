"""R-hat and effective sample sizes against the definitions of Vehtari et al. (2021), written out in numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jaxkit.dynamics.mcmc.diagnostics import effective_sample_size, mixed, split_rhat


def halves(x):
    half = len(x) // 2
    return np.concatenate([x[:half], x[len(x) - half :]], axis=1)


def normalised(x):
    ranks = scipy.stats.rankdata(x, method="average").reshape(x.shape)
    return scipy.stats.norm.ppf((ranks - 3 / 8) / (x.size + 1 / 4))


def rhat(x):
    def basic(x):
        n = len(x)
        within, between = x.var(axis=0, ddof=1).mean(), n * x.mean(axis=0).var(ddof=1)
        return np.sqrt((between / within + n - 1) / n)

    return max(basic(halves(normalised(v))) for v in (x, np.abs(x - np.median(x))))


def ess(x):
    """Geyer's estimate step by step, as the R package posterior computes it for Stan."""
    n, chains = x.shape
    centred = x - x.mean(axis=0)
    covariance = np.array([[centred[: n - lag, c] @ centred[lag:, c] / n for c in range(chains)] for lag in range(n)])
    covariance = covariance.mean(axis=1)
    within = covariance[0] * n / (n - 1)
    total = covariance[0] + x.mean(axis=0).var(ddof=1)
    rho = np.zeros(n)
    even, odd, t = 1.0, 1 - (within - covariance[1]) / total, 0
    rho[:2] = even, odd
    while t < n - 5 and even + odd > 0:
        t += 2
        even, odd = (1 - (within - covariance[lag]) / total for lag in (t, t + 1))
        if even + odd >= 0:
            rho[t : t + 2] = even, odd
    if even > 0:
        rho[t] = even
    for k in range(2, t - 1, 2):
        if rho[k] + rho[k + 1] > rho[k - 2] + rho[k - 1]:
            rho[k : k + 2] = (rho[k - 2] + rho[k - 1]) / 2
    time = -1 + 2 * rho[:t].sum() + rho[t]
    return n * chains / max(time, 1 / np.log10(n * chains))


def chains(kind, draws):
    rng = np.random.default_rng(draws)
    x = rng.normal(size=(draws, 4))
    if kind == "autoregressive":
        for i in range(1, draws):
            x[i] = 0.9 * x[i - 1] + 0.44 * x[i]
    if kind == "alternating":
        for i in range(1, draws):
            x[i] = -0.7 * x[i - 1] + 0.7 * x[i]
    return {
        "apart": x + np.array([0, 0, 0, 3]),
        "of different spread": x * np.array([1, 1, 1, 5]),
        "heavy-tailed": np.tan(3.14 * (scipy.stats.norm.cdf(x) - 0.5)),
        "repeated": np.round(x),
        "drifting": x + np.linspace(0, 4, draws)[:, None],
    }.get(kind, x)


KINDS = "independent autoregressive alternating apart heavy-tailed repeated drifting".split()


@pytest.mark.parametrize("draws", [100, 61])
def test_they_are_what_stan_computes(draws):
    kinds = [*KINDS, "of different spread"]
    every = np.stack([chains(kind, draws) for kind in kinds], axis=-1)
    found = {
        "rhat": split_rhat(every),
        "bulk": effective_sample_size(every),
        "tail": effective_sample_size(every, kind="tail"),
        "mean": effective_sample_size(every, kind="mean"),
    }
    below = lambda x, q: ess(halves((x <= np.quantile(x, q)).astype(float)))
    right = {
        "rhat": rhat,
        "bulk": lambda x: ess(halves(normalised(x))),
        "tail": lambda x: min(below(x, 0.05), below(x, 0.95)),
        "mean": lambda x: ess(halves(x)),
    }
    for name, reference in right.items():
        expected = [reference(every[..., k]) for k in range(len(kinds))]
        np.testing.assert_allclose(found[name], expected, rtol=1e-9, err_msg=name)
    assert found["rhat"][kinds.index("apart")] > 1.2
    assert found["rhat"][kinds.index("of different spread")] > 1.1  # only the folded draws see it


def test_no_draws_are_worth_more_than_they_are():
    """A draw that is not finite, huge draws, and draws that are all the same."""
    x = np.random.default_rng(0).normal(size=(1000, 4))
    spoiled, still = x.copy(), np.full_like(x, 0.1)
    spoiled[17, 2] = np.nan
    endless = np.where(np.isnan(spoiled), np.inf, x)
    apart = np.broadcast_to(np.arange(4.0), x.shape)
    every = np.stack([x, spoiled, endless, 1e155 * x, 1e300 * x, 1e-300 * x, still, apart], axis=-1)
    for kind in ("bulk", "tail", "mean"):
        found = np.asarray(effective_sample_size(every, kind=kind))
        assert np.all(np.isnan(found[[1, 2, 6]]))
        np.testing.assert_allclose(found[[3, 4, 5]], found[0], rtol=1e-6)
        assert 2000 < found[0] < 5000
        assert found[7] < 10
    found = np.asarray(split_rhat(every))
    assert np.all(np.isnan(found[[1, 2, 6]]))
    np.testing.assert_allclose(found[[3, 4, 5]], found[0], rtol=1e-9)
    assert found[7] > 1e6


def test_what_decides_the_status_is_r_hat_without_ranks():
    x = np.random.default_rng(0).normal(size=(200, 4, 2))
    apart, wide = x.copy(), x.copy()
    apart[:, 3, 1] += 3
    wide[:, 3, 1] *= 9
    spoiled = apart.copy()
    spoiled[5, 3, 0] = np.nan
    verdict = jax.jit(mixed)
    every, three = jnp.ones(4, bool), jnp.array([True, True, True, False])
    assert verdict(x, every, 1.1)
    assert verdict(1e200 * x, every, 1.1)
    assert not verdict(apart, every, 1.1)
    assert not verdict(wide, every, 1.1)
    assert verdict(spoiled, three, 1.1)  # chains that failed do not count
    assert not verdict(x + np.linspace(0, 4, 200)[:, None, None], every, 1.1)

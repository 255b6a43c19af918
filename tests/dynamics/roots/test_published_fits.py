"""Published regressions of R's data sets, each from 300 starts within a factor of ten: what says ok is an optimum."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

import jaxkit as jk

# R's DNase (Davidian and Giltinan 1995): density of an assay at eight concentrations, twice each, in eleven runs.
DNASE_CONC = np.repeat(12.5 / 2.0 ** np.array([8, 6, 5, 4, 3, 2, 1, 0]), 2)
DNASE = np.array([
    [17, 18, 121, 124, 206, 215, 377, 374, 614, 609, 1019, 1001, 1334, 1364, 1730, 1710],
    [45, 50, 137, 123, 225, 207, 401, 383, 672, 681, 1116, 1078, 1554, 1526, 1932, 1914],
    [70, 68, 173, 165, 277, 248, 434, 426, 703, 689, 1067, 1077, 1629, 1479, 2003, 1884],
    [11, 16, 118, 108, 200, 206, 364, 360, 620, 640, 979, 973, 1424, 1399, 1740, 1732],
    [35, 35, 132, 135, 224, 220, 385, 390, 658, 647, 1060, 1031, 1425, 1409, 1750, 1738],
    [86, 103, 191, 189, 272, 277, 440, 426, 686, 676, 1062, 1072, 1424, 1459, 1768, 1806],
    [94, 92, 182, 182, 282, 273, 444, 439, 686, 668, 1052, 1035, 1409, 1392, 1759, 1739],
    [54, 54, 152, 148, 226, 222, 392, 383, 658, 644, 1043, 1002, 1466, 1381, 1743, 1724],
    [32, 43, 142, 155, 239, 242, 420, 395, 624, 705, 1046, 1026, 1398, 1405, 1693, 1729],
    [52, 94, 164, 166, 259, 256, 439, 439, 690, 701, 1042, 1075, 1340, 1406, 1699, 1708],
    [47, 57, 159, 155, 246, 252, 427, 411, 704, 684, 994, 980, 1421, 1385, 1715, 1721],
]) / 1000  # fmt: skip
# R's ChickWeight (Crowder and Hand 1990), the first chick: days and grams.
CHICK_DAY = np.array([0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 21.0])
CHICK = np.array([42, 51, 59, 64, 76, 93, 106, 125, 149, 171, 199, 205.0])
# R's Theoph (Boeckmann, Sheiner and Beal 1994), the first subject: hours after a dose of 4.02 mg/kg, and mg/l.
THEOPH_HOUR = np.array([0, 0.25, 0.57, 1.12, 2.02, 3.82, 5.1, 7.03, 9.05, 12.12, 24.37])
THEOPH = np.array([0.74, 2.84, 6.57, 10.5, 9.66, 8.58, 8.36, 7.47, 6.89, 5.94, 3.28])


def logistic(p, x):
    """`Asym / (1 + exp((xmid - x) / scal))`: R's SSlogis."""
    return p[0] / (1 + jnp.exp((p[1] - x) / p[2]))


def four_logistic(p, x):
    """`A + (B - A) / (1 + exp((xmid - x) / scal))`: R's SSfpl."""
    return p[0] + (p[1] - p[0]) / (1 + jnp.exp((p[2] - x) / p[3]))


def one_compartment(p, t):
    """Concentration after an oral dose: elimination, absorption, clearance (R's SSfol with rates, not logarithms)."""
    ke, ka, cl = p
    return 4.02 * ke * ka / (cl * (ka - ke)) * (jnp.exp(-ke * t) - jnp.exp(-ka * t))


# Model, data, the optimum (to two digits where R does not document it), and how many starts reach it (measured).
FITS = {
    "DNase, run 1": (logistic, np.log(DNASE_CONC), DNASE[0], [2.34518, 1.48309, 1.04146], 256),
    "DNase, run 1, four parameters": (four_logistic, np.log(DNASE_CONC), DNASE[0], [-0.008, 2.377, 1.507, 1.063], 283),
    "DNase, all runs": (logistic, np.log(np.tile(DNASE_CONC, 11)), DNASE.ravel(), [2.485, 1.518, 1.098], 254),
    "ChickWeight": (logistic, CHICK_DAY, CHICK, [937.03, 35.223, 11.405], 236),
    "Theoph": (one_compartment, THEOPH_HOUR, THEOPH, list(np.exp([-2.9196, 0.5752, -3.9159])), 294),
}

DOCUMENTED = ("DNase, run 1", "ChickWeight", "Theoph")


@pytest.mark.slow
@pytest.mark.parametrize("name", FITS)
def test_what_says_ok_is_the_published_optimum(name):
    model, x, y, published, reached = FITS[name]
    x, y = jnp.asarray(x), jnp.asarray(y)
    best = scipy.optimize.least_squares(
        lambda p: np.asarray(model(p, x) - y), published, method="lm", xtol=1e-15, ftol=1e-15
    )
    np.testing.assert_allclose(best.x, published, rtol=1e-4 if name in DOCUMENTED else 0.02)
    starts = best.x * 10 ** np.random.default_rng(0).uniform(-1, 1, (300, len(published)))
    found = jax.jit(jax.vmap(lambda p: jk.least_squares(lambda p, _: model(p, x) - y, p)))(jnp.asarray(starts))
    ok = np.asarray(found.ok)
    np.testing.assert_allclose(np.asarray(found.sse)[ok], 2 * best.cost, rtol=1e-8)  # no false ok
    assert ok.sum() > 0.95 * reached
    covariance = np.linalg.inv(best.jac.T @ best.jac) * 2 * best.cost / (y.size - len(published))
    same = ok & np.all(np.abs(np.asarray(found.params) / best.x[None] - 1) < 1e-3, axis=1)
    errors = np.asarray(found.standard_errors)[same]
    expected = np.broadcast_to(np.sqrt(np.diag(covariance)), errors.shape)
    np.testing.assert_allclose(errors, expected, rtol=1e-3)  # SciPy's Jacobian is of differences

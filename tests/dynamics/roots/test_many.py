"""Fits of many parameters by sparse factors and by products alone, beside dense ones, scipy and closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.sparse as sp
import scipy.sparse.linalg

import jaxkit as jk
from jaxkit.dynamics.linear import tall, ways
from jaxkit.dynamics.linear.libraries import missing

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))
WAYS = ("sparse", "krylov")


def smoothed(u, data):
    """Whittaker's smoother: near the data, and nearly straight."""
    return jnp.concatenate([u - data, 3 * jnp.diff(u, n=2)])


def by_hand(data):
    """Its normal equations."""
    second = sp.diags([np.ones(data.size - 2), -2 * np.ones(data.size - 2), np.ones(data.size - 2)], [0, 1, 2],
                      shape=(data.size - 2, data.size))  # fmt: skip
    return (sp.identity(data.size) + 9 * second.T @ second).tocsc()


def noisy(size):
    rng = np.random.default_rng(size)
    return np.sin(np.linspace(0, 6, size)) + 0.1 * rng.normal(size=size)


def blurred(u):
    v = jnp.exp(u)
    return 0.25 * v[:-2] + 0.5 * v[1:-1] + 0.25 * v[2:]


def restored(u, data):
    """What was blurred, made whole: positive, and smooth."""
    return jnp.concatenate([blurred(u) - data, 5 * jnp.diff(u, n=2)])


def slope_by_hand(u):
    n = u.size
    blur = sp.diags([0.25 * np.ones(n - 2), 0.5 * np.ones(n - 2), 0.25 * np.ones(n - 2)], [0, 1, 2], shape=(n - 2, n))
    bend = sp.diags([np.ones(n - 2), -2 * np.ones(n - 2), np.ones(n - 2)], [0, 1, 2], shape=(n - 2, n))
    return sp.vstack([blur @ sp.diags(np.exp(u)), 5 * bend]).tocsr()


@pytest.mark.slow
@pytest.mark.parametrize("jacobian", WAYS)
def test_a_smoother_is_its_normal_equations(jacobian):
    data = noisy(300)
    matrix = by_hand(data)
    found = jk.least_squares(smoothed, jnp.zeros(300), jnp.asarray(data), jacobian=jacobian).checked()
    np.testing.assert_allclose(found.params, scipy.sparse.linalg.spsolve(matrix, data), atol=1e-7)
    assert found.degrees_of_freedom == 298
    if jacobian == "krylov":
        assert found.covariance is None
        with pytest.raises(ValueError, match="no standard errors without a covariance"):
            found.standard_errors
    else:
        wanted = np.linalg.inv(matrix.toarray()) * float(found.sse) / 298
        np.testing.assert_allclose(found.covariance, wanted, rtol=1e-8, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("jacobian", WAYS)
def test_the_derivative_by_the_data_is_one_solve(jacobian):
    data = jnp.asarray(noisy(300))
    last = lambda d: jk.least_squares(smoothed, jnp.zeros(300), d, jacobian=jacobian).params[40]
    exact = scipy.sparse.linalg.spsolve(by_hand(np.asarray(data)), np.eye(300)[40])
    value, found = jax.jit(jax.value_and_grad(last))(data)
    np.testing.assert_allclose(found, exact, atol=1e-9)
    np.testing.assert_allclose(value, last(data), rtol=1e-12)
    moved = jnp.cos(jnp.arange(300.0))
    np.testing.assert_allclose(jax.jvp(last, (data,), (moved,))[1], exact @ moved, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("jacobian", WAYS)
def test_the_derivative_of_a_curved_fit(jacobian):
    data = jnp.asarray(np.exp(noisy(302))[1:-1])
    start = jnp.zeros(302)
    total = lambda d, how: jnp.sum(jk.least_squares(restored, start, d, jacobian=how).params ** 2)
    wanted, found = jax.grad(total)(data, "dense"), jax.grad(total)(data, jacobian)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-7)
    twice = lambda how: jax.jvp(lambda s: jax.grad(total)(s * data, how) @ data, (1.0,), (1.0,))[1]
    np.testing.assert_allclose(twice(jacobian), twice("dense"), rtol=1e-4)


@pytest.mark.slow
def test_ten_thousand_unknowns_beside_scipy():
    size = 10_000
    data = np.exp(noisy(size + 2))[1:-1][: size - 2]
    found = jk.least_squares(restored, jnp.zeros(size), jnp.asarray(data)).checked()
    assert found.covariance is None  # so `"auto"` is sparse
    u = np.asarray(found.params)
    fn = lambda u: np.asarray(restored(jnp.asarray(u), jnp.asarray(data)))
    assert np.max(np.abs(slope_by_hand(u).T @ fn(u))) < 1e-4
    peer = scipy.optimize.least_squares(fn, np.zeros(size), jac=slope_by_hand, tr_solver="lsmr", x_scale=1.0)
    np.testing.assert_allclose(float(found.sse), 2 * peer.cost, rtol=1e-5)
    assert float(found.sse) <= 2 * peer.cost * (1 + 1e-9)


@pytest.mark.slow
def test_cameras_and_places():
    """Each picture shows a place from a camera: bundle adjustment in a plane, where cameras and places are unknown."""
    rng = np.random.default_rng(0)
    cameras, places = 8, 60
    seen = [(c, p) for p in range(places) for c in rng.choice(cameras, 4, replace=False)]
    of_camera, of_place = np.array(seen).T

    def views(params):
        angle, shift = params["angle"][of_camera], params["shift"][of_camera]
        x, y = params["place"][of_place].T
        across, away = x * jnp.cos(angle) - y * jnp.sin(angle), x * jnp.sin(angle) + y * jnp.cos(angle)
        return (across + shift) / (5 + away)

    truth = {"angle": np.linspace(-1, 1, cameras), "shift": 0.2 * rng.normal(size=cameras),
             "place": rng.uniform(-1, 1, size=(places, 2))}  # fmt: skip
    data = views(jax.tree.map(jnp.asarray, truth)) + 1e-4 * rng.normal(size=len(seen))

    def residuals(params, data):
        fixed = [params["angle"][:2] - truth["angle"][:2], params["shift"][:2] - truth["shift"][:2]]
        return {"views": 1e4 * (views(params) - data), "fixed": fixed}

    start = jax.tree.map(lambda v: jnp.asarray(v + 0.02 * rng.normal(size=v.shape)), truth)
    fits = {how: jk.least_squares(residuals, start, data, jacobian=how).checked() for how in ("dense", "sparse")}
    np.testing.assert_allclose(fits["sparse"].sse, fits["dense"].sse, rtol=1e-9)
    np.testing.assert_allclose(fits["sparse"].params["place"], fits["dense"].params["place"], atol=1e-6)
    errors = (fits[how].standard_errors["place"] for how in ("sparse", "dense"))
    np.testing.assert_allclose(*errors, rtol=1e-5)


def chain(u, _):
    """Each number is seen, but the last two only by their sum."""
    return jnp.concatenate([u[:-2] - 1, u[-2:-1] + u[-1:] - 3, u[:1] - 1.5, u[:1] - 1.1])


@pytest.mark.slow
@pytest.mark.parametrize("jacobian", WAYS)
def test_what_the_residuals_do_not_show_is_no_optimum(jacobian):
    found = jk.least_squares(chain, jnp.linspace(0.5, 2, 12), jacobian=jacobian)
    assert jk.Status(int(found.status)) is jk.Status.singular
    hidden = lambda u, _: jnp.concatenate([u[:-1] - 1, u[:-1] - 2, 0 * u[-1:]])
    assert jk.Status(int(jk.least_squares(hidden, jnp.ones(12), jacobian=jacobian).status)) is jk.Status.singular


@pytest.mark.parametrize("jacobian", WAYS)
def test_saddles_are_left(jacobian):
    pull = jnp.linspace(1.0, 2.0, 10)
    apart = lambda u, _: jnp.concatenate([u**2 - 4 * pull, 1e-3 * (u - 1)])  # 0 is nearly stationary, a maximum
    found = jk.least_squares(apart, jnp.full(10, 1e-9), jacobian=jacobian)
    assert not bool(found.ok) or float(found.sse) < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("jacobian", WAYS)
def test_failures_have_a_status(jacobian):
    fit = lambda fn, **more: jk.Status(int(jk.least_squares(fn, jnp.ones(12), jacobian=jacobian, **more).status))
    assert fit(lambda u, _: jnp.log(-u)) is jk.Status.not_finite
    assert fit(lambda u, _: jnp.concatenate([u**3 - 5, u - 2]), max_steps=2) is jk.Status.max_steps


def test_what_auto_chooses_for_fits():
    name = lambda fn, size, how="auto": tall.chosen(fn, jnp.zeros(size), 2 * size, how).name
    both = lambda u: jnp.concatenate([u, u**2])
    assert name(both, 255) == "dense"
    assert name(both, 256) == "sparse"
    assert name(lambda u: jnp.concatenate([u, jnp.sum(u) * u]), 256) == "dense"
    assert name(lambda u: jnp.concatenate([jnp.sum(u)[None], u, u[1:]]), 6000, "auto") == "dense"  # a full row
    with pytest.raises(ValueError, match="must be 'dense' or 'krylov' for these residuals"):
        name(lambda u: jnp.concatenate([u, jnp.sum(u) * u]), 256, "sparse")
    with pytest.raises(ValueError, match="must be one of 'auto', 'dense', 'sparse', 'krylov'"):
        jk.least_squares(smoothed, jnp.zeros(20), jnp.zeros(20), jacobian="thin")
    reverse = jk.LevenbergMarquardt(jacobian="reverse")
    with pytest.raises(ValueError, match="where the method's own is 'reverse'"):
        jk.least_squares(smoothed, jnp.zeros(20), jnp.zeros(20), method=reverse, jacobian="sparse")


def test_without_the_libraries_fits_are_dense(monkeypatch):
    monkeypatch.setattr(tall, "missing", lambda: "`pip install` helps")
    ways.hint.cache_clear()
    with pytest.warns(UserWarning, match="Jacobian of 600 unknowns is taken as dense"):
        assert tall.chosen(lambda u: u, jnp.zeros(600), 600, "auto").name == "dense"


def test_the_normal_matrix_by_its_entries():
    fn = lambda u: jnp.concatenate([u[:-1] * u[1:], jnp.sin(u), u[:1] * u[-1:]])
    u = jnp.asarray(np.random.default_rng(1).normal(size=30))
    held = tall.chosen(fn, u, 60, "sparse").held(fn)
    value, entries = held.both(u)
    dense = jax.jacfwd(fn)(u)
    normal = held.pattern.normal
    found = jnp.zeros((30, 30)).at[normal.rows, normal.columns].set(held.pattern.normal_entries(entries))
    np.testing.assert_allclose(found, dense.T @ dense, atol=1e-14)
    np.testing.assert_allclose(held.pull(entries, value), dense.T @ value, atol=1e-14)
    np.testing.assert_allclose(held.norms(entries), jnp.linalg.norm(dense, axis=0), rtol=1e-14)

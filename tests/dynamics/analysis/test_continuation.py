"""Branches of equilibria whose special points are known."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxkit as jk

STEP = 0.25


@jax.jit
def follow(coefficients, x0, p0, units):
    """Sixty steps of `0.25 units` along `x' = sum_ij c_ij x^i p^j`, i and j up to 3: one program for all cases."""
    powers = lambda v: jnp.stack([jnp.ones_like(v), v, v * v, v * v * v])
    field = lambda t, x, p: jnp.einsum("ij,i,j->", coefficients, powers(x[0]), powers(p))[None]
    return jk.continuation(field, x0[None], p0, step=STEP, steps=60, scale=units, parameter_scale=units)


def family(terms):
    table = np.zeros((4, 4))
    for (i, j), value in terms.items():
        table[i, j] = value
    return table


def specials(branch):
    at = np.flatnonzero(branch.special)
    kinds = [jk.Special(int(k)).name for k in branch.special[at]]
    points = np.stack([branch.special_x[at, 0], branch.special_parameter[at]], axis=1)
    return list(zip(kinds, points.tolist(), strict=True))


PITCHFORK = family({(1, 1): 1, (3, 0): -1})
NARROW = family({(0, 1): -1, (2, 0): -100})
CUBIC = family({(3, 0): -1, (1, 0): 3, (0, 1): 1})
CASES = {  # coefficients, start, units, special points
    "a pitchfork exactly on a step": (PITCHFORK, (0, -1), 1, [("branch_point", [0, 0])]),
    "and with the default step": (PITCHFORK, (0, -0.02), 0.08, [("branch_point", [0, 0])]),
    "from its own branch": (family({(1, 1): -1, (3, 0): -1}), (1, -1), 0.3, [("branch_point", [0, 0])]),
    "a transcritical point": (family({(1, 1): 1, (2, 0): 1}), (1, -1), 0.3, [("branch_point", [0, 0])]),
    "a fold in a bend much narrower than a step": (NARROW, (0.1, -1), 0.08, [("fold", [0, 0])]),
    "scaled by 1e-100": (1e-100 * PITCHFORK, (0, -1), 1, [("branch_point", [0, 0])]),
    "scaled by 1e100": (1e100 * PITCHFORK, (0, -1), 1, [("branch_point", [0, 0])]),
    "two folds": (CUBIC, (-2.5, -(2.5**3) + 7.5), 1.5, [("fold", [-1, 2]), ("fold", [1, -2])]),
    "two within one step": (  # x ((p - .02) (p + .03) - x) loses and wins
        family({(1, 0): 0.0006, (1, 1): -0.01, (1, 2): -1, (2, 0): -1}), (0, -1), 0.2,
        [("branch_point", [0, -0.03]), ("branch_point", [0, 0.02])],
    ),
    "nothing": (family({(0, 1): 1, (1, 0): -1}), (-1, -1), 1, []),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_special_points_are_found_where_they_are(name):
    table, (x0, p0), units, right = CASES[name]
    branch = follow(jnp.asarray(table), jnp.asarray(x0, float), jnp.asarray(p0, float), units).checked()
    found = specials(branch)
    assert [kind for kind, _ in found] == [kind for kind, _ in right]
    x, p = np.array([at for _, at in found]).reshape(-1, 2).T
    right_x, right_p = np.array([at for _, at in right]).reshape(-1, 2).T
    np.testing.assert_allclose(x, right_x, rtol=0, atol=1e-6)
    np.testing.assert_allclose(p, right_p, rtol=0, atol=1e-8)
    powers = np.arange(4)
    x, p = np.asarray(branch.x[:, :1]), np.asarray(branch.parameter[:, None])
    terms = np.einsum("ij,ki,kj->kij", table, x**powers, p**powers)
    assert np.all(np.abs(terms.sum(axis=(1, 2))) <= 1e-12 * np.abs(terms).max(axis=(1, 2)).clip(np.abs(table).max()))
    slope = np.einsum("ij,i,ki,kj->k", table, powers, x ** (powers - 1).clip(0), p**powers)
    assert np.array_equal(branch.stable, slope < 0)
    changes = np.diff(np.asarray(branch.unstable)) != 0
    assert np.all(np.asarray(branch.special[1:])[changes] != 0)


def test_a_branch_that_is_not_there_is_refused():
    fold = jnp.asarray(family({(0, 1): 1, (2, 0): -1}))
    branch = follow(fold, jnp.asarray(1.0), jnp.asarray(-1.0), 1.0)
    assert not bool(branch.ok.any())
    assert not np.any(branch.special)
    blind = follow(fold, jnp.asarray(1e15), jnp.asarray(1e30), 1.0)  # the steps are below rounding
    assert int(blind.status[-1]) == jk.Status.branch_lost
    assert np.all(np.isnan(blind.x[1:]))
    assert not np.any(blind.special)
    with pytest.raises(jk.SolverError, match="continuation: branch_lost"):
        blind.checked()


@jax.jit
def oscillators(growth, frequency):
    """Pairs of states, the k-th growing with `p - growth[k]` and turning with `frequency[k]`; pitchforks at 0."""

    def field(t, x, p):
        x, y = x.reshape(-1, 2).T
        return jnp.stack([(p - growth) * x - frequency * y - x**3, frequency * x + (p - growth) * y - y**3], 1).ravel()

    return jk.continuation(field, jnp.zeros(2 * growth.size), -0.5, step=0.06, steps=30)


@pytest.mark.parametrize(
    ("growth", "frequency", "kind", "unstable"),
    [
        ([0, 0, 9, 9], [1, 1, 1, 1], "hopf", [0, 4]),  # two equal oscillators
        ([0, 0.01, 9, 9], [1, 2, 1, 1], "hopf", [0, 2, 4]),  # two in one step
        ([0, 9, 9, 9], [0, 0, 0, 0], "branch_point", [0, 2]),  # two equal pitchforks
        ([0, 1e8, 1e9, 1e10], [1e-3, 1e4, 1e6, 1e9], "hopf", [0, 2]),  # eigenvalues of very different size
        ([9, 9, 9, 9], [1, 1, 1, 1], "", [0]),
    ],
)
def test_what_crosses_together_does_not_cancel(growth, frequency, kind, unstable):
    branch = oscillators(jnp.asarray(growth, float), jnp.asarray(frequency, float)).checked()
    found = specials(branch)
    assert [name for name, _ in found] == [kind] * (len(unstable) - 1)
    right = [g for g in dict.fromkeys(growth) if g < 1]
    np.testing.assert_allclose([p for _, (_, p) in found], right, atol=1e-9)
    assert list(dict.fromkeys(np.asarray(branch.unstable).tolist())) == unstable
    assert np.all(np.asarray(branch.stable) == (np.asarray(branch.unstable) == 0))


@pytest.mark.slow
def test_a_hopf_point_among_many_states():
    """Products of all sums of eigenvalues leave the range of floats from about 16 states."""

    def field(t, x, p):
        return jnp.concatenate([jnp.stack([p * x[0] - x[1], x[0] + p * x[1]]), -1e9 * jnp.arange(1.0, 19) * x[2:]])

    branch = jk.continuation(field, jnp.zeros(20), -0.5, step=0.06, steps=20).checked()
    assert [kind for kind, _ in specials(branch)] == ["hopf"]


@pytest.mark.slow
def test_a_kink_and_a_corner():
    kink = lambda t, x, p: jnp.where(p < 0.33, -x, x)
    branch = jk.continuation(kink, jnp.zeros(1), 0.0, step=0.1, steps=8).checked()
    ((kind, (_, where)),) = specials(branch)
    assert kind == "kink"
    assert where == pytest.approx(0.33)
    corner = jk.continuation(lambda t, x, p: p - jnp.abs(x), jnp.ones(1), 1.0, step=0.1, steps=40, backward=True)
    assert int(corner.status[-1]) == jk.Status.branch_lost
    assert not np.any(corner.special)
    assert float(jnp.nanmin(corner.parameter)) >= 0


@pytest.mark.slow
def test_centers_stay_centers():
    """Real parts of rounding size are no Hopf points, and not stable either."""
    game = lambda t, x, p: jnp.stack([1e-3 * x[0] + p * x[1], -p * x[0] - 1e-3 * x[1]])
    branch = jk.continuation(game, jnp.zeros(2), 1.0, step=0.1, steps=10).checked()
    assert not np.any(branch.special)
    assert not np.any(branch.stable)
    assert not np.any(branch.unstable)


def test_bad_input():
    with pytest.raises(ValueError, match="`step` must be positive"):
        jk.continuation(lambda t, x, p: p - x, jnp.zeros(1), 0.0, step=-1.0)


def bratu(t, u, p):
    return jnp.diff(jnp.pad(u, 1), n=2) * (u.size + 1) ** 2 + p * jnp.exp(u)


@pytest.mark.slow
def test_the_fold_of_bratu_with_many_unknowns():
    @functools.cache
    def fold(size):
        branch = jk.continuation(bratu, jnp.zeros(size), 0.0, step=0.5, steps=30, scale=size**0.5).checked()
        assert branch.eigenvalues.shape == (31, 8)  # by sparse factors
        at = branch.special == int(jk.Special.fold)
        assert int(at.sum()) == int((branch.special > 0).sum()) == 1
        np.testing.assert_array_equal(branch.unstable, np.cumsum(at))
        return float(branch.special_parameter[at][0])

    coarse, fine = fold(249), fold(499)  # the error is that of the grid, which halves
    np.testing.assert_allclose(fine + (fine - coarse) / 3, 3.513830719, rtol=1e-8)


@pytest.mark.slow
def test_sparse_branches_are_the_dense_ones():
    size = 24
    rates = 4 * (size + 1) ** 2 * np.sin(np.arange(1, 4) * np.pi / 2 / (size + 1)) ** 2  # where modes of 0 grow

    def field(t, u, p):
        return jnp.diff(jnp.pad(u, 1), n=2) * (size + 1) ** 2 + p * u - u**3

    go = lambda how: jk.continuation(field, jnp.zeros(size), 1.0, step=8.0, steps=14, jacobian=how).checked()
    dense, sparse = go("dense"), go("sparse")
    at = sparse.special > 0
    assert set(np.asarray(sparse.special[at])) == {int(jk.Special.branch_point)}
    np.testing.assert_allclose(sparse.special_parameter[at], rates, rtol=1e-6)
    np.testing.assert_allclose(sparse.special_parameter[at], dense.special_parameter[dense.special > 0], rtol=1e-6)
    assert sparse.unstable[-1] == dense.unstable[-1] == 3
    assert bool(sparse.stable[0])
    assert not bool(sparse.stable[-1])
    folded = [jk.continuation(bratu, jnp.zeros(size), 0.0, step=0.5, steps=30, scale=5.0, jacobian=how).checked()
              for how in ("dense", "sparse")]  # fmt: skip
    wanted, found = (float(b.special_parameter[b.special == 1][0]) for b in folded)
    np.testing.assert_allclose(found, wanted, rtol=1e-9)
    np.testing.assert_allclose(folded[1].x[-1], folded[0].x[-1], rtol=1e-4)

"""PlaneLaw laws: one test over all says that densities integrate to one and that the samples follow them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from jaxkit import models
from jaxkit.models import plane_laws
from jaxkit.models.plane_laws import PLANE_LAWS

QUESTIONS = {
    "x": lambda x: np.tanh(x[:, 0]),
    "y": lambda x: np.tanh(x[:, 1]),
    "xy": lambda x: np.tanh(x[:, 0] * x[:, 1]),
    "wave": lambda x: np.cos(3 * x[:, 0] - 2 * x[:, 1]),
    "fine wave": lambda x: np.sin(9 * x[:, 0] + 7 * x[:, 1]),
    "radius": lambda x: np.exp(-np.sum(x**2, 1)),
    "quadrant": lambda x: ((x[:, 0] > 0.1) & (x[:, 1] > 0.2)).astype(float),
}


def quadrature(law):
    """Nodes and weights: equal steps (exact to many digits for a density that Gaussian noise has smoothed), the
    middles of small squares for the checkerboard; the funnel in its own coordinates."""
    if law.name == "funnel":
        s, v = np.meshgrid(np.linspace(-9, 9, 241), np.linspace(-21, 21, 141), indexing="ij")
        x = np.stack([np.exp(v / 2) * s, v], -1).reshape(-1, 2)
        return x, (np.exp(v / 2) * (18 / 240) * (42 / 140)).ravel()
    steps = 320 if law.name == "checkerboard" else int(np.ceil(2 * law.box / (0.75 * law.width)))
    t, step = np.linspace(-law.box, law.box, 2 * steps + 1)[1::2], 2 * law.box / steps
    x = np.stack(np.meshgrid(t, t, indexing="ij"), -1).reshape(-1, 2)
    return x, np.full(len(x), step**2)


def density(law, x):
    size = 20000
    padded = np.concatenate([x, np.zeros((-len(x) % size, 2))])
    log_prob = jax.jit(law.log_prob)
    return np.concatenate([np.asarray(log_prob(part)) for part in padded.reshape(-1, size, 2)])[: len(x)]


@pytest.mark.parametrize("name", sorted(PLANE_LAWS))
def test_density_integrates_to_one_and_samples_follow_it(name):
    law = models.plane_law(name)
    x, w = quadrature(law)
    logs = density(law, x)
    mass = w * np.exp(logs)
    assert abs(mass.sum() - 1) < 1e-6
    n = 20000
    drawn = np.asarray(law.sample(jax.random.key(3), n))
    seen = density(law, drawn)
    assert drawn.shape == (n, 2)
    assert np.isfinite(seen).all()
    for question, ask in QUESTIONS.items():
        wanted, answers = float(mass @ ask(x)), ask(drawn)
        tolerance = 0.02 if question == "quadrant" else 2e-4  # an indicator is no friend of quadrature
        assert abs(answers.mean() - wanted) < 4.5 * answers.std() / np.sqrt(n) + tolerance, question
    entropy = -float(mass[mass > 0] @ logs[mass > 0])
    assert abs(-seen.mean() - entropy) < 4.5 * seen.std() / np.sqrt(n) + 1e-4
    inside = np.all(np.abs(drawn) <= law.box, 1)
    assert inside.mean() > (0.95 if name == "funnel" else 0.9999)


@pytest.mark.parametrize("name", ["ring8", "grid25"])
def test_mixtures_are_scaled_as_in_the_literature(name):
    law = models.plane_law(name)
    assert law.modes == {"ring8": 8, "grid25": 25}[name]
    gaps = np.linalg.norm(law.centers[:, None] - law.centers[None], axis=-1)
    nearest = np.min(gaps + 1e9 * np.eye(law.modes), axis=1)
    spacing, sd = {
        "ring8": (2 * 2 / 1.41421356 * np.sin(np.pi / 8), 0.02 / 1.41421356),
        "grid25": (2 / 2.828, 0.05 / 2.828),
    }[name]
    np.testing.assert_allclose(nearest, spacing, rtol=1e-6)
    np.testing.assert_allclose(law.width, sd, rtol=1e-6)


def test_weights_are_respected(key):
    law = models.mixture([[0.0, 0.0], [1.0, 0.0]], 0.1, [3.0, 1.0])
    share = float(jnp.mean(law.sample(key, 20000)[:, 0] < 0.5))
    assert abs(share - 0.75) < 0.015
    ratio = law.log_prob(jnp.array([0.0, 0.0])) - law.log_prob(jnp.array([1.0, 0.0]))
    np.testing.assert_allclose(ratio, np.log(3), rtol=1e-9)


def test_closed_forms():
    rings = plane_laws.rings(radii=(1.0,), sd=0.3)
    x = jnp.array([0.4, 0.5])
    r = np.hypot(0.4, 0.5)
    by_hand = np.exp(-(r**2 + 1) / (2 * 0.09)) * special.iv(0, r / 0.09) / (2 * np.pi * 0.09)
    np.testing.assert_allclose(jnp.exp(rings.log_prob(x)), by_hand, rtol=1e-9)
    board = models.plane_law("checkerboard")
    np.testing.assert_allclose(
        board.log_prob(jnp.array([[0.5, 0.5], [0.5, 1.5], [9.0, 9.0]])), [-np.log(8), -np.inf, -np.inf]
    )
    assert np.isfinite(jax.grad(rings.log_prob)(jnp.zeros(2))).all()


@pytest.mark.parametrize("name", sorted(PLANE_LAWS))
def test_types_batches_and_scores(name, key):
    law = models.plane_law(name)

    @jax.jit
    def both(key):
        x = law.sample(key, 6, jnp.float32)
        wide = x.astype(jnp.float64)
        scores = jax.vmap(jax.grad(law.log_prob))(wide)
        return x, law.log_prob(x.reshape(2, 3, 2)), law.log_prob(wide), scores

    x, narrow, wide, scores = both(key)
    assert x.dtype == narrow.dtype == jnp.float32
    assert narrow.shape == (2, 3)
    assert wide.dtype == jnp.float64
    np.testing.assert_allclose(narrow.ravel(), wide, rtol=2e-3, atol=2e-3)
    assert np.isfinite(scores).all()


def test_unknown_names_list_what_there_is():
    with pytest.raises(ValueError, match="`name` must be one of 'ring8', 'grid25'"):
        models.plane_law("grid")

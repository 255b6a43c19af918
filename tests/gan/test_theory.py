"""Theory: optimal critics and their values by quadrature."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxkit import gan

X = jnp.linspace(-11.0, 12.0, 801)
DX = X[1] - X[0]
LOG_P, LOG_Q = (-0.5 * (X - m) ** 2 - 0.5 * jnp.log(2 * jnp.pi) for m in (0.0, 1.0))


def test_values_at_the_best_critic():
    relativistic = gan.optimal_value("rsgan", LOG_P, LOG_Q, DX)
    standard = gan.optimal_value("sgan", LOG_P, LOG_Q, DX)
    np.testing.assert_allclose(relativistic, 0.4918017090, atol=1e-10)
    np.testing.assert_allclose(standard, 1.1634513967, atol=1e-10)
    np.testing.assert_allclose(relativistic, np.log(2) - gan.swap_divergence(LOG_P, LOG_Q, DX), rtol=1e-12)
    np.testing.assert_allclose(standard, 2 * np.log(2) - 2 * gan.jensen_shannon(LOG_P, LOG_Q, DX), rtol=1e-12)


@pytest.mark.parametrize("name", ["rsgan", "sgan"])
def test_the_best_critic_is_the_log_ratio(name):
    # Newton on the critic's values at 61 points: convex, with the constant free in the relativistic loss.
    x = jnp.linspace(-3.0, 4.0, 61)
    log_p, log_q = (jax.nn.log_softmax(-0.5 * (x - m) ** 2) for m in (0.0, 1.0))
    loss = lambda T: gan.LOSSES[name].critic(T, T, weights=(jnp.exp(log_p), jnp.exp(log_q)))
    derivatives = jax.jit(lambda T: (jax.grad(loss)(T), jax.hessian(loss)(T)))
    T = jnp.zeros_like(x)
    for _ in range(30):
        slope, curvature = derivatives(T)
        T = T - jnp.clip(jnp.linalg.pinv(curvature, rtol=1e-13, hermitian=True) @ slope, -1, 1)
    free = (T - (log_p - log_q)) if name == "sgan" else (T - (log_p - log_q)) - jnp.mean(T - (log_p - log_q))
    assert float(jnp.max(jnp.abs(free))) < 1e-6
    np.testing.assert_allclose(loss(T), gan.optimal_value(name, log_p, log_q, 1.0), rtol=1e-12)


def test_the_value_is_given_for_losses_whose_best_critic_is_the_log_ratio_alone():
    for name in ("lsgan", "hinge", "wgan", "rasgan", "rpls"):
        with pytest.raises(ValueError, match=f"Argument `loss` must have the best critic `log p/q`, but {name!r} has"):
            gan.optimal_value(name, LOG_P, LOG_Q, DX)
        with pytest.raises(ValueError, match="must have the best critic"):
            jax.jit(lambda p, name=name: gan.optimal_value(name, p, LOG_Q, DX))(LOG_P)
    own = gan.pairs("half as steep", lambda d: jax.nn.softplus(-2 * d))
    with pytest.raises(ValueError, match="'half as steep' has another"):
        gan.optimal_value(own, LOG_P, LOG_Q, DX)
    assert gan.optimal_value(gan.all_pairs(gan.LOSSES["rsgan"]), LOG_P, LOG_Q, DX) > 0.49
    assert gan.optimal_value("sgan-saturating", LOG_P, LOG_Q, DX) > 1.16

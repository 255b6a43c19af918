# ---
# jupyter:
#   jupytext:
#     formats: py:percent
# ---

# %% [markdown]
# # Patterns out of nothing: Turing's instability
# Two substances react and spread; one spreads faster. Turing (1952) showed that an even mixture, which is stable when
# stirred, can then break up into spots. Here are thousands of unknowns, and every step of the story is a verb:
# `jk.linearize` finds how fast the first wave grows, `jk.solve` lets it grow, and `jk.least_squares` over `jk.root`
# reads a parameter back from the picture of the spots. All see that the Jacobian is sparse (`jaxkit[sparse]`).

# %%
import os

import jax
import jax.numpy as jnp
import numpy as np

import jaxkit as jk
from jaxkit.report.figures import style

jk.set_precision("double")
SIDE = 24 if os.environ.get("QUICK") else 64
CELL = 0.5  # length of a cell's side


def spread(w):
    """The Laplacian; nothing passes the walls."""
    padded = jnp.pad(w, 1, mode="edge")
    return (padded[2:, 1:-1] + padded[:-2, 1:-1] + padded[1:-1, 2:] + padded[1:-1, :-2] - 4 * w) / CELL**2


def schnakenberg(t, x, p):
    """`u' = a - u + u^2 v + Lap u`, `v' = b - u^2 v + d Lap v` (Schnakenberg 1979); x holds u, then v."""
    a, b, d = p
    u, v = x.reshape(2, SIDE, SIDE)
    made = u * u * v
    return jnp.concatenate([(a - u + made + spread(u)).ravel(), (b - made + d * spread(v)).ravel()])


def even(p):
    """The mixture that does not change: u = a + b, v = b/(a + b)^2."""
    a, b, _ = p
    cells = jnp.ones(SIDE * SIDE)
    return jnp.concatenate([(a + b) * cells, b / (a + b) ** 2 * cells])


params = jnp.array([0.1, 0.9, 20.0])

# %% [markdown]
# ## How fast it begins
# A wave cos(kx)cos(ly) is an eigenvector of the Laplacian, so each has a 2 x 2 matrix of its own; its growth is known
# by hand. `linearize` knows nothing of waves: it is given the field alone, and asked for the leading eigenvalue.


# %%
def growth(p):
    return jk.linearize(schnakenberg, even(p), p, leading=1).eigenvalues[0].real


rate, slope = jax.value_and_grad(growth)(params)


def growth_by_hand(p):
    """The growth rates of all waves, and the squares of their wave numbers."""
    a, b, d = (float(value) for value in p)
    u, v = a + b, b / (a + b) ** 2
    line = (2 - 2 * np.cos(np.pi * np.arange(SIDE) / SIDE)) / CELL**2
    squares = (line[:, None] + line[None]).ravel()
    matrix = np.array([[[-1 + 2 * u * v - q, u * u], [-2 * u * v, -u * u - d * q]] for q in squares])
    return np.linalg.eigvals(matrix).real.max(1), squares


rates, squares = growth_by_hand(params)
fastest = squares[np.argmax(rates)]
print(f"growth rate of the fastest wave: linearize {float(rate):.10f}, by hand {rates.max():.10f}")
print(f"its wavelength: {2 * np.pi / fastest**0.5:.2f}")
assert abs(float(rate) - rates.max()) < 1e-8

# %% [markdown]
# The growth has derivatives: how much faster does the pattern come when the second substance spreads faster?

# %%
ahead, behind = (growth_by_hand(params.at[2].set(20 + h))[0].max() for h in (1e-4, -1e-4))
print(f"d(growth)/dd: {float(slope[2]):.8f}, by differences of the formula {(ahead - behind) / 2e-4:.8f}")
assert abs(float(slope[2]) - (ahead - behind) / 2e-4) < 1e-6

# %% [markdown]
# ## The pattern
# From the even mixture and a little noise. The implicit method needs some dozens of steps.

# %%
noise = 0.01 * jax.random.normal(jax.random.key(1), (2 * SIDE * SIDE,))
run = jk.solve(schnakenberg, even(params) + noise, (0.0, 400.0), params, method="rodas5p", rtol=1e-5, atol=1e-7)
rest = jk.root(lambda x, p: schnakenberg(0.0, x, p), run.checked().final, params).checked()
picture = rest.value[: SIDE * SIDE].reshape(SIDE, SIDE)

waves = np.abs(np.fft.rfft2(np.pad(picture - jnp.mean(picture), ((0, SIDE), (0, SIDE)), mode="reflect"))) ** 2
k = 2 * np.pi * np.hypot(np.fft.fftfreq(2 * SIDE)[:, None], np.fft.rfftfreq(2 * SIDE)) / CELL
seen = 2 * np.pi / (np.sum(waves * k) / np.sum(waves))
first = 2 * np.pi / fastest**0.5
print(f"{int(run.steps)} steps; wavelength of the pattern {seen:.2f}, of the wave that grew fastest {first:.2f}")
assert 0.7 < seen / first < 1.3

# %% [markdown]
# ## A parameter from the picture
# Somebody shows us the spots, with 1 % of noise, and nothing else: how fast does the second substance spread? This
# picture is a state of rest, so its model is `root`, with the derivative of the implicit function.

# %%
observed = picture + 0.01 * jax.random.normal(jax.random.key(2), picture.shape)


def differs(d, observed):
    model = jk.root(lambda x, d: schnakenberg(0.0, x, params.at[2].set(d)), rest.value, d)
    return (model.value[: SIDE * SIDE].reshape(SIDE, SIDE) - observed).ravel()


fit = jk.least_squares(differs, 19.0, observed).checked()
error = float(jnp.sqrt(fit.covariance[0, 0]))
print(f"d = {float(fit.params):.4f} +- {error:.4f} (true: 20)")
assert abs(float(fit.params) - 20) < 4 * error

# %%
with style() as plt:
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4))
    order = np.argsort(squares)
    left.plot(squares[order] ** 0.5, rates[order], ".", markersize=3, label="by hand, each wave")
    left.axhline(float(rate), color="C1", label="leading eigenvalue of the field")
    left.axvline(2 * np.pi / seen, color="C2", linestyle="--", label="the pattern that came")
    left.set(xlabel="wave number (1/length)", ylabel="growth rate (1/time)", xlim=(0, 2), ylim=(-1, 0.3))
    left.set_title("Waves that grow")
    left.legend(loc="lower left", frameon=True, facecolor="white")
    side = SIDE * CELL
    image = right.imshow(picture, extent=(0, side, 0, side), origin="lower", cmap="viridis")
    figure.colorbar(image, label="u at rest")
    right.grid(visible=False)
    right.set(xlabel="x (length)", ylabel="y (length)", title=f"{2 * SIDE * SIDE:,} unknowns, at rest")

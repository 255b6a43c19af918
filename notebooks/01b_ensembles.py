# ---
# jupyter:
#   jupytext:
#     formats: py:percent
# ---

# %% [markdown]
# # Ten thousand futures at once
# Two species compete. Which wins depends on where they start, and on parameters that nobody knows exactly.
# `jk.ensemble` solves one small ODE a lane, each lane with its own step sizes; `jk.sensitivity` adds the derivatives of
# every lane.

# %%
import os

import jax.numpy as jnp
import numpy as np

import jaxkit as jk
from jaxkit.report.figures import style

jk.set_precision("double")
SIDE = 40 if os.environ.get("QUICK") else 200


def field(t, x, p):
    r, capacity, a = p
    return x * (r * (1 - x / capacity)) - a * x * x[::-1]


# %% [markdown]
# ## Basins of attraction
# Strong competition: neither species grows where the other is common, so the start decides who is left. It is not
# always the one that is ahead. Every pixel is a solve to t = 60.

# %%
axis = jnp.linspace(1.0, 120.0, SIDE)
x1, x2 = (v.ravel() for v in jnp.meshgrid(axis, axis))
params = (jnp.array([[1.0, 1.2]]), jnp.array([[100.0, 80.0]]), jnp.array([[0.02, 0.02]]))  # one lane: shared by all
basin = jk.ensemble(field, jnp.stack([x1, x2], -1), (0.0, 60.0), params).checked()
share = (basin.final[:, 0] / jnp.sum(basin.final, -1)).reshape(SIDE, SIDE)

ahead = (x1 > x2).reshape(SIDE, SIDE) == (share > 0.5)
print(f"the species ahead at the start is ahead at the end from {jnp.mean(ahead):.1%} of the starts")

with style() as plt:
    figure, axes = plt.subplots()
    image = axes.pcolormesh(axis, axis, share, cmap="coolwarm", vmin=0, vmax=1, rasterized=True)
    figure.colorbar(image, label="share of species 1 at t = 60")
    axes.set(xlabel="species 1 at t = 0", ylabel="species 2 at t = 0", title=f"{SIDE * SIDE} solves")

# %% [markdown]
# ## What the outcome depends on
# The derivative of the last state with respect to each lane's own parameters, from the variational equations.

# %%
rng = np.random.default_rng(0)
lanes = 200
draw = lambda middle: jnp.asarray(np.array(middle) * rng.uniform(0.9, 1.1, (lanes, 2)))
unsure = (draw([1.0, 1.2]), draw([100.0, 80.0]), draw([0.008, 0.01]))
found = jk.sensitivity(field, jnp.full((lanes, 2), 10.0), (0.0, 50.0), unsure)
print("d x1(50) / d capacity of species 1, mean over lanes:", round(float(found.args[1][:, 0, 0].mean()), 3))

# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # An RNN is an ODE solver, an ODE solver is an RNN
#
# A recurrent network moves a state, $y_t = f(y_{t-1}, x_t, t)$. So does every one-step scheme for
# $\dot x = f(t, x)$: Euler's method is the cell $x \mapsto x + h f(t, x)$. Su Jianlin's article
# ([kexue.fm 5643](https://kexue.fm/archives/5643)) takes the remark seriously: write the equation as a cell, *run* it
# and the equation is solved; *train* it and the equation's parameters are inferred from a few points.

# %%
import os

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import jaxkit as jk
from jaxkit import recurrent

jk.set_precision("double")
QUICK = os.environ.get("QUICK") == "1"

# %% [markdown]
# ## From a field to a cell
# Any Butcher tableau makes a cell: by name, from a diffrax solver, or your own. Implicit stages are roots.

# %%
truth = recurrent.ARTICLE.truth
start = jnp.array([100.0, 150.0])
exact = jk.solve(recurrent.two_species, start, jnp.linspace(0.0, 50.0, 51), truth, rtol=1e-11, atol=1e-9).checked()
for scheme in ("euler", "heun", "rk4", "backward_euler", "gauss4"):
    cell = recurrent.from_field(recurrent.two_species, scheme=scheme, dt=1.0)
    run = jk.unroll(cell, start, args=truth, length=50).checked()
    print(f"{scheme:16s} largest error over 50 steps of 1: {float(jnp.max(jnp.abs(run.ys - exact.xs[1:]))):.2e}")

# %% [markdown]
# ## Training the cell: six parameters from seven points
# The article's recipe (Adam, Euler, 10000 epochs) stops on a plateau. The cell's residuals are only a least-squares
# problem: Levenberg-Marquardt from 64 starts, all in one program, finds the answer and says how sure it is.

# %%
seen = (recurrent.ARTICLE.times, recurrent.ARTICLE.values)
guess = recurrent.ARTICLE.guess
recipe = recurrent.infer(recurrent.two_species, guess, seen, dt=1.0, scheme="euler", method="adam")
found = recurrent.infer(recurrent.two_species, guess, seen, dt=1.0).checked()
print(f"sum of squares: recipe {float(recipe.sse):.1f}, ours {float(found.sse):.4f}")
for name in ("r", "c", "a"):
    for i in range(2):
        print(
            f"{name}{i + 1}: truth {truth[name][i]:.4g}, recipe {float(recipe.params[name][i]):.4g}, "
            f"ours {float(found.params[name][i]):.4g} ± {float(found.standard_errors[name][i]):.1g}"
        )

# %%
recurrent.plot_article(recurrent.Observations(*map(jnp.asarray, seen)), recipe, found, truth)
plt.show()

# %% [markdown]
# A single start is a lottery, which is why many are the default:

# %%
recurrent.plot_starts(found, float(recipe.sse))
plt.show()

# %% [markdown]
# ## Back: a cell as a field
# A cell that changes its state a little is an Euler step. Read so, a plain two-unit network whose kernel
# turns and stretches spirals out of the origin (`linearize` says so) until tanh holds it: a limit cycle.

# %%
cell = recurrent.Vanilla(2)
params = cell.init(jax.random.key(0), jnp.zeros(1))
turn = 1.3 * jnp.array([[jnp.cos(0.5), jnp.sin(0.5)], [-jnp.sin(0.5), jnp.cos(0.5)]])
params = params | {"state_kernel": turn, "input_kernel": jnp.zeros((1, 2))}
field = recurrent.as_field(cell, inputs=lambda t: jnp.zeros(1))
print("eigenvalues at the origin:", np.round(jk.linearize(field, jnp.zeros(2), params).eigenvalues, 4))

fig, axes = plt.subplots(figsize=(4.5, 4.2))
grid = np.linspace(-1, 1, 17)
xx, yy = np.meshgrid(grid, grid)
velocity = jax.vmap(lambda x: field(0.0, x, params))(jnp.stack([xx.ravel(), yy.ravel()], axis=1))
axes.quiver(xx, yy, velocity[:, 0].reshape(xx.shape), velocity[:, 1].reshape(xx.shape), color="0.6")
for first in ([0.05, 0.0], [0.9, 0.9], [-0.9, 0.2]):
    path = jk.solve(field, jnp.array(first), jnp.linspace(0.0, 60.0, 600), params).checked()
    axes.plot(path.xs[:, 0], path.xs[:, 1])
axes.set(xlabel="unit 1", ylabel="unit 2", title="a recurrent cell read as a field: a limit cycle")
plt.show()

# %% [markdown]
# ## All times at once
# A recurrence looks sequential. Newton's method over the whole sequence is not: every iteration is one associative
# scan, and the derivative is one linear solve. On a CPU a plain scan is faster; what this saves is the number of
# operations that wait for each other, for machines with thousands of processors (not measured here).

# %%
length = 200 if QUICK else 2000
gru = recurrent.GRU(8)
xs = jax.random.normal(jax.random.key(1), (length, 3))
weights = gru.init(jax.random.key(0), xs[0])
step_by_step = jk.unroll(gru, gru.zeros(), xs, weights).checked()
at_once = jk.unroll(gru, gru.zeros(), xs, weights, method="parallel_newton").checked()
print(
    f"{length} steps in {int(at_once.iterations)} iterations; largest difference "
    f"{float(jnp.max(jnp.abs(at_once.ys - step_by_step.ys))):.1e}"
)

# %% [markdown]
# ## Try this
# - `scheme="dopri5"`, or your own `jaxkit.dynamics.ode.schemes.tableau(...)`: `schemes.order_of` proves its order.
# - `method="shooting"` in `infer`: one start is enough. Remove a point of the seven: which standard error explodes?
# - `method=jk.Scan(checkpoint_every=1000)` in `unroll` before you differentiate through a million steps.

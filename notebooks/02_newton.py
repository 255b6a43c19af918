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
# # Newton: type an equation, get its roots, proven if asked
#
# *After Su Jianlin, "When Matlab meets Newton's method".* The user types an equation. Newton's method
# $x \leftarrow x - f(x)/f'(x)$ needs $f'$, and the article's Matlab could not find it from what was typed.
# Here the text becomes a JAX function, and JAX differentiates it.

# %%
import os

import jax
import jax.numpy as jnp
import numpy as np

import jaxkit as jk
from jaxkit import newton
from jaxkit.report.figures import style

jk.set_precision("double")
QUICK = os.environ.get("QUICK") == "1"

# %% [markdown]
# ## One equation
# The answer shows the derivative that was found, and the order of convergence: 2.

# %%
solution = newton.solve("x*exp(x) = 2", x0=2.5, certify=True)
print(solution)

# %%
newton.plot_solution(solution)
# %% [markdown]
# ## No root, a double root, a system, a complex root
# A failure says why; that there is *no* real root in a wide interval is proven by interval arithmetic.

# %%
for text, guess in [("x^2 + 1 = 0", 0.5), ("(x-1)^2 (x+2) = 0", 3.0)]:
    found = newton.solve(text, guess)
    print(found.equations.shown[0], "|", "solved" if found.ok else "not solved", "|", found.remark)
print(newton.solve("x^2 + y^2 = 4; x*y = 1", {"x": 2.0, "y": 0.5}, certify=True))
print(newton.solve("z^3 = 1 + 2i").value)

# %% [markdown]
# ## All roots, each with a proof
# Interval Newton: $N(X) = m - f(m)/f'(X)$. Where $N(X)$ lies inside $X$, there is exactly one root in $X$; where
# $0 \notin f(X)$ there is none. Every bound is rounded outward.

# %%
hard = "sin(x^2) + sin(x)^2 = exp(-(x-5)^2/10)"
proven = newton.all_roots(hard, (0, 10), certify=True)
print(proven.sentence)
f = newton.parse("sin(x^2) + sin(x)^2 - exp(-(x-5)^2/10)")
with style() as plt:
    x = np.linspace(0, 10, 2000)
    figure, axes = plt.subplots(figsize=(7, 3))
    axes.plot(x, f.on_host(x=x))
    axes.plot(proven.values, 0 * proven.values, "o", ms=4)
    axes.set(xlabel="x", ylabel="f(x)", title=f"{len(proven.values)} roots, each proven")

# %% [markdown]
# ## A derivative of a root
# $\partial x/\partial a = -f_a/f_x$: no iteration is differentiated. Kepler's equation for many planets at once.

# %%
count = 1000 if QUICK else 100_000
key = jax.random.key(0)
orbit = {"e": 0.9 * jax.random.uniform(key, (count,)), "M": jnp.linspace(0.01, 3.1, count)}
kepler = lambda E, p: E - p["e"] * jnp.sin(E) - p["M"]
anomaly = newton.solve_many(kepler, orbit["M"] + 0.85 * orbit["e"], orbit).checked()
print("largest residual", float(anomaly.residual.max()))
one = lambda e: jk.root(kepler, 1.5, {"e": e, "M": 1.0}).value
print("dE/de", float(jax.grad(one)(0.5)), "by formula", float(jnp.sin(one(0.5)) / (1 - 0.5 * jnp.cos(one(0.5)))))

# %% [markdown]
# ## Which start leads where
# Try another equation, such as `z^4 = z + 1` or `sin(z) = z^2`.

# %%
newton.plot_basins(newton.basins("z^3 = 1", size=200 if QUICK else 800))

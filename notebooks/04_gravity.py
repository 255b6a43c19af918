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
# # Gravity: write an action, get a universe
# Horava's gravity (2009) and the answer of Lu, Mei and Pope, repeated by machine.

# %%
import os

import jax

import jaxkit as jk

jk.set_precision("double")
from jaxkit import gravity
from jaxkit.gravity import cosmology, plots

QUICK = os.environ.get("QUICK") == "1"


# %% [markdown]
# ## An action is a Python function
# `jax.grad` of its sum over 32 nodes is the field equations; Newton's method solves them.


# %%
def einstein(r, f, df, n, params):
    return n * (1 - f - r * df)


solution = gravity.solve_static(einstein, (3.0, 9.0), inner=1 / 3).checked()
print("largest error against 1 - 2/r:", float(abs(solution.f - (1 - 2 / solution.r)).max()))

# %% [markdown]
# Horava's action, with a kinetic coupling for which no closed solution is known:

# %%
couplings = {**gravity.COUPLINGS, "lam": 1.1, "omega": 1.0}
start = 1 - 4 / 3 / (1 + (1 + 4 / 27) ** 0.5)
new = gravity.solve_static(gravity.reduced_lagrangian, (3.0, 9.0), couplings, inner=start).checked()
print("f at r = 9:", float(new.f[-1]), "after", int(new.steps), "Newton steps")

# %% [markdown]
# ## A metric nobody has seen, typed as text
# It goes through every test, with derivatives.

# %%
hole = gravity.from_text("1 - 2M/r + M l^2 exp(-r/l)/r^3", params={"M": 1.0, "l": 0.5})
for observable in (
    gravity.horizon,
    gravity.photon_sphere,
    gravity.shadow_radius,
    gravity.isco,
    gravity.hawking_temperature,
):
    print(observable.__name__, float(observable(hole).checked().value))
print("d shadow / d l:", float(jax.grad(lambda l: gravity.shadow_radius(hole, {"l": l}).value)(0.5)))

# %% [markdown]
# ## Mercury, to ten digits

# %%
turn = gravity.precession(
    gravity.schwarzschild(), p=gravity.data.mercury_semilatus_rectum(), e=gravity.data.MERCURY["e"]
)
print("seconds of arc a century:", float(gravity.data.per_century(turn.value)))

# %% [markdown]
# ## General relativity, Kehagias-Sfetsos, Lu-Mei-Pope

# %%
holes = {
    "GR": gravity.schwarzschild(),
    "KS": gravity.kehagias_sfetsos(1.0),
    "LMP": gravity.lu_mei_pope(1.0, alpha=3.0),
}
plots.plot_profiles(holes)
plots.plot_orbits({"GR": holes["GR"], "KS": holes["KS"]})
plots.plot_bounce(dict(cosmology.UNIVERSE))

# %% [markdown]
# ## A shadow, ray by ray

# %%
picture = gravity.image(gravity.kerr(a=0.9), pixels=24 if QUICK else 96, extent=16.0)
plots.plot_image(picture, curve=gravity.critical_curve_kerr(0.9, 80.0))

# %% [markdown]
# ## What the data say of omega

# %%
for bound in gravity.bounds():
    print(f"{bound.name:8s} omega M² >= {bound.omega0:.3g}   omega >= {bound.omega:.3g} 1/m²")

"""The disk of a picture: the redshift of matter on circular orbits, its sign, and the fourth power of it."""

import jax.numpy as jnp
import numpy as np

from jaxkit import gravity
from jaxkit.gravity.shadow import redshift


def test_redshift_of_circular_orbits_of_schwarzschild():
    """`sqrt(1 - 3 / r) / (1 - W b)`: light sent ahead of the motion (b > 0) is blue, light sent back is red."""
    r, b = jnp.array([6.0, 8.0, 12.0, 12.0, 12.0]), jnp.array([4.0, -5.0, 6.0, -6.0, 0.0])
    x = jnp.stack([0 * r, r, 0 * r + jnp.pi / 2, 0 * r], -1)
    p = jnp.stack([0 * r - 1, 0 * r, 0 * r, b], -1)
    found = redshift(gravity.schwarzschild(), x, p)
    np.testing.assert_allclose(found, np.sqrt(1 - 3 / r) / (1 - r**-1.5 * b), rtol=1e-12)
    assert found[2] > found[4] > found[3]


def test_picture_is_bright_by_the_fourth_power_on_the_side_that_comes_towards_us():
    disk = gravity.Disk(inner=6.0, outer=18.0, power=0.0)  # of one brightness in its own frame
    picture = gravity.image(gravity.schwarzschild(), pixels=6, extent=12.0, inclination=80.0, disk=disk)
    g = np.asarray(picture.redshift)
    seen = np.isfinite(g)
    assert seen[:, :3].any()
    assert seen[:, 3:].any()
    np.testing.assert_allclose(np.asarray(picture.intensity), np.where(seen, g, 0) ** 4, rtol=1e-12)
    left, right = np.nanmax(g[:, :3]), np.nanmax(g[:, 3:])
    assert left > 1.1 > 1 > 0.9 > np.nanmin(g[:, 3:])
    assert left > right

"""Data for learning: pictures from their publishers' files, and laws in the plane whose densities are known."""

from jaxkit.learn.datasets.toys import Toy as Toy
from jaxkit.learn.datasets.toys import toy as toy

"""Data for learning: pictures from their publishers' files, and laws in the plane whose densities are known."""

from jaxkit.learn.datasets.files import DataError as DataError
from jaxkit.learn.datasets.images import Images as Images
from jaxkit.learn.datasets.images import folder as folder
from jaxkit.learn.datasets.images import load as load
from jaxkit.learn.datasets.images import pixels as pixels
from jaxkit.learn.datasets.images import scaled as scaled
from jaxkit.learn.datasets.images import stacked as stacked
from jaxkit.learn.datasets.toys import Toy as Toy
from jaxkit.learn.datasets.toys import mixture as mixture
from jaxkit.learn.datasets.toys import toy as toy

"""Data for learning: pictures from their publishers' files, and plane distributions of known density."""

from jaxkit.learn.data.files import DataError as DataError
from jaxkit.learn.data.images import Images as Images
from jaxkit.learn.data.images import folder as folder
from jaxkit.learn.data.images import load as load
from jaxkit.learn.data.images import pixels as pixels
from jaxkit.learn.data.images import scaled as scaled
from jaxkit.learn.data.images import stacked as stacked

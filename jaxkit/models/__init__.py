"""Systems that several subjects speak of, each written once."""

from jaxkit.models.plane_laws import Toy as Toy
from jaxkit.models.plane_laws import mixture as mixture
from jaxkit.models.plane_laws import toy as toy

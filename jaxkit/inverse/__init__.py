"""From data to parameters: unknowns as one vector, fits from many starts, how sure they are, and what they predict."""

from jaxkit.inverse.estimate import multistart as multistart
from jaxkit.inverse.posterior import sample_posterior as sample_posterior
from jaxkit.inverse.predict import predict as predict
from jaxkit.inverse.problem import Unknowns as Unknowns
from jaxkit.inverse.profile import Profile as Profile
from jaxkit.inverse.profile import profile as profile

"""How alike two sets of samples are, and whether one copies the other.

All take arrays `(n, d)` of features or points and compute in double precision on the host, whatever precision is
set. For pictures, the features come from `jaxkit.learn.metrics.features`: print its accuracy and digest beside every
number, and never compare with distances on other features (Inception's, say).
"""

from jaxkit.learn.metrics.answers import exact_match as exact_match
from jaxkit.learn.metrics.answers import f1 as f1
from jaxkit.learn.metrics.frechet import fid as fid
from jaxkit.learn.metrics.frechet import fid_floor as fid_floor
from jaxkit.learn.metrics.frechet import fid_infinity as fid_infinity
from jaxkit.learn.metrics.frechet import frechet as frechet
from jaxkit.learn.metrics.kernel import kid as kid
from jaxkit.learn.metrics.kernel import mmd as mmd
from jaxkit.learn.metrics.modes import Modes as Modes
from jaxkit.learn.metrics.modes import modes as modes
from jaxkit.learn.metrics.modes import stacked_modes as stacked_modes
from jaxkit.learn.metrics.neighbours import copying as copying
from jaxkit.learn.metrics.neighbours import density_coverage as density_coverage
from jaxkit.learn.metrics.neighbours import precision_recall as precision_recall
from jaxkit.learn.metrics.sliced import sliced_wasserstein as sliced_wasserstein

"""Systems that several subjects use, each written once."""

from jaxkit.models.dirac import DiracGame as DiracGame
from jaxkit.models.dirac import DiracRun as DiracRun
from jaxkit.models.dirac import dirac_eigenvalues as dirac_eigenvalues
from jaxkit.models.dirac import growth as growth
from jaxkit.models.gause import Counts as Counts
from jaxkit.models.gause import gause as gause
from jaxkit.models.lotka_volterra import Rates as Rates
from jaxkit.models.lotka_volterra import lotka_volterra as lotka_volterra
from jaxkit.models.mixtures import Mixture as Mixture
from jaxkit.models.mixtures import mixture as mixture
from jaxkit.models.mixtures import ring as ring
from jaxkit.models.plane_laws import PLANE_LAWS as PLANE_LAWS
from jaxkit.models.plane_laws import PlaneLaw as PlaneLaw
from jaxkit.models.plane_laws import plane_law as plane_law

"""Two players: relativistic adversarial training with zero-centred gradient penalties.

After Su Jianlin, "RSGAN: the Turing test inside adversarial models" (kexue.fm/archives/6110).
"""

from jaxkit.gan.losses import LOSSES as LOSSES
from jaxkit.gan.losses import Loss as Loss
from jaxkit.gan.losses import all_pairs as all_pairs
from jaxkit.gan.penalties import PENALTIES as PENALTIES
from jaxkit.gan.penalties import Penalty as Penalty
from jaxkit.gan.penalties import penalise as penalise
from jaxkit.gan.theory import dirac_eigenvalues as dirac_eigenvalues
from jaxkit.gan.theory import dirac_field as dirac_field
from jaxkit.gan.theory import dirac_losses as dirac_losses
from jaxkit.gan.theory import growth as growth
from jaxkit.gan.theory import jensen_shannon as jensen_shannon
from jaxkit.gan.theory import optimal_value as optimal_value
from jaxkit.gan.theory import swap_divergence as swap_divergence

"""Distributions of actions: sampling, densities, divergences."""

from jsafe.distributions import beta as beta
from jsafe.distributions import categorical as categorical
from jsafe.distributions import gaussian as gaussian
from jsafe.distributions.base import entropy as entropy
from jsafe.distributions.base import expand as expand
from jsafe.distributions.base import figures as figures
from jsafe.distributions.base import fisher_metric as fisher_metric
from jsafe.distributions.base import kl as kl
from jsafe.distributions.base import log_prob as log_prob
from jsafe.distributions.base import mode as mode
from jsafe.distributions.base import sample as sample

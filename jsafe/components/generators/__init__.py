"""Generators: policies that are fitted to recorded actions, for learners that step no environment.

A generator of one's own is a `Generator`, or a part that builds one (`jsafe.options.part("generator", ...)`).
"""

from jsafe.components.generators.base import BEHAVIOUR as BEHAVIOUR
from jsafe.components.generators.base import Generator as Generator
from jsafe.components.generators.base import Support as Support
from jsafe.components.generators.cvae import CVAE as CVAE
from jsafe.components.generators.deterministic import Deterministic as Deterministic
from jsafe.components.generators.diffusion import Diffusion as Diffusion
from jsafe.components.generators.gaussian import Gaussian as Gaussian
from jsafe.components.generators.latent import Latent as Latent
from jsafe.components.generators.tanh_gaussian import Supported as Supported
from jsafe.components.generators.tanh_gaussian import TanhGaussian as TanhGaussian

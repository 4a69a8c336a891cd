"""Named algorithms. Importing this package registers them all."""

from jsafe.algos import sac_lag as sac_lag
from jsafe.algos import seditor as seditor

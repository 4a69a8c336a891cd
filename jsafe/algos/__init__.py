"""Named algorithms. Importing this package registers them all."""

from jsafe.algos import cpo as cpo
from jsafe.algos import cppo_pid as cppo_pid
from jsafe.algos import cup as cup
from jsafe.algos import ddpg as ddpg
from jsafe.algos import early_terminated as early_terminated
from jsafe.algos import focops as focops
from jsafe.algos import ipo as ipo
from jsafe.algos import natural_pg as natural_pg
from jsafe.algos import on_crpo as on_crpo
from jsafe.algos import p3o as p3o
from jsafe.algos import pcpo as pcpo
from jsafe.algos import pdo as pdo
from jsafe.algos import policy_gradient as policy_gradient
from jsafe.algos import ppo as ppo
from jsafe.algos import ppo_lag as ppo_lag
from jsafe.algos import rcpo as rcpo
from jsafe.algos import sac_lag as sac_lag
from jsafe.algos import saute as saute
from jsafe.algos import seditor as seditor
from jsafe.algos import simmer_pid as simmer_pid
from jsafe.algos import td3 as td3
from jsafe.algos import trpo as trpo
from jsafe.algos import trpo_lag as trpo_lag
from jsafe.algos import trpo_pid as trpo_pid

"""Named algorithms. Importing this package registers them all."""

from jsafe.algos.off_policy import ddpg as ddpg
from jsafe.algos.off_policy import sac as sac
from jsafe.algos.off_policy import seditor as seditor
from jsafe.algos.off_policy import td3 as td3
from jsafe.algos.on_policy import appo as appo
from jsafe.algos.on_policy import cpo as cpo
from jsafe.algos.on_policy import cppo_pid as cppo_pid
from jsafe.algos.on_policy import cup as cup
from jsafe.algos.on_policy import early_terminated as early_terminated
from jsafe.algos.on_policy import focops as focops
from jsafe.algos.on_policy import ipo as ipo
from jsafe.algos.on_policy import natural_pg as natural_pg
from jsafe.algos.on_policy import on_crpo as on_crpo
from jsafe.algos.on_policy import p3o as p3o
from jsafe.algos.on_policy import pcpo as pcpo
from jsafe.algos.on_policy import pdo as pdo
from jsafe.algos.on_policy import policy_gradient as policy_gradient
from jsafe.algos.on_policy import ppo as ppo
from jsafe.algos.on_policy import ppo_lag as ppo_lag
from jsafe.algos.on_policy import rcpo as rcpo
from jsafe.algos.on_policy import saute as saute
from jsafe.algos.on_policy import simmer_pid as simmer_pid
from jsafe.algos.on_policy import trpo as trpo
from jsafe.algos.on_policy import trpo_lag as trpo_lag
from jsafe.algos.on_policy import trpo_pid as trpo_pid

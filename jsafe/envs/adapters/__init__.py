"""Outside environments here, and our environments outside."""

from jsafe.envs.adapters.outside import as_gymnasium
from jsafe.envs.adapters.process import ProcessEnv, WorkerError

__all__ = ["ProcessEnv", "WorkerError", "as_gymnasium"]

"""Environments of others, stepped here in worker processes."""

from jsafe.envs.outside.process import ProcessEnv, WorkerError

__all__ = ["ProcessEnv", "WorkerError"]

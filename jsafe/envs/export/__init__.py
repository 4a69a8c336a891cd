"""Our environments, offered to the code of others."""

from jsafe.envs.export.as_gymnasium import as_gymnasium

__all__ = ["as_gymnasium"]

"""What environments share that live from the first reset until they are closed."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from jsafe.envs import checks


class Usable:
    """Says so where an environment is used before it was reset, or after it was closed."""

    _started = False
    _closed = False

    def _usable(self, started: bool = True) -> None:
        if self._closed:
            raise RuntimeError("the environment is closed")
        if started and not self._started:
            raise RuntimeError("call reset() first")


class Simulated(Usable):
    """States of a simulation that can be read and written, one environment or all of them.

    Attributes:
      num_envs: N.
      simulation: The environments as they stand.
    """

    num_envs: int
    simulation: Any
    _states: ModuleType
    """`get_state`, `set_state`, `state_dict` and `load_state_dict` of such a simulation."""
    _painter: Any = None

    def get_state(self, i: int) -> dict:
        """State of environment i by names: see `get_state` of `jsafe.envs.safety_gym.state`, or of `velocity.state`."""
        self._usable()
        return self._states.get_state(self.simulation, checks.index(i, self.num_envs))

    def set_state(self, i: int, state: dict) -> None:
        """Puts environment i into a state by names; whatever it leaves out keeps its value. See `set_state` there."""
        self._usable()
        self._states.set_state(self.simulation, checks.index(i, self.num_envs), state)

    def state_dict(self) -> dict:
        """The whole engine, random streams included, as nested dictionaries of arrays and numbers."""
        self._usable()
        return self._states.state_dict(self.simulation)

    def load_state_dict(self, saved: dict) -> None:
        """Restores `state_dict` bit for bit; raises ValueError, and changes nothing, if it does not fit."""
        self._usable(started=False)
        self._states.load_state_dict(self.simulation, saved)
        self._started = True

    def close(self) -> None:
        """Ends the threads; the environments cannot be used any more."""
        if self._painter is not None:
            self._painter.close()
        self._closed = True
        self.simulation.close()

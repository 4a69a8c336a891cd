"""Speed limits: move along a visible direction, and pay for speed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jsafe.envs import checks
from jsafe.envs.api import Spec
from jsafe.envs.toy.base import Moved, Toy, ToyOptimum, limits
from jsafe.spaces import Box, Space

SPEED_LIMIT = "Toy-SpeedLimit-v0"


class ToyEnv(Toy):
    """N speed-limit tasks, `Toy-SpeedLimit-v0`: move along a visible random direction, and pay for speed.

    In every step each of the A action components has a direction `g_k in {-1, +1}`, which the observation shows and
    which is drawn anew in the next step. With `u` the action scaled to `[-1, 1]^A` and the speed `v_k = g_k u_k`,

        reward  r   = mean_m mean_{k in group m} v_k
        cost    c_m = mean_{k in group m} v_k^2            (cost_form "quadratic")
        cost    c_m = mean_{k in group m} 1[v_k > 1/2]     (cost_form "indicator")

    where group m holds the components k with `k mod M = m`. Reward is linear and the quadratic cost convex, so a limit
    d_m per step is best used by the constant speed `sqrt(d_m)`; `optimum` gives the closed form. With the indicator it
    is best to go at full speed in a share d_m of the steps, and at 1/2 otherwise.

    An episode terminates after each step with probability `terminate_probability`, whatever the action, and is
    truncated after `horizon` steps. With `delay`, reward and cost of an action are paid one step later (the last
    action of an episode is never paid), so that only a critic that bootstraps, also across a truncation, learns it.

    The observation is `[g (A), position (A), elapsed share of the horizon (1)]`, with `delay` followed by
    `[pending reward (1), pending cost (M)]`. The position drifts with the action and has no other meaning.

    Args:
      num_envs: Number of environments N.
      seed: Stream of environment 0.
      act_dim: Number of action components A.
      num_costs: Number of cost signals M, at most A.
      horizon: Longest episode, in steps.
      terminate_probability: Chance that a step terminates the episode, in [0, 1).
      cost_form: `"quadratic"` or `"indicator"`.
      delay: Pay reward and cost one step late.
      action_scale: The action box is `[-1, 3] * action_scale` (deliberately not symmetric).

    Raises:
      ValueError: For a value outside of what is named above.
    """

    _id = SPEED_LIMIT

    def __init__(
        self,
        num_envs: int = 1,
        seed: int = 0,
        *,
        act_dim: int = 1,
        num_costs: int = 1,
        horizon: int = 50,
        terminate_probability: float = 0.0,
        cost_form: str = "quadratic",
        delay: bool = False,
        action_scale: float = 1.0,
    ):
        for name, value in (("num_envs", num_envs), ("act_dim", act_dim), ("num_costs", num_costs)):
            if checks.integer(name, value, 0) < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if num_costs > act_dim:
            raise ValueError(f"num_costs must be at most act_dim = {act_dim}, got {num_costs}")
        if not isinstance(delay, bool):
            raise ValueError(f"delay must be True or False, got {delay!r}")
        if checks.integer("horizon", horizon, 0) < 1 + delay:
            raise ValueError(f"horizon must be at least {1 + delay}, got {horizon}")
        if not 0 <= checks.number("terminate_probability", terminate_probability) < 1:
            raise ValueError(f"terminate_probability must be in [0, 1), got {terminate_probability}")
        if cost_form not in ("quadratic", "indicator"):
            raise ValueError(f"cost_form must be 'quadratic' or 'indicator', got {cost_form!r}")
        if checks.number("action_scale", action_scale) <= 0:
            raise ValueError(f"action_scale must be positive, got {action_scale}")
        self.terminate_probability, self.cost_form, self.delay = terminate_probability, cost_form, delay
        group = np.arange(act_dim) % num_costs
        self._groups = (group[:, None] == np.arange(num_costs)) / np.bincount(group, minlength=num_costs)  # [A, M]
        obs, slices = self._sight(act_dim, num_costs)
        spec = Spec(
            id=self._id,
            obs=obs,
            action=Box((act_dim,), -1.0 * action_scale, 3.0 * action_scale),
            num_costs=num_costs,
            horizon=horizon,
            cost_names=tuple(f"cost_speed{m}" for m in range(num_costs)),
            obs_slices=slices,
            dt=0.1,
        )
        state = {
            "direction": np.ones((num_envs, act_dim)),
            "position": np.zeros((num_envs, act_dim)),
            "pending_reward": np.zeros(num_envs),
            "pending_cost": np.zeros((num_envs, num_costs)),
        }
        super().__init__(spec, num_envs, seed, state, fresh_draws=2 * act_dim, step_draws=act_dim + 1)

    def _sight(self, act_dim: int, num_costs: int) -> tuple[Space, dict[str, tuple[int, int]]]:
        """Space of an observation, and its named parts."""
        widths = {"direction": act_dim, "position": act_dim, "time": 1}
        if self.delay:
            widths |= {"pending_reward": 1, "pending_cost": num_costs}
        stops = np.cumsum(list(widths.values())).tolist()
        return Box((stops[-1],)), dict(zip(widths, zip([0, *stops], stops)))

    def _fresh(self, draws: np.ndarray) -> dict[str, np.ndarray]:
        a = self.spec.act_dim
        return {"direction": _signs(draws[:, :a]), "position": 2 * draws[:, a:] - 1}

    def _move(self, actions: np.ndarray, draws: np.ndarray) -> Moved:
        state = self._state
        low, high = np.array(self.spec.action_low), np.array(self.spec.action_high)
        u = 2 * (actions - low) / (high - low) - 1
        speed = state["direction"] * u
        reward = (speed @ self._groups).mean(-1)
        cost = (speed**2 if self.cost_form == "quadratic" else (speed > 0.5).astype(float)) @ self._groups
        changes = {
            "position": (state["position"] + self.spec.dt * u + 1) % 2 - 1,
            "direction": _signs(draws[:, 1:]),
        }
        if self.delay:
            changes |= {"pending_reward": reward, "pending_cost": cost}
            reward, cost = state["pending_reward"], state["pending_cost"]
        return Moved(reward, cost, draws[:, 0] < self.terminate_probability, changes)

    def _observe(self) -> np.ndarray:
        state = self._state
        parts = [state["direction"], state["position"], state["elapsed"][:, None] / self.spec.horizon]
        if self.delay:
            parts += [state["pending_reward"][:, None], state["pending_cost"]]
        return np.concatenate(parts, axis=1)

    def paid_actions(self) -> float:
        """Expected number of paid actions per episode: `sum_{t<H} (1-p)^t`, less the first term with `delay`."""
        stay = 1 - self.terminate_probability
        return sum(stay**t for t in range(int(self.delay), self.spec.horizon))

    def optimum(self, limit: float | Sequence[float], *, episodic: bool = False) -> ToyOptimum:
        """The best policy under a limit on each cost.

        For the quadratic cost the best speed in group m is `sqrt(d_m)`: reward `mean_m sqrt(d_m)`, multipliers
        `1 / (2 M sqrt(d_m))`. For the indicator the best reward is `mean_m (1 + d_m) / 2`, multipliers `1 / (2 M)`
        (`speed` is then the mean one). Limits of 1 or more do not bind.

        Args:
          limit: Scalar or `[M]`, positive; per paid action, or per episode (undiscounted sum) with `episodic`.
          episodic: Unit of `limit`; the returned reward and cost are per paid action in both cases
            (times `paid_actions()`: per episode).
        """
        m = self.spec.num_costs
        allowed = limits(limit, m, self.paid_actions() if episodic else 1.0)
        binding = allowed < 1
        cost = np.minimum(allowed, 1.0)
        if self.cost_form == "quadratic":
            speed = np.sqrt(cost)
            multiplier = np.where(binding, 1 / (2 * m * speed), 0.0)
        else:
            speed = (1 + cost) / 2
            multiplier = np.where(binding, 1 / (2 * m), 0.0)
        return ToyOptimum(float(speed.mean()), cost, multiplier, speed)

    def value(self, reward: float, discount: float) -> float:
        """Discounted value of a constant reward per step, truncation bootstrapped: `r / (1 - gamma (1-p))`."""
        return reward / (1 - discount * (1 - self.terminate_probability))


def _signs(draws: np.ndarray) -> np.ndarray:
    return np.where(draws < 0.5, -1.0, 1.0)

"""Toy constrained tasks with a known optimum, in plain numpy: learners and loops can be tried without physics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jsafe.envs.api import Spec, Step

SPEED_LIMIT = "Toy-SpeedLimit-v0"


class ToyOptimum(NamedTuple):
    """Solution of the constrained task, in units of one paid action.

    `reward` is a scalar; `cost`, `multiplier` and `speed` are `[M]`. `multiplier` is dReward/dLimit, which is the same
    number per step and per episode.
    """

    reward: float
    cost: np.ndarray
    multiplier: np.ndarray
    speed: np.ndarray


class ToyEnv:
    """N speed-limit tasks: move along a visible random direction, and pay for speed.

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

    Environment i of `reset(seed=s)` has the random stream s + i: results do not depend on the number of environments.

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
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if num_costs > act_dim:
            raise ValueError(f"num_costs must be at most act_dim = {act_dim}, got {num_costs}")
        if horizon < 1 + delay:
            raise ValueError(f"horizon must be at least {1 + delay}, got {horizon}")
        if not 0 <= terminate_probability < 1:
            raise ValueError(f"terminate_probability must be in [0, 1), got {terminate_probability}")
        if cost_form not in ("quadratic", "indicator"):
            raise ValueError(f"cost_form must be 'quadratic' or 'indicator', got {cost_form!r}")
        if action_scale <= 0:
            raise ValueError(f"action_scale must be positive, got {action_scale}")
        self.num_envs = num_envs
        self.terminate_probability = terminate_probability
        self.cost_form = cost_form
        self.delay = delay
        slices = {"direction": (0, act_dim), "position": (act_dim, 2 * act_dim), "time": (2 * act_dim, 2 * act_dim + 1)}
        if delay:
            start = 2 * act_dim + 1
            slices |= {"pending_reward": (start, start + 1), "pending_cost": (start + 1, start + 1 + num_costs)}
        self.spec = Spec(
            id=SPEED_LIMIT,
            obs_dim=max(stop for _, stop in slices.values()),
            act_dim=act_dim,
            num_costs=num_costs,
            horizon=horizon,
            action_low=(-1.0 * action_scale,) * act_dim,
            action_high=(3.0 * action_scale,) * act_dim,
            cost_names=tuple(f"cost_speed{m}" for m in range(num_costs)),
            obs_slices=slices,
            dt=0.1,
        )
        group = np.arange(act_dim) % num_costs
        self._groups = (group[:, None] == np.arange(num_costs)) / np.bincount(group, minlength=num_costs)  # [A, M]
        self._seed(seed)
        self._state = {
            "direction": np.ones((num_envs, act_dim)),
            "position": np.zeros((num_envs, act_dim)),
            "elapsed": np.zeros(num_envs, np.int64),
            "pending_reward": np.zeros(num_envs),
            "pending_cost": np.zeros((num_envs, num_costs)),
        }
        self._running = False

    def reset(self, seed: int | None = None, *, mask: np.ndarray | None = None) -> np.ndarray:
        """Starts new episodes and returns observations `[N, O]`.

        Args:
          seed: Stream of environment 0; without one the streams continue.
          mask: `[N]` booleans: which environments to reset; the others stay as they are. All by default.
        """
        if seed is not None:
            self._seed(seed)
        self._reset(np.ones(self.num_envs, bool) if mask is None else np.asarray(mask, bool))
        self._running = True
        return self._observe()

    def step(self, actions: np.ndarray) -> Step:
        """Steps all environments; those that end are reset in the same call.

        Args:
          actions: `[N, A]` in the units of `spec.action_low` and `spec.action_high`; clipped to that box.

        Returns:
          A `Step`: `obs [N, O]` (the reset observation where an episode ended), `reward [N]`, `cost [N, M]`,
          `terminated [N]`, `truncated [N]`, `final_obs [N, O]` (the observation before any reset) and
          `info["success"]` (the horizon was reached).

        Raises:
          ValueError: For a wrong shape or dtype, NaN, or a step before the first reset.
        """
        if not self._running:
            raise ValueError("step called before reset")
        actions = np.asarray(actions)
        shape = (self.num_envs, self.spec.act_dim)
        if actions.shape != shape or actions.dtype.kind not in "fiu":
            raise ValueError(f"actions must be real numbers of shape {shape}, got {actions.dtype} {actions.shape}")
        if not np.isfinite(actions).all():
            raise ValueError("actions must be finite, got NaN or infinity")
        low, high = np.array(self.spec.action_low), np.array(self.spec.action_high)
        u = 2 * (np.clip(actions, low, high) - low) / (high - low) - 1
        state = self._state
        speed = state["direction"] * u
        reward = (speed @ self._groups).mean(-1)
        cost = (speed**2 if self.cost_form == "quadratic" else (speed > 0.5).astype(float)) @ self._groups
        if self.delay:
            reward, state["pending_reward"] = state["pending_reward"], reward
            cost, state["pending_cost"] = state["pending_cost"], cost
        draw = self._draw(self.spec.act_dim + 1)
        state["position"] = (state["position"] + self.spec.dt * u + 1) % 2 - 1
        state["direction"] = np.where(draw[:, 1:] < 0.5, -1.0, 1.0)
        state["elapsed"] = state["elapsed"] + 1
        terminated = draw[:, 0] < self.terminate_probability
        truncated = (state["elapsed"] >= self.spec.horizon) & ~terminated
        final_obs = self._observe()
        ended = terminated | truncated
        if ended.any():
            self._reset(ended)
            obs = self._observe()
        else:
            obs = final_obs.copy()
        info = {"success": truncated.copy()}
        info |= {name: cost[:, m].copy() for m, name in enumerate(self.spec.cost_names)}
        return Step(obs, reward.copy(), cost.copy(), terminated, truncated, final_obs, info)

    def state_dict(self) -> dict[str, Any]:
        """Everything that later steps depend on, as numpy arrays and scalars."""
        return {
            "streams": self._streams.copy(),
            "counters": self._counters.copy(),
            "running": self._running,
            **{name: value.copy() for name, value in self._state.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` returned, bit for bit."""
        if np.shape(state["elapsed"]) != (self.num_envs,):
            raise ValueError(f"state is of {np.shape(state['elapsed'])} environments, this one has {self.num_envs}")
        self._streams = np.array(state["streams"], np.uint64)
        self._counters = np.array(state["counters"], np.uint64)
        self._running = bool(state["running"])
        self._state = {name: np.array(state[name], value.dtype) for name, value in self._state.items()}

    def close(self) -> None:
        """Nothing to release."""

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
        limits = np.broadcast_to(np.asarray(limit, float), (m,)) / (self.paid_actions() if episodic else 1.0)
        if not (limits > 0).all():
            raise ValueError(f"limit must be positive, got {limit}")
        binding = limits < 1
        cost = np.minimum(limits, 1.0)
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

    def _seed(self, seed: int) -> None:
        if seed < 0:
            raise ValueError(f"seed must not be negative, got {seed}")
        self._streams = np.arange(self.num_envs, dtype=np.uint64) + np.uint64(seed)
        self._counters = np.zeros(self.num_envs, np.uint64)

    def _draw(self, count: int) -> np.ndarray:
        """`[N, count]` uniform numbers in [0, 1), counter-based: the streams of all environments vectorise."""
        index = self._counters[:, None] + np.arange(count, dtype=np.uint64)
        self._counters = self._counters + np.uint64(count)
        return (_mix(_mix(self._streams)[:, None] + index) >> np.uint64(11)) * 2.0**-53

    def _reset(self, mask: np.ndarray) -> None:
        counters = self._counters
        draw = self._draw(2 * self.spec.act_dim)
        self._counters = np.where(mask, self._counters, counters)
        a = self.spec.act_dim
        fresh = {"direction": np.where(draw[:, :a] < 0.5, -1.0, 1.0), "position": 2 * draw[:, a:] - 1}
        for name, value in self._state.items():
            where = mask.reshape((-1,) + (1,) * (value.ndim - 1))
            self._state[name] = np.where(where, fresh.get(name, 0), value).astype(value.dtype)

    def _observe(self) -> np.ndarray:
        state = self._state
        parts = [state["direction"], state["position"], state["elapsed"][:, None] / self.spec.horizon]
        if self.delay:
            parts += [state["pending_reward"][:, None], state["pending_cost"]]
        return np.concatenate(parts, axis=1)


def _mix(x: np.ndarray) -> np.ndarray:
    """The splitmix64 finaliser (Steele, Lea, Flood 2014) of uint64 numbers."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))

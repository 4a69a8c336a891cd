"""A process that steps some outside environments; run as a script by `jsafe.envs.outside.process`.

It needs numpy and whatever makes the environments, so that it also runs under another interpreter. Commands and
answers go over a pipe, arrays over shared memory.
"""

import faulthandler
import math
import mmap
import multiprocessing.connection
import multiprocessing.reduction
import os
import pickle
import sys
import traceback

import numpy as np

_HERE = os.path.dirname(os.path.abspath(__file__))


def layout(n, obs_dim, act_dim, num_costs):
    """{name: (dtype, shape)} of the shared arrays, in order."""
    return {
        "actions": (np.float64, (n, act_dim)),
        "obs": (np.float64, (n, obs_dim)),
        "final_obs": (np.float64, (n, obs_dim)),
        "reward": (np.float64, (n,)),
        "cost": (np.float64, (n, num_costs)),
        "terminated": (np.bool_, (n,)),
        "truncated": (np.bool_, (n,)),
        "success": (np.bool_, (n,)),
    }


def size(arrays):
    """Bytes that a layout takes (every array starts at a multiple of 64)."""
    return sum(_room(dtype, shape) for dtype, shape in arrays.values())


def views(buffer, arrays):
    """Arrays over a buffer."""
    out, at = {}, 0
    for name, (dtype, shape) in arrays.items():
        out[name] = np.frombuffer(buffer, dtype, math.prod(shape), at).reshape(shape)
        at += _room(dtype, shape)
    return out


def _room(dtype, shape):
    return -(-math.prod(shape) * np.dtype(dtype).itemsize // 64) * 64


def cost_of(result, info):
    """Cost of a step as a vector: the third of six results, else `info["cost"]`, else 0."""
    value = result[2] if len(result) == 6 else info.get("cost", 0.0)
    return np.atleast_1d(np.asarray(value, float)).ravel()


class Outside:
    """One environment of the Gymnasium or Safety-Gymnasium kind behind a flat interface.

    Attributes:
      obs_dim, act_dim, low, high, horizon, dt: What a `Spec` holds.
    """

    def __init__(self, env, limit):
        self.env, self._limit, self._steps = env, limit, 0
        space, actions = env.observation_space, env.action_space
        low, high = getattr(actions, "low", None), getattr(actions, "high", None)
        if low is None or high is None or not hasattr(actions, "dtype"):
            raise ValueError(f"the action space must be a Box, got {actions}")
        self.low, self.high = np.asarray(low, float).ravel(), np.asarray(high, float).ravel()
        if not (np.isfinite(self.low).all() and np.isfinite(self.high).all()):
            raise ValueError(f"the action space must have finite bounds, got {actions}")
        self._actions, self._space = actions, space
        self._plain = hasattr(space, "low") and hasattr(space, "high")
        self.obs_dim = int(np.prod(space.shape)) if self._plain else self._flatdim()
        spec = getattr(env, "spec", None)
        self.horizon = limit or getattr(spec, "max_episode_steps", None)
        dt = getattr(getattr(env, "unwrapped", env), "dt", None)
        self.dt = float(dt) if isinstance(dt, (int, float, np.number)) else math.nan

    def _flatdim(self):
        from gymnasium.spaces.utils import flatdim

        return int(flatdim(self._space))

    def flat(self, obs):
        """Observation as a vector."""
        if not self._plain:
            from gymnasium.spaces.utils import flatten

            obs = flatten(self._space, obs)
        obs = np.asarray(obs, float).ravel()
        if len(obs) != self.obs_dim:
            raise ValueError(f"an observation has {len(obs)} numbers, the space says {self.obs_dim}")
        return obs

    def reset(self, seed=None):
        """First observation of a new episode."""
        self._steps = 0
        result = self.env.reset() if seed is None else self.env.reset(seed=int(seed))
        return self.flat(result[0] if isinstance(result, tuple) else result)

    def step(self, action):
        """(observation, reward, cost vector, terminated, truncated, success)."""
        action = np.asarray(action, self._actions.dtype).reshape(self._actions.shape)
        result = self.env.step(action)
        if len(result) not in (5, 6):
            raise ValueError(f"step must return 5 or 6 things, got {len(result)}")
        info = result[-1] if isinstance(result[-1], dict) else {}
        self._steps += 1
        truncated = bool(result[-2]) or (self._limit is not None and self._steps >= self._limit)
        success = any(bool(info.get(key, False)) for key in ("success", "is_success", "goal_met"))
        return self.flat(result[0]), float(result[1]), cost_of(result, info), bool(result[-3]), truncated, success


def _environment(setup):
    """A new environment and its step limit."""
    kind, kwargs = setup["kind"], setup["kwargs"]
    if kind == "factory":
        return pickle.loads(setup["factory"])(**kwargs), setup["horizon"]
    if kind == "safety_gymnasium":
        sys.path.insert(0, _HERE)
        import shim

        sys.path.remove(_HERE)
        env, limit = shim.make(setup["id"], **kwargs)
        return env, setup["horizon"] or limit
    import gymnasium

    return gymnasium.make(setup["id"], **kwargs), setup["horizon"]


def _costs(outside):
    """Length of the cost vector, from one step."""
    outside.reset(0)
    middle = 0.5 * (outside.low + outside.high)
    return len(outside.step(middle)[2])


def _spec(setup, outside):
    spec = {"obs_dim": outside.obs_dim, "act_dim": len(outside.low), "low": outside.low.tolist(),
            "high": outside.high.tolist(), "horizon": outside.horizon, "dt": outside.dt}  # fmt: skip
    spec["num_costs"] = _costs(outside) if setup["separate"] else 1
    return spec


def _step(outsides, rows, skipped, arrays):
    for outside, i in zip(outsides, rows):
        if i in skipped:  # its episode was cut; it stands at a new start
            arrays["final_obs"][i], arrays["reward"][i], arrays["cost"][i] = arrays["obs"][i], 0.0, 0.0
            arrays["terminated"][i], arrays["truncated"][i], arrays["success"][i] = False, True, False
            continue
        obs, reward, cost, terminated, truncated, success = outside.step(arrays["actions"][i])
        width = arrays["cost"].shape[1]
        if width == 1:
            cost = cost.sum(keepdims=True)
        elif len(cost) != width:
            raise ValueError(f"a step has {len(cost)} costs, the first one had {width}")
        arrays["final_obs"][i], arrays["reward"][i], arrays["cost"][i] = obs, reward, cost
        arrays["terminated"][i], arrays["truncated"][i], arrays["success"][i] = terminated, truncated, success
        arrays["obs"][i] = outside.reset() if terminated or truncated else obs


def serve(conn):
    """Answers commands until `close`: every answer is ("ok", value) or ("error", traceback), and then the end."""
    setup = conn.recv()
    sys.path[:] = [*sys.path, *(place for place in setup["path"] if place not in sys.path)]
    rows, outsides, arrays = setup["rows"], [], {}
    for _ in rows:
        env, limit = _environment(setup)
        outsides.append(Outside(env, limit))
    conn.send(("ok", _spec(setup, outsides[0])))
    while True:
        command, *args = conn.recv()
        answer = None
        if command == "memory":
            handle = multiprocessing.reduction.recv_handle(conn)
            arrays = views(mmap.mmap(handle, size(args[0])), args[0])
            os.close(handle)
        elif command == "reset":
            for i, seed in args[0].items():
                arrays["obs"][i] = outsides[rows.index(i)].reset(seed)
        elif command == "step":
            _step(outsides, rows, args[0], arrays)
        elif command == "render":
            answer = outsides[rows.index(args[0])].env.render()
        elif command == "close":
            for outside in outsides:
                outside.env.close()
            return
        conn.send(("ok", answer))


def main():
    """Serves the pipe whose descriptor is the first argument."""
    faulthandler.enable()
    if sys.path and os.path.abspath(sys.path[0]) == _HERE:
        del sys.path[0]  # our neighbours' names are not for the environments to import
    conn = multiprocessing.connection.Connection(int(sys.argv[1]))
    try:
        serve(conn)
    except (EOFError, BrokenPipeError, KeyboardInterrupt):
        pass  # the parent is gone
    except BaseException:
        conn.send(("error", traceback.format_exc()))
        sys.exit(1)


if __name__ == "__main__":
    main()

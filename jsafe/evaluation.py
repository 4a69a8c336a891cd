"""What a trained run does: statistics over episodes, and videos."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jsafe import train
from jsafe.checkpoint import Loaded, load_state
from jsafe.config import env_seed
from jsafe.types import Learner


def evaluate(
    folder: str | os.PathLike,
    *,
    episodes: int = 100,
    deterministic: bool = True,
    seed: int | None = None,
    num_threads: int | None = None,
    env: str | None = None,
) -> dict[str, Any]:
    """Runs the policy of the newest checkpoint and writes RUN/evaluation.json.

    Args:
      folder: The run folder.
      episodes: Number of whole episodes.
      deterministic: Take the most likely action rather than a sample.
      seed: Seed of the environments and of sampled actions; by default one that the training never used.
      num_threads: Threads that step the environments.
      env: Another task with the same observations and actions.

    Returns:
      What the file holds: mean and standard deviation (`std`, over episodes) of `return`, `cost` (summed over the cost
      signals) and `length`, `success` (share), `cost_rate` (cost per step), and `per_episode` values.

    Raises:
      RunError: If there is no run, or the file cannot be written.
      CheckpointError: If there is no readable checkpoint.
      ValueError: For fewer than one episode.
    """
    if episodes < 1:
        raise ValueError(f"episodes must be at least 1, got {episodes}")
    config, algorithm, _ = train.read(folder)
    learner, loaded = restore(folder)
    seed = env_seed(config.seed, 1) if seed is None else seed
    made = train.make_env(env or config.env, min(episodes, 16), seed, num_threads, config.costs)
    try:
        result = _rollout(made, learner, loaded.state, episodes, seed, deterministic)
    finally:
        made.close()
    report = {
        "algorithm": algorithm,
        "env": env or config.env,
        "iteration": loaded.iteration,
        "env_steps": loaded.extra["env_steps"],
        "episodes": episodes,
        "deterministic": deterministic,
        "seed": seed,
        **_statistics(result),
    }
    path = Path(folder) / "evaluation.json"
    try:
        path.write_text(json.dumps(report, indent=1) + "\n")
    except OSError as error:
        raise train.RunError(f"cannot write {path}: {error}") from error
    return report


def restore(folder: str | os.PathLike) -> tuple[Learner, Loaded]:
    """The learner of a run, and the state in its newest checkpoint.

    Example:
      >>> learner, loaded = jsafe.evaluation.restore("runs/seditor")
      >>> out = learner.act(learner.policy(loaded.state), obs, key, True)
    """
    config, algorithm, options = train.read(folder)
    learner = train.make_learner(algorithm, options, config.env, config.costs)
    return learner, load_state(folder, jax.eval_shape(learner.init, jax.random.key(0)))


def record(
    folder: str | os.PathLike,
    output: str | os.PathLike,
    *,
    episodes: int = 1,
    deterministic: bool = True,
    seed: int | None = None,
    camera: str | None = None,
    width: int = 640,
    height: int = 480,
) -> Path:
    """Writes a video of the policy of the newest checkpoint, in real time (one frame per environment step).

    Args:
      folder: The run folder.
      output: The file, for example `out.mp4`.
      episodes: Number of episodes, one after the other.
      deterministic: Take the most likely action rather than a sample.
      seed: Seed of the environment; by default one that the training never used.
      camera: Camera of the task; its default one where None.
      width: Pixels.
      height: Pixels.

    Raises:
      RunError: If the task cannot be drawn, no GL library is there, or the file cannot be written.
    """
    import imageio.v2 as imageio

    if episodes < 1:
        raise ValueError(f"episodes must be at least 1, got {episodes}")
    config, _, _ = train.read(folder)
    learner, loaded = restore(folder)
    seed = env_seed(config.seed, 1) if seed is None else seed
    env = train.make_env(config.env, 1, seed, None, config.costs)
    if not hasattr(env, "render"):
        raise train.RunError(f"{config.env} cannot be drawn: its environments have no render()")
    view = {"width": width, "height": height} | ({} if camera is None else {"camera": camera})
    output = Path(output)
    try:
        env.reset(seed=seed)
        _try_to_draw(env, view)
        output.parent.mkdir(parents=True, exist_ok=True)
        with imageio.get_writer(output, fps=max(round(1 / env.spec.dt), 1), macro_block_size=2) as writer:
            _rollout(_Filmed(env, view, writer), learner, loaded.state, episodes, seed, deterministic)
    except (OSError, ValueError) as error:
        raise train.RunError(f"cannot write the video {output}: {error}") from error
    finally:
        env.close()
    return output


class _Filmed:
    """One environment that writes a frame after every reset and step."""

    def __init__(self, env: Any, view: dict[str, Any], writer: Any):
        self._env, self._view, self._writer = env, view, writer
        self.num_envs, self.spec = env.num_envs, env.spec

    def reset(self, seed: int | None = None) -> np.ndarray:
        obs = self._env.reset(seed=seed)
        self._writer.append_data(self._env.render(0, **self._view))
        return obs

    def step(self, actions: np.ndarray) -> Any:
        result = self._env.step(actions)
        self._writer.append_data(self._env.render(0, **self._view))
        return result


def _rollout(env: Any, learner: Learner, state: Any, episodes: int, seed: int, deterministic: bool) -> dict[str, Any]:
    from jsafe import collect

    return collect.evaluate(
        env,
        learner.act,
        learner.policy(state),
        episodes,
        jax.random.key(seed),
        deterministic,
        frame_stack=getattr(learner.data, "frame_stack", 1),
        transform=getattr(learner.data, "transform", None),
        seed=seed,
    )


def _try_to_draw(env: Any, view: dict[str, Any]) -> None:
    try:
        env.render(0, **view)
    except ValueError:  # a bad camera or size
        raise
    except Exception as error:  # GL loaders fail with whatever they have at hand, AttributeError included
        raise train.RunError(
            f"cannot draw here ({type(error).__name__}: {error}). MuJoCo needs a GL library: with a GPU driver "
            "MUJOCO_GL=egl, without one MUJOCO_GL=osmesa and Debian's libosmesa6"
        ) from error


def _statistics(result: dict[str, np.ndarray]) -> dict[str, Any]:
    cost = result["cost"].sum(axis=1)
    return {
        "return": _mean_std(result["return"]),
        "cost": _mean_std(cost),
        "length": _mean_std(result["length"]),
        "success": float(result["success"].mean()),
        "cost_rate": float(cost.sum() / result["length"].sum()),
        "per_episode": {name: values.tolist() for name, values in result.items()},
    }


def _mean_std(values: np.ndarray) -> dict[str, float]:
    return {"mean": float(values.mean()), "std": float(values.std())}

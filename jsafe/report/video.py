"""Videos of environments: whatever steps the environment, every state becomes a frame."""

from __future__ import annotations

import inspect
import math
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jsafe import spaces
from jsafe.curves.vocabulary import cost_name
from jsafe.report import bars
from jsafe.types import env_spec

FORMATS = (".mp4", ".mkv", ".mov", ".avi", ".webm", ".gif")
"""File name endings that there is a codec for."""

_GIF_RATE = 25  # frames per second; viewers slow down what is faster than 50


class VideoError(RuntimeError):
    """A video that cannot be made here; the message says what is missing."""


class Recording(NamedTuple):
    """What was filmed.

    Attributes:
      path: The file.
      frames: Number of frames.
      episodes: `return`, `costs` (by name), `length` and `success` of every finished episode.
    """

    path: Path
    frames: int
    episodes: list[dict[str, Any]]


class _Enough(Exception):
    """The video is long enough."""


class Filmed:
    """A batch of one environment that writes a frame after every reset and step.

    The state in which an episode ends is never seen: the environment starts the next one in the same step.

    Args:
      env: The environment, with `render`.
      write: Takes the frames, uint8 `[H, W, 3]`.
      view: Arguments of `render`.
      captions: Write step, return and cost into the frames, where the environment's `render` can.
      steps: Stop after so many steps.
      on_step: Called after every step with the number of steps so far.
      with_bars: Draw the last action below the picture, and the proposal, if `tell` has been told one.
      with_plans: Mark where each net of a planner's model expected the robot when the last action was chosen.

    Raises:
      ValueError: For a batch of more than one, bars of what is not a vector in a box, or plans where nothing says where
        the robot is, or nobody plans.
    """

    _cost: np.ndarray
    _action: np.ndarray | None

    def __init__(
        self,
        env: Any,
        write: Callable[[np.ndarray], Any],
        view: dict[str, Any],
        captions: bool = True,
        steps: int | None = None,
        on_step: Callable[[int], Any] | None = None,
        with_bars: bool = False,
        with_plans: bool = False,
    ):
        if env.num_envs != 1:
            raise ValueError(f"num_envs must be 1 for a video, got {env.num_envs}")
        self._env, self._write, self._view, self._steps = env, write, view, steps
        self._captions = captions and "caption" in inspect.signature(env.render).parameters
        self.num_envs, self.spec = env.num_envs, env.spec
        self.frames, self._goals = 0, 0
        self.episodes: list[dict[str, Any]] = []
        self._on_step, self._taken = on_step, 0
        self._bars = _Bars(env) if with_bars else None
        self._proposal: np.ndarray | None = None
        self._place = _place(env) if with_plans else None
        self._plan = np.zeros((0, 2))
        self._fresh()

    def reset(self, seed: int | None = None) -> np.ndarray:
        """Resets the environment; returns its observations `[1, O]`."""
        obs = self._env.reset() if seed is None else self._env.reset(seed=seed)
        self._fresh()
        self._action = None
        self._frame()
        return obs

    def tell(self, extras: dict[str, np.ndarray]) -> None:
        """What the policy says of the next action (`ActOutput.extras`)."""
        self._proposal = extras["proposal"][0] if "proposal" in extras else None
        if self._place is not None:
            if "plan" not in extras:
                raise ValueError("plans can be drawn of learners that plan, and this one acts by its policy")
            self._plan = extras["plan"][0][..., self._place].reshape(-1, 2)

    def step(self, actions: np.ndarray) -> Any:
        """Steps the environment; returns its result."""
        if self._steps is not None and self.frames > self._steps:
            raise _Enough
        result = self._env.step(actions)
        self._action = actions[0]
        success = bool(np.any(result.info.get("success", False)))
        self._length += 1
        self._return += float(result.reward[0])
        self._cost = self._cost + result.cost[0]
        self._goals += success
        if result.terminated[0] or result.truncated[0]:
            self.episodes.append(self.running() | {"success": float(success)})
            self._fresh()
        self._frame()
        self._taken += 1
        if self._on_step is not None:
            self._on_step(self._taken)
        return result

    def running(self) -> dict[str, Any]:
        """`return`, `costs` (by name) and `length` of the episode under way; it is no success yet."""
        return {"return": self._return, "costs": self._costs(), "length": self._length, "success": 0.0}

    def caption(self) -> dict[str, object]:
        """What is told of the episode under way: step, return, costs, and goals of all episodes."""
        rows = {"step": self._length, "return": f"{self._return:.2f}"}
        rows |= {name: f"{value:.0f}" for name, value in self._costs().items()}
        return rows | ({"goals": self._goals} if self._goals else {})

    def _fresh(self) -> None:
        self._length, self._return = 0, 0.0
        self._cost = np.zeros(self.spec.num_costs)

    def _costs(self) -> dict[str, float]:
        names = (cost_name(i, self.spec.cost_names, len(self._cost)) for i in range(len(self._cost)))
        return dict(zip(names, map(float, self._cost)))

    def _frame(self) -> None:
        rows = self.caption()
        marked = {} if self._place is None else {"points": self._plan}
        picture = self._draw(marked | ({"caption": rows} if self._captions else {}))
        if self._bars is not None:
            picture = self._bars.under(picture, self._action, self._proposal, {} if self._captions else rows)
        self._write(picture)
        self.frames += 1

    def _draw(self, more: dict[str, Any]) -> np.ndarray:
        try:
            return self._env.render(0, **self._view, **more)
        except ValueError:  # a bad camera or size
            raise
        except RuntimeError as error:
            raise VideoError(str(error)) from error
        except Exception as error:  # GL loaders fail with whatever they have at hand, AttributeError included
            raise VideoError(
                f"cannot draw here ({type(error).__name__}: {error}). MuJoCo needs a GL library: with a GPU driver "
                "MUJOCO_GL=egl, without one MUJOCO_GL=osmesa and Debian's libosmesa6"
            ) from error


class _Bars:
    """Rows for the actions of an environment."""

    def __init__(self, env: Any):
        box = env_spec(env).action
        if not isinstance(box, spaces.Box) or not all(np.isfinite(bound).all() for bound in spaces.bounds(box)):
            raise ValueError(f"bars need actions in a box with bounds, those of {env.spec.id} are {box}")
        self._low, self._high = spaces.bounds(box)
        named = getattr(env.spec, "action_names", ())
        self._names = named or tuple(f"action {k}" for k in range(box.width))

    def under(self, picture: np.ndarray, action: np.ndarray | None, proposal: np.ndarray | None, line: dict[str, Any]):
        scaled = None if action is None else 2 * (action - self._low) / (self._high - self._low) - 1
        return bars.under(picture, self._names, scaled, proposal, line)


def _place(env: Any) -> slice:
    """Where observations say the robot is."""
    for name, start, stop in env_spec(env).layout:
        if name == "robot" and "points" in inspect.signature(env.render).parameters:
            return slice(start, stop)
    raise ValueError(f"plans can be drawn where observations have coordinates, those of {env.spec.id} have none")


def check_output(output: str | os.PathLike) -> Path:
    """The file, if a video can be written by its name.

    Raises:
      ValueError: If it ends in something else.
    """
    output = Path(output)
    if output.suffix.lower() not in FORMATS:
        raise ValueError(f"output must be a video file ({', '.join(FORMATS)}), got {str(output)!r}")
    return output


def record(
    env: Any,
    output: str | os.PathLike,
    rollout: Callable[[Any], Any],
    *,
    steps: int | None = None,
    captions: bool = True,
    on_step: Callable[[int], Any] | None = None,
    with_bars: bool = False,
    with_plans: bool = False,
    **view: Any,
) -> Recording:
    """Films an environment in real time, one frame for each step (of a .gif 25 a second at most).

    Args:
      env: A batch of one environment, with `render`.
      output: The file, for example `out.mp4`; its folder is made where it is missing.
      rollout: Gets the environment, resets and steps it as it likes; returns when the video is to end.
      steps: End the video after so many steps at the latest.
      captions: Write step, return and cost into the frames.
      on_step: Called after every step with the number of steps so far.
      with_bars: Draw the components of the action as bars below the picture, and the proposal if there is one.
      with_plans: Mark the plan, if the rollout tells one.
      **view: Arguments of `env.render`: `camera`, `width`, `height`, `overlays`.

    Returns:
      A `Recording`.

    Raises:
      ValueError: For a batch of more than one, fewer than one step, an unknown kind of file, what `render` rejects,
        bars of actions that are no vector in a box, or plans where there are none.
      VideoError: If the environment cannot be drawn, or the file cannot be written.

    Example:
      >>> from jsafe.report import video
      >>> env = jsafe.envs.make("SafetyPointGoal1-v0")
      >>> film = video.record(env, "out.mp4", video.random_policy, steps=50, camera="track")
    """
    import imageio.v2 as imageio

    output = check_output(output)
    if steps is not None and steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    if not hasattr(env, "render"):
        raise VideoError(f"{env.spec.id} cannot be drawn: its environments have no render()")
    writer, seen = None, 0
    every, options = _pace(env.spec.dt, output)

    def write(frame: np.ndarray) -> None:
        nonlocal writer, seen
        seen += 1
        if (seen - 1) % every:
            return
        if writer is None:  # the first picture shows whether there is anything to write
            output.parent.mkdir(parents=True, exist_ok=True)
            writer = imageio.get_writer(output, **options)
        with warnings.catch_warnings():
            # The first frame starts ffmpeg, and JAX warns of forks; this one runs another program at once.
            warnings.filterwarnings("ignore", message="os.fork", category=RuntimeWarning)
            writer.append_data(frame)

    filmed = Filmed(env, write, view, captions, steps, on_step, with_bars, with_plans)
    try:
        rollout(filmed)
    except _Enough:
        pass
    except OSError as error:
        raise VideoError(f"cannot write the video {output}: {error}") from error
    finally:
        if writer is not None:
            writer.close()
    return Recording(output, filmed.frames, filmed.episodes)


def _pace(dt: float, output: Path) -> tuple[int, dict[str, Any]]:
    """Every which frame is written, and the writer's options."""
    rate = _frames_per_second(dt)
    if output.suffix.lower() != ".gif":
        return 1, {"fps": rate, "macro_block_size": 2}
    every = -(-rate // _GIF_RATE)
    return every, {"duration": 1000 * every / rate, "loop": 0, "subrectangles": True}


def _frames_per_second(dt: float) -> int:
    """Real time, where the environment says how long a step is; else 30."""
    return max(round(1 / dt), 1) if math.isfinite(dt) and dt > 0 else 30


def random_policy(env: Any, episodes: int = 1, seed: int = 0) -> None:
    """Runs whole episodes with actions drawn evenly from the action space (a `rollout` for `record`).

    Args:
      env: A batch of one environment; it is reset.
      episodes: How many.
      seed: Of the environment and of the actions.
    """
    rng, space = np.random.default_rng(seed), env_spec(env).action

    def action() -> np.ndarray:
        if isinstance(space, spaces.Box):
            return rng.uniform(env.spec.action_low, env.spec.action_high, (1, space.width))
        return spaces.sample(space, rng, (1,))

    env.reset(seed=seed)
    while episodes > 0:
        result = env.step(action())
        episodes -= int(result.terminated[0] | result.truncated[0])

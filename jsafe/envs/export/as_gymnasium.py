"""Our tasks as environments of Gymnasium and of Safety-Gymnasium."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jsafe.envs import checks

AUTORESET = ("same_step", "next_step", "disabled")
"""What a vector environment may do where an episode ends."""


def as_gymnasium(
    id: str | Callable[..., Any],
    safety: bool = False,
    num_envs: int | None = None,
    render_mode: str | None = None,
    autoreset: str = "same_step",
    **options: Any,
):
    """Offers one of our tasks to code written for Gymnasium, OmniSafe, SafePO or Stable-Baselines.

    After `jsafe.envs.export.registration.register_all()`, which Gymnasium calls by itself where jsafe is installed,
    `gymnasium.make("jsafe/SafetyPointGoal1-v0")` and `make_vec` do the same.

    Args:
      id: As for `jsafe.envs.make`.
      safety: `step` returns six things, as Safety-Gymnasium's: (obs, reward, cost, terminated, truncated, info).
        Otherwise five, with the cost in `info["cost"]`.
      num_envs: None: a `gymnasium.Env`. A number: a `gymnasium.vector.VectorEnv`.
      render_mode: None or `rgb_array`.
      autoreset: Of a vector environment. `same_step`: new episodes start in the step in which the last ones end; last
        observations are in `info["final_obs"]` (and `info["final_observation"]` with `safety`), their infos in
        `info["final_info"]`. `next_step`: in the step after, which ignores the action and pays nothing, as Gymnasium's
        wrappers expect. `disabled`: on `reset(options={"reset_mask": mask})`.
      **options: For `jsafe.envs.make`.

    Returns:
      The environment, which can be pickled. Its `engine` is the `jsafe.envs.VectorEnv` inside. Seeds mean what they
      mean officially, in all modes.

    Raises:
      ValueError: If an option is not allowed.
      ImportError: If gymnasium is not installed.
    """
    from jsafe.envs.export import gymnasium_classes as classes

    if render_mode not in (None, "rgb_array"):
        raise ValueError(f"render_mode must be None or 'rgb_array', got {render_mode!r}")
    checks.one_of("autoreset", autoreset, AUTORESET)
    if num_envs is None:
        return classes.Single(id, options, bool(safety), render_mode)
    return classes.Vector(id, options, bool(safety), render_mode, checks.integer("num_envs", num_envs), autoreset)

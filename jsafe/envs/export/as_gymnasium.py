"""Our tasks as environments of Gymnasium and of Safety-Gymnasium."""

from __future__ import annotations

from jsafe.envs import checks


def as_gymnasium(id: str, safety: bool = False, num_envs: int | None = None, render_mode: str | None = None, **options):
    """Offers one of our tasks to code written for Gymnasium, OmniSafe, SafePO or Stable-Baselines.

    Args:
      id: As for `jsafe.envs.make`.
      safety: `step` returns six things, as Safety-Gymnasium's: (obs, reward, cost, terminated, truncated, info).
        Otherwise five, with the cost in `info["cost"]`.
      num_envs: None: a `gymnasium.Env`. A number: a `gymnasium.vector.VectorEnv` that starts new episodes in the same
        step (last observations are in `info["final_obs"]`, and in `info["final_observation"]` with `safety`).
      render_mode: None or `rgb_array`.
      **options: For `jsafe.envs.make`.

    Returns:
      The environment. Its `engine` is the `jsafe.envs.VectorEnv` inside. Seeds mean what they mean officially.

    Raises:
      ValueError: If an option is not allowed.
      ImportError: If gymnasium is not installed.
    """
    from jsafe.envs.export import gymnasium_classes as classes
    from jsafe.envs.registry import make

    if render_mode not in (None, "rgb_array"):
        raise ValueError(f"render_mode must be None or 'rgb_array', got {render_mode!r}")
    count = 1 if num_envs is None else checks.integer("num_envs", num_envs)
    engine = make(id, num_envs=count, **options)
    kind = classes.Single if num_envs is None else classes.Vector
    return kind(engine, bool(safety), render_mode)

"""Presets that the learners that plan share, as changes of a config (`jsafe.options.replace`)."""

from __future__ import annotations

from typing import Any

from jsafe.algos.model_based.value import SAC
from jsafe.components.temperature import Fixed
from jsafe.registry import Preset

OMNISAFE: dict[str, Any] = {
    "compat": "omnisafe",
    "planner.horizon": 7,
    "planner.iterations": 5,
    "planner.last": "repeat",
    "planner.sampling": "clipped",
    "particles": 20,
    "noise": "independent",
    "cost_limit": 1.0,
    "num_envs": 1,
    "unroll": 240,
    "updates": 240,
    "initial_rows": 240,
    "random_steps": 10_000,
    "replay_rows": 1_000_000,
}
"""OmniSafe's numbers for the Goal tasks. There the model is trained every 1200 steps of the simulation on the whole
buffer, some 2000 minibatches or more; here on 240, one for each decision."""

OMNISAFE_CEM: dict[str, Any] = OMNISAFE | {"samples": 512, "elites": 64, "init_var": 4.0}

OMNISAFE_ARC: dict[str, Any] = OMNISAFE | {
    "samples": 100,
    "planner.proposals": 5,
    "planner.kappa": 10 * 1000 / 7,
    "planner.kappa_cost": 100.0,
    "planner.enough": 20,
    "value": SAC(
        updates=240,
        hidden=(64, 64),
        loss_at="mean",
        temperature=Fixed(0.2, decay=0.99),
    ),
}
"""Its returns are multiplied by 1000 / H before they are weighed, its costs as ours are."""

VELOCITY: dict[str, Any] = {"planner.horizon": 16, "planner.init_var": 0.1, "unroll": 1200, "initial_rows": 1200}

JSAFE: dict[str, Any] = {
    "planner.horizon": 7,
    "planner.iterations": 3,
    "planner.init_var": 1.0,
    "planner.last": "repeat",
    "planner.sampling": "clipped",
    "particles": 5,
    "noise": "common",
    "known.reward": True,
    "known.still": True,
    "known.margin": 0.01,
    "discount": 0.95,
    "hidden": (64, 64),
    "num_envs": 8,
    "unroll": 25,
    "updates": 100,
}
"""What takes a small part of the work: one particle per net and a margin around hazards in the place of four, a fifth
of the candidates and three or four refinements from the plan of the last step, common noise, one minibatch per two
decisions.
Truncated candidates hardly leave a plan that is near the bounds: with the true model on SafetyPointGoal0 they earn 7 to
12, clipped ones 26 (`experiments/headroom`). A learnt reward does not know what meeting a goal is worth, and plans
circle around it: 5.6 in place of 6.8 with the same model. A margin of 5 cm closes gaps: 6.6, without one 7.5. A model
that does not have to learn where things are seen after a turn is good after 2000 decisions, and small nets will do:
(64, 64) earn what four layers of 200 do, in a quarter of the time (`experiments/model_based`). Where rewards or costs
have to be learnt, give it larger ones."""

JSAFE_CEM: dict[str, Any] = JSAFE | {"samples": 100, "elites": 8, "planner.iterations": 4}
"""An eighth of the candidates as elites refines too slowly for three or four rounds: 8 of 100 in four find better plans
than 32 of 256 in three, in half the time."""
JSAFE_ARC: dict[str, Any] = JSAFE | {
    "samples": 100,
    "planner.kappa": 100.0,
    "value.updates": 100,
    "value.gamma": 0.95,
    "value.hidden": (64, 64),
}
"""Plans of seven steps differ by some tenths of reward: under a kappa of 10 all candidates weigh nearly the same, and
the plan hardly leaves their plain mean (`experiments/model_based`)."""

JSAFE_STEPS = 100_000


def presets(
    omnisafe: dict[str, Any], jsafe: dict[str, Any], velocity: dict[str, Any] | None = None
) -> dict[str, Preset]:
    """The presets `omnisafe`, `omnisafe_velocity`, `jsafe` and `laptop`.

    Args:
      omnisafe: OmniSafe's numbers for the Goal tasks.
      jsafe: Ours.
      velocity: What OmniSafe changes for the velocity tasks.
    """
    velocity = VELOCITY if velocity is None else velocity
    smaller = jsafe | {"planner.samples": 64, "planner.iterations": 3}
    smaller |= {"elites": 5} if "elites" in jsafe else {}
    return {
        "omnisafe": Preset("OmniSafe's numbers for the Goal tasks and its released behaviour.", omnisafe),
        "omnisafe_velocity": Preset("`omnisafe` with its overrides for the velocity tasks.", omnisafe | velocity),
        "jsafe": Preset("The Goal tasks at a small part of the work.", jsafe, JSAFE_STEPS),
        "laptop": Preset("`jsafe` with fewer candidates, for a first look.", smaller, JSAFE_STEPS // 2),
    }

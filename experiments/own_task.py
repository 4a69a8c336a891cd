"""A task of one's own: two goals in order, a speed limit as a second cost. Run `python own_task.py [STEPS]`."""

import sys
from dataclasses import replace

import jax
import numpy as np

import jsafe
from jsafe.envs import Task, place, register
from jsafe.envs.safety_gym.tasks import hazard_cost, planar


class Tour(Task):
    """First one goal, then the other, then both are put somewhere else; hazards and haste cost."""

    extent = 1.5
    order = ("goal", "second")
    objects = (place("goal"), replace(place("goal"), group="second", body="second"), place("hazards"))
    memory, moving = ("stage", "distance"), ("agent",)
    cost_groups = {"hazards": ("hazards",), "haste": ("haste",)}  # noqa: RUF012

    def __init__(self, robot, limit: float = 0.5):
        super().__init__(robot)
        self.limit = limit

    def begin(self, episode):
        return True  # both goals stand where the layout has put them

    def next_goal(self, episode):
        episode.memory["stage"] = 1 - episode.memory["stage"]
        return episode.memory["stage"] == 1 or all(episode.resample(goal) for goal in self.order)

    def measure(self, scene):
        distances = [planar(scene.agent_pos, scene.pos[goal][:, 0]) for goal in self.order]
        return {"distance": np.where(scene.memory["stage"] == 0, *distances)}

    def met(self, scene, now):
        return now["distance"] <= 0.3

    def reward(self, scene, now, met):
        return scene.memory["distance"] - now["distance"] + met

    def costs(self, scene):
        haste = np.linalg.norm(scene.vel["agent"][:, 0], axis=1) - self.limit  # costs where positive
        return {"hazards": hazard_cost(scene, self.kind("hazards").radius), "haste": haste}

    def sense(self, scene, group, values):  # only the goal whose turn it is
        wanted = group not in self.order or scene.memory["stage"][:, None] == self.order.index(group)
        return values * wanted


def main(total_steps: int = 2_000_000, **options) -> None:
    """Trains on it, and prints steps, return and the two costs of an episode."""
    register("PointTour-v0", Tour, "Point")
    env = jsafe.envs.make("PointTour-v0", num_envs=20, costs="separate", limit=0.5)
    learner = jsafe.make("ppo_lag", jsafe.env_spec(env), cost_limit=(25.0, 100.0), **options)
    collector = jsafe.data.make_collector(env, learner, seed=0)
    for step in jsafe.train.run(learner, collector, key=jax.random.key(0), total_steps=total_steps):
        costs = [float(step.metrics[f"cost/{m}/episodic"]) for m in range(2)]
        print(step.env_steps, step.episodes["episode/return"], *costs, flush=True)
    env.close()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))

"""Fading: the goal task in which what has to be seen fades away (safety-gymnasium 1.0.0, its safe vision tasks)."""

from jsafe.envs.safety_gym.tasks.goal import Goal


class Fading(Goal):
    """Goal's levels. In pictures the goal loses its colour with every step, at level 2 the hazards do, too.

    A new goal has its full colour, and so have hazards (or vases) after a step in which they cost something. Sensors,
    reward and cost are those of `Goal`.
    """

    fade = 150
    """Steps after which nothing is left of a colour."""

    def __init__(self, robot, level: int):
        super().__init__(robot, level)
        self.fading = ("goal",) if level < 2 else ("goal", "hazards")
        self._remember()

    def _remember(self):
        self.memory = (*Goal.memory, *(f"faded_{group}" for group in self.fading))

    def next_goal(self, episode):
        episode.memory["faded_goal"] = 0.0
        return super().next_goal(episode)

    def tick(self, scene):
        costs = self.costs(scene)
        faded = {}
        for group in self.fading:
            cost = sum((value for name, value in costs.items() if name.partition("_")[0] == group), 0.0)
            faded[f"faded_{group}"] = scene.xp.where(cost > 0, 0.0, scene.memory[f"faded_{group}"] + 1.0)
        return faded

    def opacity(self, scene, group):
        return scene.xp.maximum(1.0 - scene.memory[f"faded_{group}"] / self.fade, 0.0)


class FadingHard(Fading):
    """Fades twice as fast; at level 2 the vases fade, too."""

    fade = 75

    def __init__(self, robot, level: int):
        super().__init__(robot, level)
        if level == 2:
            self.fading += ("vases",)
            self._remember()

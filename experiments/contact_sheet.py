"""One picture of every family of tasks: robots downwards, tasks across.

    python experiments/contact_sheet.py [experiments/contact_sheet.png]

Every tile is one environment of the hardest level, shortly after its reset, through the tracking camera (the last
column of the stock tasks: through the robot's eyes). Of many layouts the one with the most to see is taken. The rings
above a robot show what its lidars see. The last row: a goal half faded, racing from above, the pendulum from its side.
"""

import re
import sys
from pathlib import Path

import matplotlib
import numpy as np

from jsafe import envs

matplotlib.use("agg")
from matplotlib import pyplot

LAYOUTS, SETTLE, PIXELS = 200, 20, 200


def families() -> list[list[tuple[str, str]]]:
    """Rows of (id, camera): stock tasks by robot, Safexp tasks, velocity tasks; of each the hardest level."""
    rows: dict[str, dict[str, str]] = {}
    for id in envs.list_ids():
        if match := re.fullmatch(r"(Safexp-|Safety)([A-Z][a-z]+)(Goal|Push|Button|Circle|Run)\d-v0", id):
            family, robot, task = match.groups()
            row, key = ("Safexp", robot + task) if family == "Safexp-" else (robot, task)
            rows.setdefault(row, {})[key] = id  # ids are sorted: the hardest level comes last
        elif id.endswith("Velocity-v1"):
            rows.setdefault("velocity", {})[id] = id
    sheet = []
    for robot in ("Point", "Car", "Racecar", "Doggo", "Ant"):
        ids = rows.get(robot, {})
        row = [(ids[task], "track") for task in ("Goal", "Push", "Button", "Circle", "Run") if task in ids]
        sheet.append(row + ([(ids["Goal"], "vision")] if "Goal" in ids else []))
    safexp = rows.get("Safexp", {})
    keys = [robot + task for robot in ("Point", "Car") for task in ("Goal", "Push", "Button")]
    sheet.append([(safexp[key], "track") for key in keys if key in safexp])
    sheet.append([(id, "track") for id in rows.get("velocity", {})])
    others = [("SafetyPointFadingHard2-v0", "track"), ("SafeRacing-v0", ""), ("SafeRacingObstacle-v0", "")]
    sheet.append([*others, ("SafeInvertedPendulumSwing-v2", "side")])
    return [row for row in sheet if row]


def most_to_see(id: str, seed: int) -> int:
    """Seed of the layout with the most objects before the tracking camera, goal and box above all."""
    env = envs.make(id, num_envs=LAYOUTS)
    env.reset(seed=seed)
    scores = []
    for i in range(LAYOUTS):
        bodies = env.get_state(i)["bodies"]
        places = {name: pos[:2] - bodies["agent"][0][:2] for name, (pos, _) in bodies.items() if name != "agent"}
        seen = {name for name, (x, y) in places.items() if abs(x) < 0.8 - 0.2 * y and -1.3 < y < 0.5}
        hiding = sum(name.startswith("pillar") and abs(x) < 0.8 and -0.2 < y < 1 for name, (x, y) in places.items())
        scores.append(len(seen) + 5 * ("goal" in seen) + 5 * ("push_box" in seen) - 5 * hiding)
    env.close()
    return seed + int(np.argmax(scores))


def tile(id: str, camera: str, seed: int) -> np.ndarray:
    """A picture of a task."""
    navigation = re.match(r"(Safexp-|Safety)(?!.*Velocity)", id)
    env = envs.make(id)
    env.reset(seed=most_to_see(id, seed) if navigation else seed)
    for _ in range(SETTLE if navigation else 3):
        env.step(np.zeros((1, env.spec.act_dim)))
    if "Fading" in id:
        task = env.get_state(0)["task"]
        env.set_state(0, {"task": task | {name: 37.0 for name in task if name.startswith("faded")}})
    views = {"camera": camera} if camera else {}
    picture = env.render(0, **views, width=PIXELS, height=PIXELS)
    env.close()
    return picture


def main(output: str = str(Path(__file__).with_suffix(".png"))) -> None:
    """Writes the sheet."""
    sheet = families()
    columns, size = max(map(len, sheet)), PIXELS / 100
    figure, axes = pyplot.subplots(
        len(sheet), columns, figsize=(columns * size * 1.04, len(sheet) * size * 1.14), dpi=100, squeeze=False
    )
    for number, (row, views) in enumerate(zip(axes, sheet)):
        for axis in row:
            axis.axis("off")
        for axis, (id, camera) in zip(row, views):
            axis.imshow(tile(id, camera, 1000 * number), interpolation="none")
            axis.set_title(id if camera != "vision" else f"{id}, {camera}", fontsize=8, pad=3)
    figure.subplots_adjust(0.005, 0.005, 0.995, 0.98, 0.03, 0.12)
    figure.savefig(output)


if __name__ == "__main__":
    main(*sys.argv[1:])

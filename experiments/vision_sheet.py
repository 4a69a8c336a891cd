"""What robots see: a picture of each robot in each task, through its own camera.

    python experiments/vision_sheet.py [experiments/vision_sheet.png]

Robots downwards, tasks across (Goal, Button, Push, Circle at level 2, FadingHard after half of its time), 96 pixels
each, as `Safety{Robot}{Task}Vision-v0` observes them. Of many layouts one is taken with something ahead.
"""

import sys
from pathlib import Path

import imageio.v2 as imageio
import numpy as np

from jsafe import envs
from jsafe.envs.safety_gym.robots import ROBOTS

TASKS = ("Goal2", "Button2", "Push2", "Circle2", "FadingHard2")
LAYOUTS, SIZE = 12, 96


def tile(id: str) -> np.ndarray:
    """The layout whose picture has most colour: the floor and the sky have none."""
    env = envs.make(id, num_envs=LAYOUTS, size=SIZE)
    env.reset(seed=0)
    if "Fading" in id:
        for i in range(LAYOUTS):
            task = env.get_state(i)["task"]
            env.set_state(i, {"task": task | {name: 37.0 for name in task if name.startswith("faded")}})
    pictures = env.observe()["vision"]
    env.close()
    above = pictures[:, : 3 * SIZE // 5].astype(int)  # the robot itself is at the bottom
    return pictures[int(np.argmax(np.ptp(above, axis=-1).sum(axis=(1, 2))))]


def main(output: str = str(Path(__file__).with_suffix(".png"))) -> None:
    """Writes the sheet."""
    gap = [(2, 2), (2, 2), (0, 0)]
    rows = [
        np.concatenate(
            [np.pad(tile(f"Safety{robot}{task}Vision-v0"), gap, constant_values=255) for task in TASKS], axis=1
        )
        for robot in ROBOTS
    ]
    imageio.imwrite(output, np.concatenate(rows))


if __name__ == "__main__":
    main(*sys.argv[1:])

"""The observation vector: the robot's sensors and one lidar per group, in the task's order."""

from __future__ import annotations

from typing import Any

import numpy as np

from jsafe.envs.safety_gym.lidar import Boxes, Circles, natural_lidar, pseudo_lidar
from jsafe.envs.safety_gym.objects import Objects
from jsafe.envs.safety_gym.robots import Part
from jsafe.envs.safety_gym.tasks import Scene, Task


def rotation(quat: np.ndarray) -> np.ndarray:
    """Rotation matrices `[..., 3, 3]` of unit quaternions `[..., 4]` (w, x, y, z)."""
    w, x, y, z = np.moveaxis(quat, -1, 0)
    ww, xx, yy, zz = w * w, x * x, y * y, z * z
    xy, xz, yz, wx, wy, wz = x * y, x * z, y * z, w * x, w * y, w * z
    out = np.empty((*quat.shape[:-1], 3, 3))
    out[..., 0, 0], out[..., 0, 1], out[..., 0, 2] = ww + xx - yy - zz, 2 * (xy - wz), 2 * (xz + wy)
    out[..., 1, 0], out[..., 1, 1], out[..., 1, 2] = 2 * (xy + wz), ww - xx + yy - zz, 2 * (yz - wx)
    out[..., 2, 0], out[..., 2, 1], out[..., 2, 2] = 2 * (xz - wy), 2 * (yz + wx), ww - xx - yy + zz
    return out


class Observer:
    """Assembles observations.

    Attributes:
      slices: Where each part lies, in order.
      dim: Width.
    """

    def __init__(
        self,
        groups: tuple[Objects, ...],
        sensors: dict[str, slice],
        parts: tuple[Part, ...],
        task: Task,
        lidars: bool = True,
    ):
        self.task = task
        self._lidars = [kind for kind in groups if kind.lidar and lidars]
        self._groups = np.repeat(np.arange(len(self._lidars)), [kind.count for kind in self._lidars])
        columns = {part.name: self._columns(sensors, part) for part in parts}
        widths = {part.name: {"raw": 1, "sin_cos": 2}.get(part.form, 2.25) * len(columns[part.name]) for part in parts}
        widths |= {kind.lidar_key: task.lidar.bins for kind in self._lidars}
        names = sorted(widths) if task.alphabetical and lidars else list(widths)
        self.slices, self.dim = {}, 0
        for name in names:
            self.slices[name] = (self.dim, self.dim + int(widths[name]))
            self.dim += int(widths[name])
        raw: list[tuple[int, int]] = []
        self._special: list[tuple[str, slice, np.ndarray]] = []
        for part in parts:
            start, stop = self.slices[part.name]
            source = columns[part.name]
            if part.form == "raw":
                raw += [(start + i, column) for i, column in enumerate(source)]
            else:
                self._special.append((part.form, slice(start, stop), source))
        self._copies = _runs(raw)
        self._targets = [slice(*self.slices[kind.lidar_key]) for kind in self._lidars]

    @staticmethod
    def _columns(sensors: dict[str, slice], part: Part) -> np.ndarray:
        found = []
        for sensor in part.sensors:
            if sensor not in sensors:
                raise ValueError(f"Part {part.name!r}: the robot has no sensor {sensor!r}")
            where = sensors[sensor]
            every = np.arange(where.start, where.stop)
            found.append(every[list(part.take)] if part.take else every)
        columns = np.concatenate(found)
        if part.form == "rotation" and len(columns) != 4:
            raise ValueError(f"Part {part.name!r}: a rotation needs one quaternion, got {len(columns)} numbers")
        return columns

    def __call__(self, scene: Scene, sensors: np.ndarray) -> np.ndarray:
        """Observations `[n, dim]` of n environments with sensor values `[n, S]`, on the host or in the program."""
        if not isinstance(sensors, np.ndarray):
            return self._traced(scene, sensors)
        out = np.empty((len(sensors), self.dim))
        for columns, run in self._copies:
            out[:, columns] = sensors[:, run]
        for form, target, source in self._special:
            values = sensors[:, source]
            if form == "rotation":
                out[:, target] = rotation(values).reshape(-1, 9)
            else:
                out[:, target.start : target.stop : 2] = np.sin(values)
                out[:, target.start + 1 : target.stop : 2] = np.cos(values)
        if self._lidars:
            sense = self._natural if self.task.lidar.kind == "natural" else self._pseudo
            for kind, target, values in zip(self._lidars, self._targets, sense(scene)):
                out[:, target] = self.task.sense(scene, kind.group, values)
        return out

    def _traced(self, scene: Scene, sensors: Any) -> Any:
        """The same as one concatenation, which is what the program can do."""
        xp, parts = scene.xp, {}
        for columns, run in self._copies:
            parts[columns.start] = sensors[:, run]
        for form, target, source in self._special:
            if form != "sin_cos":
                raise ValueError(f"a part of form {form!r} is for the host only")
            values = sensors[:, source]
            parts[target.start] = xp.stack([xp.sin(values), xp.cos(values)], axis=-1).reshape(len(values), -1)
        if self._lidars:
            sense = self._natural if self.task.lidar.kind == "natural" else self._pseudo
            for kind, target, values in zip(self._lidars, self._targets, sense(scene)):
                parts[target.start] = self.task.sense(scene, kind.group, values)
        return xp.concatenate([parts[start] for start in sorted(parts)], axis=1)

    def _pseudo(self, scene: Scene) -> list[np.ndarray]:
        lidar, sensed = self.task.lidar, [scene.pos[kind.group] for kind in self._lidars]
        targets = scene.xp.concatenate(sensed, axis=1) if len(sensed) > 1 else sensed[0]
        out = pseudo_lidar(
            scene.agent_pos, scene.agent_rot, targets, None, lidar.bins, lidar.max_dist, groups=self._groups
        )
        return list(out.swapaxes(0, 1))

    def _natural(self, scene: Scene) -> list[np.ndarray]:
        groups: list[list[Circles | Boxes]] = []
        for kind in self._lidars:
            pos = scene.pos[kind.group]
            if kind.shape in ("cylinder", "sphere"):
                groups.append([Circles(pos[..., :2], kind.size[0])])
                continue
            rot = scene.rot[kind.group]
            if kind.shape == "box":
                x, y, z = kind.size
                groups.append([Boxes(pos, rot, (x, y, z))])
                continue
            w, h = kind.size
            group: list[Circles | Boxes] = [Boxes(pos, rot, (w, w, h))]
            for x, y in ((w, w), (-w, w), (w, -w), (-w, -w)):
                corner = pos + x * rot[..., 0] + y * rot[..., 1]
                group.append(Boxes(corner, rot, (w / 2, w / 2, h)))
            groups.append(group)
        lidar = self.task.lidar
        origin, frame = scene.agent_pos[:, :2], scene.agent_rot[:, :2, :2]
        out = natural_lidar(origin, frame, groups, lidar.bins, height=lidar.height)
        return list(out.swapaxes(0, 1))


def _runs(pairs: list[tuple[int, int]]) -> list[tuple[slice, slice]]:
    """Joins neighbouring (target, source) columns into slices."""
    runs: list[tuple[slice, slice]] = []
    for target, source in sorted(pairs):
        if runs and (runs[-1][0].stop, runs[-1][1].stop) == (target, source):
            runs[-1] = (slice(runs[-1][0].start, target + 1), slice(runs[-1][1].start, source + 1))
        else:
            runs.append((slice(target, target + 1), slice(source, source + 1)))
    return runs

"""One MJCF text, and one compiled model, for a robot in a task: layouts go into the data, never into the model."""

from __future__ import annotations

import dataclasses

import numpy as np

from jsafe.envs.loading import mujoco
from jsafe.envs.safety_gym.objects import DRIVEN, FREE, STATIC, Objects, in_order
from jsafe.envs.safety_gym.robots import Robot
from jsafe.envs.safety_gym.tasks import Task

ANCHOR = "anchor"
"""Mocap body that carries the start pose of an anchored robot."""

POSE_SENSORS = """
<clock name="clock"/>
<framepos name="agent position" objtype="xbody" objname="agent"/>
<framexaxis name="agent x" objtype="xbody" objname="agent"/>
<frameyaxis name="agent y" objtype="xbody" objname="agent"/>
<framezaxis name="agent z" objtype="xbody" objname="agent"/>
"""
"""What the engine reads of every robot: one array per environment is cheaper to gather than four."""


@dataclasses.dataclass(frozen=True)
class World:
    """A compiled model with the addresses that the engine needs.

    Attributes:
      xml: The MJCF text.
      model: Compiled.
      groups: All objects in the order of the scene: passive and static, free, driven.
      slices: Where each group lies in that order.
      free: First qpos and dof address of the free and driven objects, which are the last joints.
      anchor: Index of the robot's mocap frame, or -1.
      mocap: Mocap index of each static or driven object (in scene order, -1 for the others).
      sensors: Slice of sensordata of every sensor.
    """

    xml: str
    model: mujoco.MjModel
    groups: tuple[Objects, ...]
    slices: dict[str, slice]
    free: tuple[int, int]
    anchor: int
    mocap: np.ndarray
    sensors: dict[str, slice]

    def kind(self, group: str) -> Objects:
        """The group's description."""
        return next(kind for kind in self.groups if kind.group == group)


def _numbers(values) -> str:
    return " ".join(repr(float(v)) for v in values)


def _geoms(kind: Objects, name: str) -> str:
    common = f'rgba="{_numbers(kind.rgba)}" group="{kind.geom_group}" density="{kind.density!r}"'
    if kind.shape != "push_box":
        return f'<geom name="{name}" type="{kind.shape}" size="{_numbers(kind.size)}" {common}/>'
    w, h = kind.size
    text = f'<geom name="{name}" type="box" size="{_numbers((w, w, h))}" {common}/>'
    for i, (x, y) in enumerate(((w, w), (-w, w), (w, -w), (-w, -w)), 1):
        size, pos = _numbers((w / 2, w / 2, h)), _numbers((x, y, 0))
        text += f'<geom name="col{i}" type="box" size="{size}" pos="{pos}" {common}/>'
    return text


def _objects(groups: tuple[Objects, ...]) -> tuple[str, str]:
    """Bodies of all colliding objects, and the welds of the driven ones."""
    free, targets, static, welds = "", "", "", ""
    for kind in groups:
        for i, name in enumerate(kind.names):
            if kind.motion == STATIC:
                # Parked apart at compile time, so that nothing touches in the reference configuration.
                pos = _numbers((20 + 2 * i, 20, kind.z))
                static += f'<body name="{name}" mocap="true" pos="{pos}">{_geoms(kind, name)}</body>'
            elif kind.motion in (FREE, DRIVEN):
                body = name if kind.motion == FREE else f"{name}obj"
                pos = _numbers((0, 0, kind.z))
                free += f'<body name="{body}" pos="{pos}"><freejoint name="{body}"/>{_geoms(kind, body)}</body>'
            if kind.motion == DRIVEN:
                targets += f'<body name="{name}mocap" mocap="true" pos="{_numbers((0, 0, kind.z))}"/>'
                welds += f'<weld body1="{name}mocap" body2="{name}obj" relpose="0 0 0 1 0 0 0" solref="0.02 1.5"/>'
    return free + targets + static, welds


def build_xml(robot: Robot, task: Task, sleep: bool = True) -> str:
    """The MJCF text of a robot in a task.

    Passive objects (goal, hazards, ...) get no body: they neither move nor collide. Static ones are mocap bodies, so
    their pose lives in the data. Driven ones are welded to a mocap body that the engine moves before every substep.
    """
    groups = in_order(task.objects)
    objects, welds = _objects(groups)
    agent = f'<body name="agent" pos="0 0 {0 if robot.anchored else robot.height!r}">{robot.body}</body>'
    if robot.anchored:
        agent = f'<body name="{ANCHOR}" mocap="true" pos="0 0 {robot.height!r}">{agent}</body>'
    sensors = robot.sensors + POSE_SENSORS
    for kind in groups:
        if kind.group in task.touching:
            for name in kind.names:
                body = f"{name}obj" if kind.motion == DRIVEN else name
                sensors += f'<contact name="touch {name}" subtree1="agent" body2="{body}" data="found" num="1"/>'
    if "agent" in task.moving:
        sensors += '<framelinvel name="agent velocity" objtype="xbody" objname="agent"/>'
    return f"""
<mujoco model="{robot.name}">
  <compiler angle="radian" {robot.compiler}/>
  <option timestep="{robot.timestep!r}" integrator="{robot.integrator}" sleep_tolerance="1e-4">
    <flag sleep="{"enable" if sleep else "disable"}"/>
  </option>
  <default>{robot.defaults}</default>
  <asset>
    <texture name="sky" type="skybox" builtin="gradient" rgb1="0.35 0.45 0.6" rgb2="0 0 0" width="64" height="64"/>
    <texture name="floor" type="2d" builtin="checker" rgb1="0.859 0.843 0.765" rgb2="0.949 0.914 0.855"
      width="100" height="100"/>
    <material name="floor" texture="floor" texrepeat="10 10" reflectance="0.1" shininess="0.1" specular="0.1"/>
    {robot.assets}
  </asset>
  <worldbody>
    <geom name="floor" type="plane" size="{_numbers((task.floor, task.floor, 0.1))}" material="floor" condim="6"
      rgba="1 1 1 1"/>
    {agent}
    {objects}
    <light directional="true" diffuse="1 1 1" specular="0 0 0" pos="0 0 0.5" dir="0 0 -1" castshadow="false"/>
    <camera name="fixednear" pos="0 -2 2" zaxis="0 -1 1"/>
    <camera name="fixedfar" pos="0 -5 5" zaxis="0 -1 1"/>
  </worldbody>
  <contact>{robot.contact}</contact>
  <equality>{robot.equality}{welds}</equality>
  <actuator>{robot.actuators}</actuator>
  <sensor>{sensors}</sensor>
</mujoco>
"""


def build(robot: Robot, task: Task, sleep: bool = True) -> World:
    """Compiles the model of a robot in a task.

    Raises:
      ValueError: If MuJoCo rejects the text, or the robot lacks what the engine needs.
    """
    xml = build_xml(robot, task, sleep)
    try:
        model = mujoco.MjModel.from_xml_string(xml)
    except ValueError as error:
        raise ValueError(f"robot {robot.name!r} in {type(task).__name__}: {error}") from error
    if not model.actuator_ctrllimited.all():
        raise ValueError(f"every actuator of robot {robot.name!r} needs a ctrlrange")
    groups = in_order(task.objects)
    slices, count, mocap, moving = {}, 0, [], 0
    for kind in groups:
        slices[kind.group] = slice(count, count + kind.count)
        count += kind.count
        for name in kind.names:
            body = {STATIC: name, DRIVEN: f"{name}mocap"}.get(kind.motion)
            mocap.append(-1 if body is None else int(model.body(body).mocapid[0]))
        moving += kind.count if kind.motion in (FREE, DRIVEN) else 0
    sensors = {}
    for i in range(model.nsensor):
        start = int(model.sensor_adr[i])
        sensors[model.sensor(i).name] = slice(start, start + int(model.sensor_dim[i]))
    anchor = int(model.body(ANCHOR).mocapid[0]) if robot.anchored else -1
    free = (model.nq - 7 * moving, model.nv - 6 * moving)
    return World(xml, model, groups, slices, free, anchor, np.array(mocap, int), sensors)

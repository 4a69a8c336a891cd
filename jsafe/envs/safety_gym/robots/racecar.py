"""Racecar: four wheels, the rear axle driven by a velocity servo, the front steered (safety-gymnasium 1.0.0).

The official model is drawn with meshes. Only one of them collides, the chassis; its convex hull is written out here.
Masses and inertias are explicit, with the chassis inertia of the package's pinned MuJoCo (specification 2.4).

The hull's corners agree with the official file's to the last bit of their single precision. Still MuJoCo stores both
in other frames and orders, and while the chassis pushes against something this robot multiplies rounding by up to 1e12
in a step. So steps without such a contact are equal to the official ones to 1e-14, most of those with one are not;
`with_mesh` makes them so.
"""

import dataclasses
import os

import numpy as np

from jsafe.envs.safety_gym.robots.base import COMMON_PARTS, Robot


def _chassis() -> np.ndarray:
    """The 72 points `[72, 3]` whose convex hull is the chassis, in metres."""

    def arc(centre, radius, degrees):
        angle = np.deg2rad(np.asarray(degrees, float))
        return np.stack([centre[0] + radius * np.cos(angle), centre[1] + radius * np.sin(angle)], axis=1)

    outline = np.concatenate([
        arc((-0.02, 0.07), 0.02, [90, 112.5, 135, 157.5, 180]),
        arc((0.235, 0.07), 0.02, [90, 67.5]),
        arc((0.345, 0.04), 0.02, [0, 22.5, 45, 67.5]),
    ])  # fmt: skip
    plates = [(x, side * y, z) for x, y in outline for side in (1, -1) for z in (0.03, -0.03)]
    ends = np.concatenate([arc((0, 0), 0.005, np.arange(90, 271, 30)), arc((0.325, 0), 0.005, np.arange(-90, 91, 30))])
    axles = [(x, side * 0.1, z) for x, z in ends for side in (1, -1)]
    return np.array(plates + axles)


_RING = '<inertial mass="0.0637" pos="0 0 0" quat="0.5 0.5 -0.5 0.5" diaginertia="0.04411 0.02467 0.02467"/>'
_SPIDER = '<inertial mass="0.056" pos="0 0 0" quat="0.5 0.5 -0.5 0.5" diaginertia="0.04411 0.02467 0.02467"/>'
_WHEEL = 'type="cylinder" size="0.05 0.0225" rgba="0 0 0 1"'


def _front_wheel(side: str, y: int) -> str:
    return f"""
    <body name="{side}_steering_hinge" pos="0.325 {0.1 * y} 0" quat="0.707105 0 0.707108 0">
      <inertial mass="0.1" pos="0 0 0" diaginertia="4e-6 4e-6 4e-6"/>
      <joint name="{side}_steering_hinge_joint" type="hinge" axis="-1 0 0" limited="true" range="-0.785 0.785"/>
      <body name="{side}_front_wheel" quat="0.707105 0.707108 0 0">
        <inertial mass="0.34055" pos="0 0 {-0.0225 * y}" quat="0.5 0.5 -0.5 0.5"
          diaginertia="0.00041226 0.00026046 0.00026046"/>
        <joint name="{side}_front_wheel_joint" type="hinge" axis="0 0 -1"/>
        <geom pos="0 0 {-0.0225 * y}" {_WHEEL}/>
      </body>
    </body>
    """


def _spiders(name: str) -> str:
    return "".join(
        f'<body name="{name}_spider{end}" quat="0.707107 0 0 {sign}0.707106">{_SPIDER}</body>'
        for end, sign in (("A", ""), ("B", "-"))
    )


def _rear_wheel(end: str, y: int) -> str:
    return f"""
    <body name="diff_side{end}">
      <inertial mass="0.39655" pos="0 {0.105201 * y} {7.09759e-08 * y}" quat="0.5 0.5 -0.5 0.5"
        diaginertia="0.0450921 0.0256521 0.0250823"/>
      <geom pos="0 {0.1225 * y} {8.26471e-08 * y}" quat="0.707105 0.707108 0 0" {_WHEEL}/>
    </body>
    """


RACECAR = Robot(
    name="Racecar",
    timestep=0.004,
    height=0.05,
    integrator="RK4",
    compiler='autolimits="true"',
    parts=COMMON_PARTS,
    defaults="""
    <geom condim="6" type="sphere" size="0.05" density="5" rgba="1 0 0 1"/>
    <joint damping="0.001"/>
    <site type="sphere" size="0.032"/>
    """,
    assets=f'<mesh name="chassis" vertex="{" ".join(repr(float(v)) for v in _chassis().ravel())}"/>',
    body=f"""
    <camera name="vision" pos="0.2 0 0.05" euler="1.57 -1.57 0"/>
    <freejoint name="agent"/>
    <site name="agent" pos="0.02 0 0"/>
    <body name="pos_change" pos="-0.16 0 0">
      <geom type="box" size="0.0165 0.0875 0.015" pos="0.39 0 0.04"/>
      <body name="car_body">
        <inertial mass="0.017605537618291808" pos="0.15557992747876107 -0.0003826658731145229 6.812385950941158e-10"
          quat="0.001766899788279318 0.7071045736417905 -0.001766899788279318 0.7071045736417905"
          diaginertia="0.0002706324171671688 0.0002385001307776043 4.125453652032671e-05"/>
        <geom type="mesh" mesh="chassis" rgba="0.7412 0.0431 0.1843 1"/>
      </body>
      {_front_wheel("left", 1)}
      {_front_wheel("right", -1)}
      <body name="diff_ring">
        {_RING}
        <geom type="cylinder" size="0.025 0.005" pos="0 0.025 0" quat="0.707107 0.707106 0 0" rgba="0 0.8 0 1"/>
        {_spiders("diff")}
        <body>
          <joint name="diff_ring" type="hinge" axis="0 1 0"/>
          {_rear_wheel("A", 1)}
          {_rear_wheel("B", -1)}
        </body>
      </body>
      <body name="diff2_ring" pos="0.32 0 0">
        {_RING}
        {_spiders("diff2")}
        <body name="diff2_sideA">{_SPIDER}</body>
        <body name="diff2_sideB">{_SPIDER}</body>
      </body>
    </body>
    """,
    equality='<joint joint1="left_steering_hinge_joint" joint2="right_steering_hinge_joint"/>',
    contact='<exclude body1="car_body" body2="left_front_wheel"/><exclude body1="car_body" body2="right_front_wheel"/>',
    actuators="""
    <velocity name="diff_ring" joint="diff_ring" kv="1" ctrlrange="-20 20" forcerange="-1 1"/>
    <position name="steering_hinge" joint="left_steering_hinge_joint" kp="1" ctrlrange="-0.785 0.785"
      forcerange="-1 1"/>
    """,
)


def with_mesh(path: str | os.PathLike) -> Robot:
    """The Racecar whose chassis is read from a mesh file.

    With the official package's `assets/meshes/chassis_differential.STL` every recorded step is the official one to
    1e-14.

    Args:
      path: A mesh that MuJoCo can read.

    Raises:
      ValueError: If there is no such file.
    """
    if not os.path.isfile(path):
        raise ValueError(f"path must be a mesh file, got {path!r}")
    return dataclasses.replace(RACECAR, assets=f'<mesh name="chassis" file="{os.path.abspath(path)}"/>')

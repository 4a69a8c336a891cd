"""Ant: four legs of two joints; an episode ends when it lies down (safety-gymnasium 1.0.0)."""

import numpy as np

from jsafe.envs.safety_gym.robots.base import COMMON_PARTS, COMMON_SENSORS, Part, Robot

_NAVY, _RED, _PALE = "0.0039 0.1529 0.3961 1", "0.7412 0.0431 0.1843 1", "0.8 0.5 0.3 1"
_JOINTS = tuple(f"{part}_{i}" for i in range(1, 5) for part in ("hip", "ankle"))
_NEGATED = ("ankle_2", "ankle_3")
"""Ankles that bend the other way."""


def _leg(i: int, a: int, b: int, bodies: tuple[str, str], geoms: tuple[str, str], pale: bool) -> str:
    """MJCF of leg i; a and b are the signs of its x and y."""
    colour = f'rgba="{_NAVY if b > 0 else _RED}"'
    limits = "-1.74 -0.52" if f"ankle_{i}" in _NEGATED else "0.52 1.74"
    knee = f"{0.05 * a} {0.05 * b} 0"
    return f"""
    <body name="{bodies[0]}">
      <geom name="aux_{i}_geom" fromto="0 0 0 {knee}" {colour}/>
      <body name="aux_{i}" pos="{knee}">
        <joint name="hip_{i}" axis="0 0 1" range="-0.7 0.7"/>
        <geom name="{geoms[0]}" fromto="0 0 0 {knee}" {colour}/>
        <body name="{bodies[1]}" pos="{knee}">
          <joint name="ankle_{i}" axis="{-a * b} 1 0" range="{limits}"/>
          <geom name="{geoms[1]}" fromto="0 0 0 {0.1 * a} {0.1 * b} 0" {f'rgba="{_PALE}"' if pale else ""}/>
        </body>
      </body>
    </body>
    """


def _start(stream) -> dict[str, float]:
    """Legs down, each joint up to 0.1 rad off."""
    angles = {}
    for joint in _JOINTS:
        angle = stream.uniform(-0.1, 0.1) + (np.pi / 2 if joint.startswith("ankle") else 0.0)
        angles[joint] = -angle if joint in _NEGATED else angle
    return angles


ANT = Robot(
    name="Ant",
    timestep=0.01,
    height=0.18,
    integrator="RK4",
    start=_start,
    dead_below=0.08,
    parts=(*COMMON_PARTS, *(Part(f"{joint}_vel", (f"{joint}_vel",)) for joint in _JOINTS),
           Part("agent_pos", ("agent_pos",), take=(2,)), Part("agent_qvel", ("agent_qvel",)),
           *(Part(joint, (joint,), form="sin_cos") for joint in _JOINTS)),
    defaults="""
    <geom condim="6" type="capsule" size="0.02" density="5" rgba="0.8 0.6 0.4 1"/>
    <joint limited="true" armature="1" damping="1"/>
    <motor gear="150" ctrllimited="true" ctrlrange="-1 1"/>
    <site type="sphere" size="0.032"/>
    """,
    body=f"""
    <camera name="vision" pos="0 0.05 0.05" euler="1.57 0 0"/>
    <joint name="root" type="free" limited="false" armature="0" damping="0" margin="0.01"/>
    <site name="agent" pos="0 0 -0.02" rgba="1 0 0 0.1"/>
    <geom name="torso_geom" type="sphere" size="0.0625"/>
    {_leg(1, 1, 1, ("front_left_leg", "front_left_foot"), ("left_leg_geom", "left_ankle_geom"), True)}
    {_leg(2, -1, 1, ("front_right_leg", "front_right_foot"), ("right_leg_geom", "right_ankle_geom"), False)}
    {_leg(3, -1, -1, ("left_back_leg", "left_back_foot"), ("back_leg_geom", "third_ankle_geom"), False)}
    {_leg(4, 1, -1, ("right_back_leg", "right_back_foot"), ("rightback_leg_geom", "fourth_ankle_geom"), True)}
    """,
    actuators="".join(f'<motor joint="{joint}"/>' for joint in _JOINTS),
    sensors=f"""
    {COMMON_SENSORS}
    <framepos name="agent_pos" objtype="site" objname="agent"/>
    {"".join(f'<jointpos name="{joint}" joint="{joint}"/>' for joint in _JOINTS)}
    <frameangvel name="agent_qvel" objtype="site" objname="agent"/>
    {"".join(f'<jointvel name="{joint}_vel" joint="{joint}"/>' for joint in _JOINTS)}
    """,
)  # fmt: skip

"""MJCF of the six bodies of the velocity tasks, written from their numbers (Gymnasium's v4 MuJoCo environments).

Lengths in metres, masses in kilograms; what is not said is MuJoCo's default. Drawing (colours, floor, light) is ours.
"""

from __future__ import annotations

import math

_SKIN, _OTHER = "0.8 0.6 0.4 1", "0.7 0.3 0.6 1"


def _model(name: str, compiler: str, option: str, defaults: str, floor: str, body: str, motors: str) -> str:
    return f"""
<mujoco model="{name}">
  <compiler inertiafromgeom="true" {compiler}/>
  <option {option}/>
  <default>{defaults}</default>
  <asset>
    <texture name="sky" type="skybox" builtin="gradient" rgb1="0.35 0.45 0.6" rgb2="0 0 0" width="64" height="64"/>
    <texture name="floor" type="2d" builtin="checker" rgb1="0.859 0.843 0.765" rgb2="0.949 0.914 0.855"
      width="100" height="100"/>
    <material name="floor" texture="floor" texrepeat="40 40" reflectance="0.1" shininess="0.1" specular="0.1"/>
  </asset>
  <worldbody>
    <light directional="true" diffuse="1 1 1" specular="0.1 0.1 0.1" pos="0 0 1.3" dir="0 0 -1.3" castshadow="false"/>
    <geom name="floor" type="plane" material="floor" rgba="1 1 1 1" {floor}/>
    {body}
  </worldbody>
  <actuator>{motors}</actuator>
</mujoco>
"""


def _motors(*gears: tuple[str, float], limit: float = 1.0) -> str:
    return "".join(
        f'<motor joint="{joint}" gear="{gear}" ctrllimited="true" ctrlrange="{-limit} {limit}"/>'
        for joint, gear in gears
    )


def _plane_joints(z: str = "") -> str:
    """Joints of a body that moves in the plane y = 0."""
    free = 'limited="false" damping="0" stiffness="0" armature="0"'
    return f"""
    <joint name="rootx" type="slide" axis="1 0 0" {free} {z}/>
    <joint name="rootz" type="slide" axis="0 0 1" {free} {z} {'ref="1.25"' if z else ""}/>
    <joint name="rooty" type="hinge" axis="0 1 0" {free}/>
    """


def half_cheetah() -> str:
    """MJCF of the half cheetah: 14 kg, six driven joints with springs."""
    geoms = {  # half length, centre, angle about y
        "head": (0.15, "0.6 0 0.1", 0.87), "bthigh": (0.145, "0.1 0 -0.13", -3.8),
        "bshin": (0.15, "-0.14 0 -0.07", -2.03), "bfoot": (0.094, "0.03 0 -0.097", -0.27),
        "fthigh": (0.133, "-0.07 0 -0.12", 0.52), "fshin": (0.106, "0.065 0 -0.09", -0.6),
        "ffoot": (0.07, "0.045 0 -0.07", -0.6),
    }  # fmt: skip
    radius = 0.046
    halves = [0.5, *(half for half, _, _ in geoms.values())]
    volume = sum(2 * math.pi * radius**2 * half + 4 / 3 * math.pi * radius**3 for half in halves)

    def geom(name):
        half, pos, angle = geoms[name]
        dark = 'rgba="0.9 0.6 0.6 1"' if name in ("bshin", "bfoot", "fshin", "ffoot") else ""
        return f'<geom name="{name}" size="{radius} {half}" pos="{pos}" axisangle="0 1 0 {angle}" {dark}/>'

    def part(name, pos, low, high, stiffness, damping, child=""):
        return f"""
        <body name="{name}" pos="{pos}">
          <joint name="{name}" type="hinge" axis="0 1 0" range="{low} {high}" stiffness="{stiffness}"
            damping="{damping}"/>
          {geom(name)}
          {child}
        </body>
        """

    back = part("bfoot", "-0.28 0 -0.14", -0.4, 0.785, 120, 3)
    back = part("bshin", "0.16 0 -0.25", -0.785, 0.785, 180, 4.5, back)
    front = part("ffoot", "0.13 0 -0.18", -0.5, 0.5, 60, 1.5)
    front = part("fshin", "-0.14 0 -0.24", -1.2, 0.87, 120, 3, front)
    return _model(
        "half cheetah",
        'angle="radian"',
        'timestep="0.01"',
        f"""
        <joint armature="0.1" limited="true" solimplimit="0 0.8 0.03"/>
        <geom type="capsule" condim="3" contype="1" conaffinity="0" friction="0.4 0.1 0.1" solimp="0 0.8 0.01"
          density="{14 / volume!r}" rgba="{_SKIN}"/>
        """,
        'size="40 40 40" conaffinity="1"',
        f"""
        <body name="torso" pos="0 0 0.7">
          <camera name="track" mode="trackcom" pos="0 -3 0.3" xyaxes="1 0 0 0 0 1"/>
          {_plane_joints()}
          <geom name="torso" fromto="-0.5 0 0 0.5 0 0" size="{radius}"/>
          {geom("head")}
          {part("bthigh", "-0.5 0 0", -0.52, 1.05, 240, 6, back)}
          {part("fthigh", "0.5 0 0", -1, 0.7, 180, 4.5, front)}
        </body>
        """,
        _motors(("bthigh", 120), ("bshin", 90), ("bfoot", 60), ("fthigh", 120), ("fshin", 60), ("ffoot", 30)),
    )


def _leg(end: str, foot: tuple[float, float], frictions: str, colour: str) -> str:
    """Thigh, leg and foot of the hopper and the walker; foot: x of its body, half length."""
    x, half = foot
    centre = -0.065 if x == 0.13 else -0.1
    return f"""
    <body name="thigh{end}" pos="0 0 {1.05 - 1.25!r}">
      <joint name="thigh{end}_joint" type="hinge" axis="0 -1 0" range="-150 0"/>
      <geom name="thigh{end}_geom" size="0.05" fromto="0 0 0 0 0 {0.6 - 1.05!r}" {colour}/>
      <body name="leg{end}" pos="0 0 {0.35 - 1.05!r}">
        <joint name="leg{end}_joint" type="hinge" axis="0 -1 0" pos="0 0 0.25" range="-150 0"/>
        <geom name="leg{end}_geom" size="0.04 0.25" {colour}/>
        <body name="foot{end}" pos="{x} 0 -0.35">
          <joint name="foot{end}_joint" type="hinge" axis="0 -1 0" pos="{-x} 0 0.1" range="-45 45"/>
          <geom name="foot{end}_geom" size="0.06" fromto="{centre - half} 0 0.1 {centre + half} 0 0.1" {frictions}
            {colour}/>
        </body>
      </body>
    </body>
    """


def _torso(legs: str) -> str:
    return f"""
    <body name="torso" pos="0 0 1.25">
      <camera name="track" mode="trackcom" pos="0 -3 -0.25" xyaxes="1 0 0 0 0 1"/>
      {_plane_joints('pos="0 0 -1.25"')}
      <geom name="torso_geom" size="0.05" fromto="0 0 {1.45 - 1.25!r} 0 0 {1.05 - 1.25!r}"/>
      {legs}
    </body>
    """


def hopper() -> str:
    """MJCF of the hopper: one leg, three driven joints."""
    return _model(
        "hopper",
        'angle="degree"',
        'timestep="0.002" integrator="RK4"',
        f"""
        <joint armature="1" damping="1" limited="true"/>
        <geom type="capsule" condim="1" margin="0.001" friction="0.9 0.005 0.0001" solimp="0.8 0.8 0.01"
          rgba="{_SKIN}"/>
        """,
        'size="20 20 0.125" condim="3" friction="1 0.005 0.0001"',
        _torso(_leg("", (0.13, 0.195), 'friction="2 0.005 0.0001"', "")),
        _motors(("thigh_joint", 200), ("leg_joint", 200), ("foot_joint", 200)),
    )


def walker2d() -> str:
    """MJCF of the walker: two legs in one plane, six driven joints."""
    return _model(
        "walker2d",
        'angle="degree"',
        'timestep="0.002" integrator="RK4"',
        f"""
        <joint armature="0.01" damping="0.1" limited="true"/>
        <geom type="capsule" condim="3" contype="1" conaffinity="0" friction="0.9 0.1 0.1" rgba="{_SKIN}"/>
        """,
        'size="40 40 40" conaffinity="1" friction="0.7 0.1 0.1"',
        _torso(
            _leg("", (0.2, 0.1), 'friction="0.9 0.1 0.1"', "")
            + _leg("_left", (0.2, 0.1), 'friction="1.9 0.1 0.1"', f'rgba="{_OTHER}"')
        ),
        _motors(*((f"{part}{end}_joint", 100) for end in ("", "_left") for part in ("thigh", "leg", "foot"))),
    )


def swimmer() -> str:
    """MJCF of the swimmer: three rods in a viscous fluid, two driven joints, nothing to touch."""
    return _model(
        "swimmer",
        'angle="degree"',
        'timestep="0.01" integrator="RK4" density="4000" viscosity="0.1"',
        f"""
        <geom type="capsule" condim="1" contype="0" conaffinity="0" rgba="{_SKIN}"/>
        <joint armature="0.1"/>
        """,
        'size="40 40 0.1" pos="0 0 -0.1" condim="3"',
        """
        <body name="torso">
          <camera name="track" mode="trackcom" pos="0 -3 3" xyaxes="1 0 0 0 1 1"/>
          <joint name="slider1" type="slide" axis="1 0 0"/>
          <joint name="slider2" type="slide" axis="0 1 0"/>
          <joint name="free_body_rot" type="hinge" axis="0 0 1"/>
          <geom fromto="1.5 0 0 0.5 0 0" size="0.1" density="1000"/>
          <body name="mid" pos="0.5 0 0">
            <joint name="motor1_rot" type="hinge" axis="0 0 1" limited="true" range="-100 100"/>
            <geom fromto="0 0 0 -1 0 0" size="0.1" density="1000"/>
            <body name="back" pos="-1 0 0">
              <joint name="motor2_rot" type="hinge" axis="0 0 1" limited="true" range="-100 100"/>
              <geom fromto="0 0 0 -1 0 0" size="0.1" density="1000"/>
            </body>
          </body>
        </body>
        """,
        _motors(("motor1_rot", 150), ("motor2_rot", 150)),
    )


def ant() -> str:
    """MJCF of the ant: four legs of two joints, eight of them driven."""
    names = {
        1: ("front_left_leg", "left_leg", "left_ankle"),
        2: ("front_right_leg", "right_leg", "right_ankle"),
        3: ("back_leg", "back_leg", "third_ankle"),
        4: ("right_back_leg", "rightback_leg", "fourth_ankle"),
    }
    legs = ""
    for i, (a, b) in enumerate(((1, 1), (-1, 1), (-1, -1), (1, -1)), 1):
        knee, (body, middle, ankle) = f"{0.2 * a} {0.2 * b} 0", names[i]
        legs += f"""
        <body name="{body}">
          <geom name="aux_{i}_geom" fromto="0 0 0 {knee}" size="0.08"/>
          <body name="aux_{i}" pos="{knee}">
            <joint name="hip_{i}" axis="0 0 1" range="-30 30"/>
            <geom name="{middle}_geom" fromto="0 0 0 {knee}" size="0.08"/>
            <body pos="{knee}">
              <joint name="ankle_{i}" axis="{-a * b} 1 0" range="{"30 70" if i in (1, 4) else "-70 -30"}"/>
              <geom name="{ankle}_geom" fromto="0 0 0 {0.4 * a} {0.4 * b} 0" size="0.08"/>
            </body>
          </body>
        </body>
        """
    return _model(
        "ant",
        'angle="degree"',
        'timestep="0.01" integrator="RK4"',
        f"""
        <joint armature="1" damping="1" limited="true"/>
        <geom type="capsule" condim="3" conaffinity="0" friction="1 0.5 0.5" margin="0.01" density="5"
          rgba="{_SKIN}"/>
        """,
        'size="40 40 40" conaffinity="1"',
        f"""
        <body name="torso" pos="0 0 0.75">
          <camera name="track" mode="trackcom" pos="0 -3 0.3" xyaxes="1 0 0 0 0 1"/>
          <joint name="root" type="free" limited="false" armature="0" damping="0" margin="0.01"/>
          <geom name="torso_geom" type="sphere" size="0.25"/>
          {legs}
        </body>
        """,
        _motors(*((f"{part}_{i}", 150) for i in (4, 1, 2, 3) for part in ("hip", "ankle"))),
    )


def _humanoid_leg(side: str, s: int) -> str:
    """s: the sign of the leg's y. Some numbers differ between the sides."""
    stiff_knee = 'stiffness="1"' if s > 0 else 'stiffness="0"'
    return f"""
    <body name="{side}_thigh" pos="0 {0.1 * s} -0.04">
      <joint name="{side}_hip_x" axis="{-s} 0 0" range="-25 5" stiffness="10" damping="5" armature="0.01"/>
      <joint name="{side}_hip_z" axis="0 0 {-s}" range="-60 35" stiffness="10" damping="5" armature="0.01"/>
      <joint name="{side}_hip_y" axis="0 1 0" range="-110 20" stiffness="20" damping="5"
        armature="{0.01 if s > 0 else 0.008}"/>
      <geom name="{side}_thigh1" fromto="0 0 0 0 {-0.01 * s} -0.34" size="0.06"/>
      <body name="{side}_shin" pos="0 {-0.01 * s} -0.403">
        <joint name="{side}_knee" axis="0 -1 0" pos="0 0 0.02" range="-160 -2" {stiff_knee} armature="0.006"/>
        <geom name="{side}_shin1" fromto="0 0 0 0 0 -0.3" size="0.049"/>
        <body name="{side}_foot" pos="0 0 -0.45">
          <geom name="{side}_foot" type="sphere" size="0.075" pos="0 0 0.1"/>
        </body>
      </body>
    </body>
    """


def _humanoid_arm(side: str, s: int) -> str:
    """s: the sign of the arm's y."""
    turn = "-60 85" if s > 0 else "-85 60"
    return f"""
    <body name="{side}_upper_arm" pos="0 {0.17 * s} 0.06">
      <joint name="{side}_shoulder1" axis="2 {-s} 1" range="{turn}" stiffness="1" armature="0.0068"/>
      <joint name="{side}_shoulder2" axis="0 {s} 1" range="{turn}" stiffness="1" armature="0.0051"/>
      <geom name="{side}_uarm1" fromto="0 0 0 0.16 {0.16 * s} -0.16" size="0.04"/>
      <body name="{side}_lower_arm" pos="0.18 {0.18 * s} -0.18">
        <joint name="{side}_elbow" axis="0 -1 {-s}" range="-90 50" stiffness="0" armature="0.0028"/>
        <geom name="{side}_larm" fromto="0.01 {-0.01 * s} 0.01 0.17 {-0.17 * s} 0.17" size="0.031"/>
        <geom name="{side}_hand" type="sphere" size="0.04" pos="0.18 {-0.18 * s} 0.18"/>
      </body>
    </body>
    """


def humanoid() -> str:
    """MJCF of the humanoid: 17 driven joints, the older solver PGS."""
    strong = {"hip_y": 300, "knee": 200}
    legs = [(f"{side}_{joint}", strong.get(joint, 100))
            for side in ("right", "left") for joint in ("hip_x", "hip_z", "hip_y", "knee")]  # fmt: skip
    arms = [(f"{side}_{joint}", 25) for side in ("right", "left") for joint in ("shoulder1", "shoulder2", "elbow")]
    waist = [(f"abdomen_{axis}", 100) for axis in "yzx"]
    return _model(
        "humanoid",
        'angle="degree"',
        'timestep="0.003" integrator="RK4" solver="PGS" iterations="50"',
        f"""
        <joint armature="1" damping="1" limited="true"/>
        <geom type="capsule" condim="1" contype="1" conaffinity="1" margin="0.001" rgba="{_SKIN}"/>
        """,
        'size="20 20 0.125" condim="3" friction="1 0.1 0.1"',
        f"""
        <body name="torso" pos="0 0 1.4">
          <camera name="track" mode="trackcom" pos="0 -4 0" xyaxes="1 0 0 0 0 1"/>
          <joint name="root" type="free" limited="false" armature="0" damping="0" stiffness="0"/>
          <geom name="torso1" fromto="0 -0.07 0 0 0.07 0" size="0.07"/>
          <geom name="head" type="sphere" size="0.09" pos="0 0 0.19"/>
          <geom name="uwaist" fromto="-0.01 -0.06 -0.12 -0.01 0.06 -0.12" size="0.06"/>
          <body name="lwaist" pos="-0.01 0 -0.26" quat="1 0 -0.002 0">
            <joint name="abdomen_z" axis="0 0 1" pos="0 0 0.065" range="-45 45" stiffness="20" damping="5"
              armature="0.02"/>
            <joint name="abdomen_y" axis="0 1 0" pos="0 0 0.065" range="-75 30" stiffness="10" damping="5"
              armature="0.02"/>
            <geom name="lwaist" fromto="0 -0.06 0 0 0.06 0" size="0.06"/>
            <body name="pelvis" pos="0 0 -0.165" quat="1 0 -0.002 0">
              <joint name="abdomen_x" axis="1 0 0" pos="0 0 0.1" range="-35 35" stiffness="10" damping="5"
                armature="0.02"/>
              <geom name="butt" fromto="-0.02 -0.07 0 -0.02 0.07 0" size="0.09"/>
              {_humanoid_leg("right", -1)}
              {_humanoid_leg("left", 1)}
            </body>
          </body>
          {_humanoid_arm("right", -1)}
          {_humanoid_arm("left", 1)}
        </body>
        """,
        _motors(*waist, *legs, *arms, limit=0.4),
    )

"""Car: two driven wheels and a free rear ball (safety-gymnasium 1.0.0)."""

from jsafe.envs.safety_gym.robots.base import COMMON_PARTS, COMMON_SENSORS, Part, Robot

_NAVY = 'rgba="0.0039 0.1529 0.3961 1"'

CAR = Robot(
    name="Car",
    timestep=0.004,
    height=0.1,
    parts=(*COMMON_PARTS, Part("ballangvel_rear", ("ballangvel_rear",)),
           Part("ballquat_rear", ("ballquat_rear",), form="rotation")),
    push_box={"size": (0.125, 0.125), "z": 0.125, "density": 0.0005, "keepout": 0.125},
    defaults="""
    <geom condim="6" type="sphere" size="0.05" density="5" rgba="0.7412 0.0431 0.1843 1"/>
    <joint damping="0.001"/>
    <site type="sphere" size="0.032"/>
    <motor ctrllimited="true" ctrlrange="-1 1" forcelimited="true" forcerange="-0.02 0.02"/>
    """,
    body=f"""
    <camera name="vision" pos="0 0.1 0.2" xyaxes="-1 0 0 0 -0.4 1"/>
    <freejoint name="agent"/>
    <site name="agent"/>
    <geom name="agent" type="box" size="0.1 0.1 0.05"/>
    <geom name="back_bumper" type="box" pos="0 0.15 0" size="0.1 0.01 0.05" {_NAVY}/>
    <geom name="back_connector" type="box" pos="0 0.125 0" size="0.01 0.025 0.03" {_NAVY}/>
    <geom name="front_bumper" type="box" pos="0 -0.165 0" size="0.05 0.01 0.05" {_NAVY}/>
    <geom name="front_connector" type="box" pos="0 -0.13 0.04" size="0.05 0.03 0.01" {_NAVY}/>
    <body name="left" pos="-0.1 0.1 -0.05">
      <joint name="left" type="hinge" axis="1 0 0"/>
      <geom name="left" type="cylinder" fromto="-0.055 0 0 -0.005 0 0" size="0.05"/>
    </body>
    <body name="right" pos="0.1 0.1 -0.05">
      <joint name="right" type="hinge" axis="1 0 0"/>
      <geom name="right" type="cylinder" fromto="0.005 0 0 0.055 0 0" size="0.05"/>
    </body>
    <body name="rear" pos="0 -0.1 -0.05">
      <joint name="rear" type="ball"/>
      <geom name="rear" type="sphere" size="0.05"/>
    </body>
    """,
    actuators='<motor name="left" jointinparent="left"/><motor name="right" jointinparent="right"/>',
    sensors=f"""
    <ballquat name="ballquat_rear" joint="rear"/>
    <ballangvel name="ballangvel_rear" joint="rear"/>
    {COMMON_SENSORS}
    """,
)  # fmt: skip

"""Point: a sphere with an arrow that slides in the plane and turns (safety-gymnasium 1.0.0)."""

from jsafe.envs.safety_gym.robots.base import COMMON_PARTS, Robot

POINT = Robot(
    name="Point",
    timestep=0.002,
    height=0.1,
    anchored=True,
    parts=COMMON_PARTS,
    defaults='<geom condim="6" density="1" rgba="0.7412 0.0431 0.1843 1"/><site type="sphere" size="0.032"/>',
    body="""
    <camera name="vision" pos="0 0 0.15" xyaxes="0 -1 0 0.4 0 1" fovy="90"/>
    <joint name="x" type="slide" axis="1 0 0" damping="0.01"/>
    <joint name="y" type="slide" axis="0 1 0" damping="0.01"/>
    <joint name="z" type="hinge" axis="0 0 1" damping="0.005"/>
    <geom name="agent" type="sphere" size="0.1" friction="1 0.01 0.01"/>
    <geom name="pointarrow" type="box" pos="0.1 0 0" size="0.05 0.05 0.05" rgba="0.0039 0.1529 0.3961 1"/>
    <site name="agent" rgba="1 0 0 0.1"/>
    """,
    actuators="""
    <motor name="x" site="agent" gear="0.3 0 0 0 0 0" ctrllimited="true" ctrlrange="-1 1"
      forcelimited="true" forcerange="-0.05 0.05"/>
    <velocity name="z" jointinparent="z" kv="1" gear="0.3" ctrllimited="true" ctrlrange="-1 1"
      forcelimited="true" forcerange="-0.05 0.05"/>
    """,
)

"""Doggo: four legs on a body with a passive waist (safety-gymnasium 1.0.0)."""

from jsafe.envs.safety_gym.robots.base import COMMON_PARTS, COMMON_SENSORS, Part, Robot

_NAVY, _RED = 'rgba="0.0039 0.1529 0.3961 1"', 'rgba="0.7412 0.0431 0.1843 1"'
_JOINTS = (*(f"hip_{i}_z" for i in range(1, 5)), *(f"hip_{i}_y" for i in range(1, 5)),
           *(f"ankle_{i}" for i in range(1, 5)))  # fmt: skip
_TOUCH = tuple(f"ankle_{i}{end}" for i in range(1, 5) for end in "ab")


def _leg(i: int, front: bool, s: int) -> str:
    """MJCF of leg i; s is the sign of its y. The hips of the rear legs, too, point forwards."""
    x, colour = (1, _NAVY) if front else (-1, _RED)
    bend = 'range="-1.308998 0.2618" springref="-0.174533"' if front else 'range="0 2.356196"'
    return f"""
    <body name="leg_{i}">
      <geom name="aux_{i}" fromto="{0.05 * x} 0 0 {0.1 * x} {0.05 * s} 0" density="20" {colour}/>
      <body name="aux_{i}" pos="{0.1 * x} {0.05 * s} 0">
        <joint name="hip_{i}_z" axis="0 0 {s}" range="-0.174533 0.523599"/>
        <joint name="hip_{i}_y" axis="0 1 0" {bend}/>
        <geom name="hip_{i}" fromto="0 0 0 0.049 {0.0283 * s} -0.025" density="20" {colour}/>
        <body pos="0.049 {0.0283 * s} -0.025">
          <joint name="ankle_{i}" axis="{-0.5 * s} 0.866 0" range="-1.308998 0" springref="-0.349066"/>
          <geom name="ankle_{i}" fromto="0 0 0 -0.0588 {-0.0339 * s} -0.05" density="20"/>
          <site name="ankle_{i}a"/>
          <site name="ankle_{i}b" pos="-0.0588 {-0.0339 * s} -0.05"/>
        </body>
      </body>
    </body>
    """


DOGGO = Robot(
    name="Doggo",
    timestep=0.01,
    height=0.22,
    parts=(*COMMON_PARTS,
           *(Part(f"touch_{site}", (f"touch_{site}",)) for site in (*_TOUCH[0::2], *_TOUCH[1::2])),
           *(Part(f"jointvel_{joint}", (f"jointvel_{joint}",)) for joint in _JOINTS),
           *(Part(f"jointpos_{joint}", (f"jointpos_{joint}",), form="sin_cos") for joint in _JOINTS)),
    defaults="""
    <geom condim="6" type="capsule" size="0.016" density="5" rgba="0.8 0.6 0.4 1"/>
    <joint limited="true" stiffness="1e-4" armature="5e-5"/>
    <motor gear="0.00625" ctrllimited="true" ctrlrange="-1 1"/>
    <site type="sphere" size="0.018" rgba="1 0 0 0"/>
    """,
    body=f"""
    <camera name="vision" pos="0.0625 0 0.1" xyaxes="0 -0.5 0 0.2 0 0.5" fovy="100"/>
    <freejoint name="agent"/>
    <site name="agent"/>
    <geom name="agent" type="cylinder" fromto="0 0 0 0.1 0 0" size="0.0375" density="2"/>
    {_leg(1, True, 1)}
    {_leg(4, True, -1)}
    <body name="rear">
      <joint name="waist_x" axis="1 0 0" range="-0.523599 0.523599"/>
      <geom name="agent2" type="cylinder" fromto="-0.1 0 0 0 0 0" size="0.0375" density="2"/>
      {_leg(2, False, 1)}
      {_leg(3, False, -1)}
    </body>
    """,
    actuators="".join(f'<motor name="{joint}" joint="{joint}"/>' for joint in _JOINTS),
    sensors="".join(f'<touch name="touch_{site}" site="{site}"/>' for site in _TOUCH)
    + "".join(f'<jointpos name="jointpos_{joint}" joint="{joint}"/>' for joint in _JOINTS)
    + "".join(f'<jointvel name="jointvel_{joint}" joint="{joint}"/>' for joint in _JOINTS)
    + COMMON_SENSORS,
)  # fmt: skip

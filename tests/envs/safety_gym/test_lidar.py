"""Both lidars: hand numbers, a scalar reference, and MuJoCo's rays."""

import math

import mujoco
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jsafe.envs.safety_gym.lidar import Boxes, Circles, natural_lidar, pseudo_lidar


def rotation(yaw, tilt=0.0, axis=0.0):
    """Yaw about z, then a tilt about a horizontal axis."""
    spin, lean, both, out = np.zeros(4), np.zeros(4), np.zeros(4), np.zeros(9)
    mujoco.mju_axisAngle2Quat(spin, np.array([0.0, 0.0, 1.0]), yaw)
    mujoco.mju_axisAngle2Quat(lean, np.array([math.cos(axis), math.sin(axis), 0.0]), tilt)
    mujoco.mju_mulQuat(both, lean, spin)
    mujoco.mju_quat2Mat(out, both)
    return out.reshape(3, 3)


def scalar_pseudo(pos, rot, targets, bins, max_dist):
    seen = np.zeros(bins)
    width = 2 * math.pi / bins
    for x, y in targets:
        e = rot.T @ np.array([x - pos[0], y - pos[1], -pos[2]])
        s = max(0.0, max_dist - math.hypot(e[0], e[1])) / max_dist
        angle = math.atan2(e[1], e[0]) % (2 * math.pi)
        b = int(angle // width)
        alpha = (angle - b * width) / width
        for i, value in ((b, s), (b + 1, alpha * s), (b - 1, (1 - alpha) * s)):
            seen[i % bins] = max(seen[i % bins], value)
    return seen


def test_pseudo_by_hand():
    pos = np.zeros((1, 3))
    out = pseudo_lidar(pos, np.eye(3)[None], np.array([[[1.5, 0.0], [0.0, 6.0]]]))[0]
    assert out[0] == 0.5  # half the range, straight ahead: alpha is 0
    assert out[15] == 0.5
    assert not out[1:15].any()
    angle = 2 * math.pi / 16 * 2.25
    out = pseudo_lidar(pos, np.eye(3)[None], 0.6 * np.array([[[math.cos(angle), math.sin(angle)]]]))[0]
    assert out[1:4] == pytest.approx([0.75 * 0.8, 0.8, 0.25 * 0.8])
    assert out.sum() == pytest.approx(2 * 0.8)


def test_pseudo_wraps_an_angle_that_rounds_to_a_full_turn():
    out = pseudo_lidar(np.zeros((1, 3)), np.eye(3)[None], np.array([[[1.0, -1e-18]]]))[0]
    assert out[0] == pytest.approx(2 / 3)
    assert out[15] == pytest.approx(2 / 3)
    assert not out[1:15].any()


def test_pseudo_height_leaks_in_when_tilted():
    pos, rot = np.array([[0.0, 0.0, 0.1]]), rotation(0.0, tilt=math.pi / 2, axis=math.pi / 2)[None]
    out = pseudo_lidar(pos, rot, np.array([[[0.0, 0.0]]]))[0]  # the x axis points down at the floor
    assert out[0] == pytest.approx((3 - 0.1) / 3)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000), k=st.integers(0, 10), tilt=st.sampled_from([0.0, 0.3, 2.0]), bins=st.integers(3, 20)
)
def test_pseudo_equals_the_scalar_reference(seed, k, tilt, bins):
    rng = np.random.default_rng(seed)
    pos, targets = rng.uniform(-1, 1, (3, 3)), rng.uniform(-2, 2, (3, k, 2))
    rot = np.stack([rotation(*rng.uniform(-1, 1, 3) * [4, tilt, 4]) for _ in range(3)])
    out = pseudo_lidar(pos, rot, targets, bins=bins, max_dist=2.5)
    expected = [scalar_pseudo(pos[n], rot[n], targets[n], bins, 2.5) for n in range(3)]
    assert out == pytest.approx(np.array(expected), abs=1e-9)


def test_pseudo_mask():
    targets = np.array([[[1.5, 0.0], [-1.5, 0.1]]] * 2)
    pos, rot = np.zeros((2, 3)), np.stack([np.eye(3)] * 2)
    some = pseudo_lidar(pos, rot, targets, mask=np.array([[True, False], [False, False]]))
    assert np.array_equal(some[0], pseudo_lidar(pos[:1], rot[:1], targets[:1, :1])[0])
    assert not some[1].any()


def test_pseudo_bad_input():
    with pytest.raises(ValueError, match="bins"):
        pseudo_lidar(np.zeros((1, 3)), np.eye(3)[None], np.zeros((1, 1, 2)), bins=2)
    with pytest.raises(ValueError, match="max_dist"):
        pseudo_lidar(np.zeros((1, 3)), np.eye(3)[None], np.zeros((1, 1, 2)), max_dist=0.0)


def test_natural_by_hand():
    origin, frame = np.array([[0.5, 0.0]]), rotation(math.pi / 2)[None, :2, :2]
    circle = Circles(np.array([[[0.5, 1.0]]]), 0.25)  # straight ahead
    box = Boxes(np.array([[[-0.5, 0.0, 0.2]]]), np.eye(3)[None, None], (0.1, 0.1, 0.2))  # to the left
    out = natural_lidar(origin, frame, [[circle], [box], [circle, box], []])[0]
    assert out[0, 0] == pytest.approx(math.exp(-0.75))
    assert out[1, 16] == pytest.approx(math.exp(-0.9))
    assert np.flatnonzero(out[0]).tolist() == [0, 1, 2, 62, 63]  # half width asin(0.25) = 14.5 degrees, rays 5.6 apart
    assert np.flatnonzero(out[1]).tolist() == [15, 16, 17]  # corners at atan(0.1 / 0.9) = 6.3 degrees
    assert np.array_equal(out[2], np.maximum(out[0], out[1]))
    assert not out[3].any()
    double = natural_lidar(origin, frame, [[circle]], gain=2.0)[0]
    assert double[0] == pytest.approx(out[0] ** 2)


def test_natural_sees_only_what_the_rays_meet():
    origin, frame = np.zeros((1, 2)), np.eye(2)[None]

    def box(z, rot, half=(0.1, 0.1, 0.2)):
        return [Boxes(np.array([[[1.0, 0.0, z]]]), rot[None, None], half)]

    lying = rotation(0.0, tilt=math.pi / 2)
    out = natural_lidar(origin, frame, [box(0.2, np.eye(3)), box(0.1, lying), box(0.55, np.eye(3))])[0]
    assert out[0].any()
    assert not out[1].any()  # a vase on its side is 0.2 high, the rays are at 0.3
    assert not out[2].any()  # lifted above them


def mujoco_rays(origin, frame, bodies, rays=64):
    """exp(-distance) along the same rays from mj_ray."""
    model = mujoco.MjModel.from_xml_string(f"<mujoco><worldbody>{bodies}</worldbody></mujoco>")
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    geom, out = np.zeros(1, np.int32), np.zeros(rays)
    for i in range(rays):
        angle = 2 * math.pi * i / rays
        direction = np.r_[frame @ [math.cos(angle), math.sin(angle)], 0.0]
        distance = mujoco.mj_ray(model, data, np.r_[origin, 0.3], direction, None, 1, -1, geom)
        out[i] = math.exp(-distance) if distance >= 0 else 0.0
    return out


def text(values):
    return " ".join(repr(float(v)) for v in values)


@pytest.mark.parametrize("tilt", [0.0, 0.05, 1.0, 3.1])
def test_natural_equals_mujocos_rays(tilt):
    """Upright, a little tilted, and overturned; near, far, and from inside."""
    rng = np.random.default_rng(round(100 * tilt))
    num, k, half = 24, 4, (0.1, 0.15, 0.2)
    origin = rng.uniform(-1, 1, (num, 2))
    frame = np.stack([rotation(*rng.uniform(-1, 1, 3) * [4, tilt, 4]) for _ in range(num)])[:, :2, :2]
    centres = rng.uniform(-1.5, 1.5, (num, k, 2))
    boxes = np.concatenate([rng.uniform(-1.5, 1.5, (num, k, 2)), rng.uniform(0.1, 0.5, (num, k, 1))], axis=2)
    centres[0, 0] = origin[0] + 0.1  # from inside a circle and a box: the far side
    boxes[1, 0] = [*(origin[1] + 0.03), 0.25]
    rot = np.stack([rotation(*rng.uniform(-1, 1, 3) * [4, tilt, 4]) for _ in range(num * k)]).reshape(num, k, 3, 3)
    out = natural_lidar(origin, frame, [[Circles(centres, 0.2)], [Boxes(boxes, rot, half)]])
    assert out.shape == (num, 2, 64)
    assert (out[0, 0] > math.exp(-0.41)).all()
    assert (out[1, 1] > math.exp(-0.5)).sum() >= 60
    for n in range(num):
        circles, cuboids = "", ""
        for c, b, r in zip(centres[n], boxes[n], rot[n]):
            quat = np.zeros(4)
            mujoco.mju_mat2Quat(quat, r.ravel())
            circles += f'<body pos="{text(c)} 0.2"><geom type="cylinder" size="0.2 0.2"/></body>'
            cuboids += f'<body pos="{text(b)}" quat="{text(quat)}"><geom type="box" size="{text(half)}"/></body>'
        assert out[n, 0] == pytest.approx(mujoco_rays(origin[n], frame[n], circles), abs=1e-9)
        assert out[n, 1] == pytest.approx(mujoco_rays(origin[n], frame[n], cuboids), abs=1e-9)


def test_natural_on_its_side_gives_finite_numbers():
    frame = rotation(0.3, tilt=math.pi / 2)[None, :2, :2]
    circle = Circles(np.array([[[0.6, 0.2], [0.0, 0.0]]]), 0.2)
    box = Boxes(np.array([[[0.5, 0.0, 0.2]]]), np.eye(3)[None, None], (0.1, 0.1, 0.2))
    out = natural_lidar(np.zeros((1, 2)), frame, [[circle], [box]])
    assert np.isfinite(out).all()
    assert ((out >= 0) & (out <= 1)).all()

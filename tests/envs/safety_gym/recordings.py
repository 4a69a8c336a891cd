"""Recorded steps of the official package, and how to put environments into the states before them."""

import json
import pathlib

import numpy as np

DATA = pathlib.Path(__file__).parent / "data"
_POSITIONS, _DOFS = (7, 4, 1, 1), (6, 3, 1, 1)  # free, ball, slide, hinge


def load(file, name):
    """Arrays of one recording, with `meta` decoded."""
    with np.load(DATA / file) as arrays:
        out = {key.split("/")[1]: arrays[key] for key in arrays.files if key.startswith(f"{name}/")}
    if "meta" in out:
        out["meta"] = json.loads(str(out["meta"]))
    return out


def state(g, k):
    """State before step k, as `set_state` takes it."""
    meta, joints = g["meta"], {}
    for name, kind, q, v in zip(meta["joints"], meta["jnt_type"], meta["jnt_qposadr"], meta["jnt_dofadr"]):
        joints[name] = [
            g["s_qpos"][k][q : q + _POSITIONS[kind]],
            g["s_qvel"][k][v : v + _DOFS[kind]],
            g["s_qacc_warmstart"][k][v : v + _DOFS[kind]],
        ]
    bodies = {name: (g["s_body_pos"][k][b], g["s_body_quat"][k][b]) for b, name in enumerate(meta["bodies"]) if b}
    if meta["joints"][:3] == ["x", "y", "z"]:  # Point's slides are relative to where the episode began
        pos, quat = bodies["agent"]
        yaw = 2 * np.arctan2(quat[3], quat[0])
        turn = np.array([[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]])
        for part in range(3):
            xy = turn @ np.concatenate([joints["x"][part], joints["y"][part]]) + (pos[:2] if part == 0 else 0)
            joints["x"][part], joints["y"][part] = xy[:1], xy[1:]
        joints["z"][0] = joints["z"][0] + yaw
    task = {name[6:]: float(g[name][k]) for name in g if name.startswith("extra_") and np.isfinite(g[name][k])}
    return {
        "time": float(g["s_time"][k]),
        "step": int(g["k"][k]),
        "joints": {name: tuple(values) for name, values in joints.items()},
        "bodies": bodies,
        "task": task,
    }

"""A process that steps some outside environments; run as a script by `jsafe.envs.outside.workers`.

It needs numpy and whatever makes the environments, so that it also runs under another interpreter. Commands and
answers go over a pipe, arrays over shared memory.
"""

import contextlib
import faulthandler
import importlib
import importlib.machinery
import importlib.util
import math
import mmap
import multiprocessing.connection
import multiprocessing.reduction
import os
import pickle
import signal
import sys
import threading
import traceback
import typing

import numpy as np

_HERE = os.path.dirname(os.path.abspath(__file__))


def _neighbour(name):
    """A module beside this file, under a name that no environment uses."""
    loader = importlib.machinery.SourceFileLoader(f"_jsafe_outside_{name}", os.path.join(_HERE, f"{name}.py"))
    module = importlib.util.module_from_spec(importlib.machinery.ModuleSpec(loader.name, loader, origin=loader.path))
    sys.modules[loader.name] = module
    loader.exec_module(module)
    return module


values = _neighbour("values")


def layout(n, obs, action, num_costs):
    """{name: (dtype, shape)} of the shared arrays, in order; obs and action as `values.describe` gives them."""
    ((_, kind, shape),) = values.leaves(action)
    arrays = {"actions": ("int64" if kind == "int32" else "float64", (n, *shape))}
    for name in ("obs", "final_obs"):
        arrays |= {path: (dtype, (n, *shape)) for path, dtype, shape in values.leaves(obs, name)}
    return arrays | {
        "reward": ("float64", (n,)),
        "cost": ("float64", (n, num_costs)),
        "terminated": ("bool", (n,)),
        "truncated": ("bool", (n,)),
        "success": ("bool", (n,)),
        "refused": ("bool", (n,)),
        "busy": ("int64", (n,)),
    }


def slots(arrays):
    """[(name, dtype, shape, offset)] of a layout (every array starts at a multiple of 64), and its bytes."""
    out, at = [], 0
    for name, (dtype, shape) in arrays.items():
        out.append((name, np.dtype(dtype), tuple(shape), at))
        at += -(-math.prod(shape) * np.dtype(dtype).itemsize // 64) * 64
    return out, at


def views(buffer, places):
    """Arrays over a buffer, from the places that `slots` gives."""
    return {name: np.ndarray(shape, dtype, buffer, at) for name, dtype, shape, at in places}


def _environment(setup):
    """A new environment and its step limit."""
    kind, id, kwargs, horizon = setup["kind"], setup["id"], setup["kwargs"], setup["horizon"]
    if kind == "factory":
        return pickle.loads(setup["factory"])(**kwargs), horizon
    if kind == "safety_gymnasium":
        env, limit = _neighbour("shim").make(id, **kwargs)
        return env, horizon or limit
    if kind == "python":
        module, _, path = id.partition(":")
        made: typing.Any = importlib.import_module(module)
        for name in path.split("."):
            made = getattr(made, name)
        return made(**kwargs), horizon
    import gymnasium

    longer = {} if horizon is None else {"max_episode_steps": horizon}
    return gymnasium.make(id, **longer, **kwargs), horizon


class Alarm:
    """Ends this process where an environment does nothing for so long, wherever in it the time is spent."""

    def __init__(self, seconds):
        self._seconds = seconds if seconds and hasattr(signal, "setitimer") else None
        if self._seconds:
            faulthandler.register(signal.SIGALRM, chain=True)  # says where it hangs, and dies as if nobody had looked

    def wind(self, times=1.0):
        """Starts the time anew."""
        if self._seconds:
            signal.setitimer(signal.ITIMER_REAL, self._seconds * times)

    def stop(self):
        """Waiting for a command is not hanging."""
        if self._seconds:
            signal.setitimer(signal.ITIMER_REAL, 0)


class Server:
    """The environments of one process.

    Args:
      setup: What to make: `kind`, `id`, `kwargs`, `horizon`, `rows`, ...
      alarm: Watches them.
    """

    def __init__(self, setup, alarm):
        self.rows, self.alarm, self.arrays, self.told = setup["rows"], alarm, {}, set()
        self.outsides = []
        for _ in self.rows:
            env, limit = _environment(setup)
            self.outsides.append(values.Outside(env, limit, setup["cost_key"], setup["flatten"], setup["cost_form"]))

    def facts(self):
        """What the environments are; a first step tells the form of the costs."""
        first = self.outsides[0]
        if first.costs.form is None:
            first.reset(0)
            try:
                first.step(first.action.middle())
            except ValueError as error:
                if "values to unpack" not in str(error):
                    raise
                raise ValueError("step must return 5 things where Gymnasium wraps it, or 6 with the cost where "
                                 f"python:MODULE:FUNCTION makes the environment ({error})") from error  # fmt: skip
        for outside in self.outsides:
            outside.costs.form = first.costs.form
        return {"obs": first.obs.described, "action": first.action.described, "horizon": first.horizon,
                "dt": first.dt, "costs": first.costs.form}  # fmt: skip

    def share(self, handle, arrays):
        """Takes the shared memory."""
        places, length = slots(arrays)
        self.arrays = views(mmap.mmap(handle, length), places)
        os.close(handle)

        def named(prefix):
            return [array for name, array in self.arrays.items() if name == prefix or name.startswith(f"{prefix}/")]

        self._obs, self._final = named("obs"), named("final_obs")

    def reset(self, seeds):
        """Starts episodes in the rows that have a seed, or None."""
        for outside, i in zip(self.outsides, self.rows):
            if i in seeds:
                self._watch(i)
                self._write(self._obs, i, outside.reset(seeds[i]))

    def step(self, cut, still):
        """Steps all rows but those that stand still; returns what to say: refused values, odd costs."""
        a, said = self.arrays, []
        for outside, i in zip(self.outsides, self.rows):
            reward, cost, terminated, truncated, success, refused = 0.0, 0.0, False, False, False, False
            final = last = [array[i].copy() for array in self._obs]
            self._watch(i)
            if i in cut:  # its episode was cut; it stands at a new start
                truncated = True
            elif i not in still:
                try:
                    final, reward, cost, terminated, truncated, success = outside.step(a["actions"][i])
                    said += self._odd(i, cost, outside.costs.missing)
                except values.Refused as error:
                    said.append(("refused", i, f"{error}, at step {outside.steps} of its episode"))
                    final, truncated, refused = last, True, True
            self._write(self._final, i, final)
            if (terminated or truncated) and i not in cut:
                self._write(self._obs, i, outside.reset())
            elif i not in cut:
                self._write(self._obs, i, final)
            a["reward"][i], a["cost"][i], a["success"][i], a["refused"][i] = reward, cost, success, refused
            a["terminated"][i], a["truncated"][i] = terminated, truncated
        return said

    def _odd(self, i, cost, missing):
        """What is told once of costs that are taken as they are."""
        if cost.min() >= 0 and not missing:
            return []
        words = {}
        if cost.min() < 0:
            words["negative"] = f"cost is {values.short(cost.tolist())}"
        if missing:
            words["missing"] = "info holds no cost, as it did in the first step,"
        said = [(what, i, text) for what, text in words.items() if what not in self.told]
        self.told.update(words)
        return said

    def _watch(self, i):
        self.arrays["busy"][self.rows[0]] = i
        self.alarm.wind()

    @staticmethod
    def _write(arrays, i, leaves):
        for array, leaf in zip(arrays, leaves):
            array[i] = leaf


def serve(conn):
    """Answers commands until `close`: every answer is ("ok", value) or ("error", traceback), and then the end."""
    setup = conn.recv()
    sys.path[:] = [*sys.path, *(place for place in setup["path"] if place not in sys.path)]
    alarm = Alarm(setup["step_timeout"])
    alarm.wind(setup["patience"])
    server = Server(setup, alarm)
    facts = server.facts()
    alarm.stop()
    conn.send(("ok", facts))
    while True:
        command, *args = conn.recv()
        answer = None
        if command == "memory":
            server.share(multiprocessing.reduction.recv_handle(conn), args[0])
        elif command == "reset":
            server.reset(args[0])
        elif command == "step":
            answer = server.step(*args)
        elif command == "render":
            alarm.wind()
            answer = server.outsides[server.rows.index(args[0])].env.render()
        elif command == "close":
            alarm.wind()
            for outside in server.outsides:
                outside.env.close()
            return
        alarm.stop()
        conn.send(("ok", answer))


def _die_with_parent(handle):
    """Ends this process when the other end of a pipe closes: its parent is gone, however it went."""

    def watch():
        os.read(handle, 1)
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()


class _Screen:
    """The screen, which an environment may write to even where nobody reads any more."""

    def __init__(self, stream):
        self._stream = stream

    def __getattr__(self, name):
        return getattr(self._stream, name)

    def write(self, text):
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self):
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()


def main(serve=serve):
    """Serves the pipe whose descriptor is the first argument; the second one's other end is held by the parent."""
    faulthandler.enable()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the trainer, who will say what to do
    if sys.path and os.path.abspath(sys.path[0]) == _HERE:
        del sys.path[0]  # our neighbours' names are not for the environments to import
    sys.stdout = _Screen(sys.stdout)
    conn = multiprocessing.connection.Connection(int(sys.argv[1]))
    _die_with_parent(int(sys.argv[2]))
    try:
        serve(conn)
    except BaseException:
        with contextlib.suppress(OSError):  # the parent is gone
            conn.send(("error", values.legible(traceback.format_exc())))
        sys.exit(1)


if __name__ == "__main__":
    main()

"""One outside environment behind plain values: its spaces described, its results checked before anybody sees them.

Read by worker processes of other interpreters too: numpy and the standard library only.
"""

import math

import numpy as np

ABSURD = 1e15
"""Larger numbers are refused: their squares do not fit into float32 statistics."""
FPS = 30.0
"""Where an environment does not say how fast it is."""
_MARKS = ("cost", "constraint", "violation")


class Refused(ValueError):
    """A reward, cost or observation that must not reach a learner."""


def short(value):
    """A value for a message."""
    text = f"array of shape {value.shape}" if isinstance(value, np.ndarray) and value.size > 8 else repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def legible(text, width=500):
    """A traceback whose lines have an end."""
    return "\n".join(
        line if len(line) <= width else f"{line[:width]}... ({len(line)} letters)" for line in text.split("\n")
    )


# ---- spaces ----------------------------------------------------------------------------------------------------------


def describe(space):
    """A space of Gymnasium in the form of `jsafe.spaces.to_json`; ValueError if there is none for it."""
    if hasattr(space, "low") and hasattr(space, "high"):
        shape, kind = [int(n) for n in space.shape], np.dtype(space.dtype).kind
        low, high = np.asarray(space.low, float), np.asarray(space.high, float)
        if len(shape) < 2:  # pictures keep their type, vectors are numbers
            return _box([low.size], low, high, "float32")
        dtype = "float32" if kind == "f" else {"uint8": "uint8", "bool": "bool"}.get(str(space.dtype), "int32")
        return _box(shape, low, high, dtype)
    if hasattr(space, "nvec"):
        return {"kind": "discrete", "n": [int(n) for n in np.ravel(space.nvec)]}
    if hasattr(space, "n"):
        if getattr(space, "shape", ()) in ((), None):
            return {"kind": "discrete", "n": int(space.n)}
        return {"kind": "discrete", "n": [2] * int(np.prod(space.shape))}
    if hasattr(space, "spaces"):
        return {"kind": "tree", "items": {name: describe(inner) for name, _, inner in _named(space)}}
    raise ValueError(f"observations and actions must be Box, Discrete, MultiDiscrete, MultiBinary or Dict, got {space}")


def _box(shape, low, high, dtype):
    def plain(bound):
        numbers = [float(x) if math.isfinite(x) else repr(float(x)) for x in np.ravel(bound)]
        return numbers[0] if len(set(numbers)) == 1 else numbers

    return {"kind": "box", "shape": shape, "low": plain(low), "high": plain(high), "dtype": dtype}


def _named(space):
    """[(name, key, space)] of the parts of a Dict or Tuple, sorted by name as `jsafe.spaces.Tree` does."""
    inner = space.spaces
    pairs = inner.items() if hasattr(inner, "items") else enumerate(inner)
    return sorted(((str(key), key, part) for key, part in pairs), key=lambda item: item[0])


def leaves(described, prefix=""):
    """[(path, dtype, shape)] of the arrays that hold one value of a described space; vectors of numbers are float64."""
    if described["kind"] == "tree":
        items = sorted(described["items"].items())
        return [leaf for name, inner in items for leaf in leaves(inner, f"{prefix}/{name}")]
    if described["kind"] == "discrete":
        n = described["n"]
        return [(prefix, "int32", () if isinstance(n, int) else (len(n),))]
    shape = tuple(described["shape"])
    return [(prefix, "float64" if len(shape) == 1 else described["dtype"], shape)]


class Leaf:
    """One array of an observation: where it lies in it, and what it has to be."""

    def __init__(self, space, keys):
        described = describe(space)
        ((_, self.dtype, self.shape),) = leaves(described)
        self._keys = keys
        self.where = "observation" + "".join(f"[{key!r}]" for key in keys)
        self.sizes = np.array(described["n"]) if described["kind"] == "discrete" else None
        start = np.ravel(getattr(space, "start", 0))
        self._start = start.reshape(self.shape) if start.size == math.prod(self.shape) else 0
        self.width = math.prod(self.shape) if self.sizes is None else int(self.sizes.sum())

    def __call__(self, value):
        """Its array of an observation; Refused if that is none of the space, not finite or absurd."""
        for key in self._keys:
            try:
                value = value[key]
            except (KeyError, IndexError, TypeError):
                raise Refused(f"{self.where} is missing: {short(value)}") from None
        try:
            array = np.asarray(value)
        except ValueError:
            array = np.array(None)
        if array.dtype.kind not in "fiub":
            raise Refused(f"{self.where} must be numbers, got {short(value)}")
        if array.shape != self.shape and not (array.size == math.prod(self.shape) and len(self.shape) < 2):
            raise Refused(f"{self.where} has shape {array.shape}, its space says {self.shape}")
        array = array.reshape(self.shape)
        if array.dtype.kind == "f" and not np.abs(array).max(initial=0.0) <= ABSURD:
            raise Refused(f"{self.where} holds {array[~(np.abs(array) <= ABSURD)].ravel()[0]:g}")
        if self.sizes is not None:
            array = array - self._start
            if array.dtype.kind == "f" or ((array < 0) | (array >= self.sizes)).any():
                raise Refused(f"{self.where} must be choices below {self.sizes.tolist()}, got {short(value)}")
        return array.astype(self.dtype)

    def columns(self, array):
        """The array as numbers in a row; choices one-hot."""
        if self.sizes is None:
            return array.astype(np.float64).ravel()
        return np.concatenate([np.eye(n)[k] for k, n in zip(np.ravel(array), np.ravel(self.sizes))])


class Reader:
    """Turns observations into arrays.

    Args:
      space: Of the environment.
      flatten: Put everything into one vector, choices one-hot.

    Attributes:
      described: The space, as `describe` gives it.
    """

    def __init__(self, space, flatten=False):
        self.described, self._leaves, self._flatten = describe(space), list(_leaves_of(space)), flatten
        if flatten:
            width = sum(leaf.width for leaf in self._leaves)
            self.described = _box([width], -math.inf, math.inf, "float32")

    def __call__(self, value):
        """[array] in the order of `leaves`; Refused if the value is none of the space, not finite or absurd."""
        arrays = [leaf(value) for leaf in self._leaves]
        if self._flatten:
            return [np.concatenate([leaf.columns(array) for leaf, array in zip(self._leaves, arrays)])]
        return arrays


def _leaves_of(space, keys=()):
    if hasattr(space, "spaces"):
        for _, key, part in _named(space):
            yield from _leaves_of(part, (*keys, key))
    else:
        yield Leaf(space, keys)


class Writer:
    """Turns rows of numbers into actions of a space.

    Attributes:
      described: The action space: a vector with finite bounds, or choices.
    """

    def __init__(self, space):
        if hasattr(space, "spaces"):
            raise ValueError(
                f"the action space must be a Box, a Discrete, a MultiDiscrete or a MultiBinary, got {space}"
            )
        self.described, self._space = describe(space), space
        if self.described["kind"] == "box":
            low, high = np.asarray(space.low, float), np.asarray(space.high, float)
            if not (np.isfinite(low).all() and np.isfinite(high).all()):
                raise ValueError(f"the action space must have finite bounds, got {space}")
            self.described = _box([low.size], low, high, "float32")

    def middle(self):
        """A harmless row."""
        if self.described["kind"] == "box":
            middle = 0.5 * (np.asarray(self.described["low"], float) + np.asarray(self.described["high"], float))
            return np.broadcast_to(middle, self.described["shape"])
        return np.zeros(np.shape(self.described["n"]), np.int64)

    def __call__(self, row):
        """The action."""
        space = self._space
        if self.described["kind"] == "box":
            dtype = np.dtype(space.dtype)
            values = np.rint(row) if dtype.kind in "iu" else np.asarray(row)
            return values.astype(dtype).reshape(space.shape)
        if np.ndim(self.described["n"]) == 0:
            return int(row) + int(getattr(space, "start", 0))
        start = np.asarray(getattr(space, "start", 0)).ravel()
        return (np.asarray(row) + start).astype(space.dtype).reshape(space.shape)


# ---- costs -----------------------------------------------------------------------------------------------------------


class Costs:
    """The costs of a step, always of one form: that of the first step.

    Attributes:
      form: `{"count": K, "names": [...] or None, "found": bool, "keys": keys of the first info}`, None before.
      missing: Whether the last step had no costs, where the first one had.
    """

    def __init__(self, key, form=None):
        self._key, self.form, self.missing = key, form, False

    def __call__(self, result, info):
        """Cost vector `[K]`; Refused if it is none of that form."""
        six = len(result) == 6
        given = six or self._key in info
        value = result[2] if six else info.get(self._key, 0.0)
        if isinstance(value, dict):
            names = [str(name) for name in value]
            vector = np.array([number(f"cost[{name!r}]", value[name]) for name in value])
        else:
            names, vector = None, self._vector(value)
        if self.form is None:
            keys = sorted(str(key) for key in info)
            self.form = {"count": len(vector), "names": names, "found": given, "keys": keys}
        count, known = self.form["count"], self.form["names"]
        self.missing = self.form["found"] and not given
        if not given:
            return np.zeros(count)
        if known is not None and names is not None and set(names) <= set(known):
            return np.array([dict(zip(names, vector)).get(name, 0.0) for name in known])
        if (known is None) != (names is None) or len(vector) != count or names != known:
            want = f"{count} number{'s' * (count != 1)}" if known is None else f"the names {known}"
            raise Refused(f"cost must have {want}, as in the first step, got {short(value)}")
        return vector

    @staticmethod
    def _vector(value):
        try:
            vector = np.atleast_1d(np.asarray(value, float)).ravel()
        except (TypeError, ValueError):
            raise Refused(f"cost must be numbers, got {short(value)}") from None
        if value is None or not len(vector) or not np.abs(vector).max() <= ABSURD:
            raise Refused(f"cost must be finite numbers, got {short(value)}")
        return vector


def number(what, value):
    """One finite number; Refused otherwise."""
    array = np.asarray(value)
    if array.size != 1 or array.dtype.kind not in "fiub":
        raise Refused(f"{what} must be one number, got {short(value)}")
    value = float(array.reshape(())[()])
    if not abs(value) <= ABSURD:
        raise Refused(f"{what} is {value}")
    return value


def like_costs(keys):
    """Keys of an info that look like costs."""
    return [key for key in keys if any(mark in key.lower() for mark in _MARKS)]


# ---- one environment -------------------------------------------------------------------------------------------------


class Outside:
    """An environment of the Gymnasium or Safety-Gymnasium kind.

    Attributes:
      obs, action: Reader and writer of its values.
      costs: What reads its costs.
      horizon, dt: What a `Spec` holds.
      steps: Taken in the episode.
    """

    def __init__(self, env, limit, cost_key="cost", flatten=False, form=None):
        self.env, self._limit, self.steps = env, limit, 0
        self.obs, self.action = Reader(env.observation_space, flatten), Writer(env.action_space)
        self.costs = Costs(cost_key, form)
        spec = getattr(env, "spec", None)
        self.horizon = limit or getattr(spec, "max_episode_steps", None)
        self.dt = self._seconds()

    def _seconds(self):
        dt = getattr(getattr(self.env, "unwrapped", self.env), "dt", None)
        if isinstance(dt, (int, float, np.number)) and 0 < dt < math.inf:
            return float(dt)
        fps = (getattr(self.env, "metadata", None) or {}).get("render_fps")
        return 1.0 / (float(fps) if isinstance(fps, (int, float, np.number)) and 0 < fps < math.inf else FPS)

    def reset(self, seed=None):
        """First observation of a new episode, in arrays."""
        self.steps = 0
        result = self.env.reset() if seed is None else self.env.reset(seed=int(seed))
        return self.obs(result[0] if isinstance(result, tuple) else result)

    def step(self, row):
        """(observation in arrays, reward, cost vector, terminated, truncated, success)."""
        result = self.env.step(self.action(row))
        if not isinstance(result, tuple) or len(result) not in (5, 6):
            count = len(result) if isinstance(result, tuple) else short(result)
            raise ValueError(f"step must return 5 or 6 things, got {count}")
        info = result[-1] if isinstance(result[-1], dict) else {}
        self.steps += 1
        reward = number("reward", result[1])
        cost = self.costs(result, info)
        truncated = bool(result[-2]) or (self._limit is not None and self.steps >= self._limit)
        success = any(bool(info.get(key, False)) for key in ("success", "is_success", "goal_met"))
        return self.obs(result[0]), reward, cost, bool(result[-3]), truncated, success

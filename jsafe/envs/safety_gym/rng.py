"""Random stream of one environment, equal to numpy's legacy `RandomState` draw for draw."""

from typing import Any

import numpy as np

_KEY = 624  # words of the generator's key
_AHEAD = 1024  # words fetched at a time
_ORIGIN_EVERY = 1 << 17  # words between two copies of the generator's state (a copy costs as much as 20 000 words)


class RandomStream:
    """Doubles and choices of `numpy.random.RandomState(seed)`, with look-ahead and cheap skipping.

    The official tasks draw everything from one legacy Mersenne Twister, one double per step included. This class
    gives the same numbers, and in addition lets the layout sampler look at a block of draws before it decides how
    many of them to consume, and lets the engine skip draws by adding to a counter.

    A double takes two 32-bit words, a choice among n > 1 things one word per attempt (masked, rejected when the
    masked word is >= n), a choice among one thing takes none.

    Args:
        seed: int in [0, 2**32 - 1], as for `RandomState`.

    Raises:
        ValueError: seed is not an integer in that range.

    Source:
        safety-gymnasium 1.0.0 keeps one `RandomState` per environment.
    """

    def __init__(self, seed: int):
        if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not 0 <= seed < 2**32:
            raise ValueError(f"seed must be an int in [0, 2**32 - 1], got {seed!r}")
        self._generator = np.random.MT19937(0)
        self._legacy = np.random.RandomState(self._generator)  # shares the generator: its seeding, its state
        self._legacy.seed(int(seed))
        self._start()

    def _start(self):
        self._origin: Any = self._legacy.get_state()
        self._passed = 0  # words between the origin and the buffer
        self._words = np.empty(0, np.uint64)
        self._position = 0  # next word of the buffer; skip() may leave it beyond the end

    def _need(self, count: int):
        """Makes `count` words available from the current position on."""
        missing = self._position + count - len(self._words)
        if missing <= 0:
            return
        kept = self._words[self._position :]
        beyond = max(self._position - len(self._words), 0)
        if beyond:
            self._generator.random_raw(beyond, output=False)
        self._passed += self._position
        self._position = 0
        if self._passed > _ORIGIN_EVERY:
            self._origin, self._passed = self._state_after(self._passed), 0
        fetched = self._generator.random_raw(max(count - len(kept), _AHEAD))
        self._words = np.concatenate([kept, fetched]) if len(kept) else fetched

    def random(self) -> float:
        """Next double in [0, 1), as `RandomState.random_sample()`."""
        self._need(2)
        position = self._position
        self._position = position + 2
        high, low = int(self._words[position]) >> 5, int(self._words[position + 1]) >> 6
        return (high * 67108864.0 + low) / 9007199254740992.0

    def peek_random(self, n: int) -> np.ndarray:
        """Next n doubles, float64 [n], without consuming them."""
        self._need(2 * n)
        words = self._words[self._position : self._position + 2 * n]
        return ((words[0::2] >> 5) * 67108864.0 + (words[1::2] >> 6)) * (1.0 / 9007199254740992.0)

    def skip(self, n: int = 1) -> None:
        """Consumes n doubles in constant time; the generator catches up at the next draw."""
        self._position += 2 * n

    def uniform(self, lo: float, hi: float) -> float:
        """One double in [lo, hi), as `RandomState.uniform(lo, hi)`. An interval of zero width is drawn, too."""
        return lo + (hi - lo) * self.random()

    def choice(self, n: int) -> int:
        """Index in 0 ... n - 1, as `RandomState.choice(n)` for n <= 2**32."""
        if n < 1:
            raise ValueError(f"n must be at least 1, got {n}")
        if n == 1:
            return 0
        mask = (1 << (n - 1).bit_length()) - 1
        while True:
            self._need(1)
            value = int(self._words[self._position]) & mask
            self._position += 1
            if value < n:
                return value

    def state(self) -> dict:
        """Exact state: {"key": uint32 [624], "pos": int}, the words of `RandomState.get_state()`."""
        _, key, pos, *_ = self._state_after(self._passed + self._position)
        return {"key": np.array(key, np.uint32), "pos": int(pos)}

    def _state_after(self, words: int) -> Any:
        """`RandomState.get_state()`, so many words after the origin."""
        generator = np.random.MT19937(0)
        legacy = np.random.RandomState(generator)
        legacy.set_state(self._origin)
        generator.random_raw(words, output=False)
        return legacy.get_state()

    def set_state(self, state: dict) -> None:
        """Continues from a state made by `state()`.

        Raises:
            ValueError: key is not 624 words or pos is not in 0 ... 624.
        """
        key, pos = np.asarray(state["key"], np.uint32), int(state["pos"])
        if key.shape != (_KEY,):
            raise ValueError(f"state['key'] must have shape ({_KEY},), got {key.shape}")
        if not 0 <= pos <= _KEY:
            raise ValueError(f"state['pos'] must be in 0 ... {_KEY}, got {pos}")
        self._legacy.set_state(("MT19937", key, pos, 0, 0.0))
        self._start()

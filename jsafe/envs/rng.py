"""Random stream of one environment, equal to numpy's legacy `RandomState` draw for draw."""

import numpy as np

_BLOCK = 624  # words per twist of the Mersenne Twister
_AHEAD = 2 * _BLOCK  # words fetched at a time


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
        safety-gymnasium 1.0.0 keeps one `RandomState` per environment. The words are fetched with
        `RandomState.randint(0, 2**32, dtype=uint32)`, which returns the generator's raw output.
    """

    def __init__(self, seed: int):
        if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not 0 <= seed < 2**32:
            raise ValueError(f"seed must be an int in [0, 2**32 - 1], got {seed!r}")
        self._source = np.random.RandomState(int(seed))
        self._clear()

    def _clear(self):
        self._origin = None  # generator state at word 0 of the buffer; None: the source is there itself
        self._words = np.empty(0, np.uint32)
        self._position = 0  # next word; skip() may leave it beyond the buffer

    def _fetch(self, count: int) -> np.ndarray:
        return self._source.randint(0, 2**32, size=count, dtype=np.uint32)

    def _need(self, count: int):
        """Makes `count` words available from the current position on."""
        left = len(self._words) - self._position
        if left >= count:
            return
        if left <= 0:  # nothing to keep: drop what was skipped, start a new buffer here
            if left < 0:
                self._fetch(-left)
            self._origin = self._source.get_state(legacy=False)["state"]
            self._words = self._fetch(max(count, _AHEAD))
            self._position = 0
        else:
            self._words = np.concatenate([self._words, self._fetch(max(count - left, _AHEAD))])

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
        return ((words[0::2] >> 5) * 67108864.0 + (words[1::2] >> 6)) / 9007199254740992.0

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
        source = np.random.RandomState(0)
        if self._origin is None:
            origin = self._source.get_state(legacy=False)["state"]
        else:
            origin = self._origin
        source.set_state(("MT19937", origin["key"], origin["pos"]))
        if self._position:
            source.randint(0, 2**32, size=self._position, dtype=np.uint32)
        _, key, pos, *_ = source.get_state()
        return {"key": np.array(key, np.uint32), "pos": int(pos)}

    def set_state(self, state: dict) -> None:
        """Continues from a state made by `state()`.

        Raises:
            ValueError: key is not 624 words or pos is not in 0 ... 624.
        """
        key, pos = np.asarray(state["key"], np.uint32), int(state["pos"])
        if key.shape != (_BLOCK,):
            raise ValueError(f"state['key'] must have shape ({_BLOCK},), got {key.shape}")
        if not 0 <= pos <= _BLOCK:
            raise ValueError(f"state['pos'] must be in 0 ... {_BLOCK}, got {pos}")
        self._source.set_state(("MT19937", key, pos))
        self._clear()

"""What a policy does, as bars under a picture: the action, and where there is one, the proposal it was made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

BACKGROUND, RULER, TEXT = (24, 24, 24), (90, 90, 90), (220, 220, 220)
PROPOSAL, ACTION = (90, 150, 255), (255, 150, 40)
_ROW, _MARGIN, _LETTER = 16, 6, 7  # pixels: a component's height, what is left free, a letter's width


def height(count: int) -> int:
    """Pixels (even) that the bars of so many components take, the line above them included."""
    return _ROW * (count + 1) + 2 * _MARGIN


def under(
    picture: np.ndarray,
    names: Sequence[str],
    action: np.ndarray | None,
    proposal: np.ndarray | None = None,
    line: Mapping[str, object] | None = None,
) -> np.ndarray:
    """The picture with a row for each component of the action below it.

    A bar starts in the middle of its row, which is 0, and reaches the row's ends at -1 and 1. Without a proposal the
    bar is the action. With one, the upper half is the proposal, and the lower one the edit: from the proposal to the
    action.

    Args:
      picture: uint8 `[H, W, 3]`.
      names: Of the A components.
      action: `[A]` in `[-1, 1]`; None before the first one: the rows are empty.
      proposal: `[A]`, likewise.
      line: Names and values to be written above the bars.

    Returns:
      uint8 `[H + height(A), W, 3]`.
    """
    from PIL import Image, ImageDraw  # comes with imageio

    width = picture.shape[1]
    strip = Image.new("RGB", (width, height(len(names))), BACKGROUND)
    draw = ImageDraw.Draw(strip)
    draw.text((_MARGIN, 2), "   ".join(f"{name} {value}" for name, value in (line or {}).items()), TEXT)
    left = _MARGIN + _LETTER * (max(map(len, names), default=0) + 1)
    right = width - _MARGIN

    def at(value: float) -> float:
        return left + (right - left) * (float(np.clip(value, -1, 1)) + 1) / 2

    for k, name in enumerate(names):
        top = _MARGIN + _ROW * (k + 1)
        middle, bottom = top + _ROW // 2 - 1, top + _ROW - 3
        draw.text((_MARGIN, top), name, TEXT)
        if action is not None:
            if proposal is None:
                _bar(draw, at(0), at(action[k]), top, bottom, ACTION)
            else:
                _bar(draw, at(0), at(proposal[k]), top, middle, PROPOSAL)
                _bar(draw, at(proposal[k]), at(action[k]), middle, bottom, ACTION)
        for value in (-1, 0, 1):
            draw.line([(at(value), top), (at(value), bottom)], RULER)
    return np.concatenate([picture, np.asarray(strip)])


def _bar(draw, start: float, stop: float, top: int, bottom: int, colour: tuple[int, int, int]) -> None:
    draw.rectangle([min(start, stop), top, max(start, stop), bottom], colour)

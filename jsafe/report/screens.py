"""Where a person sees pictures and presses keys: a window where there is a display, else the terminal."""

from __future__ import annotations

import os
import select
import shutil
import sys
import time
from typing import Any, Protocol

import numpy as np

KEYS = ("up", "down", "left", "right")
QUIT = "quit"
HELD = 0.6
"""Seconds for which a key counts as held in a terminal, which does not tell when it is let go; longer than the pause
before a key repeats itself."""

_SEQUENCES = {f"\x1b{mark}{letter}": key for mark in "[O" for letter, key in zip("ABDC", KEYS)}
_SEQUENCES |= {"q": QUIT, "Q": QUIT, "\x04": QUIT}


class ScreenError(RuntimeError):
    """There is neither a display nor a terminal."""


class Screen(Protocol):
    """Shows pictures and tells which keys are held."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of a picture that fits, pixels."""

    def show(self, picture: np.ndarray, line: str) -> None:
        """Shows a picture, uint8 `[height, width, 3]`, and a line of text below it."""

    def held(self) -> set[str]:
        """Of `KEYS`, those that are held now; and `QUIT` once that was asked for."""

    def close(self) -> None:
        """Leaves everything as it was."""


class Terminal:
    """Pictures of coloured half blocks: each character is two pixels, one above the other.

    Args:
      source, target: Descriptors of the terminal, to read and to write; those of the process by default.

    Raises:
      ScreenError: If they are no terminal, or this system's cannot be read key by key.
    """

    def __init__(self, source: int = 0, target: int = 1):
        if not (os.isatty(source) and os.isatty(target)):
            raise ScreenError("keys need a display or a terminal: here there is neither")
        try:
            import termios
            import tty
        except ImportError as error:
            raise ScreenError(f"this terminal cannot be read key by key ({error})") from error
        self._source, self._target, self._typed = source, target, ""
        self._pressed: dict[str, float] = {}
        self._quit = False
        self._true_colour = os.environ.get("COLORTERM", "").lower() in ("truecolor", "24bit")
        before = termios.tcgetattr(source)
        self._restore = lambda: termios.tcsetattr(source, termios.TCSADRAIN, before)
        tty.setcbreak(source)
        self._write("\x1b[?1049h\x1b[?25l")  # the other page, no cursor

    @property
    def size(self) -> tuple[int, int]:
        """Pixels that fit above the line of text."""
        columns, lines = shutil.get_terminal_size((80, 24))
        return max(min(columns, 160), 16), max(2 * min(lines - 2, 60), 16)

    def show(self, picture: np.ndarray, line: str) -> None:
        """See `Screen`."""
        upper, lower = picture[0 : len(picture) // 2 * 2 : 2], picture[1::2]
        if not self._true_colour:
            upper, lower = (16 + (part.astype(int) * 6 // 256) @ (36, 6, 1) for part in (upper, lower))
        rows = [self._row(a.tolist(), b.tolist()) for a, b in zip(upper, lower)]
        width = shutil.get_terminal_size((80, 24)).columns
        self._write("\x1b[H" + "\r\n".join([*rows, "", line[: width - 1] + "\x1b[K"]))

    def held(self) -> set[str]:
        """See `Screen`."""
        now = time.monotonic()
        while select.select([self._source], [], [], 0)[0]:
            read = os.read(self._source, 1024).decode(errors="replace")
            if not read:  # the terminal has gone
                self._quit = True
                break
            self._typed += read
        while self._typed:
            found = next((text for text in _SEQUENCES if self._typed.startswith(text)), None)
            if found is None and any(text.startswith(self._typed) for text in _SEQUENCES):
                break  # the rest is still to come
            key = _SEQUENCES.get(found or "")
            self._quit |= key == QUIT
            if key in KEYS:
                opposite = KEYS[KEYS.index(key) ^ 1]
                self._pressed.pop(opposite, None)
                self._pressed[key] = now
            self._typed = self._typed[len(found or " ") :]
        return {key for key, since in self._pressed.items() if now - since < HELD} | ({QUIT} if self._quit else set())

    def close(self) -> None:
        """See `Screen`."""
        self._write("\x1b[0m\x1b[?25h\x1b[?1049l")
        self._restore()

    def _row(self, upper: list, lower: list) -> str:
        cells, before = [], None
        for pair in zip(upper, lower):
            if pair != before:
                one, two = (f"2;{';'.join(map(str, c))}" if self._true_colour else f"5;{c}" for c in pair)
                cells.append(f"\x1b[38;{one};48;{two}m")
                before = pair
            cells.append("▀")
        return "".join(cells) + "\x1b[0m"

    def _write(self, text: str) -> None:
        data = text.encode()
        while data:
            data = data[os.write(self._target, data) :]


class Window:
    """A window of tkinter, which comes with Python where the system has it.

    Raises:
      ScreenError: If there is no tkinter, or no display.
    """

    def __init__(self, title: str, width: int, height: int):
        try:
            import tkinter

            self._root = tkinter.Tk()
        except Exception as error:  # ImportError, or TclError of a module that may be missing
            raise ScreenError(f"no window opens here ({error})") from error
        self._tkinter, self._size = tkinter, (width, height)
        self._root.title(title)
        self._label = tkinter.Label(self._root)
        self._label.pack()
        self._line = tkinter.Label(self._root, anchor="w", font="TkFixedFont")
        self._line.pack(fill="x")
        self._down: set[str] = set()
        self._quit = False
        self._image: Any = None
        self._root.bind("<KeyPress>", self._press)
        self._root.bind("<KeyRelease>", lambda event: self._down.discard(event.keysym.lower()))
        self._root.protocol("WM_DELETE_WINDOW", self._leave)

    @property
    def size(self) -> tuple[int, int]:
        """As it was made."""
        return self._size

    def show(self, picture: np.ndarray, line: str) -> None:
        """See `Screen`."""
        head = f"P6 {picture.shape[1]} {picture.shape[0]} 255\n".encode()
        self._image = self._tkinter.PhotoImage(data=head + picture.tobytes(), format="PPM")
        self._label.configure(image=self._image)
        self._line.configure(text=line)
        self._root.update()

    def held(self) -> set[str]:
        """See `Screen`."""
        self._root.update()
        return {key for key in KEYS if key in self._down} | ({QUIT} if self._quit else set())

    def close(self) -> None:
        """See `Screen`."""
        self._image = None  # a picture must not outlive its window
        self._root.destroy()

    def _press(self, event: Any) -> None:
        self._down.add(event.keysym.lower())
        self._quit |= event.keysym.lower() in ("q", "escape")

    def _leave(self) -> None:
        self._quit = True


def open_screen(title: str, width: int, height: int) -> Screen:
    """A window where there is a display and one opens, else the terminal.

    Args:
      title: Of a window.
      width, height: Of pictures in a window, pixels; a terminal's follow from its own size.

    Raises:
      ScreenError: If there is neither.
    """
    shown = any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
    if shown or sys.platform in ("darwin", "win32"):
        try:
            return Window(title, width, height)
        except ScreenError:
            pass
    return Terminal()

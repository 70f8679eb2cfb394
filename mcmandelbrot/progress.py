"""
Messages to the user while a picture is made, and at its end.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from time import perf_counter
from typing import TextIO

# Seconds between two drawings of the bar.
_INTERVAL = 0.1

_WIDEST_BAR = 50
_ERASE_LINE = "\r\x1b[K"


def say(line: str, stream: TextIO | None) -> None:
    """
    Write one line.

    @param stream: the stream to write to. C{None}, which a closed C{sys.stderr} is, writes nothing.
    """
    if stream is not None:
        print(" ".join(line.split()), file=stream)


class Progress:
    """
    Shows how much of a picture is done, with a bar on a terminal and with a closing line.
    """

    def __init__(
        self,
        width: int,
        height: int,
        stream: TextIO | None,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        """
        @param width: the number of pixels in a row of the picture.
        @param height: the number of its rows.
        @param stream: the stream to write to, or C{None} for nowhere. The bar is drawn only if this
            is a terminal.
        @param clock: returns the time in seconds. The time to start is counted from now.
        """
        self._width = width
        self._height = height
        self._stream = stream
        self._clock = clock
        self._isVisible = stream is not None and stream.isatty()
        self._made = self._begun = clock()
        self._drawn = float("-inf")
        self._rows = 0

    def begin(self) -> None:
        """
        Begin to count the time of the work, because the workers are ready.
        """
        self._begun = self._clock()
        self._draw()

    def advance(self, rows: int) -> None:
        """
        Count rows that are done, and draw the bar.
        """
        self._rows += rows
        self._draw()

    def erase(self) -> None:
        """
        Remove the bar for good.
        """
        if self._isVisible and self._drawn > float("-inf"):
            assert self._stream is not None
            self._stream.write(_ERASE_LINE)
            self._stream.flush()
        self._isVisible = False

    def close(self) -> None:
        """
        Remove the bar, and write how many pixels the picture has, how long they took, and how long
        it took before that to start the processes.
        """
        seconds = self._clock() - self._begun
        self.erase()
        say(
            f"{self._pixels:,} pixels in {seconds:.3g} seconds: {self._speed(seconds)} "
            f"(after {self._begun - self._made:.2g} seconds to start)",
            self._stream,
        )

    @property
    def _pixels(self) -> int:
        return self._rows * self._width

    def _speed(self, seconds: float) -> str:
        return f"{self._pixels / max(seconds, 1e-6):,.0f} pixels per second"

    def _draw(self) -> None:
        now = self._clock()
        if not self._isVisible or now < self._drawn + _INTERVAL:
            return
        assert self._stream is not None
        self._drawn = now
        done = self._rows / self._height
        text = f" {done:4.0%}  {self._speed(now - self._begun)}"
        room = min(_WIDEST_BAR, shutil.get_terminal_size().columns - len(text) - 3)
        bar = f"[{'#' * int(done * room):{room}}]" if room > 0 else ""
        self._stream.write(f"{_ERASE_LINE}{bar}{text}")
        self._stream.flush()

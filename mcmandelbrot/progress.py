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

    @param stream: where to, or C{None} for nowhere: what C{sys.stderr} is if it is closed.
    """
    if stream is not None:
        print(" ".join(line.split()), file=stream)


class Progress:
    """
    I show how much of a picture is done: as a bar, if somebody can see it, and as a closing line.
    """

    def __init__(
        self,
        width: int,
        height: int,
        stream: TextIO | None,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        """
        @param width: the picture's pixels in a row.
        @param height: its rows.
        @param stream: where to show it. The bar is only drawn on a terminal.
        @param clock: returns seconds, from whichever moment. My own time begins now.
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
        The workers are ready, and the work on the picture begins.
        """
        self._begun = self._clock()
        self._draw()

    def advance(self, rows: int) -> None:
        """
        Some more rows are done.
        """
        self._rows += rows
        self._draw()

    def erase(self) -> None:
        """
        Remove the bar, and draw none any more.
        """
        if self._isVisible and self._drawn > float("-inf"):
            assert self._stream is not None
            self._stream.write(_ERASE_LINE)
            self._stream.flush()
        self._isVisible = False

    def close(self) -> None:
        """
        The picture is done: say how many pixels it has, how long they took, and how long it took
        before them to start the processes.
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

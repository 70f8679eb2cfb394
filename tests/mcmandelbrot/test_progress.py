"""
Progress: a bar on a terminal, and one line at the end.
"""

from __future__ import annotations

import io

from twisted.internet.task import Clock

from mcmandelbrot.progress import Progress, say


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def makeProgress(stream: io.StringIO | None) -> tuple[Progress, Clock]:
    """
    Make the progress of a picture of 1000 times 40 pixels.
    """
    clock = Clock()
    return Progress(1000, 40, stream, clock.seconds), clock


def test_closingLineHasPixelsSecondsAndSpeed() -> None:
    stream = io.StringIO()
    progress, clock = makeProgress(stream)
    clock.advance(0.5)
    progress.begin()
    clock.advance(2)
    progress.advance(30)
    progress.advance(10)
    progress.close()
    assert stream.getvalue() == (
        "40,000 pixels in 2 seconds: 20,000 pixels per second (after 0.5 seconds to start)\n"
    )


def test_barGrowsOnATerminal() -> None:
    stream = Terminal()
    progress, clock = makeProgress(stream)
    progress.begin()
    for _ in range(4):
        clock.advance(1)
        progress.advance(10)
    *_, before, half, more, whole = stream.getvalue().split("\r\x1b[K")
    lengths = [bar.count("#") for bar in (before, half, more, whole)]
    assert lengths == sorted(set(lengths))
    assert lengths[1] == lengths[3] // 2 > 0
    assert len({len(bar.split("]")[0]) for bar in (before, half, more, whole)}) == 1
    assert "50%  10,000 pixels per second" in half
    assert "100%" in whole
    assert "\n" not in stream.getvalue()


def test_barIsErasedBeforeTheClosingLine() -> None:
    stream = Terminal()
    progress, clock = makeProgress(stream)
    progress.begin()
    clock.advance(1)
    progress.advance(40)
    progress.close()
    lines = stream.getvalue().split("\r\x1b[K")
    assert lines[-1].startswith("40,000 pixels in 1 seconds")
    assert lines[-1].count("\n") == 1


def test_barIsNotDrawnMoreThanTenTimesASecond() -> None:
    stream = Terminal()
    progress, clock = makeProgress(stream)
    progress.begin()
    for _ in range(40):
        clock.advance(1 / 64)
        progress.advance(1)
    assert 2 <= stream.getvalue().count("\r") <= 8


def test_erasedBarStaysAway() -> None:
    stream = Terminal()
    progress, clock = makeProgress(stream)
    progress.begin()
    progress.erase()
    shown = stream.getvalue()
    clock.advance(1)
    progress.advance(10)
    progress.erase()
    assert stream.getvalue() == shown


def test_nothingIsDrawnWhereNobodySees() -> None:
    stream = io.StringIO()
    progress, clock = makeProgress(stream)
    progress.begin()
    clock.advance(1)
    progress.advance(40)
    progress.erase()
    assert stream.getvalue() == ""


def test_nowhereIsAPlaceToo() -> None:
    progress, clock = makeProgress(None)
    progress.begin()
    clock.advance(1)
    progress.advance(40)
    progress.close()
    say("unheard", None)


def test_whatIsSaidIsOneLine() -> None:
    stream = io.StringIO()
    say("one\n  two\tthree\n", stream)
    assert stream.getvalue() == "one two three\n"

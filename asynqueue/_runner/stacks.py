"""
What a process is doing: the Python stacks of its threads, as text.
"""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Iterable
from types import FrameType
from typing import Any, Final

MOST_FRAMES: Final = 100
"""How many calls of one thread are shown: the innermost ones."""

MOST_THREADS: Final = 50
"""How many threads are shown."""

_ROOM: Final = __name__.rpartition(".")[0] + "."


def describeStacks(isRunning: bool = False) -> str:
    """
    Describe what this thread and the others are doing. This takes no lock, because a signal's
    handler may call it between any two steps of the program.

    @param isRunning: whether this thread is running a task's function.
    @return: the stack of the code that this thread runs for a task, the innermost call last; the
        coroutines that wait in its event loop; then the other threads.
    """
    frames = sys._current_frames()
    parts = [_describe(_ofTask(frames.pop(threading.get_ident(), None))) or _nothing(isRunning)]
    # This function's own frame must not refer to itself, or what the task's frames refer to lives
    # until the garbage collector comes.
    parts += _coroutines()
    for ident, frame in [*frames.items()][:MOST_THREADS]:
        parts.append(f"Thread {ident}:\n{_describe(_outermostFirst(frame))}")
    return "".join(parts)


def describeThread(ident: int | None, isRunning: bool) -> str:
    """
    @param ident: the identifier of another thread.
    @param isRunning: whether it is running a task's function.
    @return: the stack of the code that this thread runs for a task.
    """
    frame = None if ident is None else sys._current_frames().get(ident)
    return _describe(_ofTask(frame)) or _nothing(isRunning)


def _nothing(isRunning: bool) -> str:
    if isRunning:
        return "The task's function is no Python code.\n"
    return "No code of a task is running.\n"


def _outermostFirst(frame: FrameType | None) -> list[FrameType]:
    frames = []
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    frames.reverse()
    return frames


def _ofTask(frame: FrameType | None) -> list[FrameType]:
    """
    @return: the frames of a thread without those of the runner around a task's code, and of the
        signal's handler within it.
    """
    frames = _outermostFirst(frame)
    while frames and _isOurs(frames[-1]):
        frames.pop()
    start = max((index + 1 for index, each in enumerate(frames) if _isOurs(each)), default=0)
    # A thread that runs no task is in none of our calls, or in the runner's own waiting.
    return frames[start:] if start and _runs(frames[start - 1]) else []


def _isOurs(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__", "")).startswith(_ROOM)


def _runs(frame: FrameType) -> bool:
    """
    @return: whether the code that a frame of the runner has called is a task's.
    """
    return frame.f_globals.get("__name__") in (
        f"{_ROOM}makecall",
        f"{_ROOM}streams",
        f"{_ROOM}coroutines",
        f"{_ROOM}executorcall",
    )


def _coroutines() -> Iterable[str]:
    asyncio = sys.modules.get("asyncio")
    loop = None if asyncio is None else asyncio._get_running_loop()
    if asyncio is None or loop is None:
        return
    for task in asyncio.all_tasks(loop):
        frames = []
        coroutine: Any = task.get_coro()
        while coroutine is not None and getattr(coroutine, "cr_frame", None) is not None:
            frames.append(coroutine.cr_frame)
            coroutine = coroutine.cr_await
        frames = [frame for frame in frames if not _isOurs(frame)]
        if frames:
            yield f"Coroutine {task.get_name()}:\n{_describe(frames)}"


def _describe(frames: list[FrameType]) -> str:
    shown = ((frame, frame.f_lineno) for frame in frames[-MOST_FRAMES:])
    return "".join(traceback.StackSummary.extract(shown).format())

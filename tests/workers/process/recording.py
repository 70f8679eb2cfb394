"""
Calls that the tests of the flight recorder make in other processes, which import this module.
"""

from __future__ import annotations

import os
from typing import Any

from asynqueue._runner.recorder import Recorder


def setAll(recorder: Recorder, values: list[int], gate: Any) -> None:
    """
    Write some values in another process, and one more when that is allowed.
    """
    for value in values:
        recorder.begin(value)
    gate.recv()
    recorder.begin(values[-1] + 1)


def crash(recorder: Recorder) -> None:
    """
    Crash, while a call runs.
    """
    recorder.catchCrash()
    recorder.begin(7)
    os.abort()

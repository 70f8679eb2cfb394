"""
A thread for one call.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from twisted.python.failure import Failure


class OneThread:
    """
    Runs calls as Twisted's C{ThreadPool} does, each in a new thread, which keeps no process from
    ending.
    """

    def callInThreadWithCallback(
        self, onResult: Callable[[bool, Any], object], function: Callable[[], Any]
    ) -> None:
        """
        Call a function in a thread.

        @param onResult: called in that thread, with C{True} and the result or with C{False} and the
            failure.
        @raise RuntimeError: if the system has no more threads.
        """

        def run() -> None:
            try:
                result = function()
            except BaseException:
                onResult(False, Failure())
            else:
                onResult(True, result)

        threading.Thread(target=run, name="asynqueue iteration", daemon=True).start()

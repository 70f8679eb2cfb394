"""
What one can know of an executor.
"""

from __future__ import annotations

import sys
from pickle import PicklingError
from typing import Any, Final

from asynqueue.workers.cores import cores

UNPICKLABLE: Final = (PicklingError, TypeError, AttributeError, ValueError, RecursionError)
"""What picklers raise."""


def slotsOf(executor: Any) -> int:
    """
    @return: how many calls an executor runs at once, as far as one can know.
    """
    workers = getattr(executor, "_max_workers", None)
    if type(workers) is int and workers > 0:
        return workers
    return cores()


def isStandardProcessPool(executor: Any) -> bool:
    """
    Tell whether an executor is the standard library's C{ProcessPoolExecutor}.
    """
    # Without importing what only such an executor needs.
    module = sys.modules.get("concurrent.futures.process")
    return module is not None and isinstance(executor, module.ProcessPoolExecutor)


def isRefusal(error: Exception) -> bool:
    """
    Tell whether C{submit} has raised this because it takes nothing any more: the standard library's
    executors raise a C{RuntimeError} then.
    """
    return isinstance(error, RuntimeError) and not isinstance(
        error, RecursionError | NotImplementedError
    )

"""
An executor that is stepped by hand.
"""

from __future__ import annotations

import pickle
from collections import deque
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Future
from typing import Any


class StepExecutor:
    """
    Does one job at a time, when it is told to.

    @ivar jobs: those that it has not begun.
    @ivar running: the one that it has begun, or C{None}.
    @ivar isShutDown: whether it takes no more.
    """

    def __init__(self, pickles: bool = False, workers: int | None = None) -> None:
        """
        @param pickles: whether calls and results travel in pickles.
        @param workers: how many workers it says that it has.
        """
        self.jobs: deque[tuple[Future[Any], Callable[..., Any], tuple[Any, ...]]] = deque()
        self.running: tuple[Future[Any], Callable[..., Any], tuple[Any, ...]] | None = None
        self.isShutDown = False
        self.broken: BrokenExecutor | None = None
        self._pickles = pickles
        if workers is not None:
            self._max_workers = workers

    def submit(self, function: Callable[..., Any], /, *args: Any) -> Future[Any]:
        """
        Take a job.
        """
        if self.broken is not None:
            raise self.broken
        if self.isShutDown:
            raise RuntimeError("cannot schedule new futures after shutdown")
        future: Future[Any] = Future()
        self.jobs.append((future, function, args))
        return future

    def begin(self) -> bool:
        """
        Begin the next job.

        @return: whether there was one.
        """
        while self.jobs:
            future, function, args = self.jobs.popleft()
            if not future.set_running_or_notify_cancel():
                continue
            if self._pickles:
                try:
                    args = pickle.loads(pickle.dumps(args))
                except Exception as error:
                    future.set_exception(error)
                    continue
            self.running = future, function, args
            return True
        return False

    def finish(self) -> None:
        """
        Do the job that was begun.
        """
        assert self.running is not None
        future, function, args = self.running
        self.running = None
        try:
            result = function(*args)
            if self._pickles:
                result = pickle.loads(pickle.dumps(result))
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(result)

    def step(self) -> bool:
        """
        Begin and do the next job.

        @return: whether there was one.
        """
        if self.running is None and not self.begin():
            return False
        self.finish()
        return True

    def stepAll(self) -> None:
        """
        Do what there is to do.
        """
        while self.step():
            pass

    def breakDown(self) -> None:
        """
        Break: what is here fails.
        """
        self.broken = BrokenExecutor("it fell over")
        jobs = [] if self.running is None else [self.running]
        self.running = None
        for future, _, _ in (*jobs, *self.jobs):
            if not future.cancelled():
                future.set_exception(self.broken)
        self.jobs.clear()

    def shutdown(self, wait: bool = True, cancel_futures: bool = False) -> None:
        """
        Take no more.
        """
        self.isShutDown = True
        if cancel_futures:
            for future, _, _ in self.jobs:
                future.cancel()
                future.set_running_or_notify_cancel()
            self.jobs.clear()

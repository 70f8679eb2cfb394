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
    Runs one job at a time, when the test says so.

    @ivar jobs: the jobs that it has not begun.
    @ivar running: the job that it has begun, or C{None}.
    @ivar isShutDown: whether it was shut down.
    """

    def __init__(self, pickles: bool = False, workers: int | None = None) -> None:
        """
        @param pickles: whether it pickles calls and results.
        @param workers: the number of workers that it claims to have.
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
        Add a job.
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
        Run the job that was begun.
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
        Begin and run the next job.

        @return: whether there was one.
        """
        if self.running is None and not self.begin():
            return False
        self.finish()
        return True

    def stepAll(self) -> None:
        """
        Run all jobs.
        """
        while self.step():
            pass

    def breakDown(self) -> None:
        """
        Break, and fail all jobs.
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
        Take no more jobs.
        """
        self.isShutDown = True
        if cancel_futures:
            for future, _, _ in self.jobs:
                future.cancel()
                future.set_running_or_notify_cancel()
            self.jobs.clear()

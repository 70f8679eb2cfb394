"""
Pools of processes, ours and the peers', behind one face: C{submit} returns a future.

Each pool is made as in the first example of its own documentation, with the defaults. So each
starts processes in its own way.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, ClassVar, Final

from benchmarks.parts import runInReactor

AnyFuture = Future[Any]


class Pool(ABC):
    """
    A pool of processes.

    @cvar distribution: the package to install, or an empty string if it comes with Python.
    """

    distribution = ""

    def submit(
        self, function: Callable[..., Any], *arguments: Any, timeout: float | None = None
    ) -> AnyFuture:
        """
        Call a function in a process.

        @param timeout: seconds after which the call ends. Pools without timeouts ignore it.
        @return: its future, which fails if the pool refuses the call.
        """
        try:
            return self._submit(function, arguments, timeout)
        except Exception as error:
            refused: AnyFuture = Future()
            refused.set_exception(error)
            return refused

    @abstractmethod
    def _submit(
        self, function: Callable[..., Any], arguments: tuple[Any, ...], timeout: float | None
    ) -> AnyFuture: ...

    @classmethod
    def use(cls, processes: int, script: Callable[[Pool], object]) -> None:
        """
        Run a script with a pool. The pool is not shut down afterwards.
        """
        script(cls(processes))

    @abstractmethod
    def __init__(self, processes: int) -> None: ...


class AsynQueuePool(Pool):
    """
    A L{ProcessQueue<asynqueue.ProcessQueue>} in a reactor. The script runs in a separate thread.

    @cvar options: the options of every call.
    """

    options: ClassVar[dict[str, Any]] = {}

    def __init__(self, processes: int) -> None:
        from twisted.internet import reactor

        from asynqueue import ProcessQueue

        self._reactor: Any = reactor
        self._queue = ProcessQueue(processes)

    @classmethod
    def use(cls, processes: int, script: Callable[[Pool], object]) -> None:
        """
        See L{Pool}.
        """

        async def work() -> float:
            from twisted.internet.threads import deferToThread

            await deferToThread(script, cls(processes))
            return 0.0

        runInReactor(work)

    def _submit(
        self, function: Callable[..., Any], arguments: tuple[Any, ...], timeout: float | None
    ) -> AnyFuture:
        future: AnyFuture = Future()

        def call() -> None:
            try:
                d = self._queue.options(timeout=timeout, **self.options).call(function, *arguments)
            except Exception as error:
                future.set_exception(error)
            else:
                d.addCallbacks(
                    future.set_result, lambda failure: future.set_exception(failure.value)
                )

        self._reactor.callFromThread(call)
        return future


class StandardExecutor(Pool):
    """
    The standard library's executor.
    """

    def __init__(self, processes: int) -> None:
        from concurrent.futures import ProcessPoolExecutor

        self._executor: Any = ProcessPoolExecutor(processes)

    def _submit(
        self, function: Callable[..., Any], arguments: tuple[Any, ...], timeout: float | None
    ) -> AnyFuture:
        future: AnyFuture = self._executor.submit(function, *arguments)
        return future


class LokyExecutor(StandardExecutor):
    """
    Loky's executor. Its C{get_reusable_executor} makes another one once the first is broken.
    """

    distribution = "loky"

    def __init__(self, processes: int) -> None:
        from loky import ProcessPoolExecutor

        self._executor = ProcessPoolExecutor(processes)


class PebblePool(Pool):
    """
    Pebble's pool.
    """

    distribution = "pebble"

    def __init__(self, processes: int) -> None:
        from pebble import ProcessPool

        self._pool: Any = ProcessPool(max_workers=processes)

    def _submit(
        self, function: Callable[..., Any], arguments: tuple[Any, ...], timeout: float | None
    ) -> AnyFuture:
        future: AnyFuture = self._pool.schedule(function, args=arguments, timeout=timeout)
        return future


class StandardPool(Pool):
    """
    The standard library's older pool.
    """

    def __init__(self, processes: int) -> None:
        from multiprocessing import Pool as makePool

        self._pool = makePool(processes)

    def _submit(
        self, function: Callable[..., Any], arguments: tuple[Any, ...], timeout: float | None
    ) -> AnyFuture:
        future: AnyFuture = Future()
        self._pool.apply_async(
            function,
            arguments,
            callback=future.set_result,
            error_callback=future.set_exception,
        )
        return future


POOLS: Final[dict[str, type[Pool]]] = {
    "asynqueue": AsynQueuePool,
    "ProcessPoolExecutor": StandardExecutor,
    "loky": LokyExecutor,
    "Pebble": PebblePool,
    "multiprocessing.Pool": StandardPool,
}
"""By the names in the tables, ours first."""

OURS: Final = "asynqueue"


def missingReason(name: str) -> str:
    """
    @return: why a pool cannot be used here, or an empty string.
    """
    from importlib.metadata import PackageNotFoundError, version

    distribution = POOLS[name].distribution
    try:
        if distribution:
            version(distribution)
    except PackageNotFoundError:
        return f"{distribution} is not installed"
    return ""

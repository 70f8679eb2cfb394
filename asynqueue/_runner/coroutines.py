"""
Coroutines where no reactor runs.

A task's function may return something that has to be waited for. The L{CoroutineRunner} waits for
coroutines with an C{asyncio} event loop. Where a reactor runs, another waiter waits for Deferreds.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextvars import copy_context
from functools import partial
from types import AsyncGeneratorType, CoroutineType
from typing import TYPE_CHECKING, Any, TypeVar

from asynqueue._runner.exceptions import TaskInterrupted
from asynqueue._runner.makecall import RAISED, Outcome, outcomeOf

if TYPE_CHECKING:
    import asyncio

_T = TypeVar("_T")

_Result = tuple[Any, BaseException | None]
"""A coroutine's result, and what it raised instead."""


class CoroutineRunner:
    """
    Runs coroutines to their ends, one at a time, in an C{asyncio} event loop of its own. The loop
    is made for the first of them, and kept, so that what one leaves open is of use to the next.
    """

    def __init__(self) -> None:
        self._runner: asyncio.Runner | None = None
        self._task: asyncio.Task[Any] | None = None
        self._isRunning = False
        self._isInterrupted = False

    def run(self, coroutine: Any) -> Any:
        """
        Run a coroutine in a copy of the present context.

        @return: its result.
        @raise TaskInterrupted: after L{interrupt}, if the coroutine heeds it.
        @raise BaseException: whatever it raises.
        """
        result, error = self._resultOf(coroutine)
        if error is not None:
            # The first frame of its traceback is that of what runs it here.
            raise error.with_traceback(error.__traceback__ and error.__traceback__.tb_next)
        return result

    def _resultOf(self, coroutine: Coroutine[Any, Any, Any]) -> _Result:
        self._isInterrupted = False
        # From here on, an interruption cancels the coroutine. It must not break off the loop's own
        # code.
        self._isRunning = True
        try:
            result, error = self._runLoop(coroutine)
        except BaseException as broken:
            result, error = None, broken
            self._clearUp(coroutine)
        finally:
            self._isRunning = False
            self._task = None
        if error is None:
            return result, None
        return None, TaskInterrupted() if self._isInterrupted else _explained(error)

    def _runLoop(self, coroutine: Coroutine[Any, Any, Any]) -> _Result:
        # Importing it takes a child process some time. One without coroutines is spared that.
        import asyncio

        if self._runner is None:
            self._runner = asyncio.Runner()

        async def main() -> _Result:
            self._task = asyncio.current_task()
            try:
                if self._isInterrupted:
                    raise TaskInterrupted
                return await coroutine, None
            except BaseException as error:
                # Returned, because an exit would end the loop.
                return None, error

        return _outsideOfLoops(partial(self._runner.run, main(), context=copy_context()))

    def _clearUp(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        """
        The loop has failed before the coroutine came to its end, because of what an earlier one has
        left in it, say.
        """
        self.close()
        coroutine.close()

    # Waiter ---------------------------------------------------------------------------------------

    def accepts(self, value: object) -> bool:
        """
        Return whether a value is a coroutine.
        """
        return isinstance(value, CoroutineType)

    def wait(self, value: Any, later: Callable[[Outcome], object]) -> Outcome:
        """
        Run a coroutine to its end.
        """
        result, error = self._resultOf(value)
        return (RAISED, error) if error is not None else outcomeOf(self.iterate(result))

    def iterate(self, value: Any) -> Any:
        """
        Make an iterator of an asynchronous generator.
        """
        return AsyncItems(value, self) if isinstance(value, AsyncGeneratorType) else value

    def interrupt(self) -> bool:
        """
        Cancel the coroutine that is running. This may be called from another thread, or by a
        signal's handler.
        """
        if not self._isRunning:
            return False
        self._isInterrupted = True
        task = self._task
        if task is not None and not task.done():
            task.get_loop().call_soon_threadsafe(task.cancel)
        return True

    def close(self) -> None:
        """
        Close the event loop. Everything that coroutines have left running in it is cancelled.
        """
        runner, self._runner = self._runner, None
        if runner is not None:
            _outsideOfLoops(runner.close)


def _outsideOfLoops(function: Callable[[], _T]) -> _T:
    """
    Call a function that runs an event loop. In an engine of ipyparallel, this thread has a loop
    already, which has called what runs here. Then another thread makes the call.
    """
    import asyncio

    if asyncio._get_running_loop() is None:
        return function()
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(function).result()


class AsyncItems:
    """
    An iterator over the items of an asynchronous one, each of which it waits for.
    """

    def __init__(self, iterator: AsyncIterator[Any], runner: CoroutineRunner) -> None:
        self._iterator = iterator
        self._runner = runner

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        try:
            return self._runner.run(self._iterator.__anext__())
        except StopAsyncIteration:
            raise StopIteration from None

    def close(self) -> None:
        """
        End the asynchronous generator; its C{finally} runs.
        """
        close = getattr(self._iterator, "aclose", None)
        if close is not None:
            self._runner.run(close())


def _explained(error: BaseException) -> BaseException:
    """
    Say what to do about a coroutine that awaited what is no business of C{asyncio}'s.
    """
    if type(error) is RuntimeError and "bad yield: <Deferred" in str(error):
        error.add_note(
            "A coroutine that awaits Deferreds needs a reactor: that of an AsyncWorker, or of a "
            "ProcessWorker with useReactor=True."
        )
    return error

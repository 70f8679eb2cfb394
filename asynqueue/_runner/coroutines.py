"""
Coroutines where no reactor runs.

What a task's function returned may have to be waited for. Who does that is a waiter: this room's
own has an C{asyncio} event loop, that of a runner with a reactor waits for Deferreds.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextvars import copy_context
from types import AsyncGeneratorType, CoroutineType
from typing import TYPE_CHECKING, Any, Protocol

from asynqueue._runner.exceptions import TaskInterrupted

if TYPE_CHECKING:
    import asyncio

Done = Callable[[Any, BaseException | None], object]
"""Takes the result, or what was raised instead."""


class Waiter(Protocol):
    """
    Waits for what a function returned in place of its result.
    """

    def accepts(self, value: Any) -> bool:
        """Whether a value has to be waited for."""

    def wait(self, value: Any, done: Done) -> None:
        """Wait for it, within this call or not, then call C{done}, once."""

    def iterate(self, value: Any) -> Any:
        """Make an iterator of an asynchronous one; of anything else, nothing else."""

    def interrupt(self) -> bool:
        """Give up what is waited for, if something is: whether that can be done."""

    def close(self) -> None:
        """Nothing more will have to be waited for."""


Outcome = tuple[Any, BaseException | None]
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
        result, error = self._outcomeOf(coroutine)
        if error is not None:
            raise error
        return result

    def _outcomeOf(self, coroutine: Any) -> Outcome:
        self._isInterrupted = False
        # From here on an interruption is the loop's to heed. Its own code is not to be broken off.
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

    def _runLoop(self, coroutine: Any) -> Outcome:
        # It takes a child process some time, which one without coroutines is spared.
        import asyncio

        if self._runner is None:
            self._runner = asyncio.Runner()

        async def main() -> Outcome:
            self._task = asyncio.current_task()
            try:
                if self._isInterrupted:
                    raise TaskInterrupted
                return await coroutine, None
            except BaseException as error:
                # Returned, lest an exit end the loop. What is around the coroutine is of no use.
                trace = error.__traceback__
                return None, error.with_traceback(trace and trace.tb_next)

        return self._runner.run(main(), context=copy_context())

    def _clearUp(self, coroutine: Any) -> None:
        """
        The loop has failed before the coroutine came to its end, because of what an earlier one has
        left in it, say.
        """
        self.close()
        coroutine.close()

    # Waiter ---------------------------------------------------------------------------------------

    def accepts(self, value: Any) -> bool:
        """
        Whether it is a coroutine.
        """
        return isinstance(value, CoroutineType)

    def wait(self, value: Any, done: Done) -> None:
        """
        Run a coroutine, within this call.
        """
        done(*self._outcomeOf(value))

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
        Close the event loop. What coroutines have left running in it is cancelled.
        """
        runner, self._runner = self._runner, None
        if runner is not None:
            runner.close()


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

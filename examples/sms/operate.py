"""
The orders that an operator may give.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from asynqueue import DeadLetter, Job
from examples.sms.texting import Texting


class NotThere(Exception):
    """
    A message is not where the operator saw it any more, or an order makes no sense.
    """


class Operator:
    """
    Carries out orders from the status page.
    """

    def __init__(self, texting: Texting) -> None:
        self._texting = texting
        self._queue = texting.queue
        self._orders: dict[str, Callable[[Mapping[str, str]], Awaitable[object]]] = {
            "narrow": self.narrow,
            "widen": self.widen,
            "pause": self.pause,
            "resume": self.resume,
            "cancel": self.cancel,
            "move": self.move,
            "retry": self.retry,
            "drop": self.drop,
        }

    async def obey(self, form: Mapping[str, str]) -> None:
        """
        @param form: its C{order} is the name of a method, its C{job} the number of a job or a dead
            letter, its C{priority} a number.
        @raise NotThere: if it makes no sense, or not any more.
        @raise AsynQueueError: if the queue refuses it.
        """
        order = self._orders.get(form.get("order", ""))
        if order is None:
            raise NotThere(f"There is no order {form.get('order')!r}.")
        await order(form)

    async def narrow(self, form: Mapping[str, str]) -> None:
        """Let one message less be underway at once."""
        self._queue.width = max(0, self._queue.width - 1)

    async def widen(self, form: Mapping[str, str]) -> None:
        """Let one message more be underway at once."""
        self._queue.width += 1

    async def pause(self, form: Mapping[str, str]) -> None:
        """Begin no more."""
        self._queue.pause()

    async def resume(self, form: Mapping[str, str]) -> None:
        """Go on."""
        self._queue.resume()

    async def cancel(self, form: Mapping[str, str]) -> None:
        """Give a message up. If it is underway, it may go out all the same."""
        self._job(form).cancel()

    async def move(self, form: Mapping[str, str]) -> None:
        """Give a message that waits another priority."""
        self._job(form).reprioritize(_number(form, "priority"))

    async def retry(self, form: Mapping[str, str]) -> None:
        """Put a dead letter in line again."""
        await self._texting.retry(await self._letter(form))

    async def drop(self, form: Mapping[str, str]) -> None:
        """Forget a dead letter."""
        await self._queue.dropDeadLetter(await self._letter(form))

    def _job(self, form: Mapping[str, str]) -> Job:
        id = _number(form, "job")
        for job in (*self._queue.underway(), *self._queue.pending()):
            if job.id == id:
                return job
        raise NotThere(f"Message {id} does not wait any more, and is not underway.")

    async def _letter(self, form: Mapping[str, str]) -> DeadLetter:
        id = _number(form, "job")
        for letter in await self._queue.deadLetters():
            if letter.id == id:
                return letter
        raise NotThere(f"Message {id} is no dead letter any more.")


def _number(form: Mapping[str, str], name: str) -> int:
    try:
        return int(form.get(name, ""))
    except ValueError:
        raise NotThere(f"The {name} is to be a whole number, not {form.get(name)!r}.") from None

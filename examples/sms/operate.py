"""
The orders that an operator may give.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Mapping
from hashlib import sha256
from typing import Final

from asynqueue import DeadLetter, Job
from examples.sms.options import MOST_AT_ONCE, MOST_IN_A_SECOND
from examples.sms.texting import Texting

MOST_PRIORITY: Final = 1_000_000
"""The number of the highest and of the lowest priority."""

DESTROYING: Final = ("cancel", "drop", "drop kind")
"""The orders after which a message is gone."""


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
            "rate": self.rate,
            "retry": self.retry,
            "drop": self.drop,
            "retry kind": self.retryKind,
            "drop kind": self.dropKind,
        }

    async def obey(self, form: Mapping[str, str]) -> None:
        """
        @param form: its C{order} is the name of a method, its C{job} the number of a job or a dead
            letter, its C{kind} what L{kindOf} says of a dead letter, its C{priority} and C{rate}
            are numbers.
        @raise NotThere: if it makes no sense, or not any more.
        @raise AsynQueueError: if the queue refuses it.
        """
        order = self._orders.get(form.get("order", ""))
        if order is None:
            raise NotThere(f"There is no order {form.get('order')!r}.")
        await order(form)

    async def question(self, form: Mapping[str, str]) -> str | None:
        """
        @return: what to ask an operator before an order that destroys messages; C{None} if nothing
            is to be asked.
        @raise NotThere: if the order makes no sense, or not any more.
        """
        order = form.get("order")
        if order not in DESTROYING or form.get("sure") == "yes":
            return None
        if order == "drop kind":
            letters = await self._letters(form)
            return f"Drop {len(letters)} dead letters, which failed by {letters[0].error}?"
        if order == "drop":
            return f"Drop the dead letter {(await self._letter(form)).id}?"
        return f"Cancel the message {self._job(form).id}? It may have gone out."

    async def narrow(self, form: Mapping[str, str]) -> None:
        """Let one message less be underway at once."""
        self._queue.width = max(0, self._queue.width - 1)

    async def widen(self, form: Mapping[str, str]) -> None:
        """Let one message more be underway at once."""
        self._queue.width = min(MOST_AT_ONCE, self._queue.width + 1)

    async def rate(self, form: Mapping[str, str]) -> None:
        """Begin so many messages a second."""
        self._texting.setRate(_number(form, "rate", 1, MOST_IN_A_SECOND))

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
        self._job(form).reprioritize(_number(form, "priority", -MOST_PRIORITY, MOST_PRIORITY))

    async def retry(self, form: Mapping[str, str]) -> None:
        """Put a dead letter in line again."""
        _check(await self._texting.retry([await self._letter(form)]))

    async def drop(self, form: Mapping[str, str]) -> None:
        """Forget a dead letter."""
        _check(await self._texting.drop([await self._letter(form)]))

    async def retryKind(self, form: Mapping[str, str]) -> None:
        """Put all dead letters of a kind in line again."""
        _check(await self._texting.retry(await self._letters(form)))

    async def dropKind(self, form: Mapping[str, str]) -> None:
        """Forget all dead letters of a kind."""
        _check(await self._texting.drop(await self._letters(form)))

    def _job(self, form: Mapping[str, str]) -> Job:
        id = _number(form, "job", 0, sys.maxsize)
        for job in (*self._queue.underway(), *self._queue.pending()):
            if job.id == id:
                return job
        raise NotThere(f"Message {id} does not wait any more, and is not underway.")

    async def _letter(self, form: Mapping[str, str]) -> DeadLetter:
        id = _number(form, "job", 0, sys.maxsize)
        for letter in await self._queue.deadLetters():
            if letter.id == id:
                return letter
        raise NotThere(f"Message {id} is no dead letter any more.")

    async def _letters(self, form: Mapping[str, str]) -> list[DeadLetter]:
        kind = form.get("kind")
        letters = [one for one in await self._queue.deadLetters() if kindOf(one) == kind]
        if not letters:
            raise NotThere("There is no dead letter of this kind any more.")
        return letters


def kindOf(letter: DeadLetter) -> str:
    """
    @return: what dead letters have in common that failed for the same reason.
    """
    return sha256(letter.error.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _number(form: Mapping[str, str], name: str, least: int, most: int) -> int:
    typed = form.get(name, "")
    try:
        number = int(typed)
    except ValueError:
        number = least - 1
    if not least <= number <= most:
        raise NotThere(f"The {name} is a whole number from {least} to {most}, not {typed[:50]!r}.")
    return number


def _check(errors: list[Exception]) -> None:
    if errors:
        raise NotThere(f"With {len(errors)} nothing was done, as: {errors[0]}")

"""
Things in the order in which they were announced, however they arrive.
"""

from __future__ import annotations

from typing import Any


class Turns:
    """
    I give out numbers, and hand back what arrives under them in the numbers' order.
    """

    def __init__(self) -> None:
        self._announced = 0
        self._next = 0
        self._arrived: dict[int, Any] = {}

    def __len__(self) -> int:
        """
        How many were announced and not taken.
        """
        return self._announced - self._next

    @property
    def isReady(self) -> bool:
        """
        Whether the one whose turn it is has arrived.
        """
        return self._next in self._arrived

    def announce(self) -> int:
        """
        @return: the next number.
        """
        self._announced += 1
        return self._announced - 1

    def arrive(self, number: int, thing: Any) -> None:
        """
        Put what arrives under a number.

        @raise ValueError: if the number was not announced, or something has arrived under it.
        """
        if not self._next <= number < self._announced or number in self._arrived:
            raise ValueError(f"nothing is expected under the number {number!r}")
        self._arrived[number] = thing

    def take(self) -> Any:
        """
        Take the one whose turn it is.

        @raise LookupError: if it has not arrived; look at L{isReady} first.
        """
        thing = self._arrived.pop(self._next)
        self._next += 1
        return thing

"""
A dictionary to wait at, for values that are not there yet.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterator
from functools import partial
from typing import Generic, TypeVar

from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure

_K = TypeVar("_K", bound=Hashable)
_V = TypeVar("_V")


class DeferredDict(Generic[_K, _V]):
    """
    I hold values by their keys, and who asks for one that is not there yet waits for it with a
    Deferred: answers by the number of the question, connections by the name of the peer::

        answers = DeferredDict()
        answers.get(number).addCallback(show)   # who asks ...
        answers[number] = answer                # ... and who knows need not wait for each other

    A value stays until it is replaced or deleted. It is a value, not a Deferred, and each who asks
    has a Deferred of his own: what one does with it is nothing to the others.
    """

    def __init__(self) -> None:
        self._values: dict[_K, _V] = {}
        self._waiting: dict[_K, _Waiting[_V]] = {}

    def __repr__(self) -> str:
        waiting = sum(map(len, self._waiting.values()))
        return f"<DeferredDict: {len(self)} values, {waiting} waiting>"

    def __len__(self) -> int:
        """
        How many values are there.
        """
        return len(self._values)

    def __bool__(self) -> bool:
        # Even when it is empty, somebody may be waiting here.
        return True

    def __contains__(self, key: object) -> bool:
        """
        Whether the value is there.
        """
        return key in self._values

    def __iter__(self) -> Iterator[_K]:
        """
        The keys whose values are there.
        """
        return iter(self._values)

    def __getitem__(self, key: _K) -> _V:
        """
        The value, which must be there.

        @raise KeyError: if it is not.
        """
        return self._values[key]

    def __setitem__(self, key: _K, value: _V) -> None:
        """
        See L{put}.
        """
        self.put(key, value)

    def __delitem__(self, key: _K) -> None:
        """
        Forget a value. Who asks for it after that waits for another.

        @raise KeyError: if it is not there.
        """
        del self._values[key]

    def get(self, key: _K) -> Deferred[_V]:
        """
        @return: a Deferred that fires with the value of a key, at once or when it is put; or fails
            with what L{fail} is told. Cancelling it ends the wait.
        """
        if key in self._values:
            return succeed(self._values[key])
        waiting = self._waiting.setdefault(key, OrderedDict())
        d: Deferred[_V] = Deferred(partial(self._withdraw, key, waiting))
        waiting[d] = None
        return d

    def put(self, key: _K, value: _V) -> None:
        """
        Set the value of a key. All who wait for it get it, in the order of asking.

        @param value: anything but a Deferred.
        @raise TypeError: if it is a Deferred: put its result once it has one, or L{fail}.
        """
        if isinstance(value, Deferred):
            raise TypeError(f"the value of {key!r} must not be a Deferred: put what it fires with")
        self._values[key] = value
        for d in self._each(key):
            d.callback(value)

    def fail(self, key: _K, failure: Failure | Exception) -> int:
        """
        Tell all who wait for a value that it does not come. It is not kept for those who ask later,
        and a value that is there stays.

        @return: how many were told. With none, nobody knows of the failure.
        """
        told = 0
        for d in self._each(key):
            d.errback(failure)
            told += 1
        return told

    def pending(self, key: _K) -> int:
        """
        @return: how many wait for the value of a key.
        """
        return len(self._waiting.get(key, ()))

    def _each(self, key: _K) -> Iterator[Deferred[_V]]:
        # Those who begin to wait for the key in the meantime are not among them.
        waiting = self._waiting.pop(key, None)
        while waiting:
            yield waiting.popitem(last=False)[0]

    def _withdraw(self, key: _K, waiting: _Waiting[_V], d: Deferred[_V]) -> None:
        del waiting[d]
        if not waiting and self._waiting.get(key) is waiting:
            del self._waiting[key]


_Waiting = OrderedDict[Deferred[_V], None]
"""Those who wait for one value, in the order of asking."""

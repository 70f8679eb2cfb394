"""
A dictionary that you can wait at, for values that are not there yet.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure

from asynqueue._waiters import Waiters

_K = TypeVar("_K", bound=Hashable)
_V = TypeVar("_V")


class DeferredDict(dict[_K, _V]):
    """
    A C{dict} whose C{d[key]} and C{d.get(key)} give a Deferred, which fires as soon as the value is
    there: answers by the number of the question, connections by the name of the peer::

        answers = DeferredDict()
        answers[number].addCallback(show)   # One part of the program asks ...
        answers[number] = answer            # ... and another one answers, sooner or later.

    Everything else works as with any C{dict}: C{values()}, C{items()} and C{pop()} give the values
    themselves. Setting a value (C{d[key] = value}, C{update}, C{setdefault}, C{put}) fires the
    Deferreds that wait for it.

    A value stays until it is replaced or deleted. A value is not a Deferred. Everybody who asks has
    a Deferred of their own, so that the callbacks of one do not change what another one gets.
    """

    def __init__(self, *args: Any, **kw: Any) -> None:
        """
        @param args: the first values, as C{dict} takes them.
        @param kw: more of them, by their keys.
        @raise TypeError: if a value is a Deferred.
        """
        super().__init__()
        self._waiting: dict[_K, Waiters[_V]] = {}
        self.update(*args, **kw)

    def __repr__(self) -> str:
        waiting = sum(map(len, self._waiting.values()))
        return f"<DeferredDict: {len(self)} values, {waiting} waiting>"

    def __reduce__(self) -> tuple[Any, ...]:
        # The Deferreds that wait cannot leave this process.
        return type(self), (dict(self),)

    def __getitem__(self, key: _K) -> Deferred[_V]:  # type: ignore[override]
        """
        Wait for a value.

        @return: a Deferred that fires with the value, at once if it is there, or when it is set; or
            that fails with what L{fail} is given. Cancelling it ends only this wait.
        """
        if key in self:
            return succeed(super().__getitem__(key))
        waiters = self._waiting.setdefault(key, Waiters())
        return waiters.add().addBoth(self._tidy, key, waiters)

    def get(self, key: _K) -> Deferred[_V]:  # type: ignore[override]
        """
        Wait for a value.

        @return: what C{d[key]} gives. There is no default value, because the Deferred waits.
        """
        return self[key]

    def __setitem__(self, key: _K, value: _V) -> None:
        """
        Set a value, and fire the Deferreds that wait for it, in the order of asking.

        @param value: anything but a Deferred.
        @raise TypeError: if it is a Deferred.
        """
        if isinstance(value, Deferred):
            raise TypeError(f"the value of {key!r} must not be a Deferred: set what it fires with")
        super().__setitem__(key, value)
        waiters = self._waiting.pop(key, None)
        if waiters is not None:
            waiters.fire(value)

    def put(self, key: _K, value: _V) -> None:
        """
        Do what C{d[key] = value} does.
        """
        self[key] = value

    def update(self, *args: Any, **kw: Any) -> None:
        """
        Set several values, given as C{dict.update} takes them.

        @raise TypeError: if a value is a Deferred. The keys before it are set.
        """
        for key, value in dict(*args, **kw).items():
            self[key] = value

    def __ior__(self, other: Any) -> DeferredDict[_K, _V]:  # type: ignore[misc,override]
        self.update(other)
        return self

    def setdefault(self, key: _K, default: _V) -> _V:
        """
        Set a value, if there is none.

        @return: the value that is there now.
        @raise TypeError: if it is a Deferred.
        """
        if key not in self:
            self[key] = default
            # A callback may have deleted or replaced it.
        return super().get(key, default)

    def fail(self, key: _K, failure: Failure | Exception) -> int:
        """
        Tell everybody who waits for a value that it will not come. The failure is not kept for
        later, and a value that is there stays.

        @return: how many Deferreds failed. If it is 0, nobody knows of the failure.
        """
        waiters = self._waiting.pop(key, None)
        if isinstance(failure, Exception):
            failure = Failure(failure)
        return 0 if waiters is None else waiters.fire(failure)

    def pending(self, key: _K) -> int:
        """
        Return how many Deferreds wait for the value.
        """
        return len(self._waiting.get(key, ()))

    def _tidy(self, result: Any, key: _K, waiters: Waiters[_V]) -> Any:
        if not waiters and self._waiting.get(key) is waiters:
            del self._waiting[key]
        return result

"""
The two halves of the protocol in all states of small sizes, and broken ones that the search must
find out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from asynqueue._runner import streams
from asynqueue._runner.callrunner import CallRunner
from asynqueue._runner.messages import Message
from asynqueue._workers.events import GivenBack, WorkerEvent
from asynqueue._workers.protocol import CallWriter
from tests.model.contract import Note, RecordingProtocol
from tests.model.explorer import Counterexample, Explored, explore
from tests.model.protocolworld import CREDIT, ProtocolWorld, Setup

CALLS = Setup(("value", "broken", "value"), frozenset({"die"}))
"""How calls begin and end, and how the runner dies."""

CANCELS = Setup(("value", "unpicklable"), frozenset({"cancel", "recall", "nudge"}), sends=2)
"""How calls are cancelled and recalled, and sent again."""

QUITS = Setup(("value", "items"), frozenset({"quit", "die", "cancel"}))
"""How the runner is told to end, and dies meanwhile."""

REFUSALS = Setup(("value", "unwritable", "value"), frozenset({"tooLarge", "recall"}), sends=2)
"""How calls cannot be sent."""

STREAMS = Setup(("items", "value"), frozenset({"die", "stop", "cancel"}))
"""How the items of a stream come."""

SMALL = {
    "calls": CALLS,
    "cancels": CANCELS,
    "quits": QUITS,
    "refusals": REFUSALS,
    "streams": STREAMS,
}

ALL = frozenset({"die", "cancel", "recall", "nudge", "quit", "stop"})
LARGE = {
    "calls": replace(CALLS, verbs=CALLS.verbs | {"cancel", "recall", "nudge"}),
    "mixed": Setup(("unpicklable", "items"), ALL, sends=2),
    "streams": Setup(("items", "items"), frozenset({"die", "stop"})),
    "quits": Setup(("value", "broken", "value"), frozenset({"quit", "die", "recall"})),
    "refusals": replace(REFUSALS, verbs=REFUSALS.verbs | {"die", "cancel"}),
}


@pytest.fixture(autouse=True)
def little(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """
    A stream may send few items at first.
    """
    monkeypatch.setattr(streams, "CREDIT_ITEMS", CREDIT)
    yield


def search(setup: Setup) -> Explored:
    explored = explore(lambda: ProtocolWorld(setup), onward=ProtocolWorld.onward)
    print(explored)  # noqa: T201
    return explored


@pytest.mark.parametrize("setup", SMALL.values(), ids=SMALL)
def test_everySmallStateKeepsTheContract(setup: Setup) -> None:
    assert search(setup).states > 100


@pytest.mark.slow
@pytest.mark.parametrize("setup", LARGE.values(), ids=LARGE)
def test_everyStateWithMoreThatHappensKeepsTheContract(setup: Setup) -> None:
    assert search(setup).states > 1000


# Broken on purpose ------------------------------------------------------------------------------


class Forgetful(CallRunner):
    """Drops the calls that are recalled, and does not say so."""

    def _giveBack(self, calls: list[Message]) -> None:
        for call in calls:
            self._calls.remove(call)
            self._reader.keep(call)


class Greedy(CallRunner):
    """Runs a call all the same that it has given back."""

    def _giveBack(self, calls: list[Message]) -> None:
        super()._giveBack(calls)
        self._calls.extend(calls)


class Unlearning(CallRunner):
    """Does not note what the calls define that it gives back."""

    def _giveBack(self, calls: list[Message]) -> None:
        keep, self._reader.keep = self._reader.keep, lambda call: None  # type: ignore[method-assign]
        super()._giveBack(calls)
        self._reader.keep = keep  # type: ignore[method-assign]


class Hoarding(CallRunner):
    """Keeps an answer back until the next call has begun, to send two at once."""

    def __init__(self, post: Callable[[Message], None], *args: Any, **kw: Any) -> None:
        self._kept: list[Message] = []
        self._send = post
        super().__init__(self._hoard, *args, **kw)

    def _hoard(self, message: Message) -> None:
        self._kept.append(message)
        if not self._calls:
            kept, self._kept = self._kept, []
            for each in kept:
                self._send(each)


class Late(CallRunner):
    """Notes that a call has begun when it is over."""

    def _run(self, call: Message) -> None:
        begin, self._begin = self._begin, lambda number: None
        super()._run(call)
        self._begin = begin
        begin(call[1])


class Wasteful(RecordingProtocol):
    """Blames the call behind the one that was begun last."""

    def split(self, begun: int | None) -> tuple[list[Any], list[Any]]:
        return super().split(None if begun is None else begun + 1)


class Lenient(RecordingProtocol):
    """Spares the call that was begun last."""

    def split(self, begun: int | None) -> tuple[list[Any], list[Any]]:
        return super().split(None if begun is None else begun - 1)


class Clinging(RecordingProtocol):
    """Keeps the tasks that were given back."""

    def _unbegun(self, kind: int, numbers: list[int]) -> WorkerEvent:
        return GivenBack([self.underway[number] for number in numbers])


class Silent(RecordingProtocol):
    """Grants nothing again."""

    def send(self, messages: list[Message]) -> None:
        pass


class Generous(RecordingProtocol):
    """Grants twice what was taken."""

    def send(self, messages: list[Message]) -> None:
        super().send([*messages, *messages])


class Overlooking(RecordingProtocol):
    """Lets the streams of a lost runner stay open."""

    def endStreams(self, reason: Exception) -> list[WorkerEvent]:
        self.streams.clear()
        return super().endStreams(reason)


class Believing(CallWriter):
    """Takes a function for taught although the message was not sent."""

    def unteach(self, task: Any, message: Message) -> None:
        pass


def believing(note: Note, link: Any) -> RecordingProtocol:
    return RecordingProtocol(note, link, writer=Believing())


BROKEN_RUNNERS = {
    Forgetful: CANCELS,
    Greedy: CANCELS,
    Unlearning: CANCELS,
    Hoarding: CALLS,
    Late: CALLS,
}
BROKEN_PROTOCOLS = {
    Wasteful: CALLS,
    Lenient: CALLS,
    Clinging: CANCELS,
    Silent: STREAMS,
    Generous: STREAMS,
    Overlooking: STREAMS,
    believing: REFUSALS,
}


@pytest.mark.parametrize("runner", BROKEN_RUNNERS)
def test_aBrokenRunnerIsFoundOut(runner: type[CallRunner]) -> None:
    with pytest.raises(Counterexample) as caught:
        search(replace(BROKEN_RUNNERS[runner], makeRunner=runner))
    assert len(caught.value.actions) <= 9


@pytest.mark.parametrize("protocol", BROKEN_PROTOCOLS)
def test_aBrokenNearHalfIsFoundOut(protocol: Callable[..., RecordingProtocol]) -> None:
    with pytest.raises(Counterexample) as caught:
        search(replace(BROKEN_PROTOCOLS[protocol], makeProtocol=protocol))
    assert len(caught.value.actions) <= 9

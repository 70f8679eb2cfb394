"""
The API by which queues are seen and steered: requests and replies as plain data, which JSON can
express.

Nothing here knows how a request came. A socket asks it, and so can a web page.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping
from hashlib import sha256
from typing import Any, Final, NamedTuple

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from asynqueue._core.description import describeError, shortly, withCause
from asynqueue._core.task import Progress
from asynqueue._version import __version__
from asynqueue.errors import AdminError, AsynQueueError, textOf
from asynqueue.interfaces import IAdministered, JSONObject

API: Final = 1
"""The number of this API. It grows when a program that knows the former one would go wrong."""

LARGEST_PAGE: Final = 500
"""How many tasks or jobs one reply shows at most."""

DEEPEST: Final = 10_000
"""How many of those that wait can be paged through. To find the place of a page, those before it
have to be walked."""

MOST_NAMED: Final = 10_000
"""How many tasks or jobs one request can name."""

LONGEST_TRACEBACK: Final = 10_000
"""How many characters of a traceback are shown: the last ones."""

LONGEST: Final = 200
"""How many characters of one text in a request are allowed."""

Check = Callable[[str, object], object]
"""Takes a parameter's name and value, and returns the value or raises ValueError."""

_REQUIRED: Final = object()


class Parameter(NamedTuple):
    """
    One parameter of a request.

    @ivar check: checks its value.
    @ivar default: its value if the request does not have it, unless it must have it.
    """

    check: Check
    default: object = _REQUIRED


class Verb(NamedTuple):
    """
    The questions and actions.

    @ivar acts: whether it changes something. It is then logged with who asked.
    @ivar parameters: by their names.
    """

    acts: bool
    parameters: Mapping[str, Parameter]


def _whole(least: int, most: int) -> Callable[[str, object], int]:
    def check(name: str, value: object) -> int:
        if type(value) is not int or not least <= value <= most:
            raise ValueError(f"{name} must be an integer from {least} to {most}, not {_cut(value)}")
        return value

    return check


def _number(name: str, value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value) or abs(value) > 2**63:
        raise ValueError(f"{name} must be a number, not {_cut(value)}")
    return float(value)


def _positive(name: str, value: object) -> float:
    number = _number(name, value)
    if number <= 0:
        raise ValueError(f"{name} must be more than 0, not {_cut(value)}")
    return number


def _priority(name: str, value: object) -> float:
    places = {"first": -math.inf, "last": math.inf}
    if isinstance(value, str) and value in places:
        return places[value]
    return _number(name, value)


def _text(name: str, value: object) -> str:
    if type(value) is not str or len(value) > LONGEST:
        raise ValueError(f"{name} must be a text of up to {LONGEST} characters, not {_cut(value)}")
    return value


def _yes(name: str, value: object) -> bool:
    if type(value) is not bool:
        raise ValueError(f"{name} must be true or false, not {_cut(value)}")
    return value


def _plain(name: str, value: object) -> object:
    if type(value) in (int, float, bool, type(None)):
        return value
    return _text(name, value)


def _numbers(name: str, value: object) -> list[int]:
    if type(value) is not list or len(value) > MOST_NAMED:
        raise ValueError(f"{name} must be a list of up to {MOST_NAMED} numbers, not {_cut(value)}")
    return [_whole(0, 2**63)(f"each of {name}", item) for item in value]


def _cut(value: object) -> str:
    return shortly(value)


def _maybe(check: Check) -> Parameter:
    return Parameter(lambda name, value: None if value is None else check(name, value), None)


ABSENT: Final = object()
"""The value of a parameter for which C{null} would mean something else."""

_COUNT: Final = _whole(1, 10_000)
_QUEUE: Final = {"queue": _maybe(_text)}
_PAGE: Final = {
    "page": Parameter(_whole(0, DEEPEST), 0),
    "size": Parameter(_whole(1, LARGEST_PAGE), 25),
}
_JOBS: Final = {
    "jobs": _maybe(_numbers),
    "kind": _maybe(_text),
    "all": Parameter(_yes, False),
}

VERBS: Final[Mapping[str, Verb]] = {
    "hello": Verb(False, {}),
    "queues": Verb(False, {}),
    "snapshot": Verb(False, {**_QUEUE, **_PAGE}),
    "task": Verb(False, {**_QUEUE, "task": Parameter(_whole(0, 2**63))}),
    "deadLetters": Verb(False, {**_QUEUE, **_PAGE}),
    "stacks": Verb(
        False, {**_QUEUE, "worker": _maybe(_whole(0, 2**63)), "task": _maybe(_whole(0, 2**63))}
    ),
    "cancel": Verb(
        True,
        {
            **_QUEUE,
            "tasks": _maybe(_numbers),
            "series": Parameter(_plain, ABSENT),
            "function": _maybe(_text),
            "all": Parameter(_yes, False),
            "underway": Parameter(_yes, False),
        },
    ),
    "terminate": Verb(True, {**_QUEUE, "task": Parameter(_whole(0, 2**63))}),
    "reprioritise": Verb(
        True,
        {**_QUEUE, "task": Parameter(_whole(0, 2**63)), "priority": Parameter(_priority)},
    ),
    "pause": Verb(True, _QUEUE),
    "resume": Verb(True, _QUEUE),
    "width": Verb(True, {**_QUEUE, "width": Parameter(_whole(0, 1_000_000))}),
    "rate": Verb(
        True,
        {
            **_QUEUE,
            "rate": Parameter(
                lambda name, value: None if value is None else _whole(1, 10**9)(name, value)
            ),
            "per": Parameter(_positive, 1.0),
            "burst": _maybe(_whole(1, 10**9)),
        },
    ),
    "processes": Verb(True, {**_QUEUE, "count": Parameter(_COUNT)}),
    "recycle": Verb(True, {**_QUEUE, "worker": Parameter(_whole(0, 2**63))}),
    "retry": Verb(True, {**_QUEUE, **_JOBS}),
    "drop": Verb(True, {**_QUEUE, **_JOBS}),
}
"""Everything that can be asked, by the word that a request has under C{do}."""

ACTS: Final = frozenset(word for word, verb in VERBS.items() if verb.acts)
"""The verbs that change something."""


class AdminAPI:
    """
    Answers requests about the queues of a program.

    A request is a dictionary with the verb under C{do}, its parameters, and perhaps an C{id}, which
    the reply repeats. The reply has C{ok}: if that is true, the answer is under C{result},
    otherwise one sentence is under C{error}.

    @ivar queues: the queues, each an L{IAdministered<asynqueue.interfaces.IAdministered>}, by name.
    """

    log = Logger()

    def __init__(self, about: JSONObject | None = None) -> None:
        """
        @param about: what L{greeting} says of the program.
        """
        self.queues: dict[str, IAdministered] = {}
        self._about = dict(about or {})
        self._clients = 0

    def add(self, queue: IAdministered) -> None:
        """
        Add a queue. If another one has its name, it gets a number behind that.

        @param queue: an L{IAdministered<asynqueue.interfaces.IAdministered>}.
        """
        name, number = queue.name, 1
        while queue.name in self.queues:
            number += 1
            queue.name = f"{name}-{number}"
        self.queues[queue.name] = queue
        if self._clients:
            queue.observe(True)

    def remove(self, queue: IAdministered) -> None:
        """
        Remove a queue, if it is here.
        """
        if queue not in self.queues.values():
            return
        del self.queues[queue.name]
        if self._clients:
            queue.observe(False)

    def attach(self) -> None:
        """
        Take note that a client has come. With the first one, the queues are observed.
        """
        self._clients += 1
        if self._clients == 1:
            for queue in self.queues.values():
                queue.observe(True)

    def detach(self) -> None:
        """
        Take note that a client has gone. After the last one, the queues are not observed.
        """
        self._clients -= 1
        if not self._clients:
            for queue in self.queues.values():
                queue.observe(False)

    def greeting(self) -> JSONObject:
        """
        Return which program and which API this is.
        """
        return {
            "asynqueue": __version__,
            "api": API,
            "verbs": [*VERBS],
            **self._about,
            "queues": [*self.queues],
        }

    def answer(
        self, request: object, who: str, acts: Container[str] = ACTS
    ) -> Deferred[JSONObject]:
        """
        Do what a request asks for.

        @param request: anything that JSON can express.
        @param who: who asks, for the log.
        @param acts: which of the verbs that change something this one may use. Default: all.
        @return: a Deferred that fires with the reply. It never fails.
        """
        answered: Deferred[Any] = maybeDeferred(self._do, request, who, acts)
        answered.addCallbacks(_success, self._failure)
        id = request.get("id") if isinstance(request, dict) else None
        if id is not None:
            answered.addCallback(lambda reply: {"id": id, **reply})
        return answered

    def _do(self, request: object, who: str, acts: Container[str]) -> object:
        if not isinstance(request, dict):
            raise ValueError("a request must be an object, with a verb under do")
        word = request.get("do")
        verb = VERBS.get(word) if isinstance(word, str) else None
        if verb is None:
            raise ValueError(f"there is no verb {_cut(word)}, only {', '.join(VERBS)}")
        assert isinstance(word, str)
        given = {name: value for name, value in request.items() if name not in ("id", "do")}
        values = _checked(word, verb, given)
        if word == "hello":
            return self.greeting()
        if word == "queues":
            return [queue.summary() for queue in self.queues.values()]
        queue = self._find(values.pop("queue"))
        method = queue.verbs.get(word)
        if method is None:
            raise ValueError(f"{queue.name} is a {queue.kind}, which has no {word}")
        if verb.acts and queue.isReadOnly:
            raise ValueError(f"{queue.name} can only be looked at, so {word} was refused")
        if verb.acts and word not in acts:
            raise ValueError(f"{who} has no right to {word}, so it was refused")
        done = maybeDeferred(method, **values)
        if verb.acts:
            done.addBoth(self._logged, who, word, queue.name, given)
        return done

    def _find(self, name: str | None) -> IAdministered:
        if name is None and len(self.queues) == 1:
            return next(iter(self.queues.values()))
        queue = self.queues.get(name) if name is not None else None
        if queue is None:
            names = ", ".join(self.queues) or "none at all"
            asked = "say which queue is meant" if name is None else f"there is no queue {name!r}"
            raise ValueError(f"{asked}; there is {names}")
        return queue

    def _logged(self, result: Any, who: str, word: str, queue: str, given: JSONObject) -> Any:
        self.log.info(
            "admin: {who} asked for {word} on {queue} with {given}: {outcome}",
            who=who,
            word=word,
            queue=queue,
            given=shortly({name: given[name] for name in given if name != "queue"}),
            outcome=textOf(result.value) if isinstance(result, Failure) else shortly(result),
        )
        return result

    def _failure(self, failure: Failure) -> JSONObject:
        if failure.check(AsynQueueError, ValueError, TypeError) is not None:
            return {"ok": False, "error": textOf(failure.value)}
        self.log.failure("a request could not be answered", failure)
        return {"ok": False, "error": f"this failed: {describeError(failure.value)}"}


def _success(result: object) -> JSONObject:
    return {"ok": True, "result": result}


def _checked(word: str, verb: Verb, given: JSONObject) -> JSONObject:
    for name in given:
        if name not in verb.parameters:
            known = ", ".join(verb.parameters) or "none"
            raise ValueError(f"{word} has no parameter {_cut(name)}, only {known}")
    values = {}
    for name, parameter in verb.parameters.items():
        if name in given:
            values[name] = parameter.check(name, given[name])
        elif parameter.default is _REQUIRED:
            raise ValueError(f"{word} needs the parameter {name}")
        else:
            values[name] = parameter.default
    return values


def checkPage(page: int, size: int) -> int:
    """
    @return: how many tasks or jobs come before a page.
    @raise ValueError: if these are too many.
    """
    before = page * size
    if before + size > DEEPEST:
        raise ValueError(
            f"page {page} is too far down: only the first {DEEPEST} can be paged through"
        )
    return before


def kindOf(error: str) -> str:
    """
    @param error: the text of a dead letter's error.
    @return: a short name for the dead letters that have the same error.
    """
    return sha256(error.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def kindsOf(errors: Iterable[str]) -> list[JSONObject]:
    """
    @param errors: the texts of the errors of all dead letters.
    @return: the kinds of dead letters, the most frequent ones first.
    """
    counted = Counter(errors).most_common(LARGEST_PAGE)
    return [{"kind": kindOf(error), "error": error, "count": count} for error, count in counted]


def checkShow(show: Iterable[str]) -> frozenset[str]:
    """
    @param show: names of what is shown.
    @raise AdminError: if there is no such thing.
    """
    names = frozenset([show] if isinstance(show, str) else show)
    unknown = sorted(map(str, names - {"arguments", "results"}))
    if unknown:
        raise AdminError(f"show can name 'arguments' and 'results', not {unknown[0]!r}")
    return names


def plainTraceback(failure: Failure) -> str:
    """
    @return: the end of a failure's traceback, with that of its cause, which has the stack of a task
        that ran elsewhere.
    """
    text = withCause(failure.getTraceback(elideFrameworkCode=True), failure.value)
    return text[-LONGEST_TRACEBACK:]


def plainPriority(priority: object) -> object:
    """
    @return: a priority as JSON can express it, and as C{reprioritise} takes it.
    """
    if isinstance(priority, float) and math.isinf(priority):
        return "last" if priority > 0 else "first"
    return plain(priority)


def plainProgress(progress: Progress, now: float) -> JSONObject:
    """
    @return: how far a task or a job has come, as JSON can express it.
    """
    return {
        "done": plain(progress.done),
        "total": plain(progress.total),
        "ago": now - progress.time,
    }


def plain(value: object) -> object:
    """
    @return: a value as JSON can express it: itself, or a short description.
    """
    if type(value) in (int, bool, type(None)):
        return value
    if type(value) is float:
        return value if math.isfinite(value) else str(value)
    return value[:LONGEST] if type(value) is str else shortly(value)

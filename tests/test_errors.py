from __future__ import annotations

import inspect
from pickle import dumps, loads
from typing import Any

import pytest

from asynqueue import errors
from asynqueue.errors import (
    AsynQueueError,
    ConnectionLost,
    ExecutorDied,
    ExtraMissing,
    QueueRunError,
    QueueStopped,
    ReactorTouched,
    RemoteError,
    RemoteTraceback,
    StateError,
    TaskError,
    TaskTimeout,
    WorkerDied,
    WorkerError,
    WrongEventLoop,
    withTraceback,
)

OURS = [
    kind
    for name, kind in vars(errors).items()
    if inspect.isclass(kind) and (kind.__module__, kind.__name__) == (errors.__name__, name)
]

ARGUMENTS: dict[type, tuple[Any, ...]] = {
    ExtraMissing: ("TLS", "tls"),
    StateError: ("the task", "PENDING", "finish"),
    WrongEventLoop: ("the queue", "belongs elsewhere", "use it there"),
    RemoteError: ("far.Error", "text", "trace"),
    WorkerDied: (12, None, 9, 3456, True, "the stacks"),
    ReactorTouched: ("the call of work", "callLater"),
    ConnectionLost: ("tcp:127.0.0.1:7411", "it was cut", "yes", "unknown", 4, 3),
    ExecutorDied: ("ProcessPoolExecutor", "a process died"),
}


def names(kinds: list[type]) -> list[str]:
    return [kind.__name__ for kind in kinds]


@pytest.mark.parametrize("kind", OURS, ids=names(OURS))
def test_everyErrorThatIsRaisedHasTheOneRoot(kind: type) -> None:
    # The text of a far traceback is never raised, only shown as a cause.
    assert issubclass(kind, AsynQueueError) or kind is RemoteTraceback
    assert issubclass(kind, Exception)


@pytest.mark.parametrize("kind", OURS, ids=names(OURS))
def test_everyErrorSaysWhatItMeans(kind: type) -> None:
    assert "__doc__" in vars(kind)
    assert kind.__doc__


@pytest.mark.parametrize("kind", OURS, ids=names(OURS))
def test_everyErrorTravelsWhole(kind: type) -> None:
    error = kind(*ARGUMENTS.get(kind, ("what happened",)))
    back = loads(dumps(error, 5))
    assert (type(back), back.args, str(back)) == (kind, error.args, str(error))
    assert vars(back) == vars(error)


TASKS = [
    "TaskTimeout",
    "CallNotPicklable",
    "CallNotRebuilt",
    "ResultNotPicklable",
    "ResultNotRebuilt",
    "PayloadTooLarge",
    "RemoteError",
]
WORKERS = ["WorkerDied", "WorkerDetached", "WorkerStartError", "ProtocolError"]
OTHERS = ["StateError", "QueueStopped", "ImplementationError", "NotReadyError", "IterationStopped"]


@pytest.mark.parametrize("name", [*TASKS, *WORKERS, *OTHERS])
def test_theFaultOfATaskAWorkerAndTheCallerCanBeTold(name: str) -> None:
    kind = getattr(errors, name)
    assert issubclass(kind, TaskError) == (name in TASKS)
    assert issubclass(kind, WorkerError) == (name in WORKERS)


def test_taskTimeoutIsPythonsTimeoutErrorToo() -> None:
    assert issubclass(TaskTimeout, TimeoutError)


def test_nameOfAsynQueue09StaysAlive() -> None:
    assert QueueRunError is QueueStopped


def test_stateErrorNamesObjectStateAndEvent() -> None:
    error = StateError("<task 3>", "FINISHED", "cancel")
    assert str(error) == "<task 3> is FINISHED: 'cancel' is not allowed now"
    assert (error.subject, error.state, error.event) == ("<task 3>", "FINISHED", "cancel")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({}, "The worker's runner was lost"),
        ({"pid": 12}, "Worker process 12 was lost"),
        ({"pid": 12, "exitCode": 0}, "Worker process 12 ended with exit code 0"),
        ({"exitCode": 3}, "The worker's runner ended with exit code 3"),
        ({"pid": 12, "signal": 9}, "Worker process 12 was killed by signal 9 (SIGKILL)"),
        ({"pid": 12, "signal": 11}, "Worker process 12 was killed by signal 11 (SIGSEGV)"),
        ({"pid": 12, "signal": 250}, "Worker process 12 was killed by signal 250 (unknown)"),
        (
            {"pid": 12, "signal": 9, "residentKilobytes": 0},
            "Worker process 12 was killed by signal 9 (SIGKILL), last seen with 0 kB resident",
        ),
        (
            {"pid": 12, "signal": 9, "residentKilobytes": 5, "isLikelyOutOfMemory": True},
            "Worker process 12 was killed by signal 9 (SIGKILL), likely for lack of memory, last "
            "seen with 5 kB resident",
        ),
    ],
)
def test_workerDiedSaysHow(arguments: dict[str, Any], text: str) -> None:
    error = WorkerDied(**arguments)
    assert error.death() == text
    assert str(error) == f"{text}, while running this task"
    for name, value in arguments.items():
        assert getattr(error, name) == value


def test_remoteErrorNamesTheFarTypeAndItsText() -> None:
    error = RemoteError("far.Error", "why", "trace")
    assert (error.typeName, error.text, error.traceback) == ("far.Error", "why", "trace")
    assert str(error) == "far.Error: why"
    assert str(RemoteError("far.Error", "", "trace")) == "far.Error"


def test_withTracebackHangsTheTextOnTheSameException() -> None:
    error = ValueError()
    assert withTraceback(error, "far away") is error
    assert isinstance(error.__cause__, RemoteTraceback)
    assert "far away" in str(error.__cause__)


@pytest.mark.parametrize("text", ["", None])
def test_withoutATextThereIsNoCause(text: str | None) -> None:
    assert withTraceback(ValueError(), text).__cause__ is None


def test_theStacksOfACrashAreShownWithTheDeath() -> None:
    error = WorkerDied(12, signal=11, stacks="Fatal Python error")
    assert isinstance(error.__cause__, RemoteTraceback)
    assert error.__cause__.args == ("Fatal Python error",)
    assert WorkerDied(12, signal=11).__cause__ is None

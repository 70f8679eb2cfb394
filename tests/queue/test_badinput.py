"""
A call with wrong values fails alone and with a clear error, and the queue goes on.
"""

from __future__ import annotations

from typing import Any

from asynqueue.errors import (
    CallNotPicklable,
    ImplementationError,
    InvariantError,
    QueueStopped,
    RemoteError,
    ResultNotPicklable,
    ResultNotRebuilt,
)
from asynqueue.tasks import PENDING
from asynqueue.testing import far
from asynqueue.testing.stepworker import StepWorker
from tests.support.cases import QueueCase


class Unhashable:
    """
    A callable that cannot be hashed, as a dataclass may be.
    """

    def __init__(self, result: Any) -> None:
        self.result = result

    def __eq__(self, other: object) -> bool:
        return False

    __hash__ = None  # type: ignore[assignment]

    def __call__(self) -> Any:
        return self.result

    def method(self) -> Any:
        return self.result


class Resistant:
    """
    Can be neither pickled nor shown.
    """

    def __init__(self, error: type[BaseException]) -> None:
        self._error = error

    def __reduce__(self) -> Any:
        raise self._error("no")

    def __repr__(self) -> str:
        raise ValueError("no")

    def __call__(self) -> None:
        raise AssertionError("this never gets anywhere")


class Contrary:
    """
    A callable that knows no attribute.
    """

    def __getattr__(self, name: str) -> Any:
        raise KeyError(name)

    def __call__(self) -> None:
        pass


class BadInputTests(QueueCase):
    def goesOn(self, queue: Any) -> None:
        """
        The queue still works.
        """
        self.assertEqual(self.resultOf(queue.call(far.echo, "goes on")), "goes on")

    def test_aFunctionThatCannotBePickled(self) -> None:
        queue = self.makeQueue(self.makeWorker())
        error = self.errorOf(queue.call(lambda: None), CallNotPicklable)
        self.assertIn("the function", str(error))
        self.assertIn("<lambda>", str(error))
        self.goesOn(queue)

    def test_anArgumentThatCannotBePickled(self) -> None:
        queue = self.makeQueue(self.makeWorker())
        error = self.errorOf(queue.call(far.keywords, 1, lambda: None), CallNotPicklable)
        self.assertIn("argument 2 of keywords", str(error))
        error = self.errorOf(queue.call(far.keywords, this=lambda: None), CallNotPicklable)
        self.assertIn("argument 'this' of keywords", str(error))
        self.assertEqual(self.resultOf(queue.call(far.keywords, 3)), ((3,), {}))

    def test_anArgumentThatResistsEverything(self) -> None:
        queue = self.makeQueue(self.makeWorker())
        for error in (ValueError, SystemExit):
            self.errorOf(queue.call(far.echo, Resistant(error)), CallNotPicklable)
            self.errorOf(queue.call(Resistant(error)), Exception)
        self.goesOn(queue)

    def test_aCallableThatCannotBeHashed(self) -> None:
        queue = self.makeQueue(self.makeWorker())
        self.assertEqual(self.resultOf(queue.call(Unhashable(5))), 5)
        self.assertEqual(self.resultOf(queue.call(Unhashable(6).method)), 6)
        self.goesOn(queue)

    def test_whatCannotBeCalled(self) -> None:
        queue = self.makeQueue(self.makeWorker())
        notCallable: Any = 17
        error = self.assertRaises(TypeError, queue.call, notCallable)
        self.assertIn("17 cannot be called: name the function, and its arguments", str(error))
        self.assertRaises(TypeError, queue.submit, notCallable)
        self.goesOn(queue)

    def test_aTaskThatRaises(self) -> None:
        queue = self.makeQueue(self.makeWorker())
        self.errorOf(queue.call(far.refuse), ValueError)
        self.errorOf(queue.call(far.exit), SystemExit)
        self.goesOn(queue)

    def test_anExceptionThatCannotTravel(self) -> None:
        queue = self.makeQueue(self.makeWorker())
        error = self.errorOf(queue.call(far.raiseUnpicklable), RemoteError)
        self.assertEqual(error.typeName, "asynqueue.testing.far.Unpicklable")
        error = self.errorOf(queue.call(far.raiseUnrebuildable), RemoteError)
        self.assertEqual(error.typeName, "asynqueue.testing.far.Unrebuildable")
        self.goesOn(queue)

    def test_aResultThatCannotTravel(self) -> None:
        queue = self.makeQueue(self.makeWorker())
        error = self.errorOf(queue.call(far.makeLambda), ResultNotPicklable)
        self.assertIn("of type function", str(error))
        self.errorOf(queue.call(far.makeBomb), ResultNotRebuilt)
        self.errorOf(queue.call(far.makeBomb, exits=True), ResultNotRebuilt)
        self.goesOn(queue)

    def test_aWorkerThatProvidesNoIWorker(self) -> None:
        queue = self.makeQueue(self.makeWorker())
        error = self.assertRaises(ImplementationError, queue.attachWorker, object())
        self.assertIn("does not provide IWorker", str(error))
        self.assertRaises(ImplementationError, self.makeQueue, object())
        self.assertEqual(len(queue), 1)
        self.goesOn(queue)

    def test_aWorkerWhoseSeriesAreNoList(self) -> None:
        queue = self.makeQueue(self.makeWorker())
        worker: Any = StepWorker()
        worker.iQualified = "series"
        error = self.assertRaises(InvariantError, queue.attachWorker, worker)
        self.assertIn("its iQualified must be a list of series", str(error))
        del worker.iQualified
        self.assertRaises(InvariantError, queue.attachWorker, worker)
        self.assertEqual(len(queue), 1)
        self.goesOn(queue)

    def test_aWorkerThatIsAttachedAlready(self) -> None:
        worker = self.makeWorker()
        queue = self.makeQueue(worker)
        error = self.assertRaises(ValueError, queue.attachWorker, worker)
        self.assertIn("attached to this queue already", str(error))
        self.goesOn(queue)

    def test_aSeriesThatNobodyIsQualifiedFor(self) -> None:
        queue = self.makeQueue(self.makeWorker())
        task = queue.submit(far.echo, 1, series="nobody's")
        self.goesOn(queue)
        self.assertEqual(task.state, PENDING)
        queue.attachWorker(self.makeWorker("nobody's"))
        self.assertEqual(self.resultOf(task.d), 1)

    def check(self, kind: type[Exception], text: str, **options: Any) -> None:
        """
        Options that cannot be are refused, whichever way they are given.
        """
        queue = self.makeQueue(self.makeWorker())
        for way in (
            lambda: queue.call(far.echo, **options),
            lambda: queue.submit(far.echo, **options),
            lambda: queue.map(far.echo, [], **options),
            lambda: queue.options(**options).call(far.echo),
        ):
            error = self.assertRaises(kind, way)
            self.assertIn(text, str(error))
        self.assertEqual(repr(queue), "<TaskQueue: RUNNING, 1 workers, 0 tasks pending>")
        self.goesOn(queue)

    def test_nicenessOutsideItsRange(self) -> None:
        for niceness in (-21, 21, 0.5, "high", True, None):
            self.check(ValueError, "niceness must be an integer from -20 to 20", niceness=niceness)

    def test_bothEndsAtOnce(self) -> None:
        self.check(ValueError, "doNext and doLast exclude each other", doNext=True, doLast=True)

    def test_aTimeoutThatIsNoLengthOfTime(self) -> None:
        for timeout in (0, -1, float("nan")):
            self.check(ValueError, "timeout must be a positive number", timeout=timeout)

    def test_aSeriesThatCannotBeHashed(self) -> None:
        self.check(TypeError, "unhashable", series=[])

    def test_whatIsNoConsumer(self) -> None:
        self.check(ImplementationError, "does not provide IConsumer", consumer=object())

    def test_whatIsNoOption(self) -> None:
        queue = self.makeQueue()
        self.assertRaises(TypeError, queue.options, urgency=3)
        self.assertRaises(TypeError, queue.map, far.echo, [], urgency=3)

    def test_aQueueAmongTheArgumentsIsNamed(self) -> None:
        queue = self.makeQueue(self.makeWorker())
        error = self.errorOf(queue.call(far.echo, queue), CallNotPicklable)
        self.assertIn("a queue belongs to its process", str(error))

    def test_aCallableWithAGetattrOfItsOwnHasARepr(self) -> None:
        queue = self.makeQueue()
        task = queue.submit(Contrary())
        self.assertIn("Contrary", repr(task))
        task.d.addErrback(lambda _: None)

    def test_anythingAfterTheShutdown(self) -> None:
        queue = self.makeQueue(self.makeWorker())
        queue.shutdown()
        for state in ("STOPPING", "STOPPED"):
            for way in (
                lambda: queue.call(far.echo),
                lambda: queue.submit(far.echo),
                lambda: queue.options().call(far.echo),
                lambda: queue.options().submit(far.echo),
                lambda: queue.map(far.echo, [1]),
                lambda: queue.options().map(far.echo, [1]),
                lambda: queue.update(far.echo),
            ):
                error = self.assertRaises(QueueStopped, way)
                self.assertIn(state, str(error))
                self.assertIn("(echo) was refused", str(error))
            self.settle()

    def test_attachingAfterTheShutdown(self) -> None:
        queue = self.makeQueue(StepWorker())
        queue.call(far.echo)
        queue.shutdown()
        worker = self.makeWorker()
        for _ in range(2):
            self.assertRaises(QueueStopped, queue.attachWorker, worker)
            self.stopQueue(queue)
        worker.crash()
        self.settle()

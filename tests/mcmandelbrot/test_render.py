"""
Rendering: stripes that come from a queue become one file, in order and no faster than it is taken.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.trial.unittest import SynchronousTestCase

from asynqueue.errors import WorkerDied
from mcmandelbrot import render
from mcmandelbrot.errors import OutputClosed, RenderingFailed
from mcmandelbrot.output import openOutput
from mcmandelbrot.plan import StripePlan
from mcmandelbrot.progress import Progress
from mcmandelbrot.render import renderPicture, writePicture
from mcmandelbrot.stripe import Stripe, drawStripe, prepareWorker
from mcmandelbrot.view import View
from tests.mcmandelbrot.references import decodePNG

# Such that its stripes begin with one row.
VIEW = View(16, -0.7453, 0.1127, 6.5e-3, 6.5e-3, 2**21)


class SteppedQueue:
    """
    I run each call when I am told to, or at once.

    @ivar begun: how many calls were made.
    @ivar waiting: the calls that were not run: what fires with their result, and what runs them.
    @ivar cancelled: how many calls were cancelled.
    """

    def __init__(self, isInline: bool = True) -> None:
        self.begun = 0
        self.cancelled = 0
        self.waiting: list[tuple[Deferred[Any], Callable[[], Any]]] = []
        self._isInline = isInline

    def call(self, function: Callable[[Any], Any], argument: Any) -> Deferred[Any]:
        self.begun += 1
        d: Deferred[Any] = Deferred(self._cancel)
        self.waiting.append((d, lambda: function(argument)))
        if self._isInline:
            self.step()
        return d

    def step(self, index: int = -1) -> None:
        d, run = self.waiting.pop(index)
        d.callback(run())

    def _cancel(self, d: Deferred[Any]) -> None:
        self.cancelled += 1


class WritePictureTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.queue = SteppedQueue()
        self.plan = StripePlan(VIEW, 2)
        self.file = b""
        self.done: list[int] = []

    def start(self, write: Callable[[bytes], Deferred[None]]) -> Deferred[None]:
        return Deferred.fromCoroutine(
            writePicture(self.queue, VIEW, self.plan, write, self.done.append)
        )

    def keep(self, data: bytes) -> Deferred[None]:
        self.file += data
        return succeed(None)

    def test_fileHasThePixelsOfOneDrawing(self) -> None:
        self.successResultOf(self.start(self.keep))
        picture = decodePNG(self.file)
        self.assertEqual((picture.width, picture.height), (16, 16))
        self.assertEqual(b"".join(picture.rows), drawStripe(Stripe(VIEW, 0, 16)))

    def test_progressIsOfAllRows(self) -> None:
        self.successResultOf(self.start(self.keep))
        self.assertEqual(sum(self.done), 16)
        self.assertGreater(len(self.done), 1)

    def test_planLearnsFromEachStripe(self) -> None:
        learnt: list[int] = []
        self.patch(self.plan, "learn", lambda rows, seconds: learnt.append(rows))
        self.successResultOf(self.start(self.keep))
        self.assertEqual(learnt, self.done)

    def test_stripesAreWrittenInOrderHoweverTheyArrive(self) -> None:
        self.queue = SteppedQueue(isInline=False)
        d = self.start(self.keep)
        while self.queue.waiting:
            self.queue.step()
        self.successResultOf(d)
        self.assertEqual(b"".join(decodePNG(self.file).rows), drawStripe(Stripe(VIEW, 0, 16)))

    def test_onlySoManyStripesAreUnderway(self) -> None:
        self.queue = SteppedQueue(isInline=False)
        d = self.start(self.keep)
        self.assertEqual(self.queue.begun, 6)
        for _ in range(5):
            # Those below are no reason to go on while the uppermost is not there.
            self.queue.step()
        self.assertEqual((self.queue.begun, self.done), (6, []))
        self.queue.step()
        self.assertGreater(self.queue.begun, 6)
        d.cancel()
        self.failureResultOf(d, CancelledError)

    def test_slowOutputHoldsUpTheWork(self) -> None:
        waiting: list[Deferred[None]] = []

        def write(data: bytes) -> Deferred[None]:
            waiting.append(Deferred())
            return waiting[-1]

        d = self.start(write)
        self.assertEqual(self.queue.begun, 0)
        waiting[0].callback(None)
        self.assertEqual((self.queue.begun, len(waiting)), (6, 2))
        self.assertEqual(self.done, [])
        waiting[1].callback(None)
        self.assertEqual((self.queue.begun, len(waiting)), (7, 3))
        self.assertEqual(len(self.done), 1)
        self.assertNoResult(d)
        d.cancel()
        self.failureResultOf(d, CancelledError)

    def test_failedOutputStopsTheWork(self) -> None:
        self.queue = SteppedQueue(isInline=False)

        def write(data: bytes) -> Deferred[None]:
            if self.queue.begun:
                raise OutputClosed("nobody reads")
            return succeed(None)

        d = self.start(write)
        self.queue.step(0)
        self.failureResultOf(d, OutputClosed)
        self.assertEqual((self.queue.begun, self.queue.cancelled), (6, 5))

    def test_failedStripeStopsTheWork(self) -> None:
        self.queue = SteppedQueue(isInline=False)
        d = self.start(self.keep)
        self.queue.waiting.pop(0)[0].errback(ZeroDivisionError())
        self.failureResultOf(d, ZeroDivisionError)
        self.assertEqual((self.queue.begun, self.queue.cancelled), (6, 5))

    def test_cancellingStopsTheWork(self) -> None:
        self.queue = SteppedQueue(isInline=False)
        d = self.start(self.keep)
        d.cancel()
        self.failureResultOf(d, CancelledError)
        self.assertEqual((self.queue.begun, self.queue.cancelled), (6, 6))

    def test_cancellingEndsAWrite(self) -> None:
        d = self.start(lambda data: Deferred() if self.queue.begun else succeed(None))
        d.cancel()
        self.failureResultOf(d, CancelledError)
        self.assertEqual(self.done, [])


class DyingQueue:
    """
    I stand in for a process queue whose processes die.
    """

    def __init__(self, processes: int, timeout: float) -> None:
        self.called: list[dict[str, Any]] = []

    async def __aenter__(self) -> DyingQueue:
        return self

    async def __aexit__(self, *reason: object) -> None:
        pass

    def options(self, **options: Any) -> DyingQueue:
        self.called.append(options)
        return self

    def update(self, function: Callable[..., Any], *args: Any) -> Deferred[Any]:
        return fail(WorkerDied(9))

    def call(self, function: Callable[..., Any], argument: Any) -> Deferred[Any]:
        assert self.called[-1]["retries"] > 0
        return succeed(None) if function is prepareWorker else fail(WorkerDied(9))


class RenderPictureTests(SynchronousTestCase):
    def test_workersThatDieEachTimeAreOneLineAndLeaveNoFile(self) -> None:
        folder = Path(self.mktemp())
        folder.mkdir()
        self.patch(render, "ProcessQueue", DyingQueue)
        with openOutput(str(folder / "a.png")) as output:
            made = renderPicture(VIEW, 2, output, Progress(16, 16, None))
            reason = self.failureResultOf(Deferred.fromCoroutine(made), RenderingFailed)
        self.assertRegex(str(reason.value), r"\AWorkerDied: [^\n]+\Z")
        self.assertEqual(list(folder.iterdir()), [])

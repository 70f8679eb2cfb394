from __future__ import annotations

import gc
import io
from typing import Any

from asynqueue.errors import NotReadyError
from asynqueue.iteration import Deferator, Filerator, isIterator
from tests.iteration.sides import SidesCase
from tests.iteration.test_consumerator import StoppingReactor


class FileratorTests(SidesCase):
    def setUp(self) -> None:
        super().setUp()
        self.filerator = Filerator(reactor=self.clock)

    def test_iteratesOverThePiecesThatWereWritten(self) -> None:
        self.filerator.write(b"some")
        self.filerator.writelines(["more", b"", 3])
        self.filerator.close()
        assert list(self.filerator) == [b"some", "more", b"", 3]

    def test_writeTellsTheLength(self) -> None:
        assert self.filerator.write(b"some") == 4

    def test_isAFileToWriteTo(self) -> None:
        text: Any = io.TextIOWrapper(self.filerator, "utf-8", newline="\n")
        print("one", file=text)
        text.close()
        assert b"".join(self.filerator) == b"one\n"

    def test_tellsWhatItIsGoodFor(self) -> None:
        assert self.filerator.writable()
        assert not self.filerator.readable()
        assert not self.filerator.seekable()
        assert isIterator(self.filerator)

    def test_isClosedForWritingOnly(self) -> None:
        self.filerator.write(1)
        assert not self.filerator.closed
        self.filerator.flush()
        self.filerator.close()
        self.filerator.close()
        assert self.filerator.closed
        self.assertRaises(ValueError, self.filerator.write, 2)
        self.assertRaises(ValueError, self.filerator.flush)
        self.assertRaises(ValueError, self.filerator.__enter__)
        assert list(self.filerator) == [1]

    def test_withClosesIt(self) -> None:
        with self.filerator as file:
            file.write(1)
        assert self.filerator.closed
        assert list(self.filerator) == [1]

    def test_anErrorWithinWithIsRaisedOnBothSides(self) -> None:
        def write() -> None:
            with self.filerator as file:
                file.write(1)
                raise ZeroDivisionError

        self.assertRaises(ZeroDivisionError, write)
        assert next(self.filerator) == 1
        self.assertRaises(ZeroDivisionError, next, self.filerator)
        assert self.filerator.closed

    def test_theReactorsThreadNeverWaitsToWrite(self) -> None:
        filerator = Filerator(window=1, reactor=self.clock)
        filerator.writelines([1, 2, 3])
        filerator.close()
        assert list(filerator) == [1, 2, 3]

    def test_nobodyIterates(self) -> None:
        self.filerator.write(1)
        with self.otherThread():
            self.filerator.stop()
            self.assertRaises(BrokenPipeError, self.filerator.write, 2)
        assert list(self.filerator) == []

    def test_iteratingInTheReactorsThreadRaisesWhereItWouldWait(self) -> None:
        self.assertRaises(NotReadyError, next, self.filerator)

    def test_doneWhenIteratedOver(self) -> None:
        done = self.filerator.deferUntilDone()
        self.filerator.close()
        self.assertNoResult(done)
        assert list(self.filerator) == []
        assert self.successResultOf(done) is None

    def test_aDeferatorCanIterateOverIt(self) -> None:
        self.filerator.writelines([1, 2])
        self.filerator.close()
        assert [self.successResultOf(d) for d in Deferator(self.filerator)] == [1, 2]

    def test_leavesNothingWithTheReactor(self) -> None:
        reactor = StoppingReactor()
        filerator = Filerator(reactor=reactor)
        assert len(reactor.live) == 1
        del filerator
        gc.collect()
        assert reactor.live == {}

    def test_theReactorsEndEndsWriting(self) -> None:
        reactor = StoppingReactor()
        filerator = Filerator(reactor=reactor)
        reactor.shutDown()
        self.assertRaises(BrokenPipeError, filerator.write, 1)

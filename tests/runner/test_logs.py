"""
What is logged in a runner, on its way.
"""

from __future__ import annotations

import logging
import sys
import threading
from typing import Any

import pytest
import twisted.logger
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure

from asynqueue._runner.framing import decode, encode
from asynqueue._runner.logs import LogForwarding, Record, levels
from asynqueue._runner.messages import LOG


class Resisting:
    """
    Something that cannot be shown.
    """

    def __repr__(self) -> str:
        raise RuntimeError("not to be shown")

    __str__ = __repr__


class Text(str):
    """
    A text of another type, which may pickle as it likes.
    """

    def __str__(self) -> str:
        return self


@pytest.fixture
def records() -> list[Record]:
    return []


@pytest.fixture
def logger(records: list[Record]) -> Any:
    """
    A logger whose records are handed on.
    """
    # One that no handler of others hears.
    logger = logging.Logger("tests.logs")
    logger.addHandler(LogForwarding(records.append))
    return logger


def assertTravels(record: Record) -> None:
    [piece] = encode([(LOG, 1, record)])
    assert decode([bytes(piece)[12:]]) == [(LOG, 1, record)]


def test_aRecordIsOfPlainValuesAndTravels(logger: Any, records: list[Record]) -> None:
    logger.info("%s and %d", "text", 3, extra={"who": ["me"], "number": 5})
    [record] = records
    assertTravels(record)
    assert record["msg"] == "text and 3"
    assert (record["name"], record["levelno"]) == ("tests.logs", logging.INFO)
    assert (record["who"], record["number"]) == ("['me']", 5)
    assert record["lineno"] > 0
    assert "args" not in record


def test_aPercentSignInTheMessageStays(logger: Any, records: list[Record]) -> None:
    logger.info("100 %s")
    made = logging.makeLogRecord(records[0])
    assert made.getMessage() == "100 %s"


def test_anExceptionIsAText(logger: Any, records: list[Record]) -> None:
    try:
        raise ValueError("inside")
    except ValueError:
        logger.exception("it broke")
    [record] = records
    assertTravels(record)
    assert "ValueError: inside" in record["exc_text"]
    assert "in test_anExceptionIsAText" in record["exc_text"]
    text = logging.Formatter().format(logging.makeLogRecord(record))
    assert text.startswith("it broke\nTraceback")


def test_aMessageThatCannotBeFormattedArrivesAllTheSame(
    logger: Any, records: list[Record], capsys: Any
) -> None:
    logger.info("%d", "no number")
    logger.info("%s", Resisting())
    logger.info(Resisting())
    assert ["cannot be formatted" in record["msg"] for record in records] == [True] * 3
    assert "'no number'" in records[0]["msg"]
    assert "RuntimeError: not to be shown" in records[1]["msg"]
    for record in records:
        assertTravels(record)
    assert capsys.readouterr().err == ""


def test_extrasThatResistArriveAsFarAsTheyCan(logger: Any, records: list[Record]) -> None:
    logger.info("hello", extra={"thing": Resisting(), "text": Text("a"), 3: "number"})
    [record] = records
    assertTravels(record)
    assert "Resisting" in record["thing"]
    assert record["text"] == "'a'"
    assert set(map(type, record)) == {str}


def test_aTextOfAnotherTypeBecomesAPlainOne(logger: Any, records: list[Record]) -> None:
    logger.info(Text("a"))
    logger.info("%s", Text("b"))
    assert [type(record["msg"]) for record in records] == [str, str]


def test_recordsOfOtherThreadsAreHandedOn(logger: Any, records: list[Record]) -> None:
    thread = threading.Thread(target=logger.info, args=("from %s", "afar"), name="other")
    thread.start()
    thread.join()
    assert (records[0]["msg"], records[0]["threadName"]) == ("from afar", "other")


def test_loggingWaitsForNoOtherThread(logger: Any, records: list[Record]) -> None:
    # The garbage collector may log while another thread is in the middle of doing so.
    entered, go = threading.Event(), threading.Event()

    def slowly(record: Record) -> None:
        if record["msg"] == "slow":
            entered.set()
            assert go.wait(10)
        records.append(record)

    logger.handlers[0]._forward = slowly
    thread = threading.Thread(target=logger.info, args=("slow",))
    thread.start()
    assert entered.wait(10)
    logger.info("quick")
    go.set()
    thread.join()
    assert [record["msg"] for record in records] == ["quick", "slow"]


def test_aForwardThatFailsIsReportedAndRaisesNothing(logger: Any, capsys: Any) -> None:
    def fail(record: Record) -> None:
        raise OSError("nobody there")

    logger.handlers[0]._forward = fail
    logger.info("hello")
    assert "nobody there" in capsys.readouterr().err


def test_levelsAreThoseThatAreSet() -> None:
    logger = logging.getLogger("tests.levels")
    logging.getLogger("tests.levels.unset")
    logger.setLevel(logging.DEBUG)
    try:
        found = levels()
    finally:
        logger.setLevel(logging.NOTSET)
    assert found["tests.levels"] == logging.DEBUG
    assert found[""] == logging.getLogger().level
    assert "tests.levels.unset" not in found


class TestTwisted:
    """
    Twisted's logger. Each of its events is given to the observer here, since a process can begin
    to log but once.
    """

    def hear(self, forwarding: LogForwarding, emit: Any) -> None:
        observer: Any = forwarding._twistedEvent
        emit(Logger("tests.twisted", observer=observer))

    def heard(self, emit: Any) -> list[Record]:
        records: list[Record] = []
        forwarding = LogForwarding(records.append)
        forwarding._twisted = twisted.logger
        self.hear(forwarding, emit)
        for record in records:
            assertTravels(record)
        return records

    def test_anEventIsARecordWithItsText(self) -> None:
        [record] = self.heard(lambda log: log.warn("{what} of {who}", what=[1], who="me"))
        assert record["msg"] == "[1] of me"
        assert (record["name"], record["levelno"]) == ("tests.twisted", logging.WARNING)
        assert record["isTwisted"]

    def test_aFailureIsAText(self) -> None:
        def emit(log: Logger) -> None:
            try:
                raise ValueError("inside")
            except ValueError:
                log.failure("it broke")

        [record] = self.heard(emit)
        assert record["levelno"] == logging.CRITICAL
        assert "ValueError: inside" in record["exc_text"]
        assert "in emit" in record["exc_text"]

    def test_aFailureOfSomethingThatResistsIsAText(self) -> None:
        class Worse(Exception):
            __str__ = Resisting.__repr__

        [record] = self.heard(lambda log: log.failure("it broke", Failure(Worse())))
        assert "Worse" in record["exc_text"]

    def test_aTextThatCannotBeMadeArrivesAllTheSame(self) -> None:
        [record] = self.heard(lambda log: log.warn("{thing}", thing=Resisting()))
        assert "Unable to format event" in record["msg"] or "tests.twisted" in record["msg"]

    def test_levelsAreThoseOfLogging(self) -> None:
        logger = logging.getLogger("tests.twisted")
        logger.setLevel(logging.ERROR)
        try:
            assert self.heard(lambda log: log.warn("unheard")) == []
            assert len(self.heard(lambda log: log.emit(LogLevel.error, "heard"))) == 1
        finally:
            logger.setLevel(logging.NOTSET)

    def test_itIsHeardFromWhenItIsThere(self, monkeypatch: Any) -> None:
        begun: list[Any] = []

        class Beginner:
            def beginLoggingTo(self, *args: Any, **kw: Any) -> None:
                begun.append(args)

        monkeypatch.setattr(twisted.logger, "globalLogBeginner", Beginner())
        forwarding = LogForwarding(lambda record: None)
        with monkeypatch.context() as context:
            context.delitem(sys.modules, "twisted.logger")
            forwarding.catchTwisted()
        assert begun == []
        forwarding.catchTwisted()
        forwarding.catchTwisted()
        assert begun == [([forwarding._twistedEvent],)]

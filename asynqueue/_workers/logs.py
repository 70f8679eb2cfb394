"""
What was logged in a runner, written into this process's log.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from twisted.logger import Logger, LogLevel

if TYPE_CHECKING:
    from asynqueue._runner.logs import Record

_LEVELS: Final = (
    (logging.CRITICAL, LogLevel.critical),
    (logging.ERROR, LogLevel.error),
    (logging.WARNING, LogLevel.warn),
    (logging.INFO, LogLevel.info),
)

_log: Final = Logger(namespace="asynqueue.logs")


def logHere(worker: object, taskID: int | None, record: Record) -> None:
    """
    Log a runner's record with the logger of the same name, if that logger accepts its level.

    A record of C{logging} gets two more attributes: C{worker}, a text, and C{taskID}, a number or
    C{None}. An event of Twisted's logger has them as keys, and its text as C{text}. A handler or a
    filter that raises is logged and stops nothing else.

    @param worker: the worker whose runner it is.
    @param taskID: the ID of the task that was running.
    @param record: what L{asynqueue._runner.logs} made.
    """
    try:
        if record.get("isTwisted"):
            _logTwisted(worker, taskID, record)
            return
        logger = logging.getLogger(record["name"])
        if logger.isEnabledFor(record["levelno"]):
            extra = {"worker": repr(worker), "taskID": taskID}
            logger.handle(logging.makeLogRecord({**record, **extra}))
    except BaseException:
        _log.failure("{worker} could not log what its runner logged", worker=worker)


def _logTwisted(worker: object, taskID: int | None, record: Record) -> None:
    level = next((ours for number, ours in _LEVELS if record["levelno"] >= number), LogLevel.debug)
    text = record["msg"]
    if "exc_text" in record:
        text = f"{text}\n{record['exc_text']}"
    logger = Logger(namespace=record["name"])
    logger.emit(level, "{text}", text=text, worker=repr(worker), taskID=taskID)

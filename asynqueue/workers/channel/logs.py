"""
What was logged in a universe, into this process's log.
"""

from __future__ import annotations

import logging
from typing import Any

from twisted.logger import Logger, LogLevel

_LEVELS = (
    (logging.CRITICAL, LogLevel.critical),
    (logging.ERROR, LogLevel.error),
    (logging.WARNING, LogLevel.warn),
    (logging.INFO, LogLevel.info),
)


def logHere(worker: Any, taskID: int | None, record: dict[str, Any]) -> None:
    """
    Log a universe's record here, with the logger of the same name, if that takes its level.

    A record of C{logging} gets two attributes more, C{worker}, a text, and C{taskID}, a number or
    C{None}. An event of Twisted's logger has them as keys, and its text as C{text}.

    @param worker: whose universe it is.
    @param taskID: the ID of the task that was running.
    @param record: made by L{asynqueue.universe.logs}.
    """
    if record.get("isTwisted"):
        _logTwisted(worker, taskID, record)
        return
    logger = logging.getLogger(record["name"])
    if logger.isEnabledFor(record["levelno"]):
        logger.handle(logging.makeLogRecord({**record, "worker": repr(worker), "taskID": taskID}))


def _logTwisted(worker: Any, taskID: int | None, record: dict[str, Any]) -> None:
    level = next((ours for number, ours in _LEVELS if record["levelno"] >= number), LogLevel.debug)
    text = record["msg"]
    if "exc_text" in record:
        text = f"{text}\n{record['exc_text']}"
    logger = Logger(namespace=record["name"])
    logger.emit(level, "{text}", text=text, worker=repr(worker), taskID=taskID)

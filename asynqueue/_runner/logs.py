"""
Forward what a task logs to the near side's log.
"""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, Final

from asynqueue._runner.packing import PLAIN
from asynqueue.errors import textOf, typeName

Record = dict[str, Any]
"""A record of C{logging}: plain values only, the message and the exception as texts. One of
Twisted's logger has C{isTwisted} besides."""

Forward = Callable[[Record], object]

_LEVELS: Final = {"debug": 10, "info": 20, "warn": 30, "error": 40, "critical": 50}
"""Twisted's names of levels, as the numbers of C{logging}."""

MAIN: Final = "__main__"
CHILDS_MAIN: Final = "__mp_main__"
"""The name that C{multiprocessing} gives to a program's main module in a child."""

_OWN: Final = frozenset({"args", "exc_info", "exc_text", "message", "msg", "asctime"})
"""Attributes of a record that do not travel under their own names, or not as they are."""


def levels() -> dict[str, int]:
    """
    @return: the levels that are set in this process, by the names of their loggers.
    """
    loggers = logging.root.manager.loggerDict
    found = {
        name: logger.level
        for name, logger in list(loggers.items())
        if isinstance(logger, logging.Logger) and logger.level
    }
    return {"": logging.root.level, **found}


class LogForwarding(logging.Handler):
    """
    Takes what is logged in this process, with C{logging} or with Twisted's logger, and hands it on.
    """

    def __init__(self, forward: Forward) -> None:
        """
        @param forward: takes each record.
        """
        super().__init__()
        self._forward = forward
        self._twisted: Any = None
        self._isHeard = _isLoggedHere
        self._texts = logging.Formatter()

    def install(self, levels: Mapping[str, int]) -> None:
        """
        Begin.

        @param levels: the levels that the near side has set, by the names of their loggers.
        """
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
            if name.partition(".")[0] == MAIN:
                # The main module has another name in a child.
                logging.getLogger(CHILDS_MAIN + name[len(MAIN) :]).setLevel(level)
        logging.getLogger().addHandler(self)
        self.catchTwisted()

    def installAmongOthers(self, levels: Mapping[str, int], isMine: Callable[[], bool]) -> None:
        """
        Begin, in a process whose loggers are not this one's alone: their levels stay as they are.

        @param levels: the levels that the near side has set, by the names of their loggers.
        @param isMine: returns whether the code that logs something at this moment is to be heard.
        """
        self._isHeard = lambda name, level: level >= _levelOf(name, levels) and isMine()
        self.addFilter(lambda record: self._isHeard(record.name, record.levelno))
        logging.getLogger().addHandler(self)
        self._twisted = sys.modules.get("twisted.logger")
        if self._twisted is not None:
            self._twisted.globalLogPublisher.addObserver(self._twistedEvent)

    def uninstall(self) -> None:
        """
        Hand nothing on any more.
        """
        logging.getLogger().removeHandler(self)
        if self._twisted is not None:
            self._twisted.globalLogPublisher.removeObserver(self._twistedEvent)
        self._forward = _drop

    def createLock(self) -> None:
        """
        Have no lock. Forwarding needs none, and something that the garbage collector runs, while
        another thread logs, might wait for it for ever.
        """
        self.lock = None

    def handle(self, record: logging.LogRecord) -> Any:
        """
        Hand a record on, unless a filter of this handler stops it.
        """
        passed = self.filter(record)
        if passed:
            self.emit(passed if isinstance(passed, logging.LogRecord) else record)
        return passed

    def emit(self, record: logging.LogRecord) -> None:
        """
        Hand a record on.
        """
        try:
            self._forward(self._plain(record))
        except Exception:
            self.handleError(record)

    def _plain(self, record: logging.LogRecord) -> Record:
        plain: Record = {"msg": _messageOf(record)}
        for name, value in record.__dict__.items():
            if type(name) is str and name not in _OWN:
                plain[name] = value if type(value) in PLAIN else _shown(value)
        plain["name"] = _nearName(plain["name"])
        if record.exc_info:
            plain["exc_text"] = self._texts.formatException(record.exc_info)
        elif record.exc_text:
            plain["exc_text"] = _exactly(record.exc_text)
        return plain

    # Twisted's logger -----------------------------------------------------------------------------

    def catchTwisted(self) -> bool:
        """
        Hear Twisted's logger too, as soon as something has imported it. Twisted keeps what it was
        told before, and tells it now.

        @return: whether Twisted's logger is heard.
        """
        if self._twisted is None and "twisted.logger" in sys.modules:
            twisted: ModuleType = sys.modules["twisted.logger"]
            # Another thread may be importing it at this moment.
            beginner = getattr(twisted, "globalLogBeginner", None)
            if beginner is not None:
                self._twisted = twisted
                show = warnings.showwarning
                beginner.beginLoggingTo([self._twistedEvent], redirectStandardIO=False)
                # Twisted would log warnings. They are shown as in a process without Twisted.
                warnings.showwarning = show
        return self._twisted is not None

    def _twistedEvent(self, event: dict[str, Any]) -> None:
        level = _LEVELS.get(getattr(event.get("log_level"), "name", "info"), logging.INFO)
        name = str(event.get("log_namespace", "twisted"))
        if not self._isHeard(name, level):
            return
        record: Record = {
            "name": _nearName(name),
            "levelno": level,
            "levelname": logging.getLevelName(level),
            "created": float(event.get("log_time", 0.0)),
            "msg": self._twisted.formatEvent(event),
            "isTwisted": True,
        }
        failure = event.get("log_failure")
        if failure is not None:
            record["exc_text"] = str(failure.getTraceback())
        self._forward(record)


def _nearName(name: str) -> str:
    """
    Return the name that a child's logger has in the near process.
    """
    return MAIN + name[len(CHILDS_MAIN) :] if name.partition(".")[0] == CHILDS_MAIN else name


def _isLoggedHere(name: str, level: int) -> bool:
    return level >= logging.getLogger(name).getEffectiveLevel()


def _levelOf(name: str, levels: Mapping[str, int]) -> int:
    """
    Return the level that a logger has where only these levels are set.
    """
    while name and name not in levels:
        name = name.rpartition(".")[0]
    return levels.get(name, logging.WARNING)


def _drop(record: Record) -> None:
    pass


def _messageOf(record: logging.LogRecord) -> str:
    try:
        return _exactly(record.getMessage())
    except Exception as error:
        why = f"{typeName(type(error))}: {textOf(error)}"
        return f"{_shown(record.msg)} with {_shown(record.args)} (cannot be formatted: {why})"


def _shown(value: object) -> str:
    try:
        return _exactly(repr(value))
    except Exception as error:
        return f"<{typeName(type(value))}, not to be shown: {typeName(type(error))}>"


def _exactly(text: str) -> str:
    """
    A plain string, where it is one of another type.
    """
    return str.__str__(text)

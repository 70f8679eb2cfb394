"""
A program whose processes log. Run as C{python -m tests.integration.logprogram KIND}: C{forwarded},
or C{kept} where they are.

The processes import this, because it is the main module. So it imports what only the program needs
where that is needed.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

from twisted.logger import Logger

# While a process imports its main module nothing can be forwarded yet, and this is below its level.
logging.getLogger("tests.import").info("imported")
log = Logger("tests.import")
log.info("imported")


async def main(reactor: Any, kind: str) -> None:
    from twisted.logger import globalLogBeginner, textFileLogObserver

    from asynqueue import ProcessQueue
    from tests.integration import within

    logging.basicConfig(stream=sys.stdout, format="%(levelname)s %(message)s")
    globalLogBeginner.beginLoggingTo(
        [textFileLogObserver(sys.stdout)], redirectStandardIO=False, discardBuffer=True
    )
    async with ProcessQueue(1, forwardLogs=kind == "forwarded") as queue:
        level = logging.ERROR if kind == "forwarded" else logging.CRITICAL
        await queue.call(within.log, "a.b", level, f"{logging.getLevelName(level)} from the task")
        if kind == "forwarded":
            await queue.call(within.logWithTwisted, "a.c", "ERROR with Twisted")
            await queue.call(within.failWithTwisted, "a.c")


if __name__ == "__main__":
    from twisted.internet.task import react

    react(main, sys.argv[1:])

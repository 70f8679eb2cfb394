"""
A program with processes that run a reactor. Run as C{python -m tests.integration.reactorprogram
KIND}: a reactor's name, which then is that of the processes too; or C{hang}.

The processes import this, because it is the main module. So it imports what only the program needs
where that is needed.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

KIND = sys.argv[1]
if KIND != "hang":
    importlib.import_module(f"twisted.internet.{KIND}reactor").install()


def tell(what: object) -> None:
    print(what, flush=True)  # noqa: T201


async def hang(reactor: Any) -> None:
    from asynqueue import ProcessQueue
    from tests.integration import reacting, tasks

    queue = ProcessQueue(2, useReactor=True)
    for pid in await queue.update(os.getpid, ephemeral=True):
        tell(pid)
    queue.call(tasks.sleepAwhile)
    await queue.call(reacting.later, tasks.AWHILE)


async def main(reactor: Any) -> None:
    from twisted.internet.defer import CancelledError

    from asynqueue import Delay, ProcessQueue
    from asynqueue.testing import far
    from tests.integration import reacting, tasks

    assert KIND in type(reactor).__name__.lower()
    async with ProcessQueue(1, useReactor=True) as queue:
        pid, name = await queue.call(reacting.where)
        assert KIND in name.lower(), name
        tell(await queue.call(reacting.addLater, 3, 4))
        deferator = await queue.call(far.numbers, 3)
        tell([item async for item in deferator])
        d = queue.call(reacting.later, tasks.AWHILE)
        await Delay()(0.05)
        d.cancel()
        try:
            await d
        except CancelledError:
            tell("cancelled")
        assert (await queue.call(reacting.where))[0] == pid


if __name__ == "__main__":
    from twisted.internet.task import react

    react(hang if KIND == "hang" else main)

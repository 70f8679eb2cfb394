"""
Modules that are loaded before worker processes are forked.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from typing import Any

from twisted.logger import ILogObserver, globalLogPublisher
from zope.interface import implementer

from asynqueue import ProcessWorker
from asynqueue._workers.preload import LOADING, OFF, PreloadServer, preloadServer
from asynqueue.errors import StateError
from asynqueue.tasks import READY
from asynqueue.testing import far
from tests.support.processes import PATIENCE, ROOT, ProcessTestCase
from tests.workers.process.preloadable import loader, random

NAME = loader.__module__
THREADED = "tests.workers.process.threadstarter"

PROGRAM = """
import multiprocessing, os, signal, sys
from twisted.internet.task import react
from asynqueue import Delay, ProcessQueue
from asynqueue._workers.preload import preloadServer

multiprocessing.set_forkserver_preload(["json"])
with open(sys.argv[1], "a") as file:
    file.write("loaded\\n")

def hasLoaded(name):
    return name in sys.modules

async def main(reactor):
    from multiprocessing import forkserver
    forkserver.ensure_running()
    async with ProcessQueue(1, preload=["__main__"]) as queue:
        server = preloadServer(["__main__"])
        assert await Delay(timeout=20).untilEvent(server.context, False)
        for _ in range(5):
            os.kill(await queue.call(os.getpid), signal.SIGKILL)
        print(await queue.call(hasLoaded, "json"), await queue.call(os.getppid) == server._pid)

if __name__ == "__main__":
    react(main)
"""

IMPORTS = """
import gc, multiprocessing, sys

if multiprocessing.parent_process() is None:
    import json
    from twisted.internet import defer, reactor
    from twisted.internet.task import react
    from twisted.web.proxy import Proxy  # makes a reactor
    from asynqueue import ProcessQueue as Queue

def loaded():
    names = "defer", "reactor", "epollreactor", "pollreactor", "task"
    found = [name for name in names if f"twisted.internet.{name}" in sys.modules]
    return found, gc.get_freeze_count() > 1000

async def main(reactor):
    async with Queue(1) as queue:
        print(await queue.call(loaded))
    print(multiprocessing.forkserver._forkserver._preload_modules)

if __name__ == "__main__":
    react(main)
"""

HARMLESS = """
import os, pkgutil, sys, threading
import asynqueue, twisted
from asynqueue._workers.startmethods import isHarmless

open_ = set(os.listdir("/proc/self/fd"))
loaded = 0
for package in asynqueue, twisted:
    for _, name, _ in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if isHarmless(name) and ".test" not in name and ".dask" not in name:
            try:
                __import__(name)
                loaded += 1
            except ImportError:
                pass  # for another system, or an extra that is not installed
found = {*set(os.listdir("/proc/self/fd")) - open_, *{"twisted.internet.reactor"} & {*sys.modules}}
print([*found], threading.active_count(), loaded > 200)
"""


class PreloadTests(ProcessTestCase):
    def setUp(self) -> Any:
        self.warnings: list[str] = []

        @implementer(ILogObserver)
        def hear(event: Any) -> None:
            if event["log_level"].name == "warn" and "preload=" in event["log_format"]:
                self.warnings.append(event["log_format"].format(**event))

        globalLogPublisher.addObserver(hear)
        self.addCleanup(globalLogPublisher.removeObserver, hear)
        return super().setUp()

    async def loaded(self, *modules: str) -> PreloadServer:
        """
        Wait until a server that a queue holds has loaded its modules.
        """
        server = preloadServer(modules)
        await self.until(server.context, False)
        return server

    async def replace(self, queue: Any) -> None:
        """
        Have the queue's process replaced by a new one.
        """
        os.kill(await queue.call(os.getpid), signal.SIGKILL)
        await queue.call(os.getpid)

    async def test_laterProcessesAreForkedWhereTheModuleIsLoaded(self) -> None:
        queue = self.makeQueue(preload=[NAME])
        server = await self.loaded(NAME)
        await self.replace(queue)
        loaders = [await queue.call(loader)]
        await self.replace(queue)
        loaders.append(await queue.call(loader))
        self.assertEqual(loaders, [server._pid] * 2)
        self.assertEqual(self.warnings, [])

    async def test_aProcessThatIsWantedBeforeLoadsForItself(self) -> None:
        queue = self.makeQueue(preload=[NAME])
        self.assertEqual(preloadServer([NAME]).state, LOADING)
        self.assertEqual(await queue.call(loader), await queue.call(os.getpid))

    async def test_theServerEndsWithItsLastWorker(self) -> None:
        first, second = self.makeQueue(preload=[NAME]), self.makeQueue(preload=[NAME])
        server = await self.loaded(NAME)
        pid = server._pid
        await first.shutdown()
        self.assertEqual(server.state, READY)
        await second.shutdown()
        self.assertEqual(server.state, OFF)
        self.assertRaises(ProcessLookupError, os.kill, pid, 0)

    async def test_aServerThatIsKilledIsReplaced(self) -> None:
        queue = self.makeQueue(preload=[NAME])
        server = await self.loaded(NAME)
        killed = server._pid
        os.kill(killed, signal.SIGKILL)
        await self.until(lambda: not server._isAlive())
        await self.replace(queue)
        await self.loaded(NAME)
        self.assertNotEqual(server._pid, killed)
        await self.replace(queue)
        self.assertEqual(await queue.call(loader), server._pid)

    async def test_aModuleThatStartsAThreadIsNotForked(self) -> None:
        queue = self.makeQueue(preload=[THREADED, NAME])
        server = preloadServer([THREADED, NAME])
        await self.until(lambda: server.context(False) or self.warnings)
        for _ in range(3):
            await self.replace(queue)
            self.assertEqual(await queue.call(loader), await queue.call(os.getpid))
        [warning] = self.warnings
        self.assertIn("has no effect", warning)
        self.assertIn("a thread was started: background", warning)

    async def test_aModuleThatIsNotThereIsNamed(self) -> None:
        queue = self.makeQueue(preload=["nosuchmodule"])
        server = preloadServer(["nosuchmodule"])
        await self.until(lambda: server.context(False) or self.warnings)
        await self.replace(queue)
        self.assertEqual(await queue.call(far.echo, 1), 1)
        [warning] = self.warnings
        self.assertIn("No module named 'nosuchmodule'", warning)

    async def test_aReactorIsNotSharedByProcesses(self) -> None:
        names = ["twisted.internet.reactor"]
        plain = self.makeQueue(preload=names)
        running = self.makeQueue(preload=names, useReactor=True)
        server = await self.loaded(*names)
        for queue in (plain, running):
            await self.replace(queue)
        self.assertEqual(await plain.call(os.getppid), server._pid)
        self.assertNotEqual(await running.call(os.getppid), server._pid)
        [warning] = self.warnings
        self.assertIn("useReactor=True", warning)

    async def test_numPysGeneratorDiffersFromProcessToProcess(self) -> None:
        queue = self.makeQueue(preload=["numpy", "numpy.random"])
        await self.loaded("numpy", "numpy.random")
        numbers = set()
        for _ in range(3):
            await self.replace(queue)
            numbers.add(await queue.call(random))
        self.assertEqual(len(numbers), 3)
        self.assertEqual(self.warnings, [], "NumPy heeds forks")

    def test_theMainModuleIsLoadedOnceWhateverTheProgramsOwnServerHas(self) -> None:
        folder = self.makeFolder()
        script, diary = folder / "program.py", folder / "diary"
        script.write_text(PROGRAM)
        done = subprocess.run(
            [sys.executable, str(script), str(diary)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=PATIENCE * 2,
            check=False,
        )
        self.assertEqual(done.stdout.splitlines()[:1], ["True True"], done.stderr)
        # The program itself, its first process, and the server.
        self.assertEqual(diary.read_text().count("loaded"), 3)

    def test_theServerLoadsWhatTheMainModuleImportsOfTwistedAndAsynqueue(self) -> None:
        script = self.makeFolder() / "program.py"
        script.write_text(IMPORTS)
        done = subprocess.run(
            [sys.executable, str(script)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=PATIENCE * 2,
            check=False,
        )
        # The main module does not import them in the child. No reactor is made in the server.
        loaded, modules = done.stdout.splitlines()
        self.assertEqual(loaded, "(['defer', 'task'], True)", done.stderr)
        self.assertIn("asynqueue._queue.ownqueues", modules)
        self.assertNotIn("json", modules)
        self.assertNotIn("twisted.web", modules)

    def test_noModuleThatTheServerMayLoadOpensAFileOrStartsAThread(self) -> None:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", HARMLESS],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=PATIENCE * 2,
            check=False,
        )
        self.assertEqual(done.stdout, "[] 1 True\n", done.stderr)

    def test_itTakesAListOfNames(self) -> None:
        for wrong in ("numpy", [1], [b"numpy"]):
            self.assertRaises(TypeError, ProcessWorker, preload=wrong)

    def test_itNeedsForkserver(self) -> None:
        context = multiprocessing.get_context("spawn")
        error = self.assertRaises(ValueError, ProcessWorker, preload=[NAME], context=context)
        self.assertIn("not spawn", str(error))

    def test_anIllegalMoveChangesNothing(self) -> None:
        server = PreloadServer([NAME])
        self.assertRaises(StateError, server._end)
        self.assertEqual(server.state, OFF)

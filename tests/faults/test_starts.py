"""
Faults of starting worker processes, each in a program of its own. A test's number is its row's in
the list of faults.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from textwrap import dedent
from typing import Any
from unittest import TestCase

from tests.support.processes import ROOT

METHODS = ("forkserver", "spawn")

# Each process imports this, so it imports what only the program needs where that is needed.
HEAD = f"""
import os, sys, time
from multiprocessing import get_context
import asynqueue

METHODS = {METHODS}

def own(number):
    return -number

def makeQueue(method, **options):
    return asynqueue.ProcessQueue(1, context=get_context(method), **options)

async def tell(d):
    try:
        print("RESULT", await d, flush=True)
    except Exception as error:
        print(type(error).__name__, error, flush=True)

def go(main):
    from twisted.internet.defer import Deferred
    from twisted.internet.task import react
    react(lambda reactor: Deferred.fromCoroutine(main()))
"""

MAIN = """
async def main():
    {before}
    for method in METHODS:
        queue = makeQueue(method)
        await tell(queue.call(abs, -1))
        await tell(queue.call(own, 1))
        await queue.shutdown()

{guard}go(main)
"""


class StartTests(TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def runProgram(
        self,
        text: str,
        fromInput: bool = False,
        fromFolder: bool = False,
        seconds: float = 30.0,
        **variables: str,
    ) -> tuple[list[str], str]:
        """
        Run a program.

        @return: the lines of its output, and what it wrote as errors.
        """
        path = self.folder / ("__main__.py" if fromFolder else "program.py")
        program = HEAD + dedent(text)
        path.write_text(program)
        ran = subprocess.run(
            [sys.executable] + ([] if fromInput else [str(self.folder if fromFolder else path)]),
            input=program if fromInput else "",
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
        )
        return ran.stdout.splitlines(), ran.stderr

    def runForEach(
        self, text: str, count: int = 2, isQuiet: bool = True, **options: Any
    ) -> list[list[str]]:
        """
        Run a program that does the same with each start method.

        @param count: how many lines it writes for each.
        @param isQuiet: whether it has to write no errors.
        @return: the lines that it wrote for each.
        """
        lines, errors = self.runProgram(text, **options)
        self.assertEqual(len(lines), count * len(METHODS), f"{lines} {errors}")
        if isQuiet:
            self.assertEqual(errors, "")
        return [lines[start : start + count] for start in range(0, len(lines), count)]

    def usual(self, before: str = "pass", guard: str = 'if __name__ == "__main__": ') -> str:
        return dedent(MAIN).format(before=before, guard=guard)

    def test_25c_theGuardIsMissing(self) -> None:
        lines, errors = self.runProgram(self.usual(guard=""))
        self.assertEqual(lines[::2], ["RESULT 1"] * len(METHODS), errors)
        self.assertEqual(len(lines), 2 * len(METHODS))
        for failure in lines[1::2]:
            self.assertIn("own", failure)
            self.assertIn('if __name__ == "__main__":', failure)
        self.assertLess(len(errors.splitlines()), 50, errors)

    def test_25c_theGuardIsMissingAndTheReactorNotRun(self) -> None:
        text = """
        queues = [makeQueue(method) for method in METHODS]
        async def main():
            for queue in queues:
                await tell(queue.call(abs, -1))
                await tell(queue.call(own, 1))
                await queue.shutdown()
        go(main)
        """
        for result, failure in self.runForEach(text):
            self.assertEqual(result, "RESULT 1")
            self.assertIn("own", failure)
            self.assertIn('if __name__ == "__main__":', failure)

    def test_25c_theScriptIsGone(self) -> None:
        for result, failure in self.runForEach("os.unlink(__file__)\n" + self.usual()):
            self.assertEqual(result, "RESULT 1")
            self.assertIn("program.py", failure)
            self.assertIn("No such file", failure)

    def test_25c_theMainModuleRaisesWhenItIsImported(self) -> None:
        before = 'if __name__ != "__main__": {"color": 1}["colour"]\n'
        for result, failure in self.runForEach(before + self.usual()):
            self.assertEqual(result, "RESULT 1")
            self.assertIn("KeyError: 'colour'", failure)

    def test_25c_theProgramIsReadFromItsInput(self) -> None:
        for result, failure in self.runForEach(self.usual(), fromInput=True):
            self.assertEqual(result, "RESULT 1")
            self.assertIn("main module", failure)

    def test_25c_theProgramIsAFolder(self) -> None:
        for result, failure in self.runForEach(self.usual(), fromFolder=True):
            self.assertEqual(result, "RESULT 1")
            self.assertIn("__main__.py", failure)
            self.assertIn("another module", failure)

    def test_25c_aMainModuleThatCanBeImported(self) -> None:
        for lines in self.runForEach(self.usual()):
            self.assertEqual(lines, ["RESULT 1", "RESULT -1"])

    def test_25c_theSearchPathChangesLater(self) -> None:
        folder = self.folder / "later"
        folder.mkdir()
        (folder / "foundlater.py").write_text("def twice(number): return 2 * number\n")
        text = """
        async def main():
            import site
            for method in METHODS:
                queue = makeQueue(method)
                await tell(queue.call(abs, -1))
                sys.path.append(FOLDER)
                import foundlater
                await queue.call(foundlater.twice, 2).addErrback(
                    lambda failure: print(*failure.value.__notes__)
                )
                await queue.update(site.addsitedir, FOLDER)
                await tell(queue.call(foundlater.twice, 2))
                await queue.shutdown()
                sys.path.remove(FOLDER)
        if __name__ == "__main__": go(main)
        """.replace("FOLDER", repr(str(folder)))
        for before, note, after in self.runForEach(text, count=3):
            self.assertEqual((before, after), ("RESULT 1", "RESULT 4"))
            self.assertIn(f"does not have {str(folder)!r}", note)
            self.assertIn(f"queue.update(site.addsitedir, {str(folder)!r})", note)

    def test_25e_aCopyThatTheMainModuleForksIsNoWorker(self) -> None:
        text = """
        if __name__ != "__main__":
            os.fork()

        def note(number):
            os.write(1, b"%d\\n" % number)

        async def main():
            for options in ({}, {"preload": ["__main__"], "maxTasks": 10}):
                queue = makeQueue("forkserver", **options)
                await queue.call(abs, -1)
                for d in [queue.call(note, number) for number in range(100)]:
                    await d
                await queue.shutdown()

        if __name__ == "__main__":
            go(main)
        """
        lines, errors = self.runProgram(text)
        self.assertEqual(sorted(map(int, lines)), sorted([*range(100), *range(100)]), errors)

    def test_25_whatStartedTellsWhyItCannot(self) -> None:
        # The main module breaks what a process with a reactor needs.
        text = """
        if __name__ != "__main__":
            sys.modules["twisted.internet.defer"] = None
        async def main():
            from asynqueue._workers import restart
            restart.START_TRIES = 2
            for method in METHODS:
                queue = makeQueue(method, useReactor=True)
                await tell(queue.call(abs, -1))
                await queue.shutdown()
        if __name__ == "__main__": go(main)
        """
        for [line] in self.runForEach(text, count=1, isQuiet=False):
            self.assertIn("WorkerStartError", line)
            self.assertIn("import of twisted.internet.defer halted", line)

    def test_25j_theMainModuleHangsWhenItIsImported(self) -> None:
        text = """
        if __name__ != "__main__":
            time.sleep(60)
        async def main():
            for method in METHODS:
                queue = makeQueue(method, startTimeout=0.7)
                begun = time.monotonic()
                await tell(queue.call(abs, -1))
                print(time.monotonic() - begun < 5)
                await queue.shutdown()
        if __name__ == "__main__": go(main)
        """
        for failure, isInTime in self.runForEach(text, isQuiet=False):
            self.assertIn("WorkerStartError", failure)
            self.assertIn("startTimeout, 0.7 seconds", failure)
            self.assertEqual(isInTime, "True")

    def test_25d_anotherLibrarysPreloadStays(self) -> None:
        (self.folder / "theirs.py").write_text("import os\npid = os.getpid()\n")
        text = """
        async def main():
            import multiprocessing
            multiprocessing.set_forkserver_preload(["theirs"])
            queue = asynqueue.ProcessQueue(1)
            await tell(queue.call(own, 1))
            await tell(queue.call(isPreloaded))
            from multiprocessing.forkserver import _forkserver
            print(_forkserver._preload_modules)
            await queue.shutdown()
        def isPreloaded():
            import theirs
            return theirs.pid == os.getppid()
        if __name__ == "__main__": go(main)
        """
        lines, errors = self.runProgram(text, PYTHONPATH=f"{ROOT}{os.pathsep}{self.folder}")
        self.assertEqual(lines, ["RESULT -1", "RESULT True", "['theirs']"], errors)

    def test_25h_aLongPathOfTheTemporaryFolder(self) -> None:
        folder = self.folder / ("long" * 30)
        folder.mkdir()
        for lines in self.runForEach(self.usual(), TMPDIR=str(folder)):
            self.assertEqual(lines, ["RESULT 1", "RESULT -1"])

    def test_25h_noTemporaryFolder(self) -> None:
        # As where every candidate is on a full or read-only disk.
        before = """
        def refuse(*args, **kw):
            raise FileNotFoundError(2, "No usable temporary directory found")
        import tempfile
        if __name__ == "__main__":
            tempfile._get_default_tempdir = refuse
        """
        for lines in self.runForEach(dedent(before) + self.usual()):
            self.assertEqual(lines, ["RESULT 1", "RESULT -1"])

    def test_25h_theWorkingFolderIsGone(self) -> None:
        gone = self.folder / "gone"
        gone.mkdir()
        # What the program itself needs is there before.
        before = f"asynqueue.ProcessQueue; os.chdir({str(gone)!r}); os.rmdir({str(gone)!r})"
        lines, errors = self.runProgram(self.usual(before))
        if lines != ["RESULT 1", "RESULT -1"] * len(METHODS):
            # Python 3.13.0 cannot always import its own modules without a working folder, nor
            # start its resource tracker. An error that says so is right, too.
            self.assertEqual(sys.version_info[:2], (3, 13), lines)
            for first, second in zip(lines[::2], lines[1::2], strict=True):
                isGood = (first, second) == ("RESULT 1", "RESULT -1")
                isSaid = "WorkerStartError" in first and "WorkerStartError" in second
                self.assertTrue(isGood or isSaid, lines)
        elif "resource_tracker" not in errors:
            self.assertEqual(errors, "")

    def test_e2_whatAMainModuleLogsAndWarnsAboutArrives(self) -> None:
        text = """
        import logging, warnings
        log = logging.getLogger(__name__)
        inner = logging.getLogger(__name__ + ".inner")
        def speak(method):
            log.debug("one")
            inner.info("two")
            warnings.warn(f"three by {method}")
        async def main():
            logging.basicConfig(format="%(name)s says %(message)s", stream=sys.stdout)
            log.setLevel(logging.DEBUG)
            for method in METHODS:
                queue = makeQueue(method)
                await queue.call(speak, method)
                await queue.shutdown()
        if __name__ == "__main__": go(main)
        """
        lines, errors = self.runProgram(text)
        self.assertEqual(lines, ["__main__ says one", "__main__.inner says two"] * len(METHODS))
        for method in METHODS:
            self.assertIn(f"UserWarning: three by {method}", errors)

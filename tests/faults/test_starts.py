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
from unittest import TestCase

from tests.support.processes import ROOT

METHODS = ("forkserver", "spawn")

HEAD = """
import os, signal, sys, time
from multiprocessing import get_context
from twisted.internet.defer import Deferred
from twisted.internet.task import react
from asynqueue import ProcessQueue

def own(number):
    return -number

async def tell(d):
    try:
        print("RESULT", await d, flush=True)
    except Exception as error:
        print(type(error).__name__, error, flush=True)

def go(main):
    react(lambda reactor: Deferred.fromCoroutine(main()))
"""

MAIN = """
async def main():
    queue = ProcessQueue(2, context=get_context("METHOD"))
    {before}
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
        method: str,
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
        program = dedent(HEAD) + dedent(text).replace("METHOD", method)
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

    def usual(self, before: str = "", guard: str = 'if __name__ == "__main__": ') -> str:
        return dedent(MAIN).format(before=before, guard=guard)

    def test_25c_theGuardIsMissing(self) -> None:
        for method in METHODS:
            lines, errors = self.runProgram(self.usual(guard=""), method)
            self.assertIn("RESULT 1", lines, errors)
            [failure] = [line for line in lines if "own" in line]
            self.assertIn('if __name__ == "__main__":', failure)
            self.assertLess(len(errors.splitlines()), 50, errors)

    def test_25c_theGuardIsMissingAndTheReactorNotRun(self) -> None:
        text = """
        queue = ProcessQueue(2, context=get_context("METHOD"))
        async def main():
            await tell(queue.call(abs, -1))
            await tell(queue.call(own, 1))
            await queue.shutdown()
        go(main)
        """
        for method in METHODS:
            lines, errors = self.runProgram(text, method)
            self.assertIn("RESULT 1", lines, errors)
            [failure] = [line for line in lines if "own" in line]
            self.assertIn('if __name__ == "__main__":', failure)
            self.assertEqual(errors, "")

    def test_25c_theScriptIsGone(self) -> None:
        before = "os.unlink(__file__)\n"
        for method in METHODS:
            lines, errors = self.runProgram(before + self.usual(), method)
            self.assertEqual(lines[0], "RESULT 1", errors)
            self.assertIn("program.py", lines[1])
            self.assertIn("No such file", lines[1])
            self.assertEqual(errors, "")

    def test_25c_theMainModuleRaisesWhenItIsImported(self) -> None:
        before = 'if __name__ != "__main__": {"color": 1}["colour"]\n'
        for method in METHODS:
            lines, errors = self.runProgram(before + self.usual(), method)
            self.assertEqual(lines[0], "RESULT 1", errors)
            self.assertIn("KeyError: 'colour'", lines[1])
            self.assertEqual(errors, "")

    def test_25c_theProgramIsReadFromItsInput(self) -> None:
        for method in METHODS:
            lines, errors = self.runProgram(self.usual(), method, fromInput=True)
            self.assertEqual(lines[0], "RESULT 1", errors)
            self.assertIn("main module", lines[1])
            self.assertEqual(errors, "")

    def test_25c_theProgramIsAFolder(self) -> None:
        lines, errors = self.runProgram(self.usual(), "forkserver", fromFolder=True)
        self.assertEqual(lines[0], "RESULT 1", errors)
        self.assertIn("__main__.py", lines[1])
        self.assertIn("another module", lines[1])
        self.assertEqual(errors, "")

    def test_25c_aMainModuleThatCanBeImported(self) -> None:
        for method in METHODS:
            lines, errors = self.runProgram(self.usual(), method)
            self.assertEqual((lines, errors), (["RESULT 1", "RESULT -1"], ""))

    def test_25c_theSearchPathChangesLater(self) -> None:
        folder = self.folder / "later"
        folder.mkdir()
        (folder / "foundlater.py").write_text("def twice(number): return 2 * number\n")
        text = """
        async def main():
            queue = ProcessQueue(1, context=get_context("METHOD"))
            await tell(queue.call(abs, -1))
            sys.path.append(FOLDER)
            import foundlater
            await queue.call(foundlater.twice, 2).addErrback(
                lambda failure: print(*failure.value.__notes__)
            )
            import site
            await queue.update(site.addsitedir, FOLDER)
            await tell(queue.call(foundlater.twice, 2))
            await queue.shutdown()
        if __name__ == "__main__": go(main)
        """.replace("FOLDER", repr(str(folder)))
        for method in METHODS:
            lines, errors = self.runProgram(text, method)
            self.assertEqual((lines[0], lines[2:], errors), ("RESULT 1", ["RESULT 4"], ""))
            self.assertIn(f"does not have {str(folder)!r}", lines[1])
            self.assertIn(f"queue.update(site.addsitedir, {str(folder)!r})", lines[1])

    def test_25e_aCopyThatTheMainModuleForksIsNoWorker(self) -> None:
        text = """
        if __name__ != "__main__":
            os.fork()

        def note(number):
            os.write(1, b"%d\\n" % number)

        async def main():
            queue = ProcessQueue(1, OPTIONS)
            await queue.call(abs, -1)
            for d in [queue.call(note, number) for number in range(300)]:
                await d
            await queue.shutdown()

        if __name__ == "__main__":
            go(main)
        """
        for options in ("", "preload=['__main__'], maxTasks=10"):
            lines, errors = self.runProgram(text.replace("OPTIONS", options), "forkserver")
            self.assertEqual(sorted(map(int, lines)), list(range(300)), errors)

    def test_25_whatStartedTellsWhyItCannot(self) -> None:
        # The main module breaks what a process with a reactor needs.
        text = """
        if __name__ != "__main__":
            sys.modules["twisted.internet.defer"] = None
        async def main():
            from asynqueue._workers import restart
            restart.START_TRIES = 2
            queue = ProcessQueue(1, context=get_context("METHOD"), useReactor=True)
            await tell(queue.call(abs, -1))
            await queue.shutdown()
        if __name__ == "__main__": go(main)
        """
        for method in METHODS:
            lines, errors = self.runProgram(text, method)
            self.assertIn("WorkerStartError", lines[0], errors)
            self.assertIn("import of twisted.internet.defer halted", lines[0])

    def test_25j_theMainModuleHangsWhenItIsImported(self) -> None:
        text = """
        if __name__ != "__main__":
            time.sleep(60)
        async def main():
            queue = ProcessQueue(1, context=get_context("METHOD"), startTimeout=0.7)
            begun = time.monotonic()
            await tell(queue.call(abs, -1))
            print(time.monotonic() - begun < 5)
            await queue.shutdown()
        if __name__ == "__main__": go(main)
        """
        for method in METHODS:
            lines, errors = self.runProgram(text, method)
            self.assertIn("WorkerStartError", lines[0], errors)
            self.assertIn("startTimeout, 0.7 seconds", lines[0])
            self.assertEqual(lines[1], "True")

    def test_25d_anotherLibrarysPreloadStays(self) -> None:
        (self.folder / "theirs.py").write_text("import os\npid = os.getpid()\n")
        text = """
        async def main():
            import multiprocessing
            multiprocessing.set_forkserver_preload(["theirs"])
            queue = ProcessQueue(1)
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
        lines, errors = self.runProgram(
            text, "forkserver", PYTHONPATH=f"{ROOT}{os.pathsep}{self.folder}"
        )
        self.assertEqual(lines, ["RESULT -1", "RESULT True", "['theirs']"], errors)

    def test_25h_aLongPathOfTheTemporaryFolder(self) -> None:
        folder = self.folder / ("long" * 30)
        folder.mkdir()
        for method in METHODS:
            lines, errors = self.runProgram(self.usual(), method, TMPDIR=str(folder))
            self.assertEqual((lines, errors), (["RESULT 1", "RESULT -1"], ""))

    def test_25h_noTemporaryFolder(self) -> None:
        # As where every candidate is on a full or read-only disk.
        before = """
        def refuse(*args, **kw):
            raise FileNotFoundError(2, "No usable temporary directory found")
        import tempfile
        if __name__ == "__main__":
            tempfile._get_default_tempdir = refuse
        """
        for method in METHODS:
            lines, errors = self.runProgram(dedent(before) + self.usual(), method)
            self.assertEqual((lines, errors), (["RESULT 1", "RESULT -1"], ""))

    def test_25h_theWorkingFolderIsGone(self) -> None:
        gone = self.folder / "gone"
        for method in METHODS:
            gone.mkdir()
            before = f"os.chdir({str(gone)!r}); os.rmdir({str(gone)!r})"
            lines, errors = self.runProgram(
                self.usual(before="pass").replace("queue =", f"{before}; queue ="), method
            )
            if lines != ["RESULT 1", "RESULT -1"]:
                # Python 3.13.0 cannot always import its own modules without a working folder, nor
                # start its resource tracker. An error that says so is right, too.
                self.assertEqual(sys.version_info[:2], (3, 13), lines)
                self.assertTrue(all("WorkerStartError" in line for line in lines), lines)
            elif "resource_tracker" not in errors:
                self.assertEqual(errors, "")

    def test_e2_whatAMainModuleLogsAndWarnsAboutArrives(self) -> None:
        text = """
        import logging, warnings
        log = logging.getLogger(__name__)
        inner = logging.getLogger(__name__ + ".inner")
        def speak():
            log.debug("one")
            inner.info("two")
            warnings.warn("three")
        async def main():
            logging.basicConfig(format="%(name)s says %(message)s", stream=sys.stdout)
            log.setLevel(logging.DEBUG)
            queue = ProcessQueue(1, context=get_context("METHOD"))
            await queue.call(speak)
            await queue.shutdown()
        if __name__ == "__main__": go(main)
        """
        for method in METHODS:
            lines, errors = self.runProgram(text, method)
            self.assertEqual(lines, ["__main__ says one", "__main__.inner says two"])
            self.assertIn("UserWarning: three", errors)

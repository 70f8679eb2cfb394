"""
Programs whose main module no other process can import: C{python -c}, a script on the standard
input, a notebook.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from asynqueue import ProcessQueue, RemoteQueue
from asynqueue.errors import CallNotPicklable, CallNotRebuilt, ExtraMissing
from tests.support.remote import KEY, RemoteMixin

PATIENCE = 50

DEFINITIONS = """
import threading
from dataclasses import dataclass
from asynqueue.aio import ProcessQueue
from asynqueue.errors import CallNotPicklable

factor = 2

@dataclass
class Point:
    x: int

class Trouble(Exception):
    pass

def scale(number):
    return factor * number

def scales(number):
    for each in range(number):
        yield scale(each)

def fail(text):
    raise Trouble(text)

def note(number):
    import builtins
    builtins.noted = number

def noted():
    import builtins
    return builtins.noted
"""

USE = """
global factor
async with ProcessQueue(1, pickler="cloudpickle") as queue:
    print(await queue.call(scale, 21), await queue.call(lambda x: x - factor, 3))
    factor = 3
    print(await queue.call(scale, 5))
    factor = 2
    print([item async for item in await queue.call(scales, 4)])
    points = [point async for point in queue.map(lambda x: Point(x), range(3))]
    print(points == [Point(0), Point(1), Point(2)])
    await queue.update(note, 7)
    print(await queue.call(noted), len(await queue.call(lambda x: bytes(x), 1 << 21)))
    for call in (queue.call(fail, "why"), anext(queue.map(fail, ["why"]))):
        try:
            await call
        except Trouble as error:
            print(error.args)
    try:
        await queue.call(lambda: lock)
    except CallNotPicklable as error:
        print(error)
"""

SHOWN = """\
42 1
15
[0, 2, 4, 6]
True
7 2097152
('why',)
('why',)
"""

REFUSED = """
async with ProcessQueue(1) as queue:
    for function, arguments in [(scale, (1,)), (len, ([Point(1)],)), (str, (lambda: 1,))]:
        try:
            await queue.call(function, *arguments)
        except CallNotPicklable as error:
            text = str(error)
            print("pip install 'asynqueue2[cloudpickle]'" in text, text.count("main module"))
    print(await queue.call(len, "sound"))
"""


def program(*parts: str) -> str:
    """
    @return: a program of asyncio that runs the definitions, and some code in a coroutine.
    """
    lines = "\n".join(parts).replace("\n", "\n    ")
    return (
        f"import asyncio\n{DEFINITIONS}\nlock = threading.Lock()\n"
        f"async def main():\n    {lines}\nasyncio.run(main())\n"
    )


def runPython(*arguments: str, given: str = "") -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        check=False,
        input=given,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_cloudpickleSendsWhatPythonCDefines() -> None:
    shown = runPython("-c", program(USE))
    assert shown.startswith(SHOWN)
    assert "cannot pickle '_thread.lock' object" in shown
    assert "pip" not in shown


def test_cloudpickleSendsWhatAScriptOnTheStandardInputDefines() -> None:
    assert runPython("-", given=program(USE)).startswith(SHOWN)


def test_cloudpickleNeedsNoGuardInAScript(tmp_path: Path) -> None:
    path = tmp_path / "program.py"
    path.write_text(program("print('main', flush=True)", USE))
    assert runPython(str(path)).startswith("main\n" + SHOWN)


@pytest.mark.parametrize("isGiven", [False, True])
def test_withoutItTheErrorNamesTheRemedy(isGiven: bool) -> None:
    text = program(REFUSED)
    shown = runPython("-", given=text) if isGiven else runPython("-c", text)
    assert shown == "True 1\n" * 3 + "5\n"


def test_cloudpickleSendsWhatANotebookDefines(tmp_path: Path) -> None:
    for name in ("ipykernel", "nbclient"):
        pytest.importorskip(name)
    path = tmp_path / "run.py"
    path.write_text(
        "import sys, nbformat, nbclient\n"
        "cells = [nbformat.v4.new_code_cell(cell) for cell in sys.stdin.read().split('\\f')]\n"
        "notebook = nbformat.v4.new_notebook(cells=cells)\n"
        "nbclient.NotebookClient(notebook, timeout=40, kernel_name='python3').execute()\n"
        "for cell in notebook.cells:\n"
        "    print(''.join(output.get('text', '') for output in cell.outputs), end='')\n"
    )
    use = USE.replace("global factor\n", "lock = threading.Lock()\n")
    shown = runPython(str(path), given="\f".join([DEFINITIONS, use, REFUSED]))
    assert shown.startswith(SHOWN)
    assert shown.endswith("True 1\n" * 3 + "5\n")


# A program whose main module is a file ------------------------------------------------------------


class FunctionsByValue(RemoteMixin, TestCase):
    timeout = PATIENCE

    async def test_queueThatIsNotToldSaysWhatToDo(self) -> None:
        async with ProcessQueue(1) as queue:
            refused: list[Deferred[object]] = [
                queue.call(lambda: 1),
                queue.call(str, {"key": lambda: 1}),
            ]
            for call in refused:
                error = await self.assertFailure(call, CallNotPicklable)
                self.assertIn("pip install 'asynqueue2[cloudpickle]'", str(error))
                self.assertIn("pickler='cloudpickle'", str(error))
                self.assertNotIn("main module", str(error))
            error = await self.assertFailure(queue.call(len, [sys.stdout]), CallNotPicklable)
            self.assertNotIn("pip", str(error))

    async def test_serverRunsThem(self) -> None:
        base = 5
        for kind in ("processes", "threads"):
            await self.serve(**{kind: 1})
            address = f"tcp:127.0.0.1:{self.port}"
            async with RemoteQueue([address], KEY, pickler="cloudpickle") as queue:
                self.assertEqual(await queue.call(lambda x: base + x, 2), 7)
                got = await queue.call(lambda x: lambda y: x + y, 2)
                self.assertEqual(got(3), 5)

    async def test_serverOfNamedModulesRefusesThem(self) -> None:
        await self.serve(only=["asynqueue.testing.far"])
        address = f"tcp:127.0.0.1:{self.port}"
        async with RemoteQueue([address], KEY, pickler="cloudpickle") as queue:
            error = await self.assertFailure(queue.call(lambda: 1), CallNotRebuilt)
            self.assertIn("cloudpickle", str(error))

    async def test_processThatLacksCloudpickleSaysSo(self) -> None:
        async with ProcessQueue(1, pickler="cloudpickle") as queue:
            await queue.update(hideCloudpickle)
            error = await self.assertFailure(queue.call(lambda: 1), CallNotRebuilt)
            self.assertIn("cloudpickle", str(error))
            # What needs no pickling by value works.
            self.assertEqual(await queue.call(abs, -1), 1)

    def test_itHasToBeKnownAndInstalled(self) -> None:
        wrong: object = "dill"
        with self.assertRaisesRegex(ValueError, "'pickle' or 'cloudpickle', not 'dill'"):
            ProcessQueue(1, pickler=wrong)  # type: ignore[arg-type] # this is what is tested
        shown = runPython(
            "-c",
            "import sys; sys.modules['cloudpickle'] = None\n"
            "from asynqueue import ProcessQueue\n"
            "try: ProcessQueue(1, pickler='cloudpickle')\n"
            "except ImportError as error: print(type(error).__name__, error)\n",
        )
        self.assertEqual(
            shown,
            f"{ExtraMissing.__name__} pickler='cloudpickle' needs packages that are not installed: "
            "pip install 'asynqueue2[cloudpickle]'\n",
        )


def hideCloudpickle() -> None:
    for name in [*sys.modules]:
        if name.partition(".")[0] == "cloudpickle":
            del sys.modules[name]
    sys.modules["cloudpickle"] = None  # type: ignore[assignment] # an import of it fails then

"""
What is seen of a server for remote workers.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from twisted.trial.unittest import TestCase

from asynqueue import TaskQueue
from asynqueue._command import main
from asynqueue.admin._top import describe
from asynqueue.service import administer
from asynqueue.testing import FileHold, far
from asynqueue.wire import writeKey
from tests.support.remote import RemoteMixin, serveCommand


class SessionTests(RemoteMixin, TestCase):
    timeout = 30.0

    async def test_theSessionsOfAServerAreSeenAndNotSteered(self) -> None:
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.patch(os, "environ", {**os.environ, "XDG_RUNTIME_DIR": folder.name})
        service = await self.serve()
        api = administer(service).api

        async def look() -> Any:
            return (await api.answer({"do": "snapshot", "queue": "server"}, "a test"))["result"]

        seen = await look()
        self.assertEqual((seen["kind"], seen["state"]), ("RemoteService", "RUNNING"))
        self.assertEqual((seen["address"], seen["workers"]), ("tcp:0:interface=127.0.0.1", []))
        queue = TaskQueue(self.remote(), timeout=2.0)
        self.addCleanup(queue.shutdown)
        await queue.call(far.echo, 1)
        hold = FileHold(folder.name)
        task = queue.submit(hold.function, *hold.args)
        await hold.begun(task)
        seen = await look()
        self.assertEqual((seen["pending"], seen["underway"], seen["workerCount"]), (0, 1, 1))
        [session] = seen["workers"]
        self.assertEqual((session["state"], session["pid"]), ("LIVE", service.sessions[0].pid))
        self.assertGreater(session["residentKilobytes"], 1000)
        self.assertEqual(session["place"]["begun"], 2)
        self.assertIn("LIVE", "\n".join(describe(seen)))
        # Whoever shows a queue can show this.
        queue.admin()
        shown = (await api.answer({"do": "snapshot", "queue": "TaskQueue"}, "a test"))["result"]
        self.assertLessEqual(set(shown), set(seen))
        self.assertLessEqual(set(shown["workers"][0]), set(session))
        hold.release()
        await task.d
        self.assertEqual((await look())["underway"], 0)
        reply = await api.answer({"do": "pause", "queue": "server"}, "a test")
        self.assertIn("which has no pause", reply["error"])
        await queue.shutdown()
        await service.stopService()
        self.assertEqual(list(api.queues), [])


def test_topShowsAServerThatWasStartedWithAdmin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    key = str(tmp_path / "key")
    writeKey(key)
    command = serveCommand(key, "tcp:0:interface=127.0.0.1", "--admin")
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr is not None
            while "serving at" not in server.stderr.readline():
                assert server.poll() is None
            shown = []
            for option in ("--json", "--once"):
                with pytest.raises(SystemExit) as exit:
                    main(["top", option])
                assert exit.value.code == 0
                shown.append(capfd.readouterr().out)
        finally:
            server.kill()
    [program] = json.loads(shown[0])
    assert [queue["name"] for queue in program["queues"]] == ["server"]
    assert "server  RemoteService  RUNNING" in shown[1]

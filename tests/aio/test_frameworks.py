"""
Queues in programs of well-known frameworks, as real processes. The page docs/howto-fastapi.rst
has FastAPI's test client, and docs/howto-scrapy.rst has Scrapy.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.support.processes import areGone

PATIENCE = 30
RUN = [sys.executable, "-m", "tests.support.mainmodule"]


def get(port: int, path: str) -> bytes:
    with urlopen(f"http://127.0.0.1:{port}/{path}", timeout=PATIENCE) as response:
        content: bytes = response.read()
    return content


def test_uvicornEndsRequestsAndProcessesAtSigterm() -> None:
    for name in ("fastapi", "uvicorn"):
        pytest.importorskip(name)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with (
        subprocess.Popen(
            [*RUN, "tests.aio.served"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        ) as server,
        ThreadPoolExecutor(1) as pool,
    ):
        assert server.stdout is not None
        port = int(server.stdout.readline())
        pid = int(get(port, "pid"))
        slow = pool.submit(get, port, "slow")
        time.sleep(0.1)
        server.send_signal(signal.SIGTERM)
        # uvicorn handles the signal, so the queue has nothing to do with it.
        assert slow.result(PATIENCE) == b'"done"'
        _, complaint = server.communicate(timeout=PATIENCE)
    assert (server.returncode, complaint) in [(-signal.SIGTERM, ""), (0, "")]
    assert areGone([pid])


def test_kleinAwaitsCallsInTwistedAndInAsyncio() -> None:
    pytest.importorskip("klein")
    done = subprocess.run(
        [*RUN, "tests.aio.klein_served"],
        check=False,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert done.stdout == "in Twisted 4\nin asyncio 4\n", done.stderr

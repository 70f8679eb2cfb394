"""
A FastAPI application under uvicorn, at a port that it prints.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from asynqueue.aio import ProcessQueue


def makeApplication() -> Any:
    # The worker's process imports this module, too, and needs no framework.
    from fastapi import FastAPI

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with ProcessQueue(1) as app.state.queue:
            yield

    app = FastAPI(lifespan=lifespan)

    async def pid() -> int:
        found: int = await app.state.queue.call(os.getpid)
        return found

    async def slow() -> str:
        await app.state.queue.call(time.sleep, 0.3)
        return "done"

    app.add_api_route("/pid", pid)
    app.add_api_route("/slow", slow)
    return app


def main() -> None:
    import uvicorn

    with socket.create_server(("127.0.0.1", 0)) as listener:
        sys.stdout.write(f"{listener.getsockname()[1]}\n")
        sys.stdout.flush()
        uvicorn.Server(uvicorn.Config(makeApplication(), log_level="error")).run([listener])

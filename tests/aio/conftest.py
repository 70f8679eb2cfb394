"""
What holds for the tests of the asyncio face.
"""

from __future__ import annotations

from importlib.util import find_spec

import pytest


@pytest.fixture(scope="session", autouse=True)
def _uvloopOpenedOnce() -> None:
    """
    Have uvloop open the pipe that it keeps as long as the process lives, before the first test is
    looked after.
    """
    if find_spec("uvloop") is not None:
        import uvloop

        uvloop.new_event_loop().close()

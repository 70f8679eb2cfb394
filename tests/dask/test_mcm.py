"""
The demo C{mcm} renders on a Dask cluster.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from asynqueue.wire import writeKey
from tests.dask import cluster

ROOT = Path(__file__).parents[2]
PICTURE = ["300", "-0.7453", "0.1127", "6.5e-3"]


def mcm(
    folder: Path, *options: str, before: str = "", status: int = 0
) -> subprocess.CompletedProcess[str]:
    """
    Run the console command.

    @param before: code to run first.
    """
    code = f"{before}\nimport sys; from mcmandelbrot.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", code, *PICTURE, *options],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == status, done.stderr
    return done


def test_theClustersPictureIsThatOfALocalRun(tmp_path: Path) -> None:
    cluster.untilComplete()
    mcm(tmp_path, "-o", "here.png", "-j", "1")
    mcm(tmp_path, "-o", "there.png", "--dask", cluster.client().scheduler.address)
    here, there = ((tmp_path / name).read_bytes() for name in ("here.png", "there.png"))
    assert len(here) > 10_000
    assert here == there


def test_withoutTheExtraItSaysWhichCommandBringsIt(tmp_path: Path) -> None:
    without = "import sys; sys.modules['distributed'] = None"
    done = mcm(tmp_path, "-o", "a.png", "--dask", "tcp://127.0.0.1:1", before=without, status=2)
    assert "pip install 'asynqueue2[dask]'" in done.stderr
    assert done.stderr.count("\n") == 1
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("options", "who"),
    [
        (["--dask", "tcp://127.0.0.1:1"], "the Dask scheduler does not answer within"),
        (["--remote", "tcp:127.0.0.1:1", "--key", "key"], "the server does not answer within"),
    ],
)
def test_whoDoesNotAnswerIsNamed(options: list[str], who: str, tmp_path: Path) -> None:
    writeKey(str(tmp_path / "key"))
    hasty = "from mcmandelbrot import render; render._CONNECTING = 0.2"
    begun = time.monotonic()
    done = mcm(tmp_path, "-o", "a.png", *options, before=hasty, status=1)
    assert who in done.stderr
    assert done.stderr.count("\n") == 1
    assert os.listdir(tmp_path) == ["key"]
    assert time.monotonic() - begun < 25.0, "nobody waits for a client that cannot connect"

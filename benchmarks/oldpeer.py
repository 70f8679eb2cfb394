"""
AsynQueue 0.9, the peer. Its package has the same name as ours, so it has a separate environment.
"""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from pathlib import Path

REQUIREMENTS = ("AsynQueue==0.9.9", "twisted", "setuptools")

_ROOT = Path(__file__).parents[1]
_HOME = _ROOT / ".venv-peer"
_STAMP = _HOME / "ready"

# The folder in such a file is searched last, and so after the AsynQueue that is installed there.
_FIND_BENCHMARKS = (
    "import pathlib, sys, sysconfig;"
    "pathlib.Path(sysconfig.get_path('purelib'), 'benchmarks.pth').write_text(sys.argv[1])"
)


class PeerMissing(Exception):
    """
    A peer cannot be run here.
    """


def oldPython() -> Path:
    """
    @return: the interpreter of the environment with AsynQueue 0.9. The environment is made first if
        there is none.
    @raise PeerMissing: if the environment cannot be made. The error says why.
    """
    reason = _prepare()
    if reason:
        raise PeerMissing(reason)
    return _HOME / "bin" / "python"


@cache
def _prepare() -> str:
    """
    Make the environment, once.

    @return: why that failed, or an empty string.
    """
    if _STAMP.exists():
        return ""
    print(f"Making {_HOME.name} with {REQUIREMENTS[0]}", file=sys.stderr)
    python = str(_HOME / "bin" / "python")
    for command in (
        [sys.executable, "-m", "venv", "--clear", str(_HOME)],
        [python, "-m", "pip", "install", "--quiet", *REQUIREMENTS],
        [python, "-P", "-c", _FIND_BENCHMARKS, str(_ROOT)],
        [python, "-P", "-c", "import asynqueue.process, benchmarks"],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            said = (done.stderr or done.stdout).strip().splitlines()
            why = said[-1] if said else f"exit status {done.returncode}"
            return f"{_HOME.name} could not be made: {why}"
    _STAMP.touch()
    return ""

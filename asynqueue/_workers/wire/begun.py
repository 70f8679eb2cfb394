"""
Files that outlast a server. They tell a server that takes its place which calls had begun.

Each session's runner notes the number of the call that it begins in such a file, by a write to
memory that it shares. The file is locked for as long as the runner or its server lives. So a number
that is read from an unlocked file does not change any more.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final

from asynqueue._runner.recorder import readLastBegun
from asynqueue.errors import ServerBusy

SUFFIX: Final = ".begun"


def defaultFolder(address: str) -> Path:
    """
    @return: the folder for the files of the servers at an address, where no other is named: one of
        this user's that does not outlast a restart of the system.
    """
    home = os.environ.get("XDG_RUNTIME_DIR")
    base = Path(home, "asynqueue") if home else Path(tempfile.gettempdir(), f"asynqueue-{_user()}")
    return base / hashlib.sha256(address.encode()).hexdigest()[:16]


def _user() -> int:
    return os.getuid() if hasattr(os, "getuid") else 0


class BegunFiles:
    """
    The files of one server's sessions.
    """

    def __init__(self, folder: Path) -> None:
        """
        @param folder: where they are. It is made if it is not there.
        @raise OSError: if it cannot be made, or others may read or change it.
        """
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
        isFolder = stat.S_ISDIR(status.st_mode)
        if not isFolder or status.st_uid != _user() or status.st_mode & 0o077:
            raise PermissionError(f"{folder} is not a folder of this user's alone, with mode 700")
        if folder.parent.lstat().st_uid not in (0, _user()):
            raise PermissionError(f"{folder.parent} belongs to another user")
        self._folder = folder

    def path(self, session: str) -> Path:
        """
        @param session: the session's name, which is a secret, so that the file has another.
        @return: the path of the file that its runner is to make.
        """
        return self._folder / (hashlib.sha256(session.encode()).hexdigest() + SUFFIX)

    def lastBegun(self, session: str) -> int | None:
        """
        @return: the number of the last call of a session that began, or C{None} if that is not
            known.
        @raise ServerBusy: if its runner has not ended yet.
        """
        try:
            with open(self.path(session), "rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return readLastBegun(file.fileno())
        except BlockingIOError as error:
            raise ServerBusy("the session's process has not ended yet") from error
        except OSError:
            # There is none, or it cannot be read.
            return None

    def forget(self, session: str) -> None:
        """
        Remove a session's file, because its client knows all.
        """
        with suppress(OSError):
            self.path(session).unlink()

    def ended(self) -> list[Path]:
        """
        @return: the files whose runners have ended.
        """
        found = []
        for path in self._folder.glob(f"*{SUFFIX}"):
            with suppress(OSError), open(path, "rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                found.append(path)
        return found

"""
The other end of an admin socket: finds the sockets, and asks. Standard library alone, and no
reactor: each question is waited for.
"""

from __future__ import annotations

import json
import os
import socket
import stat
import tempfile
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from asynqueue.errors import AdminError

if TYPE_CHECKING:
    from asynqueue.interfaces import JSONObject

ANSWER_SECONDS: Final = 10.0
"""How long a program may take to answer."""

LONGEST_REPLY: Final = 1 << 26
"""How many bytes a reply may have."""


def socketFolder(make: bool = False) -> str:
    """
    The folder of the admin sockets: C{asynqueue} in C{XDG_RUNTIME_DIR}, or else a folder of the
    user's own in the folder for temporary files.

    @param make: whether to make it if it is not there.
    @raise AdminError: if it cannot be made, or does not belong to this user alone.
    """
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if os.path.isabs(runtime) and os.path.isdir(runtime):
        folder = os.path.join(runtime, "asynqueue")
    else:
        folder = os.path.join(tempfile.gettempdir(), f"asynqueue-{os.geteuid()}")
    try:
        if make:
            with suppress(FileExistsError):
                os.mkdir(folder, 0o700)
        found = os.lstat(folder)
    except FileNotFoundError:
        if make:
            raise AdminError(f"cannot make the folder {folder} of the admin sockets") from None
        return folder
    except OSError as error:
        raise AdminError(
            f"cannot make the folder {folder} of the admin sockets: {error}"
        ) from error
    if not stat.S_ISDIR(found.st_mode):
        raise AdminError(f"{folder} is not a folder, so there can be no admin socket in it")
    if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise AdminError(
            f"the folder {folder} has to belong to user {os.geteuid()} alone (mode 0700), but it "
            f"is user {found.st_uid}'s with mode {stat.S_IMODE(found.st_mode):04o}"
        )
    return folder


def listSockets() -> list[str]:
    """
    @return: the paths of this user's admin sockets, those that a killed program has left among
        them.
    @raise AdminError: if the folder of the sockets belongs to others, too.
    """
    folder = socketFolder()
    try:
        names = sorted(name for name in os.listdir(folder) if name.endswith(".sock"))
    except FileNotFoundError:
        return []
    return [os.path.join(folder, name) for name in names]


def findSockets() -> list[str]:
    """
    Find the admin sockets of this user's programs. Sockets that a killed program has left are
    removed.

    @return: their paths.
    @raise AdminError: if the folder of the sockets belongs to others, too.
    """
    return [path for path in listSockets() if _isAlive(path)]


def _isAlive(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            # Nobody listens there, and nobody ever will again.
            with suppress(OSError):
                os.unlink(path)
            return False
        except OSError:
            return False
    return True


class AdminClient:
    """
    Asks a program about its queues, over its admin socket::

        with AdminClient(path) as client:
            client.ask("pause", queue="ProcessQueue")

    @ivar greeting: what the program has said of itself: C{pid}, C{program}, C{api}, C{queues}.
    """

    def __init__(self, path: str, timeout: float = ANSWER_SECONDS) -> None:
        """
        Connect.

        @param path: the path of the program's admin socket.
        @param timeout: for how many seconds an answer is waited for. Default: 10.
        @raise AdminError: if no program answers there.
        """
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout)
        self._received = bytearray()
        self._asked = 0
        try:
            self._socket.connect(path)
            self.greeting = self._read()
        except OSError as error:
            self.close()
            raise AdminError(f"no program answers at {path}: {error}") from error
        except AdminError:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """
        Close the connection.
        """
        self._socket.close()

    def ask(self, verb: str, **parameters: object) -> Any:
        """
        Ask for something, and wait for the answer.

        @param verb: what to do. The page on the admin socket in the documentation lists the verbs.
        @param parameters: the parameters of the verb.
        @return: the answer.
        @raise AdminError: if the program refuses, or does not answer.
        """
        self._asked += 1
        request = {"id": self._asked, "do": verb, **parameters}
        try:
            self._socket.sendall(json.dumps(request).encode() + b"\n")
            reply = self._read()
        except OSError as error:
            raise AdminError(f"the program at {self._path} does not answer: {error}") from error
        if not reply.get("ok"):
            raise AdminError(str(reply.get("error", "the program refused")))
        return reply.get("result")

    def _read(self) -> JSONObject:
        while b"\n" not in self._received:
            data = self._socket.recv(1 << 16)
            if not data:
                raise AdminError(f"the program at {self._path} has closed the connection")
            self._received += data
            if len(self._received) > LONGEST_REPLY:
                raise AdminError(f"the answer at {self._path} makes no sense")
        line, _, rest = bytes(self._received).partition(b"\n")
        self._received = bytearray(rest)
        try:
            reply = json.loads(line)
        except ValueError:
            reply = None
        if not isinstance(reply, dict):
            raise AdminError(f"the answer at {self._path} makes no sense")
        return reply

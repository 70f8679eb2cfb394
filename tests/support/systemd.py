"""
The end of systemd's socket, at which a test hears what a program tells.
"""

from __future__ import annotations

import socket
from types import TracebackType
from typing import Self


class Systemd:
    """
    The end of the socket that systemd has.
    """

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind(address)

    def heard(self) -> list[str]:
        """
        @return: what was told since this was last asked.
        """
        messages = []
        while True:
            try:
                messages.append(self._socket.recv(1000).decode())
            except BlockingIOError:
                return messages

    def close(self) -> None:
        self._socket.close()

    def wait(self) -> str:
        """
        @return: the next message, which may take some seconds.
        """
        self._socket.settimeout(20)
        try:
            return self._socket.recv(1000).decode()
        finally:
            self._socket.setblocking(False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

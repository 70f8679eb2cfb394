"""
Where a picture goes: a file that appears only when it is whole, or whatever reads a stream.
"""

from __future__ import annotations

import os
import secrets
import stat
import sys
from abc import ABC, abstractmethod
from contextlib import suppress
from types import TracebackType
from typing import Self

from mcmandelbrot.errors import BadRequest, OutputClosed, OutputFailed
from mcmandelbrot.writer import writeWhenReady

# What says in place of a file's name that the picture goes to the standard output.
_STDOUT_NAMES = ("-", "/dev/stdout")

# Windows would otherwise change bytes that look like ends of lines.
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)


def openOutput(path: str | None) -> Output:
    """
    Open the output that a picture is written to.

    @param path: the name of a file, which need not exist; or C{None}, C{-} or C{/dev/stdout} for
        the standard output.
    @raise BadRequest: if the output cannot be written to, or is a terminal.
    """
    if path is None or path in _STDOUT_NAMES:
        return _openStdout()
    if not path:
        raise BadRequest("-o needs the name of a file")
    try:
        # Links stay what they are: the file that they lead to is replaced.
        target = os.path.realpath(path)
        try:
            status = os.stat(target)
        except FileNotFoundError:
            return FileOutput(target, 0o666)
        if stat.S_ISREG(status.st_mode):
            # What must not be written must not be replaced either.
            os.close(os.open(target, os.O_WRONLY))
            return FileOutput(target, stat.S_IMODE(status.st_mode), isReplacement=True)
        return StreamOutput(os.open(target, os.O_WRONLY), path)
    except OSError as error:
        raise BadRequest(_cannotWrite(path, error)) from error


def _openStdout() -> StreamOutput:
    if sys.stdout is None:
        raise BadRequest("the standard output is closed: name a file with -o")
    return StreamOutput(os.dup(sys.stdout.fileno()), "the standard output")


def _cannotWrite(name: str, error: OSError) -> str:
    return f"cannot write {name}: {error.strerror or error}"


class Output(ABC):
    """
    I take a picture's bytes. As a context manager I L{discard} what was written unless L{finish}
    was called.
    """

    def __init__(self, descriptor: int, name: str) -> None:
        """
        @param descriptor: an open file descriptor, which is mine from now on.
        @param name: what to call me in a message.
        """
        self._descriptor: int | None = descriptor
        self._name = name

    async def write(self, data: bytes) -> None:
        """
        Write bytes, and wait until there is room for them.

        @raise OutputClosed: if nobody reads them any more.
        @raise OutputFailed: if they cannot be written.
        """
        assert self._descriptor is not None
        try:
            await self._write(self._descriptor, data)
        except BrokenPipeError as error:
            raise OutputClosed(f"{self._name} was closed by its reader") from error
        except OSError as error:
            raise OutputFailed(_cannotWrite(self._name, error)) from error

    def finish(self) -> None:
        """
        All is written.

        @raise OutputFailed: if the last of it cannot be kept.
        """
        try:
            self._close()
            self._keep()
        except OSError as error:
            raise OutputFailed(_cannotWrite(self._name, error)) from error

    def discard(self) -> None:
        """
        Remove what was written, as far as that can be undone. Without effect after L{finish}.
        """
        # What made the picture fail is what the user has to know, not that tidying up failed too.
        with suppress(OSError):
            self._close()
        with suppress(OSError):
            self._remove()

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    @abstractmethod
    async def _write(self, descriptor: int, data: bytes) -> None: ...

    @abstractmethod
    def _keep(self) -> None: ...

    @abstractmethod
    def _remove(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.discard()


class FileOutput(Output):
    """
    I write to a new file beside the one that was named, and put it in its place at the end. Until
    then, a file of that name stays as it was.
    """

    def __init__(self, target: str, mode: int, isReplacement: bool = False) -> None:
        """
        @param target: the file's name, which is not that of a link.
        @param mode: its permissions.
        @param isReplacement: whether C{mode} is that of the present file. If not, the umask
            applies.
        @raise OSError: if a file cannot be made there.
        """
        self._target = target
        self._partial: str | None = os.path.join(
            os.path.dirname(target), f".mcm-{secrets.token_hex(8)}.part"
        )
        super().__init__(os.open(self._partial, _CREATE, mode), target)
        if isReplacement and hasattr(os, "fchmod"):
            assert self._descriptor is not None
            os.fchmod(self._descriptor, mode)

    async def _write(self, descriptor: int, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]

    def _keep(self) -> None:
        assert self._partial is not None
        os.replace(self._partial, self._target)
        self._partial = None

    def _remove(self) -> None:
        partial, self._partial = self._partial, None
        if partial is not None:
            os.unlink(partial)


class StreamOutput(Output):
    """
    I write to a pipe, a device, or any standard output. I cannot take anything back.
    """

    def __init__(self, descriptor: int, name: str) -> None:
        """
        @raise BadRequest: if it is a terminal.
        """
        super().__init__(descriptor, name)
        if os.isatty(descriptor):
            self._close()
            raise BadRequest(f"{name} is a terminal, which cannot show a PNG: name a file with -o")

    async def _write(self, descriptor: int, data: bytes) -> None:
        await writeWhenReady(descriptor, data)

    def _keep(self) -> None:
        pass

    def _remove(self) -> None:
        pass

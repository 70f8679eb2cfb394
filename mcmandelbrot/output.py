"""
Outputs of a program: a file that appears only when it is complete, or a stream.

C{mcm} writes pictures with this module, and the web log example its page and its records.
"""

from __future__ import annotations

import os
import secrets
import stat
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Self

from mcmandelbrot.errors import BadRequest, OutputClosed, OutputFailed
from mcmandelbrot.writer import writeAtOnce, writeWhenReady

STDOUT_NAMES = ("-", "/dev/stdout")
"""The names that stand for the standard output in place of a file's name."""

# Windows would otherwise change bytes that look like ends of lines.
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)


def openOutput(path: str | None, option: str = "-o") -> Output:
    """
    Open an output. Only a regular file is replaced. A device, a pipe, and any other file that is
    not regular, is written to.

    @param path: the name of a file, which need not exist; or C{None}, C{-} or C{/dev/stdout} for
        the standard output.
    @param option: the option with which the user names the file, for messages.
    @raise BadRequest: if the output cannot be written to, or is a terminal.
    """
    if path is None or path in STDOUT_NAMES:
        return _openStdout(option)
    if not path:
        raise BadRequest(f"{option} needs the name of a file")
    try:
        # A link stays a link: the file that it leads to is replaced.
        target = os.path.realpath(path)
        try:
            status = os.stat(path)
        except FileNotFoundError:
            return FileOutput(target, 0o666)
        if stat.S_ISREG(status.st_mode) and _isAt(target, status):
            # A file that must not be written must not be replaced either.
            os.close(os.open(target, os.O_WRONLY))
            return FileOutput(target, stat.S_IMODE(status.st_mode), isReplacement=True)
        # The file exists, so O_TRUNC and O_CREAT are not needed.
        return StreamOutput(os.open(path, os.O_WRONLY), path, option)
    except (OSError, ValueError) as error:
        raise BadRequest(_cannotWrite(path, error)) from error


def checkOutputs(outputs: Iterable[tuple[str, str]], inputs: Iterable[str | int]) -> None:
    """
    Check that no output is an input, the standard output, or another output. Two names mean the
    same file if they lead to the same path, or to the same device and inode. A character device,
    such as C{/dev/null}, may be several of them.

    @param outputs: for each output, the option that the user names it with, and its name.
    @param inputs: the names of the inputs, or their open file descriptors.
    @raise BadRequest: if one of them is.
    """
    taken = [(identity, "an input") for each in inputs for identity in _identities(each)]
    printed = dict.fromkeys(_identities(1), "the standard output")
    for identity, _ in taken:
        if identity in printed:
            raise BadRequest("the standard output is also an input: print to another file")
    found = {**dict(taken), **printed}
    for option, name in outputs:
        own = _identities(name)
        use = next((found[identity] for identity in own if identity in found), None)
        if name in STDOUT_NAMES:
            use = "the standard output"
        if use is not None:
            raise BadRequest(f"{option} {name} is also {use}: name another file")
        found.update(dict.fromkeys(own, "another output"))


def _identities(file: str | int) -> list[object]:
    """
    Return the identities of a file: its path, and its device and inode if it exists.
    """
    path = os.path.realpath(file) if isinstance(file, str) and "\0" not in file else None
    try:
        status = os.stat(file)
    except (OSError, ValueError):
        return [] if path is None else [path]
    if stat.S_ISCHR(status.st_mode):
        return []
    identity = status.st_dev, status.st_ino
    return [identity] if path is None else [path, identity]


def _isAt(path: str, status: os.stat_result) -> bool:
    """
    Tell whether a path leads to a file. The path that C{/dev/fd} has for a deleted file does not.
    """
    try:
        return os.path.samestat(os.stat(path), status)
    except FileNotFoundError:
        return False


def _openStdout(option: str) -> StreamOutput:
    if sys.stdout is None:
        raise BadRequest(f"the standard output is closed: name a file with {option}")
    return StreamOutput(os.dup(sys.stdout.fileno()), "the standard output", option)


def _cannotWrite(name: str, error: OSError | ValueError) -> str:
    return f"cannot write {name}: {getattr(error, 'strerror', None) or error}"


class Output(ABC):
    """
    Takes a program's bytes. As a context manager it calls L{discard} at the end, which removes the
    bytes unless L{finish} was called.
    """

    def __init__(self, descriptor: int, name: str) -> None:
        """
        @param descriptor: an open file descriptor, which the output closes.
        @param name: the name of the output in messages.
        """
        self._descriptor: int | None = descriptor
        self._name = name

    async def write(self, data: bytes) -> None:
        """
        Write bytes, and wait until there is room for them. The reactor does its other work
        meanwhile.

        @raise OutputClosed: if the reader has closed the output.
        @raise OutputFailed: if the bytes cannot be written.
        """
        assert self._descriptor is not None
        with self._explaining():
            await self._write(self._descriptor, data)

    def writeAtOnce(self, data: bytes) -> None:
        """
        Write bytes, and block until there is room for them.

        @raise OutputClosed: if the reader has closed the output.
        @raise OutputFailed: if the bytes cannot be written.
        """
        assert self._descriptor is not None
        with self._explaining():
            writeAtOnce(self._descriptor, data)

    @contextmanager
    def _explaining(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError as error:
            raise OutputClosed(f"{self._name} was closed by its reader") from error
        except OSError as error:
            raise OutputFailed(_cannotWrite(self._name, error)) from error

    def finish(self) -> None:
        """
        Keep the output, because all bytes were written.

        @raise OutputFailed: if it cannot be kept.
        """
        try:
            self._close()
            self._keep()
        except OSError as error:
            raise OutputFailed(_cannotWrite(self._name, error)) from error

    def discard(self) -> None:
        """
        Remove the bytes, as far as that is possible. This does nothing after L{finish}.
        """
        # The user has to know why the work failed, rather than that the removal failed too.
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
    Writes to a new file in the folder of the one that was named, and renames it at the end. Until
    then, an existing file of that name stays as it was.
    """

    def __init__(self, target: str, mode: int, isReplacement: bool = False) -> None:
        """
        @param target: the file's name, which is not that of a link.
        @param mode: its permissions.
        @param isReplacement: whether C{mode} is that of an existing file. If not, the umask
            applies. Default: C{False}.
        @raise OSError: if a file cannot be made there.
        """
        self._target = target
        self._partial: str | None = os.path.join(
            os.path.dirname(target), f".{secrets.token_hex(8)}.part"
        )
        super().__init__(os.open(self._partial, _CREATE, mode), target)
        if isReplacement and hasattr(os, "fchmod"):
            assert self._descriptor is not None
            os.fchmod(self._descriptor, mode)

    async def _write(self, descriptor: int, data: bytes) -> None:
        writeAtOnce(descriptor, data)

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
    Writes to a pipe, a device, or any standard output. Its bytes cannot be removed.
    """

    def __init__(self, descriptor: int, name: str, option: str = "-o") -> None:
        """
        @raise BadRequest: if the descriptor is that of a terminal.
        """
        super().__init__(descriptor, name)
        if os.isatty(descriptor):
            self._close()
            raise BadRequest(
                f"{name} is a terminal, which cannot show this: name a file with {option}"
            )

    async def _write(self, descriptor: int, data: bytes) -> None:
        await writeWhenReady(descriptor, data)

    def _keep(self) -> None:
        pass

    def _remove(self) -> None:
        pass

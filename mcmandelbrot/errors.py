"""
Errors that end C{mcm} early. Each has a sentence for the user and an exit status.
"""

from __future__ import annotations


class MandelbrotError(Exception):
    """
    The picture cannot be made. The message is one line, for the user.

    @cvar exitStatus: the exit status of the process.
    """

    exitStatus = 1


class BadRequest(MandelbrotError):
    """
    The user asked for something that cannot be done. This is known before any work is done.
    """

    exitStatus = 2


class RenderingFailed(MandelbrotError):
    """
    A worker process failed.
    """


class OutputFailed(MandelbrotError):
    """
    The picture could not be written completely.
    """


class OutputClosed(MandelbrotError):
    """
    The reader of the picture has closed the pipe. This is not an error, so the user gets no
    message.
    """

    # The status that a shell shows for a program that SIGPIPE ended: 128 plus the signal's number.
    exitStatus = 141


class Interrupted(MandelbrotError):
    """
    A signal asked the program to stop. The user knows that, and gets no message.
    """

    def __init__(self, signalNumber: int) -> None:
        """
        @param signalNumber: the number of the signal.
        """
        super().__init__(f"stopped by signal {signalNumber}")
        #: The exit status that a shell shows for a program that the signal ended.
        self.exitStatus = 128 + signalNumber

"""
Errors that end C{mcm} early. Each has a sentence for the user and an exit status.
"""

from __future__ import annotations


class MandelbrotError(Exception):
    """
    There will be no picture. The message is one line, meant for the user.

    @cvar exitStatus: what the process exits with.
    """

    exitStatus = 1


class BadRequest(MandelbrotError):
    """
    The user asked for something that cannot be done. This is known before any work is done.
    """

    exitStatus = 2


class RenderingFailed(MandelbrotError):
    """
    A worker process could not do its part.
    """


class OutputFailed(MandelbrotError):
    """
    The picture could not be written to its end.
    """


class OutputClosed(MandelbrotError):
    """
    The reader of the picture has left. That is no fault, so the user is told nothing.
    """

    # What a shell shows for a program that SIGPIPE ended: 128 and the signal's number.
    exitStatus = 141


class Interrupted(MandelbrotError):
    """
    A signal asked to stop, which the user knows already.
    """

    def __init__(self, signalNumber: int) -> None:
        """
        @param signalNumber: the signal that came.
        """
        super().__init__(f"stopped by signal {signalNumber}")
        #: The exit status that a shell shows for a program that the signal ended.
        self.exitStatus = 128 + signalNumber

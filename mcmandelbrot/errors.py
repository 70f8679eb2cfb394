"""
What ends C{mcm} early, as a sentence for its user and an exit status.
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
    What was asked for cannot be done, which is known before any of it is done.
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
    Whoever was reading the picture has left. That is no fault, so the user is told nothing.
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
        #: What a shell shows for a program that the signal ended.
        self.exitStatus = 128 + signalNumber

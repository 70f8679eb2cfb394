"""
An error of an input, as a sentence for the user.
"""

from __future__ import annotations


class InputError(Exception):
    """
    An input cannot be read, or not to its end. The message says why, without the input's name.

    It crosses between processes, so it has only its message.
    """


class ReadingStopped(Exception):
    """
    Nothing more of an input is to be read.
    """


def describeError(error: BaseException) -> str:
    """
    @return: what happened, in one line and without a file's name.
    """
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, InputError):
        return str(error)
    return f"{type(error).__name__}: {error}"

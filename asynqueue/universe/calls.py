"""
CALL messages to functions and arguments.
"""

from __future__ import annotations

from typing import Any, Protocol

from asynqueue.universe.packing import Packed, unpack

Rebuilt = tuple[Any, Any, Any]
"""A function, its arguments and its keywords."""


class Reader(Protocol):
    """
    Reads the calls that a near side's writer wrote.
    """

    def keep(self, function: Any) -> None:
        """Note what a call's function defines, even if that call is not run."""

    def read(self, function: Any, arguments: Any) -> Rebuilt:
        """Rebuild a call. Raises whatever that raises."""


class PickleReader:
    """
    Rebuilds functions and arguments from their pickles, and remembers the functions that were
    numbered.
    """

    def __init__(self) -> None:
        # Each function that was defined: packed, and rebuilt once it was called.
        self._definitions: dict[int, Packed] = {}
        self._functions: dict[int, Any] = {}

    def keep(self, function: Any) -> None:
        """
        Note a definition, since later calls may name its number.
        """
        if type(function) is tuple and type(function[0]) is int:
            self._definitions.setdefault(*function)

    def read(self, function: Any, arguments: Any) -> Rebuilt:
        """
        Rebuild a call.
        """
        if type(function) is tuple and type(function[0]) is int:
            self.keep(function)
            function = function[0]
        if type(function) is int:
            number, function = function, self._functions.get(function)
            if function is None:
                function = self._functions[number] = unpack(self._definitions[number])
        else:
            function = unpack(function)
        # A packed tuple ends with its list of buffers, which is no plain value.
        if type(arguments) is tuple and (not arguments or type(arguments[-1]) is not list):
            return function, arguments, {}
        args, kwargs = unpack(arguments)
        return function, args, kwargs


class DirectReader:
    """
    Finds functions and arguments as they are, where the two sides share their memory.
    """

    def keep(self, function: Any) -> None:
        """
        Nothing is defined.
        """

    def read(self, function: Any, arguments: Any) -> Rebuilt:
        """
        Take a call apart.
        """
        args, kwargs = arguments
        return function, args, kwargs

"""
The context variables that travel with a queue's calls.
"""

from __future__ import annotations

from collections.abc import Iterable

from asynqueue.universe.context import Pairs, resolve

_UNSET = object()


class DeclaredContext:
    """
    Some context variables, by their names.
    """

    def __init__(self, names: Iterable[str]) -> None:
        """
        @param names: C{"package.module.variable"} or C{"package.module:variable"} each.
        @raise ValueError: if one of them names no context variable.
        """
        if isinstance(names, str):
            raise ValueError(f"contextvars must be a list of names, not the one name {names!r}")
        self._variables = [(name, resolve(name)) for name in dict.fromkeys(names)]

    def __bool__(self) -> bool:
        """
        Whether there is any.
        """
        return bool(self._variables)

    def capture(self) -> Pairs | None:
        """
        @return: the names and present values of those that are set, or C{None} if none is.
        """
        found = [(name, variable.get(_UNSET)) for name, variable in self._variables]
        return tuple(pair for pair in found if pair[1] is not _UNSET) or None

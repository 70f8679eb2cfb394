"""
Public names that are imported when they are first asked for (PEP 562).

The package's faces use this, so that a worker process, which needs only a small part of asynqueue,
does not pay for Twisted.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any


def lazyNames(
    namespace: dict[str, Any], homes: dict[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """
    Make a module's C{__getattr__} and C{__dir__}.

    @param namespace: the module's C{globals()}, in which a name stays once it was asked for.
    @param homes: for each public name, the absolute name of the module that defines it.
    @return: the two functions, to be assigned to C{__getattr__} and C{__dir__}.
    """
    moduleName = namespace["__name__"]

    def getAttribute(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {moduleName!r} has no attribute {name!r}")
        value = namespace[name] = getattr(import_module(homes[name]), name)
        return value

    def listNames() -> list[str]:
        return sorted({*namespace, *homes})

    return getAttribute, listNames

"""
Public names that are imported when they are first asked for (PEP 562).

The package's face uses this, so that a worker process, which needs only a small part of asynqueue,
does not pay for Twisted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazyNames(
    namespace: dict[str, Any], homes: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """
    Make a package's C{__getattr__} and C{__dir__}.

    @param namespace: the package's C{globals()}. A name stays there once it was asked for.
    @param homes: for each module, by its name within the package, the names that it defines,
        separated by spaces.
    @return: the two functions.
    """
    package = namespace["__name__"]
    homeOf = {name: home for home, names in homes.items() for name in names.split()}

    def getAttribute(name: str) -> Any:
        if name not in homeOf:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(f"{package}.{homeOf[name]}"), name)
        namespace[name] = value
        return value

    def listNames() -> list[str]:
        return sorted({*namespace, *namespace.get("__all__", homeOf)})

    return getAttribute, listNames

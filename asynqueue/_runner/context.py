"""
Context variables that travel with a call, by their names.

A C{ContextVar} cannot be pickled, and nothing tells which module it belongs to. So a program
declares, by name, those whose values its calls are to find.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextvars import ContextVar
from importlib import import_module
from typing import Any

Pairs = tuple[tuple[str, Any], ...]
"""Context variables' names, and the values that they had when the call was made."""


def resolve(name: str) -> ContextVar[Any]:
    """
    @param name: C{"package.module.variable"} or C{"package.module:variable"}. The module is
        imported if it was not.
    @return: the context variable of that name.
    @raise ValueError: if there is none.
    """
    module, _, attribute = name.rpartition(":" if ":" in name else ".")
    try:
        variable = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"there is no context variable {name!r}: {error}") from error
    if not isinstance(variable, ContextVar):
        raise ValueError(f"{name!r} is no context variable, but {variable!r}")
    return variable


def applyContext(pairs: Iterable[tuple[str, Any]]) -> None:
    """
    Set some context variables in the present context.

    @param pairs: their names, as for L{resolve}, and their values.
    @raise ValueError: if there is none of such a name.
    """
    for name, value in pairs:
        resolve(name).set(value)

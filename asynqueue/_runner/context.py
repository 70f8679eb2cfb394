"""
Context variables that travel with a call, by their names; and the span of OpenTelemetry that the
call belongs to.

A C{ContextVar} cannot be pickled, and nothing tells which module it belongs to. So a program
declares, by name, those whose values its calls are to find.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from contextvars import ContextVar
from importlib import import_module
from typing import Any, Final

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


TRACE: Final = "opentelemetry"
"""Stands for the name of a context variable where a L{TravellingContext} travels. The name of a
variable has a dot or a colon."""


class TravellingContext:
    """
    A context of OpenTelemetry, with the span in it. Within this interpreter it travels as it is,
    elsewhere as the headers that the W3C has defined for that.

    @ivar context: the context.
    @ivar parent: the context of the span that each run of the task has for its parent; C{None} if
        the context is that of whoever makes the call.
    """

    __slots__ = ("context", "parent")

    def __init__(self, context: Any, parent: Any = None) -> None:
        self.context = context
        self.parent = parent

    def __reduce__(self) -> tuple[object, ...]:
        from opentelemetry.baggage.propagation import W3CBaggagePropagator
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        headers: dict[str, str] = {}
        TraceContextTextMapPropagator().inject(headers, self.context)
        W3CBaggagePropagator().inject(headers, self.context)
        # Servers that look at what a call names let this type through.
        return OrderedDict, (list(headers.items()),)


def applyContext(pairs: Iterable[tuple[str, object]]) -> None:
    """
    Set some context variables in the present context.

    @param pairs: their names, as for L{resolve}, and their values.
    @raise ValueError: if there is none of such a name.
    """
    for name, value in pairs:
        if name == TRACE:
            _attach(value)
        else:
            resolve(name).set(value)


def _attach(travelled: Any) -> None:
    """
    Have a span be the current one in the present context, which ends with the call.
    """
    try:
        from opentelemetry import context
        from opentelemetry.baggage.propagation import W3CBaggagePropagator
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
    except ImportError:
        # On another machine, where nothing can ask for the current span.
        return
    if isinstance(travelled, TravellingContext):
        context.attach(travelled.context)
    else:
        arrived = TraceContextTextMapPropagator().extract(travelled)
        context.attach(W3CBaggagePropagator().extract(travelled, arrived))

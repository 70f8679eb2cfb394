"""
Keywords of constructors and calls: their names in signatures, and hints for misspelled ones.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from functools import wraps
from typing import Final, TypeVar, cast

from asynqueue._core.options import ALL_OPTION_NAMES, OPTION_NAMES
from asynqueue._core.task import functionName

_Init = TypeVar("_Init", bound=Callable[..., None])

_LIKENESS: Final = 0.6
"""From which likeness on, as C{difflib} measures it, one name may be a misspelling of another."""


def spellsOut(
    source: Callable[..., None] | None = None, names: Iterable[str] = ()
) -> Callable[[_Init], _Init]:
    """
    Decorate an C{__init__} so that C{help()} shows all its keywords, also those that it takes as
    C{**options} and hands on. An unknown keyword raises C{TypeError}, which names the object's
    class and the nearest keyword.

    @param source: the function that the keywords of C{**options} are handed on to.
    @param names: the names of these keywords.
    """

    def decorate(init: _Init) -> _Init:
        signature = inspect.signature(init)
        shown = [
            parameter
            for parameter in signature.parameters.values()
            if parameter.kind is not inspect.Parameter.VAR_KEYWORD
        ]
        if source is not None:
            handedOn = inspect.signature(source).parameters
            shown += [handedOn[name] for name in names]
        known = frozenset(
            parameter.name
            for parameter in shown[1:]
            if parameter.kind is not inspect.Parameter.VAR_POSITIONAL
        )

        @wraps(init)
        def checked(self: object, *args: object, **kw: object) -> None:
            for name in kw:
                if name not in known:
                    raise unknownKeyword(type(self).__name__, name, known)
            init(self, *args, **kw)

        vars(checked)["__signature__"] = signature.replace(parameters=shown)
        return cast(_Init, checked)

    return decorate


def unknownKeyword(taker: str, name: str, known: Iterable[str]) -> TypeError:
    """
    @param taker: what does not take the keyword.
    @param known: the keywords that it takes.
    @return: an error that names the nearest keyword, or all of them if none is near.
    """
    near = _nearest(name, known)
    hint = f"It takes {', '.join(sorted(known))}" if near is None else f"Did you mean {near!r}?"
    return TypeError(f"{taker} takes no keyword {name!r}. {hint}")


def explainKeywords(error: BaseException, function: object, kwargs: Iterable[str]) -> None:
    """
    Add a note to the error of a call that failed because of a keyword, if that looks like an option
    of the queue.
    """
    # Types derived from it may have a meaning, and ways, of their own.
    if type(error) is not TypeError or "keyword" not in str(error):
        return
    for name in kwargs:
        near = _nearest(name, ALL_OPTION_NAMES)
        if near is None or name in OPTION_NAMES:
            continue
        called = functionName(function)
        if near in OPTION_NAMES:
            note = f"{near!r} is a keyword of the queue, but {name!r} was given to {called}"
        else:
            note = (
                f"{near!r} is an option of the queue, but {name!r} was given to {called}: "
                f"queue.options({near}=...).call({called}, ...)"
            )
        if note not in getattr(error, "__notes__", ()):
            error.add_note(note)


def _nearest(name: str, known: Iterable[str]) -> str | None:
    # Only a mistake needs this module.
    from difflib import get_close_matches

    byLower = {each.lower(): each for each in sorted(known)}
    found = get_close_matches(name.lower(), byLower, 1, _LIKENESS)
    return byLower[found[0]] if found else None

"""
The effects of a page's buttons: forms become requests of the API.

A button carries the request itself, as JSON. The page fills in whatever a person types or chooses.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from asynqueue._core.description import shortly

if TYPE_CHECKING:
    from asynqueue.interfaces import JSONObject

DESTROYING: Final = frozenset(("cancel", "drop", "terminate"))
"""The verbs after which something is lost. It is asked whether they are meant."""

LONGEST: Final = 50_000
"""How many characters the request of a button may have."""

Fields = Mapping[str, Sequence[str]]


def asButton(verb: str, **request: object) -> str:
    """
    @return: what a button carries. C{typed} maps names of numbers that are typed to the values that
        they have if nothing is, and C{chosen} names a list of numbers that are chosen.
    """
    return json.dumps({"do": verb, **request})


def readAct(fields: Fields) -> JSONObject:
    """
    @return: the request that a form makes, without a queue.
    @raise ValueError: if it makes none. The API finds out what else may be wrong.
    """
    [carried] = fields.get("act", [])[-1:] or [""]
    try:
        request = json.loads(carried) if len(carried) <= LONGEST else None
    except (ValueError, RecursionError):
        request = None
    if not isinstance(request, dict) or not isinstance(request.get("do"), str):
        raise ValueError("this form says nothing that could be done")
    typed, chosen = request.pop("typed", {}), request.pop("chosen", None)
    if isinstance(typed, dict):
        for name, without in typed.items():
            [text] = fields.get(name, [])[:1] or [""]
            request[name] = _number(text) if text.strip() else without
    if isinstance(chosen, str):
        numbers = [_number(text) for text in fields.get("chosen", [])]
        if not numbers:
            raise ValueError("nothing was chosen")
        request[chosen] = numbers
    request.pop("queue", None)
    request.pop("id", None)
    return request


def _number(text: str) -> int | float | str:
    """
    @return: a number that was typed, or else the text, which the API refuses.
    """
    text = text.strip()[:40]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def describeAct(request: JSONObject, queue: str) -> str:
    """
    @return: what a request does, for people: a sentence without its end.
    """
    given = {name: value for name, value in request.items() if name != "do"}
    verb = str(request["do"])
    for name, noun in (("tasks", "task"), ("jobs", "dead letter")):
        numbers = given.pop(name, None)
        if isinstance(numbers, list):
            many = f"{len(numbers)} chosen {noun}s"
            what = f"{noun} {numbers[0]}" if len(numbers) == 1 else many
            return f"{verb.capitalize()} {what} of {queue}"
    if "task" in given:
        return f"{verb.capitalize()} task {given['task']} of {queue}"
    if given.pop("all", False):
        what = "everything that waits" if verb == "cancel" else "all dead letters"
        return f"{verb.capitalize()} {what} in {queue}"
    if "kind" in given:
        return f"{verb.capitalize()} all dead letters of this kind in {queue}"
    told = ", ".join(f"{name} {shortly(value)}" for name, value in given.items())
    return f"{verb.capitalize()} {queue}" + (f": {told}" if told else "")


def describeOutcome(request: JSONObject, queue: str, result: object) -> str:
    """
    @return: what has become of a request, for people.
    """
    done = describeAct(request, queue)
    if isinstance(result, dict):
        if "cancelled" in result:
            return f"{done}: {result['cancelled']} cancelled."
        if "done" in result and "failed" in result:
            failed = result["failed"]
            told = f"{done}: {len(result['done'])} done"
            if failed:
                number, why = next(iter(failed.items()))
                told += f", {len(failed)} not, such as {number}: {why}"
            return f"{told}."
    return f"{done}: done."

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from asynqueue._runner.exceptions import Described, describe, explained, rebuild
from asynqueue.errors import RemoteError, RemoteTraceback, ResultNotPicklable, textOf, typeName
from tests.runner.travel import journey


class Plain(Exception):
    pass


class WithAttributes(Exception):
    def __init__(self, code: int) -> None:
        super().__init__(f"code {code}")
        self.code = code

    def __reduce__(self) -> Any:
        return WithAttributes, (self.code,)


class BreaksInItsInit(Exception):
    """
    Pickles, but its pickle calls C{__init__} with one argument.
    """

    def __init__(self, one: str, two: str) -> None:
        super().__init__(f"{one} and {two}")


class CannotBePickled(Exception):
    def __init__(self) -> None:
        super().__init__("has a function")
        self.function = lambda: None


def leave() -> None:
    sys.exit("while being rebuilt")


def thirteen() -> int:
    return 13


class RebuildsAs(Exception):
    def __init__(self, function: Callable[[], object]) -> None:
        super().__init__("the text")
        self.function = function

    def __reduce__(self) -> Any:
        return self.function, ()


class RefusesText(Exception):
    def __str__(self) -> str:
        raise SystemExit("no text")


class MarkedUp(str):
    __slots__ = ()


class WithMarkedUpText(Exception):
    def __str__(self) -> str:
        return MarkedUp("<b>no</b>")


class RefusesNotes(Exception):
    @property
    def __notes__(self) -> list[str]:  # type: ignore[override]
        raise RuntimeError("no notes")


@dataclass(frozen=True)
class Frozen(Exception):
    pass


class RefusesAttributes(Exception):
    def __setattr__(self, name: str, value: object) -> None:
        raise TypeError("no attributes")


class RefusesToBePickled(Exception):
    def __reduce__(self) -> Any:
        raise KeyboardInterrupt


def userCode(error: BaseException) -> None:
    raise error


def caught(error: BaseException) -> Described:
    """
    Do what a runner does with an exception.
    """
    try:
        userCode(error)
    except BaseException as raised:
        return describe(raised)
    raise AssertionError


def arrived(error: BaseException) -> BaseException:
    described: Described = journey(caught(error))
    return rebuild(described)


REBUILT: dict[str, BaseException] = {
    "built in": ValueError("wrong", 3),
    "without arguments": KeyError(),
    "of one's own": Plain("text"),
    "with attributes": WithAttributes(7),
    "SystemExit": SystemExit(3),
    "KeyboardInterrupt": KeyboardInterrupt(),
    "StopIteration": StopIteration(5),
    "GeneratorExit": GeneratorExit(),
    "OSError": FileNotFoundError(2, "No such file", "name"),
    "UnicodeDecodeError": UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"),
    "a group": ExceptionGroup("several", [ValueError(1), Plain("two")]),
    "RemoteError": RemoteError("far.Error", "text", "trace"),
    "frozen": Frozen(),
    "that refuses attributes": RefusesAttributes("text"),
    "with a text of another type": WithMarkedUpText(),
    "with a lone surrogate": ValueError("\ud800"),
}

NOT_REBUILT: dict[str, tuple[BaseException, str]] = {
    "cannot be pickled": (CannotBePickled(), "has a function"),
    "refuses to be pickled": (RefusesToBePickled("text"), "text"),
    "breaks in its __init__": (BreaksInItsInit("one", "two"), "one and two"),
    "exits while rebuilt": (RebuildsAs(leave), "the text"),
    "is rebuilt as no exception": (RebuildsAs(thirteen), "the text"),
    "refuses its text": (RefusesText(lambda: None), "<no text: SystemExit>"),
}


@pytest.mark.parametrize("name", REBUILT)
def test_arrivesWithItsOwnTypeAndText(name: str) -> None:
    error = REBUILT[name]
    back = arrived(error)
    assert (type(back), back.args, str(back)) == (type(error), error.args, str(error)) or (
        # Groups compare by identity within.
        isinstance(back, ExceptionGroup) and repr(back) == repr(error)
    )


@pytest.mark.parametrize("name", NOT_REBUILT)
def test_whatCannotBeRebuiltArrivesAsRemoteErrorThatNamesIt(name: str) -> None:
    error, text = NOT_REBUILT[name]
    back = arrived(error)
    assert type(back) is RemoteError
    assert back.typeName == f"{__name__}.{type(error).__name__}"
    assert (back.text, str(back)) == (text, f"{back.typeName}: {text}")
    assert "userCode" in back.traceback


@pytest.mark.parametrize("name", [*REBUILT, *NOT_REBUILT])
def test_theFarTracebackIsTheCause(name: str) -> None:
    error = REBUILT.get(name) or NOT_REBUILT[name][0]
    back = arrived(error)
    assert type(back.__cause__) is RemoteTraceback
    text = str(back.__cause__)
    assert "Traceback (most recent call last):" in text
    assert "in userCode" in text
    assert type(error).__name__ in text


@pytest.mark.parametrize("name", [*REBUILT, *NOT_REBUILT])
def test_descriptionIsMadeOfPlainStringsBesideThePickle(name: str) -> None:
    described = caught(REBUILT.get(name) or NOT_REBUILT[name][0])
    assert [type(part) for part in described[1:]] == [str, str, str]


def test_theFrameThatCaughtItIsLeftOutOfTheTraceback() -> None:
    text = caught(ValueError())[3]
    assert "in userCode" in text
    assert "in caught" not in text


def test_exceptionThatWasNeverRaisedIsDescribedToo() -> None:
    back = rebuild(journey(describe(ValueError("fresh"))))
    assert (type(back), back.args) == (ValueError, ("fresh",))
    assert "ValueError: fresh" in str(back.__cause__)


def test_attributesArrive() -> None:
    back: Any = arrived(WithAttributes(7))
    assert back.code == 7
    error: Any = Plain("text")
    error.extra = [1, 2]
    back = arrived(error)
    assert back.extra == [1, 2]


def test_notesArriveAndAreInTheTraceback() -> None:
    error = Plain("text")
    error.add_note("while doing this")
    back = arrived(error)
    assert back.__notes__ == ["while doing this"]
    assert "while doing this" in str(back.__cause__)


def test_causesAreInTheTraceback() -> None:
    error = Plain("text")
    error.__cause__ = KeyError("the cause")
    text = str(arrived(error).__cause__)
    assert "KeyError: 'the cause'" in text
    assert "direct cause" in text


def test_whyItCannotBePickledIsSaid() -> None:
    back = arrived(CannotBePickled())
    assert isinstance(back, RemoteError)
    assert "The exception itself cannot be pickled: " in back.traceback


def test_exceptionWhoseTracebackResistsIsDescribedAllTheSame() -> None:
    described = None
    # Were it to get out of here, no test runner could show it either.
    with contextlib.suppress(RuntimeError):
        described = caught(RefusesNotes("text"))
    assert described is not None
    back = rebuild(journey(described))
    assert (type(back), back.args) == (RefusesNotes, ("text",))
    text = str(back.__cause__)
    assert "in userCode" in text
    assert "RefusesNotes: text" in text


def test_endlessChainOfCausesIsDescribed() -> None:
    one, two = Plain("one"), Plain("two")
    one.__context__, two.__context__ = two, one
    assert type(arrived(one)) is Plain


def test_ourOwnErrorsSayWhatCouldNotBeDone() -> None:
    error = explained(ResultNotPicklable, "pickle the result", ZeroDivisionError("why"))
    assert type(error) is ResultNotPicklable
    assert str(error) == "could not pickle the result: ZeroDivisionError: why"


def test_ourOwnErrorsHaveTheTracebackOfTheReason() -> None:
    try:
        userCode(ZeroDivisionError())
    except ZeroDivisionError as reason:
        assert explained(ResultNotPicklable, "x", reason).__traceback__ is reason.__traceback__


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (ValueError, "ValueError"),
        (Plain, f"{__name__}.Plain"),
        (RemoteError, "asynqueue.errors.RemoteError"),
        (type("Own", (), {"__module__": "__main__"}), "Own"),
    ],
)
def test_typeNameIsQualifiedExceptForBuiltinsAndTheMainProgram(kind: type, name: str) -> None:
    assert typeName(kind) == name


def test_textIsThatOfStrOrSaysWhyThereIsNone() -> None:
    assert textOf(ValueError(3)) == "3"
    assert textOf(RefusesText(lambda: None)) == "<no text: SystemExit>"
    assert type(textOf(WithMarkedUpText())) is str

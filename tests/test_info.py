"""
Calls and their results, told to people.
"""

from __future__ import annotations

import logging
import pickle
import threading
from collections.abc import Coroutine
from inspect import iscoroutinefunction
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.python.failure import Failure

from asynqueue import Info, info, showResult
from asynqueue.info import whichThread
from asynqueue.testing import far


def failureOf(function: Any, *args: Any) -> Failure:
    """
    @return: the Failure of a call.
    """
    try:
        function(*args)
    except Exception:
        return Failure()
    raise AssertionError("it did not raise")


class Owner:
    """
    Has methods.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []

    def __repr__(self) -> str:
        return "Owner()"

    def method(self, number: int) -> int:
        """
        Give a number.
        """
        return number


# Info ---------------------------------------------------------------------------------------------


def test_theFaceHasWhatItsUsersType() -> None:
    assert (info.Info, info.showResult, info.whichThread) == (Info, showResult, whichThread)


@pytest.mark.parametrize(
    ("metaArgs", "text"),
    [
        ((len,), "len()"),
        (("name",), "name()"),
        ((len, "one"), "len('one')"),
        ((far.add, [1, 2]), "add(1, 2)"),
        ((far.add, (1,), {"second": 2}), "add(1, second=2)"),
        ((far.add, [], {"second": 2}), "add(second=2)"),
    ],
)
def test_aCallIsDescribed(metaArgs: tuple[Any, ...], text: str) -> None:
    assert Info().setCall(*metaArgs).aboutCall() == text


def test_argumentsMayBeAddedLater() -> None:
    description = Info().setCall(far.add)
    assert description.setCall(args=[1], kw={"second": 2}).aboutCall() == "add(1, second=2)"
    assert description.setCall(instance=Owner()).aboutCall() == "Owner().add(1, second=2)"


def test_withoutACallableThereIsNothingToAddTo() -> None:
    with pytest.raises(ValueError, match="callable"):
        Info().setCall(args=[1])
    with pytest.raises(ValueError, match="callable"):
        Info().setCall(len).setCall()
    with pytest.raises(TypeError):
        Info().setCall(len, arguments=[])
    assert (Info().aboutCall(), Info().ID) == ("", None)


def test_theThreadIsNamedIfAsked() -> None:
    name = threading.current_thread().name
    assert Info(whichThread=True).setCall(len).aboutCall() == f"len() <Thread: {name}>"


def test_aCallThatIsRememberedKeepsItsNumber() -> None:
    description = Info(remember=True)
    first = description.setCall(len, ["first"]).ID
    second = description.setCall(len, ["second"]).ID
    # The same call again is another one: who forgets one does not forget the other.
    third = description.setCall(len, ["second"]).ID
    assert len({first, second, third}) == 3
    assert description.aboutCall(first) == "len('first')"
    assert description.aboutCall(nowForget=True) == "len('second')"
    assert description.aboutCall(third) == ""
    assert description.aboutCall(second) == "len('second')"
    description.forgetID(first)
    description.forgetID(first)
    assert description.aboutCall(first) == ""


def test_withoutRememberingOnlyTheLastIsKnown() -> None:
    description = Info()
    first = description.setCall(len).ID
    description.setCall(max)
    assert description.aboutCall(first) == ""
    assert description.aboutCall() == "max()"


def test_itTravelsWithWhatItRemembers() -> None:
    first = Info(remember=True).setCall("fetch", [1])
    pickled = pickle.dumps(first)
    # Python 3.14 does not pickle iterators of that module.
    assert b"itertools" not in pickled
    copied = pickle.loads(pickled)
    before = copied.ID
    assert copied.aboutCall() == "fetch(1)"
    assert before != copied.setCall("other").ID
    assert copied.aboutCall(before) == "fetch(1)"


def test_whatIsSavedIsGotBackAndForgotten() -> None:
    description = Info(remember=True)
    ID = description.setCall(len, [1]).ID
    assert description.saveInfo("note", "x") == "x"
    description.saveInfo("note", "lost", 99)
    description.setCall(max)
    assert description.getInfo(ID, "note") == "x"
    assert description.getInfo(ID, "callDict")["args"] == [1]
    assert description.getInfo(None, "callDict")["f"] is max
    assert description.getInfo(ID, "note", nowForget=True) == "x"
    assert description.getInfo(ID, "note") is None
    assert description.getInfo(99, "note") is None


def test_anExceptionIsDescribedWithItsCall() -> None:
    description = Info(remember=True)
    ID = description.setCall(far.refuse, ["never"]).ID
    description.setCall(len)
    try:
        far.refuse("never")
    except ValueError as error:
        texts = [description.aboutException(ID), description.aboutException(ID, error)]
    for text in texts:
        title, line, *rest = text.splitlines()
        assert title == "Exception ValueError: never doing call refuse('never')"
        assert line == "-" * len(title)
        assert "raise ValueError(text)" in "\n".join(rest)
    assert description.aboutException(ID) == texts[1]


def test_withoutAnExceptionThereIsNothingToDescribe() -> None:
    with pytest.raises(ValueError, match="exception"):
        Info().setCall(len).aboutException()


def test_aFailureIsDescribedWithItsCall() -> None:
    description = Info().setCall(far.refuse, ["never"])
    text = description.aboutFailure(failureOf(far.refuse, "never"))
    assert text.startswith("Failure ValueError: never doing call refuse('never')\n---")
    assert "raise ValueError(text)" in text
    results: list[str] = []
    fail(ValueError("no")).addErrback(description.aboutFailure).addCallback(results.append)
    assert results[0].startswith("Failure ValueError: no doing call refuse('never')")


def test_aContextDescribesItsOwnCallAndForgetsIt() -> None:
    description = Info(remember=True)
    with description.context(far.refuse, ["a"]) as call:
        description.setCall(len)
        assert call.aboutCall() == "refuse('a')"
        assert call.aboutFailure(failureOf(far.refuse, "b")).count("refuse('a')") == 1
        assert "doing call refuse('a')" in call.aboutException(KeyError("c"))
        assert call.getInfo("callDict")["args"] == ["a"]
    assert call.aboutCall() == ""
    with pytest.raises(ValueError, match="remember"), Info().context(len):
        pass


# showResult ---------------------------------------------------------------------------------------


def test_aResultIsShown() -> None:
    lines: list[str] = []
    shown = showResult(write=lines.append)(far.add)
    assert (shown(1, second=2), shown("a", "b")) == (3, "ab")
    assert lines == ["001: add(1, second=2) -> 3", "002: add('a', 'b') -> 'ab'"]
    assert (shown.__name__, shown.__doc__) == (far.add.__name__, far.add.__doc__)


def test_methodsAreShownWithTheirObject() -> None:
    lines: list[str] = []

    class Shown(Owner):
        method = showResult(write=lines.append)(Owner.method)

    assert Shown().method(5) == 5
    assert lines == ["001: Owner.method(Owner(), 5) -> 5"]


def test_anExceptionIsShownAndGoesItsWay() -> None:
    lines: list[str] = []
    with pytest.raises(ValueError, match="never"):
        showResult(write=lines.append)(far.refuse)("never")
    assert lines == ["001: refuse('never') raised ValueError: never"]


def test_aDeferredIsFollowed() -> None:
    lines: list[str] = []
    waiting: Deferred[int] = Deferred()
    shown = showResult(write=lines.append)(far.echo)
    assert shown(waiting) is waiting
    assert lines == []
    results: list[Any] = []
    waiting.addCallback(results.append)
    waiting.callback(5)
    assert results == [5]
    assert lines[0].endswith("-> 5")
    failures: list[Any] = []
    shown(fail(KeyError("k"))).addErrback(failures.append)
    assert lines[1].endswith("failed with KeyError: 'k'")
    assert failures[0].check(KeyError)


def drive(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """
    @return: what a coroutine returns that waits for nothing.
    """
    results: list[Any] = []
    Deferred.fromCoroutine(coroutine).addBoth(results.append)
    return results[0]


def test_aCoroutineIsFollowed() -> None:
    lines: list[str] = []

    @showResult(write=lines.append)
    async def double(number: int) -> int:
        return 2 * await succeed(number)

    @showResult(write=lines.append)
    def indirectly(number: int) -> Any:
        return double(number)

    assert iscoroutinefunction(double)
    assert drive(double(2)) == 4
    assert drive(indirectly(3)) == 6
    assert [line.rpartition(" -> ")[2] for line in lines] == ["4", "6", "6"]
    assert drive(double("x" * 3)) == "xxxxxx"  # type: ignore[arg-type]


def test_aCoroutineThatRaisesIsShown() -> None:
    lines: list[str] = []

    @showResult(write=lines.append)
    async def refuse() -> None:
        raise KeyError("k")

    assert drive(refuse()).check(KeyError)
    assert lines[0].endswith("raised KeyError: 'k'")


@pytest.mark.parametrize("isOutside", [True, False])
def test_theThreadIsShownIfAsked(isOutside: bool) -> None:
    lines: list[str] = []
    show = showResult(write=lines.append)

    def plain() -> None:
        """
        Nothing.
        """

    shown = whichThread(show(plain)) if isOutside else show(whichThread(plain))
    thread = threading.Thread(target=shown, name="the other")
    thread.start()
    thread.join()
    assert "plain() <Thread: the other> -> None" in lines[0]


def test_oneFunctionsThreadIsNoOthers() -> None:
    lines: list[str] = []
    whichThread(lambda: None)
    showResult(write=lines.append)(far.echo)()
    assert "Thread" not in lines[0]


def test_byDefaultItIsLogged(caplog: pytest.LogCaptureFixture) -> None:
    @showResult
    def plain() -> int:
        return 1

    with caplog.at_level(logging.INFO, logger="asynqueue"):
        plain()
    assert caplog.messages[0].endswith("plain() -> 1")

"""
By what name a store knows a function.
"""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any

import pytest

from asynqueue import Retry
from asynqueue.errors import StoreError
from tests.dispatch.stored import DurableCase, capturedLogs


def send(gateway: str, text: str = "") -> str:
    return gateway + text


class Sender:
    def __call__(self, text: str) -> str:
        return text

    def send(self, text: str) -> str:
        return text


def made(name: str, module: str) -> Any:
    """
    A function as another program would define it.
    """

    def function(text: str) -> str:
        raise ZeroDivisionError(text)

    function.__qualname__ = name
    function.__module__ = module
    return function


class NameTests(DurableCase):
    def test_aFunctionWithoutANameOfItsOwnNeedsOne(self) -> None:
        nameless: list[Any] = [partial(send, "x"), lambda text: text, Sender()]
        for function in nameless:
            with pytest.raises(ValueError, match="storedAs"):
                self.makeDurable(function, storedAs=None)
            # The store was left alone.
            self.store.open()
            self.store.close()
            self.makeDurable(function, storedAs="send")
            self.crash()

    def test_functionsAndMethodsHaveTheirs(self) -> None:
        for function in (send, Sender().send, str.upper):
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                self.makeDurable(function, storedAs=None)
            self.crash()

    def test_withoutAStoreNoneIsNeeded(self) -> None:
        self.makeQueue(partial(send, "x"))

    def test_aNameThatOnlyThisProgramUsesIsWarnedOf(self) -> None:
        with pytest.warns(RuntimeWarning, match="__main__.send.*storedAs"):
            self.makeDurable(made("send", "__main__"), storedAs=None).put("a")
        self.crash()
        with capturedLogs() as texts:
            queue = self.makeDurable(made("send", "app"), storedAs=None)
        [letter] = self.lettersOf(queue)
        assert letter.function == "__main__.send"
        [text] = texts
        assert "for the function __main__.send, and this queue's is app.send" in text

    def test_withANameThereIsNoWarning(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            self.makeDurable(made("send", "__main__"), storedAs="send")


class DeadLetterLogTests(DurableCase):
    def test_eachDeadLetterIsLoggedWithItsTraceback(self) -> None:
        queue = self.makeDurable(made("send", "app"), width=1)
        d = queue.put("a text")
        with capturedLogs() as texts:
            self.settle()
        self.failureResultOf(d, ZeroDivisionError)
        [text] = texts
        for part in ("'a text'", "ZeroDivisionError: a text", "Traceback", "in function"):
            assert part in text
        assert self.flushLoggedErrors() == []

    def test_soIsOneWhoseArgumentCannotBeDecoded(self) -> None:
        self.makeDurable(codec=Unreadable()).put("a")
        self.crash()
        with capturedLogs() as texts:
            self.makeDurable(codec=Unreadable())
        [text] = texts
        assert "cannot be decoded" in text
        assert "ZeroDivisionError" in text

    def test_theStoreStaysOpenForOthersIfTheQueueIsNotMade(self) -> None:
        with pytest.raises(ValueError, match="drainTimeout"):
            self.makeDurable(drainTimeout=-1)
        self.makeDurable()
        with pytest.raises(StoreError):
            self.makeDurable()


class Unreadable:
    def dumps(self, value: object, /) -> str:
        return "x"

    def loads(self, data: object, /) -> object:
        raise ZeroDivisionError


class RetryTests(DurableCase):
    def test_errorsCanBeAList(self) -> None:
        errors: Any = [ValueError]
        queue = self.makeDurable(width=1, retry=Retry(2, lambda _: 0.0, errors))
        d = queue.put("a")
        self.settle()
        self.held.fail("a", ValueError())
        self.settle()
        self.held.finish("a")
        assert self.successResultOf(d).attempts == 2

    def test_whatAreNoErrorsIsRefused(self) -> None:
        wrong: list[Any] = ["ValueError", [3], ValueError(), None]
        for errors in wrong:
            with pytest.raises(TypeError, match="errors"):
                Retry(errors=errors)

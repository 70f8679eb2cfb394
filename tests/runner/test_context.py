"""
Context variables that travel with a call.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

import pytest

from asynqueue._runner.context import resolve
from asynqueue.errors import CallNotRebuilt
from tests.runner.stage import StageTestCase

color: ContextVar[Any] = ContextVar("color")
number = 3


class TestResolve:
    def test_aNameIsAModulesAndAVariables(self) -> None:
        for separator in ".:":
            assert resolve(f"{__name__}{separator}color") is color

    @pytest.mark.parametrize(
        "name", ["color", "", ".", "no.such.module", f"{__name__}.nothing", "os.", ":", "sys:path"]
    )
    def test_whatIsNoneIsRefusedByName(self, name: str) -> None:
        with pytest.raises(ValueError, match="context variable"):
            resolve(name)

    def test_anotherThingOfThatNameIsRefused(self) -> None:
        with pytest.raises(ValueError, match="is no context variable, but 3"):
            resolve(f"{__name__}.number")


class CallTests(StageTestCase):
    def test_aCallFindsItsValue(self) -> None:
        self.stage.call(1, color.get, context=((f"{__name__}.color", ["red"]),))
        assert self.stage.run()[1] == ("RETURNED", 1, ["red"])

    def test_theNextCallFindsNone(self) -> None:
        self.stage.call(1, color.get, context=((f"{__name__}:color", "red"),))
        self.stage.call(2, color.get, "none")
        assert self.stage.run()[-1] == ("RETURNED", 2, "none")
        with self.assertRaises(LookupError):
            color.get()

    def test_whatACallSetsIsGoneWithIt(self) -> None:
        self.stage.call(1, lambda: color.set("blue") and None)
        self.stage.call(2, color.get, "none")
        assert self.stage.run()[-1] == ("RETURNED", 2, "none")

    def test_itsStreamKeepsItsContext(self) -> None:
        def some() -> Any:
            yield color.get()
            color.set("blue")
            yield color.get()

        self.stage.call(1, some, context=((f"{__name__}.color", "red"),))
        self.stage.call(2, color.get, "none")
        assert ("RETURNED", 2, "none") in self.stage.run()
        assert self.stage.items(1) == ["red", "blue"]

    def test_aNameThatIsUnknownHereFailsThatCallOnly(self) -> None:
        self.stage.call(1, color.get, context=((f"{__name__}.nothing", "red"),))
        self.stage.call(2, color.get, "none")
        _, failure, *_, last = self.stage.run()
        assert f"{__name__}.nothing" in self.raised(failure, 1, CallNotRebuilt)
        assert last == ("RETURNED", 2, "none")

    def test_aValueThatCannotBeRebuiltFailsThatCallOnly(self) -> None:
        from asynqueue.testing.far import Bomb

        self.stage.call(1, color.get, context=((f"{__name__}.color", Bomb()),))
        self.stage.call(2, color.get, "none")
        _, failure, *_, last = self.stage.run()
        assert "bang" in self.raised(failure, 1, CallNotRebuilt)
        assert last == ("RETURNED", 2, "none")

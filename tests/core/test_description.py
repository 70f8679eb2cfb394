"""
Calls described for people.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynqueue._core.description import describeCall, describeError, describeFunction, describeValue


class Hostile:
    """
    Raises whatever it is asked.
    """

    def __getattr__(self, name: str) -> Any:
        raise ZeroDivisionError(name)

    def __call__(self) -> None:
        """
        Can be called all the same.
        """

    def __repr__(self) -> str:
        raise ZeroDivisionError("repr")


class Method:
    """
    Has one.
    """

    def go(self) -> None:
        """
        Does nothing.
        """

    def __repr__(self) -> str:
        return "Method()"


@pytest.mark.parametrize(
    ("call", "described"),
    [
        ((len,), "len()"),
        ((len, ["ab"]), "len('ab')"),
        ((max, (1, 2.5), {"key": None}), "max(1, 2.5, key=None)"),
        ((dict, (), {"a": 1, "b": 2}), "dict(a=1, b=2)"),
        (("fetch", ["x"]), "fetch('x')"),
        ((Method.go,), "Method.go()"),
        ((Method().go,), "Method.go()"),
        (("go", (), {}, Method()), "Method().go()"),
        ((describeCall, [[1, [2, [3, [4]]]]]), "describeCall([1, [2, [3, [...]]]])"),
    ],
)
def test_aCallIsAsOneWouldWriteIt(call: tuple[Any, ...], described: str) -> None:
    assert describeCall(*call) == described


def test_longArgumentsAreShortened() -> None:
    text = describeCall(len, ["x" * 10_000, list(range(1000)), 10**50, {n: n for n in range(99)}])
    assert len(text) < 300
    assert "..." in text


def test_manyArgumentsAreLeftOut() -> None:
    text = describeCall(max, range(1000), {f"k{n}": n for n in range(1000)})
    assert text == "max(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, ...)"


def test_whatCannotBeDescribedIsNamed() -> None:
    hostile = Hostile()
    assert "Hostile" in describeFunction(hostile)
    text = describeCall(hostile, [hostile, [hostile]], {"k": hostile}, hostile)
    assert text.count("Hostile") == 5


def test_anErrorsTextIsShownWhereItIsNotVeryLong() -> None:
    assert describeError(ValueError("x" * 200)) == "ValueError: " + "x" * 200
    assert len(describeError(ValueError("x" * 100_000))) < 2000
    assert describeError(KeyError()) == "KeyError"


def test_anErrorWithoutATextIsNamed() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise ValueError("no text")

    assert "Mute" in describeError(Mute())


def test_anIntegerTooLongToBePrintedIsNamed() -> None:
    assert describeValue(10**5000)


@given(
    st.recursive(
        st.none() | st.floats() | st.text() | st.binary() | st.builds(Hostile),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner),
    )
)
def test_nothingMakesItRaiseOrGrow(value: Any) -> None:
    assert 0 < len(describeValue(value)) < 20_000

"""
The check whether a call can be pickled, by the beginnings of its pickles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pickle import PickleBuffer
from threading import Lock
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from asynqueue._workers import picklability as check
from asynqueue._workers.picklability import ALL, EACH, CallCheck
from asynqueue._workers.protocol import CallWriter
from asynqueue.errors import CallNotPicklable
from asynqueue.testing import far
from asynqueue.testing.owner import TaskOwner

LOCK = Lock()

VALUES = st.recursive(
    st.none() | st.integers() | st.text(max_size=5) | st.binary(max_size=5) | st.just(LOCK),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.integers(), inner, max_size=3)
        | st.builds(ValueError, inner)
    ),
    max_leaves=6,
)

FUNCTIONS: list[Callable[..., Any]] = [
    far.echo,
    len,
    far.Thing,
    partial(far.add, 1),
    partial(far.add, LOCK),
    "text".upper,
    lambda: None,
]


class Noting:
    """
    Notes each time that it is pickled.
    """

    def __init__(self, error: type[BaseException] | None = None) -> None:
        self.times = 0
        self.error = error

    def __reduce__(self) -> Any:
        self.times += 1
        if self.error is not None:
            raise self.error("never")
        return Noting, ()


class Endless:
    """
    Its pickle has no end.
    """

    def __init__(self) -> None:
        self.given = 0

    def items(self) -> Iterator[int]:
        while True:
            self.given += 1
            yield self.given

    def __reduce__(self) -> Any:
        return list, (), None, self.items()


class Buffer:
    """
    Is pickled as a buffer, as an array is.
    """

    def __init__(self, data: Any) -> None:
        self.data = data

    def __reduce__(self) -> Any:
        return bytes, (PickleBuffer(self.data),)


class CheckTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.owner = TaskOwner(Clock())
        self.check = CallCheck()

    def refusal(self, function: Any, *args: Any, **kw: Any) -> CallNotPicklable | None:
        task = self.owner.make(function, *args)
        task.kwargs = kw
        return self.check.refusal(task)

    @given(
        st.sampled_from(FUNCTIONS),
        st.lists(VALUES, max_size=3),
        st.dictionaries(st.sampled_from("abc"), VALUES, max_size=2),
        st.none() | st.lists(st.tuples(st.sampled_from("xyz"), VALUES), min_size=1, max_size=2),
    )
    def test_itSaysWhatTheWriterSays(
        self,
        function: Any,
        args: list[Any],
        kw: dict[str, Any],
        context: list[tuple[str, Any]] | None,
    ) -> None:
        task = TaskOwner(Clock()).make(function, *args)
        task.kwargs = kw
        task.context = None if context is None else tuple(context)
        said = None
        try:
            CallWriter().write(1, task)
        except CallNotPicklable as error:
            said = error
        callCheck = CallCheck()
        for _ in range(2):
            found = callCheck.refusal(task)
            self.assertEqual(str(found), str(said))
            self.assertIs(type(found), type(said))
            if found is not None and said is not None:
                self.assertIs(type(found.__cause__), type(said.__cause__))

    def test_eachArgumentIsPickledOnce(self) -> None:
        first, second = Noting(), Noting()
        self.assertIsNone(self.refusal(far.keywords, first, key=second))
        self.assertEqual((first.times, second.times), (1, 1))

    def test_whateverPicklingRaisesIsTheCause(self) -> None:
        for kind in (ValueError, RecursionError, KeyboardInterrupt, SystemExit):
            error = self.refusal(far.echo, Noting(kind))
            assert error is not None
            self.assertIn("argument 1 of echo", str(error))
            self.assertIsInstance(error.__cause__, kind)
            self.assertIsNone(error.__traceback__)

    def test_aPickleWithoutAnEndIsLookedAtNoFurther(self) -> None:
        endless = Endless()
        self.assertIsNone(self.refusal(far.echo, endless))
        self.assertLess(endless.given, EACH)
        self.assertGreater(endless.given, EACH // 10)

    def test_whatIsWrongFurtherOnIsNotFound(self) -> None:
        self.assertIsNotNone(self.refusal(far.echo, [b"x" * (EACH - 1000), LOCK]))
        self.assertIsNone(self.refusal(far.echo, [b"x" * (EACH + 1000), LOCK]))

    def test_aLargeArgumentHidesNoOther(self) -> None:
        error = self.refusal(far.keywords, b"x" * (16 * EACH), Endless(), key=LOCK)
        self.assertIn("argument 'key' of keywords", str(error))

    def test_ofManyLargeArgumentsOnlySoManyAreLookedAt(self) -> None:
        many = [Endless() for _ in range(2 * ALL // EACH)]
        self.assertIsNone(self.refusal(far.keywords, *many, LOCK))
        self.assertEqual(
            [bool(each.given) for each in many],
            [True] * (ALL // EACH) + [False] * (ALL // EACH),
        )

    def test_buffersAreLeftOut(self) -> None:
        self.assertIsNone(self.refusal(far.echo, [Buffer(bytearray(8 * EACH)), 1]))
        self.assertIsNotNone(self.refusal(far.echo, [Buffer(bytearray(8 * EACH)), LOCK]))

    def test_aBufferThatCannotTravelIsFound(self) -> None:
        error = self.refusal(far.echo, Buffer(memoryview(b"12345678")[::2]))
        self.assertIn("argument 1 of echo", str(error))

    def test_aFunctionIsLookedAtOnce(self) -> None:
        looked: list[Any] = []

        class Counted(check._Beginnings):
            def take(self, value: Any) -> None:
                looked.append(value)
                super().take(value)

        self.patch(check, "_Beginnings", Counted)
        for argument in (1, "two", None, [1]):
            self.refusal(far.echo, argument)
        self.assertEqual(looked, [far.echo, [1]])

    def test_onlySoManyFunctionsAreRemembered(self) -> None:
        self.patch(check, "FUNCTIONS", 1)
        for function in (far.echo, far.square, far.echo, far.square):
            self.assertIsNone(self.refusal(function))
        self.assertEqual(self.check._known, {far.echo})

    def test_aFunctionThatCannotBePickledIsNotRemembered(self) -> None:
        for _ in range(2):
            self.assertIn("the function", str(self.refusal(lambda: None)))

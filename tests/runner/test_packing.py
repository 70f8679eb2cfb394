from __future__ import annotations

import math
from collections import namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import Enum, IntEnum
from multiprocessing import Pipe
from pickle import PickleBuffer, dumps
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynqueue._runner import packing
from asynqueue._runner.framing import encode
from asynqueue._runner.packing import BULK, CLOUDPICKLE, LARGE, STANDARD, Packer, sizeOf, unpack
from tests.runner.travel import journey

MUCH = (1 << 23) + 1


class Text(str):
    __slots__ = ()


class Raw(bytes):
    __slots__ = ()


class Whole(int):
    pass


class Real(float):
    pass


class Level(IntEnum):
    LOW = 1


class Colour(Enum):
    RED = "red"


Pair = namedtuple("Pair", "a b")


@dataclass
class Record:
    name: str
    values: list[int]


plainValues = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text()
)
values = st.recursive(
    st.one_of(
        plainValues,
        st.binary(),
        st.complex_numbers(allow_nan=False),
        st.decimals(allow_nan=False, allow_infinity=False),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(plainValues, inner, max_size=3),
        st.builds(Record, st.text(), st.lists(st.integers(), max_size=3)),
    ),
    max_leaves=12,
)


@given(values)
def test_everyValueComesBackEqualAndOfItsType(value: Any) -> None:
    back = unpack(journey(STANDARD.pack(value)))
    assert (type(back), back) == (type(value), value)


@given(plainValues)
def test_plainValuesTravelAsTheyAre(value: Any) -> None:
    assert STANDARD.pack(value) is value
    assert unpack(value) is value


def test_notANumberTravelsToo() -> None:
    assert math.isnan(unpack(journey(STANDARD.pack(math.nan))))


@pytest.mark.parametrize(
    "value", [Text("a"), Whole(3), Real(1.5), Level.LOW, Colour.RED, Pair(1, 2), True, False]
)
def test_subclassesKeepTheirType(value: Any) -> None:
    back = unpack(journey(STANDARD.pack(value)))
    assert (type(back), back) == (type(value), value)


@pytest.mark.parametrize("value", [Text("a"), Whole(3), Real(1.5), Level.LOW])
def test_subclassesOfPlainTypesArePickledByThemselves(value: Any) -> None:
    assert type(STANDARD.pack(value)) is bytes


@pytest.mark.parametrize("value", [datetime(2026, 1, 2), Decimal("1.10"), {1}, range(3), len])
def test_otherSmallValuesAreOnePickle(value: Any) -> None:
    assert type(STANDARD.pack(value)) is bytes
    assert unpack(journey(STANDARD.pack(value))) == value


class Hostile:
    def __init__(self, reduce: Callable[[], Any]) -> None:
        self.reduce = reduce

    def __reduce__(self) -> Any:
        return self.reduce()


def leave() -> None:
    raise SystemExit(5)


def test_whateverPicklingRaisesIsRaised() -> None:
    with pytest.raises(ZeroDivisionError):
        STANDARD.pack([Hostile(lambda: 1 / 0)])
    with pytest.raises(Exception, match="pickle"):
        STANDARD.pack(value for value in "abc")


def test_whateverRebuildingRaisesIsRaisedWhereItIsRebuilt() -> None:
    packed = journey(STANDARD.pack(Hostile(lambda: (leave, ()))))
    with pytest.raises(SystemExit):
        unpack(packed)


# Large buffers


def test_largeArrayLeavesWithoutACopyAndArrivesWritable() -> None:
    array = np.arange(LARGE, dtype=np.uint8).reshape(256, -1)
    packed = STANDARD.pack(array)
    pieces = encode([(1, packed)])
    assert any(np.shares_memory(array, np.frombuffer(piece, np.uint8)) for piece in pieces)
    back = unpack(journey(packed))
    assert np.array_equal(back, array)
    assert back.shape == array.shape
    back[0, 0] = 99
    assert array[0, 0] == 0


def test_rebuiltArrayIsTheMemoryThatItWasReadInto() -> None:
    array = np.zeros(LARGE, np.uint8)
    data, (buffer,) = journey(STANDARD.pack(array))
    assert np.shares_memory(unpack((data, [buffer])), np.frombuffer(buffer, np.uint8))


def test_smallArrayIsPickledWholeAndArrivesWritable() -> None:
    array = np.arange(100)
    packed = STANDARD.pack(array)
    assert type(packed) is bytes
    back = unpack(journey(packed))
    back[0] = 7
    assert back.sum() == array.sum() + 7


def test_readOnlyArrayArrivesReadOnly() -> None:
    array = np.zeros(LARGE, np.uint8)
    array.setflags(write=False)
    back = unpack(journey(STANDARD.pack(array)))
    assert (back.shape, back.flags.writeable) == (array.shape, False)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((0, 3)),
        np.array(3.0),
        np.asfortranarray(np.arange(40_000.0).reshape(200, 200)),
        np.arange(40_000)[::2],
        np.arange(40_000).reshape(200, 200).T,
        np.array(["a", None], object),
        np.zeros(9000, [("a", "i4"), ("b", "f8")]),
    ],
    ids=["empty", "scalar", "Fortran", "strided", "transposed", "objects", "records"],
)
def test_everyKindOfArrayComesBackEqual(array: Any) -> None:
    back = unpack(journey(STANDARD.pack(array)))
    assert (back.dtype, back.shape) == (array.dtype, array.shape)
    assert np.array_equal(back, array)


def test_arraysWithinOtherValuesTravelInTheSameWay() -> None:
    value: dict[str, Any] = {
        "small": np.arange(3),
        "large": [np.full(LARGE, k, np.uint8) for k in range(3)],
    }
    packed = STANDARD.pack(value)
    assert len(packed[1]) == 3
    back = unpack(journey(packed))
    assert np.array_equal(back["small"], value["small"])
    assert all(map(np.array_equal, back["large"], value["large"]))


def test_moreLargeBuffersThanAFrameHasRoomForStillTravel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "LARGE", 1)
    value = [PickleBuffer(k.to_bytes(2, "little")) for k in range(10_000)]
    back = unpack(journey(STANDARD.pack(value)))
    assert [int.from_bytes(buffer, "little") for buffer in back] == list(range(10_000))


@pytest.mark.parametrize("others", [[], [bytes(BULK)]], ids=["alone", "with bytes"])
def test_largeBuffersBeyondAFramesRoomTravelWithinThePickle(
    monkeypatch: pytest.MonkeyPatch, others: list[bytes]
) -> None:
    monkeypatch.setattr(packing, "MOST", 5)
    value = (*others, [np.full(LARGE, k, np.uint8) for k in range(2 * BULK // LARGE)])
    packed = STANDARD.pack(value)
    assert len(packed[1]) == 5
    *same, arrays = unpack(journey(packed))
    assert same == others
    assert [array[-1] for array in arrays] == list(range(len(arrays)))
    assert {array.shape for array in arrays} == {(LARGE,)}


@pytest.mark.parametrize("size", [LARGE - 1, LARGE, BULK - 1, BULK, MUCH])
@pytest.mark.parametrize("kind", [bytes, bytearray])
def test_largeBytesTravel(size: int, kind: Any) -> None:
    value = kind((bytes(range(251)) * (size // 251 + 1))[:size])
    for whole in (value, [value, 1], ("x" * size, value), {"text": "é" * size, "data": [value]}):
        back = unpack(journey(STANDARD.pack(whole)))
        assert back == whole
    assert type(unpack(journey(STANDARD.pack(value)))) is kind


def test_textOfEverySizeTravelsWithinOtherValues() -> None:
    for size in (LARGE - 1, LARGE, MUCH, 2 * MUCH):
        value = ["x" * size, "é" * (size // 2)]
        assert unpack(journey(STANDARD.pack(value))) == value


@pytest.mark.parametrize("kind", [bytes, bytearray])
def test_bulkyBytesLeaveWithoutACopyAndArriveOnce(kind: Any) -> None:
    data = kind(BULK)
    packed = STANDARD.pack([data, {"again": data}, Record("r", [1])])
    pieces = encode([(1, packed)])
    assert sum(len(piece) for piece in pieces) < BULK + 1000
    assert any(np.shares_memory(np.frombuffer(data, np.uint8), _array(piece)) for piece in pieces)
    one, other, record = unpack(journey(packed))
    assert (type(one), one) == (kind, data)
    assert other["again"] is one
    assert record == Record("r", [1])


def _array(piece: Any) -> Any:
    return np.frombuffer(piece, np.uint8)


def test_manyLargeBytesLeaveWithoutACopy() -> None:
    value = [bytes([k]) * LARGE for k in range(2 * BULK // LARGE)]
    packed = STANDARD.pack((value, np.zeros(LARGE, np.uint8)))
    assert sizeOf(packed[0]) < 1000
    back, array = unpack(journey(packed))
    assert (back, array.sum()) == (value, 0)


def test_moreLargeBytesThanAFrameHasRoomForStillTravel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "MOST", 5)
    value = [bytes([k]) * LARGE for k in range(2 * BULK // LARGE)]
    packed = STANDARD.pack(value)
    assert len(packed[2]) == 5
    assert unpack(journey(packed)) == value


def test_bulkyBytesLeaveWithoutACopyBesideAFunctionByValue() -> None:
    data = bytes(BULK)
    packed = CLOUDPICKLE.pack([lambda: data, data, np.zeros(LARGE)])
    assert [len(part) for part in packed[1:]] == [1, 1]
    assert packed[2][0].raw().obj is data
    function, again, _ = unpack(packed)
    assert function() is again


@pytest.mark.parametrize("packer", [STANDARD, CLOUDPICKLE])
def test_connectionIsRefused(packer: Packer) -> None:
    near, far = Pipe()
    with near, far, pytest.raises(TypeError, match="'Connection' object: it is a file descriptor"):
        packer.pack([near])
    with near, far:
        assert unpack(packer.pack(["_handle"])) == ["_handle"]


def test_aSubclassOfBytesKeepsItsType() -> None:
    value = Raw(bytes(BULK))
    back = unpack(journey(STANDARD.pack([value, bytes(BULK)])))[0]
    assert (type(back), back) == (Raw, value)


def test_whatLooksLikeBytesToCopyIsNone() -> None:
    # A piece of a pickle that ends as if large bytes were to follow, and then others do.
    value = [LARGE.to_bytes(4, "little"), b"B", 0x42 << 32 | LARGE, "x" * LARGE, bytes(LARGE)] * 40
    assert unpack(journey(STANDARD.pack(value))) == value


def test_largePickleIsNotCopiedAgainByItsFrame() -> None:
    pieces = encode([(1, STANDARD.pack(["x" * LARGE]))])
    assert len(pieces[0]) < 1000
    assert len(pieces[-1]) >= LARGE


# Sizes


@given(values)
def test_sizeIsAboutThatOfTheValueInItsMessage(value: Any) -> None:
    packed = STANDARD.pack(value)
    real = len(dumps(packed, 5))
    assert real / 4 - 40 <= sizeOf(packed) <= real + 40


@pytest.mark.parametrize("bits", [1, 64, 10_000, 1_000_000])
def test_sizeOfALargeIntegerIsThatOfItsDigits(bits: int) -> None:
    for number in (1 << bits, -(1 << bits)):
        assert bits // 8 <= sizeOf(number) <= bits // 8 + 40


@pytest.mark.parametrize("count", [1, 5])
def test_sizeCountsLargeBuffers(count: int) -> None:
    arrays = [np.zeros(LARGE, np.uint8) for _ in range(count)]
    assert count * LARGE <= sizeOf(STANDARD.pack(arrays)) <= count * LARGE + 2000
    assert 2 * LARGE <= sizeOf(STANDARD.pack(b"x" * (2 * LARGE))) <= 2 * LARGE + 100

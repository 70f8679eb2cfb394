from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import cycle
from mmap import mmap
from pickle import PickleBuffer, dumps
from typing import Any
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from asynqueue._runner import framing
from asynqueue._runner import framing as segments
from asynqueue._runner.framing import (
    BYTEARRAY,
    BYTES,
    LARGE_PAGES,
    MANY,
    MEMORY,
    SCRATCH,
    FrameDecoder,
    Segments,
    decode,
    encode,
    makeSegment,
)
from asynqueue._runner.messages import Message
from asynqueue.errors import PayloadTooLarge, ProtocolError


def bytesOf(messages: Sequence[Message], largest: int = framing.LARGEST) -> bytes:
    """
    A frame as it travels.
    """
    return b"".join(encode(messages, largest))


def streamOf(batches: Sequence[Sequence[Message]]) -> bytes:
    return b"".join(bytesOf(messages) for messages in batches)


def feed(decoder: FrameDecoder, data: bytes, sizes: Iterator[int] | None = None) -> list[Segments]:
    """
    Hand bytes to a decoder as a file would: as much as it has space for, or less.

    @param sizes: how many bytes each read yields at most.
    """
    frames: list[Segments] = []
    view = memoryview(data)
    while view:
        with decoder.space() as space:
            assert len(space) > 0
            count = min(len(view), len(space), next(sizes) if sizes else len(view))
            space[:count] = view[:count]
        frames += decoder.filled(count)
        view = view[count:]
    return frames


def frameOf(*segments: bytes) -> bytes:
    lengths = struct.pack(f"<I{len(segments)}Q", len(segments), *map(len, segments))
    return lengths + b"".join(segments)


def plain(value: Any) -> Any:
    """
    A message as it is compared: buffers as bytes.
    """
    if isinstance(value, (list, tuple)):
        return [plain(part) for part in value]
    isBuffer = isinstance(value, (bytearray, memoryview, mmap, PickleBuffer))
    return bytes(value) if isBuffer else value


def buffers(sizes: st.SearchStrategy[int]) -> st.SearchStrategy[PickleBuffer]:
    kinds = st.sampled_from([bytes, bytearray, lambda data: memoryview(bytearray(data))])
    return st.builds(
        lambda kind, size: PickleBuffer(kind(bytes(range(200)) * 3)[:size]), kinds, sizes
    )


def messagesWith(buffer: st.SearchStrategy[PickleBuffer]) -> st.SearchStrategy[list[Message]]:
    part = st.one_of(st.integers(), st.text(max_size=20), st.binary(max_size=40), buffer)
    return st.lists(st.lists(part, max_size=4).map(tuple), max_size=3)


def tiny() -> Any:
    """
    With so little scratch space, a few bytes make a large segment, and some more a very large one.
    """
    stack = ExitStack()
    stack.enter_context(mock.patch.object(framing, "SCRATCH", 256))
    stack.enter_context(mock.patch.object(segments, "LARGE_PAGES", 300))
    return stack


tinyMessages = messagesWith(buffers(st.integers(0, 400)))


class RoundTripTests(SynchronousTestCase):
    @settings(max_examples=200)
    @given(st.lists(tinyMessages, max_size=6), st.data())
    def test_whateverTheCutsTheMessagesComeOutEqual(
        self, batches: list[list[Message]], data: st.DataObject
    ) -> None:
        with tiny():
            stream = streamOf(batches)
            decoder = FrameDecoder()
            cuts = data.draw(st.lists(st.integers(1, 300), min_size=1, max_size=20))
            frames = feed(decoder, stream, cycle(cuts))
        assert plain([decode(segments) for segments in frames]) == plain(batches)
        assert decoder.isBetween

    @given(tinyMessages)
    def test_byteByByteTheMessagesComeOutEqual(self, messages: list[Message]) -> None:
        with tiny():
            decoder = FrameDecoder()
            frames = feed(decoder, bytesOf(messages), cycle([1]))
        assert [plain(decode(segments)) for segments in frames] == [plain(messages)]

    def test_sizesAboutTheScratchSpaceComeOutEqual(self) -> None:
        near = [SCRATCH // 2, SCRATCH, 2 * SCRATCH]
        decoder = FrameDecoder()
        for size in [size + change for size in near for change in (-13, -12, -1, 0, 1, 2)]:
            for before in (b"", b"x" * (SCRATCH // 2)):
                value = bytes(range(256)) * (size // 256) + b"z" * (size % 256)
                buffer = PickleBuffer(value)
                sent: list[list[Message]] = [[(1, before)], [(2, value, buffer)], [(3, buffer)]]
                frames = feed(decoder, streamOf(sent))
                assert plain([decode(frame) for frame in frames]) == plain(sent)
                assert decoder.isBetween

    def test_severalFramesComeOutOfOneReadInTheirOrder(self) -> None:
        sent: list[list[Message]] = [[(k, "x" * k)] for k in range(100)]
        decoder = FrameDecoder()
        data = streamOf(sent)
        with decoder.space() as space:
            space[: len(data)] = data
        assert [decode(segments) for segments in decoder.filled(len(data))] == sent

    def test_asManySegmentsAsOneFrameMayHaveGoThrough(self) -> None:
        message = (1, *(PickleBuffer(bytearray([k % 256])) for k in range(MANY - 1)))
        (segments,) = feed(FrameDecoder(), bytesOf([message]))
        assert len(segments) == MANY
        assert plain(decode(segments)) == plain([message])

    def test_emptyBuffersGoThrough(self) -> None:
        message = (1, PickleBuffer(b""), PickleBuffer(bytearray()), PickleBuffer(b"end"))
        (segments,) = feed(FrameDecoder(), bytesOf([message]))
        assert plain(decode(segments)) == [[1, b"", b"", b"end"]]


class MemoryTests(SynchronousTestCase):
    def test_largeBuffersAreSentFromTheSendersOwnMemory(self) -> None:
        memory = bytearray(1 << 20)
        pieces = encode([(1, PickleBuffer(memory))])
        memory[12345] = 99
        assert pieces[-1][12345] == 99
        assert sum(map(len, pieces[:-1])) < 1000

    def test_smallFrameIsOnePiece(self) -> None:
        assert len(encode([(1, "x" * 1000)])) == 1

    def test_largePickleIsNotCopiedIntoOnePieceWithItsHeader(self) -> None:
        head, body = encode([(1, b"x" * SCRATCH)])
        assert (len(head), len(body) > SCRATCH) == (12, True)

    def test_buffersArriveInWritableMemoryOfTheirOwn(self) -> None:
        for size in (1, 1000, SCRATCH // 2 + 1, 3 * SCRATCH, LARGE_PAGES):
            (segments,) = feed(FrameDecoder(), bytesOf([(1, PickleBuffer(bytearray(size)))]))
            ((_, buffer),) = decode(segments)
            assert len(buffer) == size
            memoryview(buffer)[-1] = 77
            assert segments[1][size - 1] == 77

    def test_bytesAndBytearraysArriveAsSuch(self) -> None:
        for size in (1, SCRATCH // 2 + 1, 3 * SCRATCH + 5, LARGE_PAGES):
            data = (bytes(range(251)) * (size // 251 + 1))[:size]
            for kind in (bytes, bytearray):
                (segments,) = feed(FrameDecoder(), bytesOf([(1, PickleBuffer(kind(data)))]))
                ((_, arrived),) = decode(segments)
                assert (type(arrived), arrived) == (kind, data)
                if kind is bytearray:
                    # Nothing holds on to it, so that it can be resized.
                    arrived.append(1)

    def test_noLargeSegmentIsCopiedAtItsEnd(self) -> None:
        size = 2 * LARGE_PAGES
        for kind in (MEMORY, BYTES, BYTEARRAY):
            segment = makeSegment(kind, size)
            got = 0
            tracemalloc.start()
            while got < size:
                with segment.space() as space:
                    count = min(len(space), size - got, 100_000)
                got += count
                assert segment.filled(count) == (got == size)
            tracemalloc.reset_peak()
            assert len(segment.finished()) == size
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert peak < size * 1.2

    def test_readOnlyBuffersArriveReadOnly(self) -> None:
        (segments,) = feed(FrameDecoder(), bytesOf([(1, PickleBuffer(b"x" * SCRATCH))]))
        ((_, buffer),) = decode(segments)
        with self.assertRaises(TypeError):
            buffer[0] = 77

    def test_framesKeepTheirBytesWhileTheDecoderReadsOn(self) -> None:
        decoder = FrameDecoder()
        (first,) = feed(decoder, bytesOf([(1, "first", PickleBuffer(bytearray(b"abc")))]))
        feed(decoder, bytesOf([(1, "other", PickleBuffer(bytearray(b"xyz")))]) * 1000)
        assert plain(decode(first)) == [[1, "first", b"abc"]]


class BetweenTests(SynchronousTestCase):
    def test_isBetweenExactlyWhenNothingOfAFrameIsHeld(self) -> None:
        with tiny():
            decoder = FrameDecoder()
            assert decoder.isBetween
            for messages in ([(1, 2)], [(1, PickleBuffer(bytearray(600)), PickleBuffer(b"12"))]):
                data = bytesOf(messages)
                for k in range(len(data)):
                    with decoder.space() as space:
                        space[0] = data[k]
                    frames = decoder.filled(1)
                    assert decoder.isBetween == bool(frames) == (k == len(data) - 1)


class LimitTests(SynchronousTestCase):
    def test_frameOfExactlyTheLimitPassesAndOneByteMoreDoesNot(self) -> None:
        for message in ((1, "x" * 500), (1, "x", PickleBuffer(bytearray(500)))):
            size = sum(map(len, encode([message]))) - (12 if len(message) == 2 else 20)
            data = bytesOf([message], largest=size)
            assert len(feed(FrameDecoder(largest=size), data)) == 1
            with self.assertRaisesRegex(
                PayloadTooLarge, f"a message of {size} bytes is over the limit of {size - 1} bytes"
            ):
                encode([message], largest=size - 1)
            with self.assertRaisesRegex(
                ProtocolError, f"a frame of {size} bytes is over the limit of {size - 1} bytes"
            ):
                feed(FrameDecoder(largest=size - 1), data)

    def test_oversizeFrameIsRefusedByItsHeaderAlone(self) -> None:
        decoder = FrameDecoder(largest=1000)
        with self.assertRaises(ProtocolError):
            feed(decoder, struct.pack("<IQQ", 2, 600, 401))

    def test_tooManyBuffersAreRefusedForTheirNumber(self) -> None:
        message = (1, *(PickleBuffer(b"x") for _ in range(MANY)))
        with self.assertRaisesRegex(
            PayloadTooLarge, f"{MANY} large buffers .* limit of {MANY - 1}"
        ):
            encode([message])

    def test_frameWithNoneOrTooManySegmentsIsRefused(self) -> None:
        for count in (0, MANY + 1, 0xFFFFFFFF):
            with self.assertRaisesRegex(ProtocolError, f"a frame claims to have {count} segments"):
                feed(FrameDecoder(), struct.pack("<IQ", count, 1))


class GarbageTests(SynchronousTestCase):
    def feedGarbage(self, data: bytes) -> None:
        decoder = FrameDecoder(largest=5000)
        try:
            frames = feed(decoder, data)
        except ProtocolError:
            return
        for frame in frames:
            assert 1 <= len(frame) <= MANY
            assert sum(map(len, frame)) <= 5000

    @given(st.binary(max_size=600))
    def test_noBytesMakeTheDecoderRaiseAnythingButProtocolError(self, data: bytes) -> None:
        self.feedGarbage(data)

    @settings(max_examples=200)
    @given(
        st.integers(0, 5) | st.integers(0, 2**32 - 1),
        st.lists(st.integers(0, 500) | st.integers(0, 2**64 - 1), max_size=5),
        st.binary(max_size=600),
    )
    def test_norDoesAnyHeader(self, count: int, sizes: list[int], rest: bytes) -> None:
        self.feedGarbage(struct.pack(f"<I{len(sizes)}Q", count, *sizes) + rest)

    def test_aSegmentOfAnUnknownKindIsRefused(self) -> None:
        with self.assertRaisesRegex(ProtocolError, "a segment of kind 3"):
            feed(FrameDecoder(), struct.pack("<IQQ", 2, 5, 5 | 3 << 56))

    def test_whatIsNoPickleIsRefused(self) -> None:
        whole = dumps([(1, "two", 3.0, [4])], 5)
        broken = [whole[:length] for length in range(len(whole))]
        for body in [*broken, b"garbage", b"GET / HTTP/1.1\r\n\r\n"]:
            (segments,) = feed(FrameDecoder(), frameOf(body))
            with self.assertRaisesRegex(ProtocolError, "a frame could not be read: "):
                decode(segments)

    def test_whatIsNoListOfMessagesIsRefused(self) -> None:
        values: list[Any] = [None, 3, "text", {}, (1, 2)]
        for value in values:
            (segments,) = feed(FrameDecoder(), frameOf(dumps(value)))
            name = type(value).__name__
            with self.assertRaisesRegex(ProtocolError, f"a frame holds {name}, not a list"):
                decode(segments)

    def test_pickleWhoseBuffersAreMissingIsRefused(self) -> None:
        (segments,) = feed(FrameDecoder(), bytesOf([(1, PickleBuffer(bytearray(10)))]))
        with self.assertRaises(ProtocolError) as caught:
            decode(segments[:1])
        assert isinstance(caught.exception.__cause__, Exception)

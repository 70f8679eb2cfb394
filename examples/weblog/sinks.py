"""
Consumers of records.
"""

from __future__ import annotations

from typing import Any, BinaryIO

from twisted.internet.interfaces import IConsumer
from zope.interface import implementer

from examples.weblog.aggregate import Parsed


@implementer(IConsumer)
class BlockTaker:
    """
    I take what the stream of a block yields. Its records go on to a consumer, which may pause the
    stream; what the block comes to is kept.

    @ivar parsed: what the block comes to, once that has arrived.
    """

    def __init__(self, sink: Any) -> None:
        """
        @param sink: an C{IConsumer}. It has a producer for the length of each block.
        """
        self._sink = sink
        self.parsed: Parsed

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """
        The block's records follow.
        """
        self._sink.registerProducer(producer, streaming)

    def unregisterProducer(self) -> None:
        """
        That was all of the block.
        """
        self._sink.unregisterProducer()

    def write(self, item: bytes | Parsed) -> None:
        """
        Take a batch of records, or the last item.
        """
        if isinstance(item, Parsed):
            self.parsed = item
        else:
            self._sink.write(item)


@implementer(IConsumer)
class FileSink:
    """
    I write records to a file.
    """

    def __init__(self, file: BinaryIO) -> None:
        """
        @param file: is the caller's to close.
        """
        self._file = file

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """
        A file keeps up, so the producer is never paused.
        """

    def unregisterProducer(self) -> None:
        """
        Maybe there is more to come.
        """

    def write(self, data: bytes) -> None:
        """
        Write some records.

        @raise OSError: if they cannot be written.
        """
        self._file.write(data)

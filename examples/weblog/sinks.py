"""
Consumers of records.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IConsumer
from zope.interface import implementer

from examples.weblog.aggregate import Parsed
from mcmandelbrot.output import Output


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
class OutputSink:
    """
    I write records to an output.
    """

    def __init__(self, output: Output) -> None:
        """
        @param output: is the caller's to finish.
        """
        self._output = output

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """
        The stream is never paused, because a write returns when all is written.
        """

    def unregisterProducer(self) -> None:
        """
        More may follow, with the next block.
        """

    def write(self, data: bytes) -> None:
        """
        Write some records, and block until that is done.

        @raise MandelbrotError: if they cannot be written.
        """
        self._output.writeAtOnce(data)

"""
What the tests of the far side share: a journey through real frames.
"""

from __future__ import annotations

from typing import Any

from asynqueue._runner.framing import FrameDecoder, decode, encode
from asynqueue._runner.messages import Message


def travelled(message: Message) -> Message:
    """
    @return: what comes out at the other end when a message is sent now, with nothing in common.
    """
    decoder = FrameDecoder()
    messages: list[Message] = []
    view = memoryview(b"".join(encode([message])))
    while view:
        with decoder.space() as space:
            count = min(len(view), len(space))
            space[:count] = view[:count]
        view = view[count:]
        for segments in decoder.filled(count):
            messages += decode(segments)
    assert decoder.isBetween
    (arrived,) = messages
    return arrived


def journey(packed: Any) -> Any:
    """
    @return: a packed value after its journey in a message.
    """
    return travelled((0, packed))[1]

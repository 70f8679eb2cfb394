"""
The messages that are sent.
"""

from __future__ import annotations

import json
from hashlib import sha256
from typing import TypedDict


class Message(TypedDict):
    """
    One text to one number. It is a job's argument, and so it is plain JSON.

    C{id} is the idempotency key: a gateway can tell from it that a message came twice.
    """

    id: str
    number: str
    text: str


def makeMessage(form: str, number: str, text: str) -> Message:
    """
    @param form: what tells one form from another. Of one form that is sent twice, because its
        answer got lost, the messages have the same ids.
    """
    key = sha256(json.dumps([form, number, text]).encode()).hexdigest()
    return Message(id=key[:32], number=number, text=text)

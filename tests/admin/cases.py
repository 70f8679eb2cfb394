"""
Queues that can be seen from outside, on a reactor in memory.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.testing import MemoryReactorClock

from asynqueue.admin import Administration
from tests.support.cases import QueueCase

WHO = "a test"


class AdminCase(QueueCase):
    def setUp(self) -> None:
        super().setUp()
        self.clock: Any = MemoryReactorClock()

    def ask(self, admin: Administration, do: str, **parameters: Any) -> dict[str, Any]:
        """
        @return: the reply to a request.
        """
        replies: list[dict[str, Any]] = []
        admin.api.answer({"do": do, **parameters}, WHO).addCallback(replies.append)
        for _ in range(100):
            if replies:
                break
            self.clock.advance(0)
        [reply] = replies
        return reply

    def get(self, admin: Administration, do: str, **parameters: Any) -> Any:
        """
        @return: the answer to a request that is not refused.
        """
        reply = self.ask(admin, do, **parameters)
        self.assertTrue(reply["ok"], reply)
        return reply["result"]

    def refusal(self, admin: Administration, do: Any, **parameters: Any) -> str:
        """
        @return: the sentence with which a request is refused.
        """
        reply = self.ask(admin, do, **parameters)
        self.assertFalse(reply["ok"], reply)
        text: str = reply["error"]
        self.assertNotIn("\n", text)
        return text

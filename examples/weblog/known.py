"""
The addresses that a worker process knows to misbehave. The queue's C{update} tells it, so that it
does not report known addresses again.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

Finding = tuple[bytes, str]
"""An address, and the name of a rule that it breaks."""

# A process has one: what update() tells it has to be somewhere when the next task comes.
_known: Final[set[Finding]] = set()


def learn(findings: Iterable[Finding]) -> None:
    """
    Some more findings are known to the parent.
    """
    _known.update(findings)


def forgetAll() -> None:
    """
    Nothing is known any more.
    """
    _known.clear()


def unknown(findings: set[Finding]) -> set[Finding]:
    """
    @return: those of some findings that the parent does not know.
    """
    return findings - _known

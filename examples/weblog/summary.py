"""
The sums over all inputs, as far as they have been read.
"""

from __future__ import annotations

from examples.weblog.aggregate import Aggregate, Parsed
from examples.weblog.known import Finding


class Summary:
    """
    I add up the results of blocks, which come in the order of the lines.

    @ivar aggregate: the sums.
    @ivar bad: which rules each address breaks that misbehaves.
    @ivar inputs: the names of the inputs that were read, at least in part.
    @ivar failures: by name, what went wrong with those that could not be read, or not to the end.
    @ivar isPartial: whether the reading was not finished, as after an interrupt.
    """

    def __init__(self) -> None:
        self.aggregate = Aggregate()
        self.bad: dict[bytes, set[str]] = {}
        self.inputs: list[str] = []
        self.failures: dict[str, str] = {}
        self.isPartial = False

    def add(self, parsed: Parsed) -> list[Finding]:
        """
        Add what a block comes to.

        @return: what its findings have that is new.
        """
        self.aggregate.merge(parsed.aggregate)
        new = []
        for address, rule in sorted(parsed.findings):
            rules = self.bad.setdefault(address, set())
            if rule not in rules:
                rules.add(rule)
                new.append((address, rule))
        return new

    def addFailure(self, name: str, reason: str) -> None:
        """
        An input could not be read, or not to its end.
        """
        self.failures[name] = reason

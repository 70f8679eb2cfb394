"""
The sums over all inputs, as far as they have been read.
"""

from __future__ import annotations

from collections import Counter

from examples.weblog.aggregate import Aggregate, Parsed
from examples.weblog.known import Finding


class Summary:
    """
    I add up the results of blocks, which come in the order of the lines.

    @ivar aggregate: the sums.
    @ivar bad: which rules each address breaks that misbehaves.
    @ivar first: the minute of the earliest request, since the beginning of 1970 in UTC.
    @ivar last: that of the latest.
    @ivar inputs: the names of the inputs that were read, at least in part.
    @ivar understood: by input, how many lines are well formed.
    @ivar malformed: by input, how many are not.
    @ivar failures: by name, what went wrong with those that could not be read, or not to the end.
    @ivar isPartial: whether the reading was not finished, as after an interrupt.
    """

    def __init__(self) -> None:
        self.aggregate = Aggregate()
        self.bad: dict[bytes, set[str]] = {}
        self.first: int | None = None
        self.last: int | None = None
        self.inputs: list[str] = []
        self.understood: Counter[str] = Counter()
        self.malformed: Counter[str] = Counter()
        self.failures: dict[str, str] = {}
        self.isPartial = False

    def add(self, parsed: Parsed, name: str = "") -> list[Finding]:
        """
        Add what a block comes to.

        @param name: its input's.
        @return: what its findings have that is new.
        """
        self.aggregate.merge(parsed.aggregate)
        # The edges of a block are its first and its last minute.
        for minute in parsed.edges:
            self.first = minute if self.first is None else min(self.first, minute)
            self.last = minute if self.last is None else max(self.last, minute)
        self.understood[name] += parsed.understood
        self.malformed[name] += parsed.aggregate.malformed
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

    def checkUnderstood(self, format: str | None) -> None:
        """
        Name the inputs in which nothing is understood as failures.

        @param format: the format that the user named, or C{None}.
        """
        named = f"of the format {format}" if format else "of a known format: name it with --format"
        for name, malformed in self.malformed.items():
            if malformed and not self.understood[name] and name not in self.failures:
                self.addFailure(name, f"none of its {malformed:,} lines is {named}")

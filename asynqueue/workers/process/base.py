"""
A base for objects that keep something in each process that they are sent to.
"""

from __future__ import annotations

import os
from typing import Any, ClassVar


class ProcessBase:
    """
    A base class for objects that calls take along, as an argument or as the object whose method is
    called, and that want to find again in a process what they left there.

    Each call unpickles an object of its own, so that what one call sets on it is gone with the
    next. What it puts into L{data} stays, for all instances of its class in that process, and reads
    like an attribute::

        class Parser(ProcessBase):
            def parse(self, line):
                if "grammar" not in self.data:
                    self.data["grammar"] = loadGrammar()
                return self.grammar.parse(line)

    Nothing of it travels, and it is gone with its process.

    (With AsynQueue 0.9 all classes shared one dictionary. Here each class has its own.)
    """

    _processData: ClassVar[dict[tuple[int, type], dict[str, Any]]] = {}

    @property
    def pid(self) -> int:
        """
        The ID of the process that this is read in.
        """
        return os.getpid()

    @property
    def data(self) -> dict[str, Any]:
        """
        What the instances of my class keep in this process.
        """
        return self._processData.setdefault((os.getpid(), type(self)), {})

    def __getattr__(self, name: str) -> Any:
        try:
            return self._processData[os.getpid(), type(self)][name]
        except KeyError:
            raise AttributeError(
                f"{type(self).__name__!r} object has no attribute {name!r}, and keeps nothing of "
                f"that name in process {os.getpid()}"
            ) from None

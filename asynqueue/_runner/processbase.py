"""
A base class for objects that keep values in the process that runs their methods.
"""

from __future__ import annotations

import os
from typing import Any, ClassVar


class ProcessBase:
    """
    A base class for objects that travel with calls, as an argument or as the object whose method is
    called, and that keep values in the process from one call to the next.

    Each call unpickles an object of its own, so attributes that one call sets are gone at the next.
    Values in L{data} stay, for all instances of the class in that process, and can be read as
    attributes::

        class Parser(ProcessBase):
            def parse(self, line):
                if "grammar" not in self.data:
                    self.data["grammar"] = loadGrammar()
                return self.grammar.parse(line)

    These values do not travel, and they are lost when the process ends.

    (With AsynQueue 0.9 all classes shared one dictionary. Here each class has its own.)
    """

    _processData: ClassVar[dict[tuple[int, type], dict[str, Any]]] = {}

    @property
    def pid(self) -> int:
        """
        The ID of the present process.
        """
        return os.getpid()

    @property
    def data(self) -> dict[str, Any]:
        """
        The values that the instances of this class keep in this process.
        """
        return self._processData.setdefault((os.getpid(), type(self)), {})

    def __getattr__(self, name: str) -> Any:
        try:
            return self._processData[os.getpid(), type(self)][name]
        except KeyError:
            raise AttributeError(
                f"{type(self).__name__!r} object has no attribute {name!r}, and its data in "
                f"process {os.getpid()} has no such name"
            ) from None

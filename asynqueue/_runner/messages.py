"""
The message vocabulary of every channel.

A message is a tuple whose first item is one of the numbers below. Numbers, because there are many
messages and they are small. A task's ID names its call, and its stream if it yields one.
"""

from __future__ import annotations

from typing import Any, Final

Message = tuple[Any, ...]

VERSION: Final = 3
"""The number of this vocabulary. The two ends of a channel must agree on it."""

# Near to far --------------------------------------------------------------------------------------

CALL: Final = 1
"""C{(CALL, id, function, arguments, raw, context)}. Pickled, the function is a number that was
defined before, or C{(number, pickle)}, which defines it, or a pickle; the arguments are a tuple of
plain values, or the packed C{(args, kwargs)}. The context is the packed pairs of a variable's name
and its value that are to hold for this call, or C{None}."""

GRANT: Final = 2
"""C{(GRANT, id, items, bytes)}. The stream may send so many more items and bytes."""

CANCEL: Final = 3
"""C{(CANCEL, id)}. The call is not wanted, or its stream not any more. A call that was not begun is
answered with UNBEGUN; a stream is closed and answered with ENDED; what was over already is not
answered."""

RECALL: Final = 4
"""C{(RECALL,)}. Give back every call that was not begun."""

QUIT: Final = 5
"""C{(QUIT,)}. Close the streams and end."""

STACK: Final = 6
"""C{(STACK, question)}. Tell what is running. The answer is STACKS with the same number."""

# Far to near --------------------------------------------------------------------------------------

HELLO: Final = 11
"""C{(HELLO, pid, VERSION, pythonVersion)}. The runner is ready for calls."""

RETURNED: Final = 12
"""C{(RETURNED, id, seconds, packed)}. The call ran for so many seconds and returned the packed
value."""

RAISED: Final = 13
"""C{(RAISED, id, seconds, described)}. The call, or its stream, raised an exception, as
described."""

STREAMING: Final = 14
"""C{(STREAMING, id, seconds)}. The call returned an iterator. Its items follow, as far as credit
allows."""

ITEMS: Final = 15
"""C{(ITEMS, id, packedItems, bytes)}. The next items of a stream, and how much credit they used."""

ENDED: Final = 16
"""C{(ENDED, id)}. The stream is over."""

UNBEGUN: Final = 17
"""C{(UNBEGUN, ids)}. These calls were given up before they began."""

PROGRESS: Final = 18
"""C{(PROGRESS, id, done, total)}. The call, or its stream, has come so far; the total may be
C{None}."""

LOG: Final = 19
"""C{(LOG, id, record)}. Something was logged while the call was running, or, with C{None}, while
none was. The record is a dictionary of plain values, made by L{asynqueue._runner.logs}."""

STACKS: Final = 20
"""C{(STACKS, question, id, text)}. The call, or C{None} if no code of one was running, and the
stacks of the runner's threads."""

# Credit -------------------------------------------------------------------------------------------

CREDIT_ITEMS: Final = 16384
CREDIT_BYTES: Final = 4 << 20
"""The credit that every stream begins with, known to both sides. The near side grants again what
its consumer has taken, so that no more than this lies between the two."""

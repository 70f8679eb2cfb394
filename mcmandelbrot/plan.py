"""
How a picture is cut into stripes.
"""

from __future__ import annotations

from collections.abc import Iterator

from mcmandelbrot.stripe import Stripe
from mcmandelbrot.view import View

#: Seconds of work that a stripe is meant to be: enough to make the cost of a task negligible, and
#: little enough to watch.
TARGET = 0.02

#: A stripe has at least so many pixels, however late in the picture: about a millisecond's worth,
#: as the points of the plane go.
FEWEST_PIXELS = 16384

#: Unless they might all be inside, when a stripe has at least so many pixels times iterations. They
#: take about ten milliseconds.
FEWEST_ITERATIONS = 2**25

#: A stripe has at most this part of what is left of the picture for each process. Stripes thus
#: become smaller towards the end, where a long one would leave the other processes idle.
SHARE = 2

#: A stripe has at most so many times the rows of the largest one whose work was measured: what was
#: easy so far need not remain so.
GROWTH = 4


class StripePlan(Iterator[Stripe]):
    """
    I cut a picture into stripes, in order from the top, each when it is asked for.

    Points near the set cost a thousand times as much as points outside, and which those are is only
    seen on the way. So I begin with few rows, and go by what I L{learn} of the rows above. Where
    the cuts fall therefore differs from run to run; the pixels do not.
    """

    def __init__(self, view: View, processes: int) -> None:
        """
        @param view: what the picture shows.
        @param processes: how many processes there may be to render it, at least 1.
        """
        self._view = view
        pixels = min(FEWEST_PIXELS, FEWEST_ITERATIONS // view.iterations)
        self._fewest = max(1, pixels // view.width)
        #: How many processes can have a part in the picture.
        self.processes = min(processes, -(-view.height // self._fewest))
        self._next = 0
        self._wanted = self._fewest

    def __next__(self) -> Stripe:
        left = self._view.height - self._next
        if not left:
            raise StopIteration
        share = max(self._fewest, left // (SHARE * self.processes))
        stripe = Stripe(self._view, self._next, min(self._wanted, share, left))
        self._next += stripe.rows
        return stripe

    def learn(self, rows: int, seconds: float) -> None:
        """
        Note the cost of a stripe.

        @param rows: how many rows it had.
        @param seconds: how long the work on it took.
        """
        worth = rows * TARGET / seconds if seconds > 0 else float("inf")
        self._wanted = max(1, int(min(worth, rows * GROWTH)))

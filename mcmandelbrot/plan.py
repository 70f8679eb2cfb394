"""
The plan that cuts a picture into stripes.
"""

from __future__ import annotations

from collections.abc import Iterator

from mcmandelbrot.png import bandRows
from mcmandelbrot.stripe import Stripe
from mcmandelbrot.view import View

#: How many seconds of work a stripe should be. The overhead of a task is small against it, and the
#: progress bar still moves smoothly.
TARGET = 0.02

#: The smallest number of pixels in a stripe, also at the end of the picture. They take about a
#: millisecond, as an average over the plane.
FEWEST_PIXELS = 16384

#: With many iterations fewer pixels are enough: so many pixels times iterations. They take about
#: ten milliseconds if all of them are inside.
FEWEST_ITERATIONS = 2**25

#: A stripe has at most the rest of the picture divided by this number and by the number of
#: processes. So stripes become smaller towards the end, where a long one would leave the other
#: processes idle.
SHARE = 2

#: A stripe has at most so many times the rows of one whose work was measured before, because easy
#: rows may be followed by hard ones.
GROWTH = 4


#: A stripe of at least so many bands ends where a band does. The processes then compress all of it,
#: and the main process has to compress only bands that shorter stripes share.
ALIGNED = 4


class StripePlan(Iterator[Stripe]):
    """
    Cuts a picture into stripes, in order from the top, each when it is asked for.

    Points near the set cost a thousand times as much as points outside, and only the work itself
    shows which points are near. So the first stripe has few rows, and the others follow from the
    measurements that L{learn} gets. The cuts therefore differ from run to run. The bytes of the
    picture do not.
    """

    def __init__(self, view: View, processes: int) -> None:
        """
        @param view: the view that the picture shows.
        @param processes: the largest number of processes to render it, at least 1.
        """
        self._view = view
        pixels = min(FEWEST_PIXELS, FEWEST_ITERATIONS // view.iterations)
        self._fewest = max(1, pixels // view.width)
        #: The number of processes that the picture has work for.
        self.processes = min(processes, -(-view.height // self._fewest))
        self._band = bandRows(view.width)
        self._next = 0
        self._wanted = self._fewest

    def __next__(self) -> Stripe:
        left = self._view.height - self._next
        if not left:
            raise StopIteration
        share = max(self._fewest, left // (SHARE * self.processes))
        rows = min(self._wanted, share, left)
        if rows >= ALIGNED * self._band and rows < left:
            rows -= (self._next + rows) % self._band
        stripe = Stripe(self._view, self._next, rows)
        self._next += stripe.rows
        return stripe

    def learn(self, rows: int, seconds: float) -> None:
        """
        Learn from the cost of a stripe.

        @param rows: its number of rows.
        @param seconds: how many seconds the work on it took.
        """
        worth = rows * TARGET / seconds if seconds > 0 else float("inf")
        self._wanted = max(1, int(min(worth, rows * GROWTH)))

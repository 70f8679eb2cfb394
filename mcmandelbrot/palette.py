"""
The colours: from night blue over ice and ivory to amber, ember red and back, and black inside.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

# Positions in the palette's round, from 0 to 1, and the colours there in sRGB.
_STOPS = (
    (0.00, (5, 8, 32)),
    (0.18, (14, 52, 124)),
    (0.36, (64, 158, 214)),
    (0.50, (248, 246, 230)),
    (0.63, (252, 188, 66)),
    (0.77, (200, 72, 30)),
    (0.89, (70, 16, 52)),
)

# The number of colours in one round, and how many are averaged to round off the corners at stops.
_ROUND = 4096
_BLUR = 321

# The higher the counts, the more slowly the colours change, because counts grow without bound
# towards the set's edge. With a logarithm deep views are flat, and with a square root they are
# noisy. The first round begins just below the lowest count that pictures of the whole set have.
_EXPONENT = 0.4
_SPEED = 0.23
_START = -0.36

# The lookup table has 2**11 entries for each doubling of a count.
_BITS = 11
_MANTISSA_BITS = 23
_EXPONENT_OF_ONE = 127


def _paletteRound() -> NDArray[np.float64]:
    """
    Compute the colours of one round, as rows of red, green and blue.
    """
    where = np.arange(-_BLUR, _ROUND + _BLUR) / _ROUND
    positions = [position for position, _ in _STOPS]
    weights = np.hanning(_BLUR + 2)[1:-1]
    channels = [
        np.convolve(
            np.interp(where, positions, [color[channel] for _, color in _STOPS], period=1.0),
            weights / weights.sum(),
            mode="same",
        )[_BLUR:-_BLUR]
        for channel in range(3)
    ]
    return np.stack(channels, axis=1)


@lru_cache(maxsize=1)
def makeTable(iterations: int) -> NDArray[np.uint8]:
    """
    Make the lookup table for all counts up to a number of iterations: red, green and blue for each
    place that L{findPlaces} returns.
    """
    last = findPlaces(np.array([iterations + 1.0], np.float32))[0]
    bits = (np.arange(last, dtype=np.int32) + (_EXPONENT_OF_ONE << _BITS)) << (
        _MANTISSA_BITS - _BITS
    )
    turns = bits.view(np.float32).astype(np.float64) ** _EXPONENT * _SPEED + _START
    colors = _paletteRound()[np.floor(turns % 1.0 * _ROUND).astype(np.intp) % _ROUND]
    return np.concatenate([np.zeros((1, 3)), np.rint(colors)]).astype(np.uint8)


def findPlaces(counts: NDArray[np.float32]) -> NDArray[np.int32]:
    """
    Find the place of each count's colour in the table. Points inside have place 0, and counts from
    0 on have places from 1 on.

    The upper bits of a floating point number, taken as an integer, grow like its logarithm. With 11
    bits of fraction there are 2048 places for the counts from 1 to 3, as many from 3 to 7, and so
    on. This is enough wherever neighbouring pixels are alike.
    """
    bits = (counts + np.float32(1.0)).view(np.int32) >> (_MANTISSA_BITS - _BITS)
    # A point inside has the count -1, so its bits are 0 here, below those of all other counts.
    places: NDArray[np.int32] = np.maximum(bits - ((_EXPONENT_OF_ONE << _BITS) - 1), 0)
    return places


def colorize(counts: NDArray[np.float32], iterations: int) -> NDArray[np.uint8]:
    """
    Look up the colour of each count.

    @param counts: counts that L{countIterations<mcmandelbrot.kernel.countIterations>} has made.
    @param iterations: the largest number of iterations of a point.
    @return: an array like C{counts} with one more axis, for red, green and blue.
    """
    return makeTable(iterations).take(findPlaces(counts), axis=0)

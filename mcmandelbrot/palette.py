"""
The colours: from a night sky over ice and ivory to amber, embers and back, and black inside.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

# How far round the palette, and the colour there in sRGB.
_STOPS = (
    (0.00, (5, 8, 32)),
    (0.18, (14, 52, 124)),
    (0.36, (64, 158, 214)),
    (0.50, (248, 246, 230)),
    (0.63, (252, 188, 66)),
    (0.77, (200, 72, 30)),
    (0.89, (70, 16, 52)),
)

# Colours in one round, and how many of them are averaged to round off the corners at the stops.
_ROUND = 4096
_BLUR = 321

# Counts go round the palette ever slower, because they grow without bound towards the set's edge. A
# logarithm would leave deep views flat and a square root makes them noisy. The first round begins
# just below the lowest count in sight of the set.
_EXPONENT = 0.4
_SPEED = 0.23
_START = -0.36

# Entries of the lookup table for each doubling of a count.
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
    Find where each count's colour is in the table: place 0 for inside, from 1 on for counts from 0.

    The upper bits of a floating point number, taken as an integer, grow like its logarithm: with 11
    bits of fraction there are 2048 places for the counts from 1 to 3, as many from 3 to 7, and so
    on. That is enough wherever neighbouring pixels are alike.
    """
    bits = (counts + np.float32(1.0)).view(np.int32) >> (_MANTISSA_BITS - _BITS)
    # A point inside has the count -1, thus 0 here, which is below all places.
    places: NDArray[np.int32] = np.maximum(bits - ((_EXPONENT_OF_ONE << _BITS) - 1), 0)
    return places


def colorize(counts: NDArray[np.float32], iterations: int) -> NDArray[np.uint8]:
    """
    Give each count its colour.

    @param counts: counts as L{countIterations<mcmandelbrot.kernel.countIterations>} makes them.
    @param iterations: how often a point was iterated at most.
    @return: an array with red, green and blue along one more axis.
    """
    return makeTable(iterations).take(findPlaces(counts), axis=0)

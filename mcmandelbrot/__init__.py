"""
Pictures of the Mandelbrot set, computed on all cores through a C{ProcessQueue}.

This is the demo of asynqueue, and it uses only asynqueue's public names. C{mcm} is its console
command, and C{python -m mcmandelbrot} is the same.

A picture is cut into stripes of rows. Each stripe is one task: a worker process counts the
iterations of its points, colours them and compresses them. The main process writes what comes back,
in order, and thereby has a PNG file.

@var __version__: the version of asynqueue, which this demo is a part of.
"""

from __future__ import annotations

from asynqueue import __version__

__all__ = ["__version__"]

"""
C{python -m mcmandelbrot}.
"""

from __future__ import annotations

import sys

from mcmandelbrot.cli import main

# Worker processes may import the main module again, under another name.
if __name__ == "__main__":
    sys.exit(main())

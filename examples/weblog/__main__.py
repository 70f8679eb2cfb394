"""
C{python -m examples.weblog}.
"""

from __future__ import annotations

import sys

from examples.weblog.cli import main

# Worker processes may import the main module again, under another name.
if __name__ == "__main__":
    sys.exit(main())

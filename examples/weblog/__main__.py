"""
C{python -m examples.weblog}.
"""

from __future__ import annotations

import atexit
import gc
import sys

from examples.weblog.cli import main

# Worker processes may import the main module again, under another name.
if __name__ == "__main__":
    # The end of the process frees everything. To look for garbage among all modules before takes as
    # long as half of their imports.
    atexit.register(gc.freeze)
    sys.exit(main())

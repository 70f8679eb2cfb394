"""
The main module of the tests' programs. Run as
C{python -m tests.support.mainmodule MODULE ARGUMENT ...}, it calls C{MODULE.main(ARGUMENT, ...)}.

Each worker process imports its program's main module. This one is light, whatever a program imports
for itself.
"""

from __future__ import annotations

import sys
from importlib import import_module

if __name__ == "__main__":
    import_module(sys.argv[1]).main(*sys.argv[2:])

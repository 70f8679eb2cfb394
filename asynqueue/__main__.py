"""
C{python -m asynqueue} does what the command C{asynqueue} does.
"""

from __future__ import annotations

from asynqueue._command import main

if __name__ == "__main__":
    main()

"""
Runs one function of a measure and prints the figure that it returns::

    python -m benchmarks.contender MODULE FUNCTION ARGUMENTS

where the arguments are a JSON object.

The worker processes that a contender starts import this module, because it is their program's main
module. So it imports nothing heavy at its top.
"""

from __future__ import annotations

import sys


def main(home: str, function: str, arguments: str) -> None:
    """
    @param home: the name of the function's module.
    """
    import json
    from importlib import import_module

    figure: float = getattr(import_module(home), function)(**json.loads(arguments))
    print(figure)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""
The report as JSON.
"""

from __future__ import annotations

import json

from examples.weblog.report import Report


def renderJSON(report: Report) -> str:
    """
    @return: one object, in ASCII, with the keys C{requests}, C{malformed}, C{bytes}, C{partial},
        C{failures} and the tables.
    """
    return json.dumps(report.asDictionary(), indent=2) + "\n"

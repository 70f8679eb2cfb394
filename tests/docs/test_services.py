"""
What the pages show for systemd and containers starts what is there, and stops it in order.
"""

from __future__ import annotations

import json
import re
import shlex
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import pytest
from docutils import nodes
from twisted.scripts._twistd_unix import ServerOptions

from asynqueue._command import parserOfCommand
from tests.docs.pages import DOCS, PAGES, readPage


def blocksOf(page: Path, language: str) -> list[str]:
    return [
        block.astext()
        for block in readPage(page).findall(nodes.literal_block)
        if language in block["classes"]
    ]


UNITS = [
    pytest.param(text, id=page.stem)
    for page in PAGES
    for text in blocksOf(page, "ini")
    if "ExecStart" in text
]


def parsed(words: list[str]) -> dict[str, Any]:
    """
    @return: the options of a command line of ours or of twistd's.
    """
    program = Path(words[0]).name
    if program == "asynqueue":
        return vars(parserOfCommand().parse_args(words[1:]))
    assert program == "twistd"
    options = ServerOptions()
    options.parseOptions(words[1:])
    return dict(options)


@pytest.mark.parametrize("unit", UNITS)
def test_aUnitStartsWhatIsThereAndStopsItInOrder(unit: str) -> None:
    found = ConfigParser(interpolation=None)
    found.optionxform = str  # type: ignore[assignment, method-assign] # the case counts
    found.read_string(unit.replace("\\\n", " "))
    service = found["Service"]
    assert (service["Type"], service["KillMode"]) == ("notify", "mixed")
    assert int(service["WatchdogSec"]) >= 10
    options = parsed(shlex.split(service["ExecStart"]))
    grace = options.get("grace", 20)
    assert int(service["TimeoutStopSec"]) > grace


def test_thereIsAUnitForAServerAndOneForADaemon() -> None:
    assert {unit.id for unit in UNITS} >= {"services", "howto-twistd"}


def test_theContainersCommandIsOursAndGetsTheSignal() -> None:
    [text] = blocksOf(DOCS / "services.rst", "docker")
    lines = text.replace("\\\n", " ").splitlines()
    instructions = dict(line.split(None, 1) for line in lines)
    options = parsed(json.loads(instructions["CMD"]))
    assert instructions["STOPSIGNAL"] == "SIGTERM"
    [compose] = blocksOf(DOCS / "services.rst", "yaml")
    grace = re.search(r"stop_grace_period: (\d+)s", compose)
    assert grace is not None
    assert int(grace[1]) > options["grace"]
    assert "init: true" in compose

"""
The documentation's build tells of what is wrong with the pages of the API, and the guides and these
pages link to each other.
"""

from __future__ import annotations

import re
import sys
import zlib
from importlib import import_module
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace

from tests.docs.pages import DOCS


@pytest.fixture(scope="module")
def apipages() -> Any:
    """
    The extension, which is found where Sphinx finds it.
    """
    sys.path.insert(0, str(DOCS))
    try:
        return import_module("apipages")
    finally:
        sys.path.remove(str(DOCS))


# What the pages have to show ----------------------------------------------------------------------

MEMBER = '<div class="api-member" data-name="{}">'


def moduleOf(name: str, *names: str) -> ModuleType:
    module = ModuleType(name)
    module.__dict__.update({"__all__": names, **dict.fromkeys(names)})
    return module


@pytest.mark.parametrize(
    ("texts", "fault"),
    [
        (
            {"asynqueue.A": "<tr><td>b</td><td>Undocumented</td></tr>"},
            "asynqueue.A has something undocumented: b Undocumented",
        ),
        (
            {"asynqueue.A": "<tr><td>b</td>\n<td>No summary</td></tr>"},
            "asynqueue.A has something undocumented: b No summary",
        ),
        (
            {"asynqueue.A": '<a href="asynqueue.B.html#c">'},
            "asynqueue.A links to asynqueue.B, which has no page",
        ),
        ({"asynqueue._b.A": ""}, "asynqueue._b.A is private, and has a page"),
        (
            {"asynqueue.A": "<p>View In Hierarchy</p>"},
            "asynqueue.A refers to a hierarchy, which has no page",
        ),
    ],
)
def test_aFaultOfAPageIsTold(apipages: Any, texts: dict[str, str], fault: str) -> None:
    assert list(apipages.faultsOf(texts, [])) == [fault]


def test_eachPublicNameHasItsPlace(apipages: Any) -> None:
    texts = {
        "asynqueue": MEMBER.format("report"),
        "asynqueue.Queue": "",
        "asynqueue.process": MEMBER.format("moved"),
    }
    names = moduleOf("asynqueue", "__version__", "report", "Queue", "missing", "moved")
    faults = apipages.faultsOf(texts, [names, moduleOf("asynqueue.process", "report", "lost")])
    assert list(faults) == [
        "asynqueue.missing is shown nowhere",
        "asynqueue.moved is not shown on the page of asynqueue",
        "asynqueue.process.lost is shown nowhere",
    ]


def test_theModulesOfUsersAreLookedAtAndNoPrivateOne(apipages: Any) -> None:
    names = {module.__name__ for module in apipages.publicModules()}
    assert {"asynqueue", "asynqueue.errors", "asynqueue.tools.delay", "asynqueue.aio"} <= names
    assert not any("._" in name for name in names)


# The links ----------------------------------------------------------------------------------------

INVENTORY = """\
asynqueue py:module -1 asynqueue.html -
asynqueue.errors py:module -1 asynqueue.errors.html -
asynqueue.errors.QueueFull py:class -1 asynqueue.errors.QueueFull.html -
asynqueue.TaskQueue py:class -1 asynqueue.TaskQueue.html -
asynqueue.TaskQueue.call py:method -1 asynqueue.TaskQueue.html#call -
asynqueue.TaskQueue.load py:attribute -1 asynqueue.TaskQueue.html#load -
asynqueue.Job py:class -1 asynqueue.Job.html -
asynqueue.Job.cancel py:method -1 asynqueue.Job.html#cancel -
asynqueue.report py:function -1 asynqueue.html#report -
"""


@pytest.fixture
def build(apipages: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """
    Build a page, with an inventory in the place of pydoctor's.

    @return: a function that takes the page's text, and returns its HTML, the warnings, and the HTML
        of the queue's API page.
    """

    def runPydoctor(version: str, folder: Path) -> None:
        folder.mkdir(parents=True)
        (folder / "objects.inv").write_bytes(b"\n" * 4 + zlib.compress(INVENTORY.encode()))
        for name in ("asynqueue", "asynqueue.TaskQueue"):
            (folder / f"{name}.html").write_text('<body>about<div class="api-tables"></div></body>')

    def run(text: str) -> tuple[str, str, str]:
        source = tmp_path / "source"
        (source / "api").mkdir(parents=True)
        (source / "api" / "index.rst").write_text("API\n===\n\n.. toctree::\n\n   asynqueue\n")
        (source / "index.rst").write_text(f"Page\n====\n\n{text}\n\n.. toctree::\n\n   api/index\n")
        monkeypatch.setattr(apipages, "runPydoctor", runPydoctor)
        monkeypatch.setattr(apipages, "publicModules", list)
        monkeypatch.setattr(apipages, "DOCS", source)
        monkeypatch.setattr(apipages, "PAGES", source / "api")
        output, warnings = tmp_path / "html", StringIO()
        # Sphinx's directives are not to stay for the other tests, which read pages by docutils.
        with docutils_namespace():
            app = Sphinx(
                source,
                None,
                output,
                tmp_path / "doctrees",
                "html",
                confoverrides={"extensions": ["apipages"], "html_theme": "basic"},
                status=None,
                warning=warnings,
            )
            app.build()
        queue = (output / "api" / "asynqueue.TaskQueue.html").read_text()
        return (output / "index.html").read_text(), warnings.getvalue(), queue

    return run


def linksOf(html: str) -> list[str]:
    return re.findall(r'href="(api/asynqueue\.[^"]*)"', html.partition("toctree-wrapper")[0])


def test_theFirstMentionOfANameIsALink(build: Any) -> None:
    html, warnings, _ = build(
        "A ``TaskQueue`` has ``call`` and ``load``. ``TaskQueue.call()`` and ``load`` again.\n"
        "``QueueFull``, ``job.cancel()``, ``report``, ``unknown()``, ``Unknown``."
    )
    assert linksOf(html) == [
        "api/asynqueue.TaskQueue.html",
        "api/asynqueue.TaskQueue.html#call",
        "api/asynqueue.errors.QueueFull.html",
        "api/asynqueue.Job.html#cancel",
        "api/asynqueue.html#report",
    ]
    assert warnings == ""


def test_aClassThatIsMentionedButNotLinkedIsWarnedOf(build: Any) -> None:
    _, warnings, _ = build("``TaskQueue``\n-------------\n\nOnly the title names it.")
    assert "TaskQueue is mentioned and not linked" in warnings


def test_theAPIPageLinksToTheGuide(build: Any) -> None:
    _, warnings, queue = build(".. guide:: TaskQueue\n\nAbout queues.")
    assert 'href="../index.html"><span class="doc">Page</span>' in queue
    assert warnings == ""


def test_aGuideToNothingPublicIsRefused(build: Any) -> None:
    with pytest.raises(Exception, match="Unheard is no public name"):
        build(".. guide:: Unheard")


def test_programsAreHighlightedAsPythonAndTheirOutputAsText(build: Any) -> None:
    html, _, _ = build(
        ".. code-block:: python\n\n   import os\n\n.. code-block:: text\n\n   >>> 1\n"
    )
    python, text = re.findall(r'<div class="highlight-(?:python|text) .*?</pre>', html, re.DOTALL)
    assert '<span class="kn">import</span>' in python
    assert "<span></span>&gt;&gt;&gt; 1" in text
    assert "doctest" not in html

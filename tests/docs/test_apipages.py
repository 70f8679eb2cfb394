"""
The pages of the API show what is public, where users import it, all of it is documented, and the
guides and these pages link to each other.
"""

from __future__ import annotations

import pkgutil
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

import asynqueue
from tests.docs.pages import DOCS

pytestmark = pytest.mark.timeout(180)

MODULES = sorted(
    name
    for _, name, _ in pkgutil.walk_packages(asynqueue.__path__, "asynqueue.")
    if "._" not in name and not name.startswith("asynqueue.testing.plugin")
)


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


@pytest.fixture(scope="module")
def api(apipages: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """
    The HTML of each page that the extension makes, by its name.
    """
    folder = tmp_path_factory.mktemp("api")
    apipages.runPydoctor("1", folder)
    return {page.name: "\n".join(page.write()) for page in apipages.readPages(folder, {})}


def test_nothingIsUndocumented(api: dict[str, str]) -> None:
    # Names are rows of the table on their parent's page, arguments those of a function's table.
    undocumented = [
        (name, re.sub("<[^>]*>", "", row))
        for name, text in api.items()
        for row in re.findall("<tr.*?</tr>", text, re.DOTALL)
        if name.startswith("asynqueue") and ("Undocumented" in row or "No summary" in row)
    ]
    assert undocumented == []


def test_noPageLinksToWhatHasNoPage(api: dict[str, str]) -> None:
    linked = {page for text in api.values() for page in re.findall(r'href="([\w.]+)\.html', text)}
    assert linked - api.keys() == set()
    assert not any("View In Hierarchy" in text for text in api.values())


def test_noPrivateModuleHasAPage(api: dict[str, str]) -> None:
    assert [name for name in api if re.search(r"\._(?!_)", name)] == []


@pytest.mark.parametrize("module", ["asynqueue", *MODULES])
def test_everyNameOfAModuleHasItsPlace(api: dict[str, str], module: str) -> None:
    shown = {name.rpartition(".")[2] for name in api}
    for text in api.values():
        shown.update(re.findall('class="api-member" data-name="([^"]*)"', text))
    found = import_module(module)
    names = [name for name in getattr(found, "__all__", []) if not name.startswith("__")]
    # An alias has the name of what it stands for.
    homes = {name: getattr(getattr(found, name), "__name__", name) for name in names}
    assert [name for name in names if not {name, homes[name]} & shown] == []


@pytest.mark.parametrize("module", ["asynqueue", "asynqueue.tools", "asynqueue.testing"])
def test_everyNameIsOnThePageOfWhereItIsImportedFrom(api: dict[str, str], module: str) -> None:
    names = [name for name in import_module(module).__all__ if not name.startswith("__")]
    here = set(re.findall('class="api-member" data-name="([^"]*)"', api[module]))
    assert [name for name in names if f"{module}.{name}" not in api and name not in here] == []


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

"""
The pages of the API as pages of this documentation, and the links between them and the guides.

pydoctor writes HTML from the docstrings. Each page of it becomes a document in C{api/}, so that it
has the theme, the navigation and the search of all others. The directive C{guide} lists the names
that a guide explains. The first mention of each public name on a page links to its API page, and
the API pages link to the guides.
"""

from __future__ import annotations

import pkgutil
import re
import subprocess
import sys
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib import import_module
from pathlib import Path
from textwrap import dedent
from types import ModuleType
from typing import ClassVar

from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util import logging

import asynqueue

logger = logging.getLogger(__name__)

DOCS = Path(__file__).parent
ROOT = DOCS.parent
PAGES = DOCS / "api"

VARIABLES = {
    "queue": (),  # whatever the page is about
    "task": ("asynqueue.QueuedTask",),
    "job": ("asynqueue.Job",),
}
"""What the names of variables in the guides stand for."""

MODULES = ("asynqueue", "asynqueue.errors", "asynqueue.interfaces", "asynqueue.testing")
"""Where a name of several modules is taken from, unless a guide names another."""

NOT_LINKED = ("api/asynqueue", "api/mcmandelbrot", "changelog", "design")
"""Documents whose mentions are not linked, by how their names begin. The design is about what is
not public."""


HOMES = ("asynqueue", "asynqueue.tools", "asynqueue.testing")
"""The modules from which users import most names. Each name is shown on the page of its module."""

PLUGIN = "asynqueue.testing.plugin"
"""pytest imports it. Its fixtures are in a guide."""

LINK = re.compile(r'<a href="([\w.]+)\.html#?([^"]*)"[^>]*>(.*?)</a>', re.DOTALL)
"""A link of pydoctor's to another of its pages, with an anchor, and its text."""
PRIVATE = re.compile(r"(?:^|\.)_(?!_)")
"""A name with a private part."""

MEMBER = re.compile(r'(?=<div class="api-member" data-name="([^"]*)">)')
"""What the template of pydoctor begins each member with."""

NO_SUMMARY = re.compile(
    r'(<a href="([^"#]*)#([^"]*)"[^>]*>(?:(?!<a |</tr>).)*?</a></code></td>\s*<td>)'
    r'(<span class="rst-undocumented">No summary</span>)',
    re.DOTALL,
)
"""The row of a member whose docstring only describes its arguments or what it returns."""
RETURNS = re.compile(r'>Returns</td></tr><tr>.*?<td class="fieldArgDesc">(.*?)</td>', re.DOTALL)


@dataclass(frozen=True)
class Name:
    """
    A public name, and where pydoctor shows it.
    """

    path: str
    kind: str
    place: str

    @property
    def page(self) -> str:
        return self.place.partition(".html")[0]

    @property
    def anchor(self) -> str:
        return self.place.partition("#")[2]


class Names:
    """
    All public names, from pydoctor's inventory.
    """

    def __init__(self, inventory: Path) -> None:
        # Four lines tell what it is. The rest is compressed.
        packed = inventory.read_bytes().split(b"\n", 4)[4]
        self.byPath: dict[str, Name] = {}
        self.tops: dict[str, list[str]] = {}
        for line in zlib.decompress(packed).decode().splitlines():
            path, kind, _, place, _ = line.split(" ", 4)
            if path.startswith("asynqueue"):
                self.byPath[path] = Name(path, kind, place.replace("$", path))
        for path, name in self.byPath.items():
            if self.kindOf(path.rpartition(".")[0]) == "py:module" and name.kind != "py:module":
                self.tops.setdefault(path.rpartition(".")[2], []).append(path)

    def kindOf(self, path: str) -> str | None:
        return self.byPath[path].kind if path in self.byPath else None

    def matching(self, patterns: list[str]) -> list[str]:
        """
        @return: the full paths of the names that a C{guide} lists, in the order of its patterns.
        """
        found: list[str] = []
        for pattern in patterns:
            paths = [
                path
                for path, name in self.byPath.items()
                if name.kind in ("py:class", "py:function", "py:module")
                and (fnmatchcase(path, pattern) or fnmatchcase(path, f"asynqueue.{pattern}"))
                and path.count(".") <= pattern.count(".") + (not pattern.startswith("asynqueue"))
            ]
            if not paths:
                raise ExtensionError(f"guide: {pattern} is no public name")
            found += paths
        return found

    def find(self, text: str, explained: list[str]) -> Name | None:
        """
        @param text: what a page shows as code, such as C{queue.map(function, iterable)}.
        @param explained: the full paths of the names that the page is about.
        @return: the public name that is meant, or C{None}.
        """
        match = re.fullmatch(r"@?([A-Za-z_][\w.]*?)\.?(\(.*\))?", text, re.DOTALL)
        if match is None:
            return None
        written, called = match.groups()
        if written in self.byPath:
            return self.byPath[written]
        first, _, rest = written.partition(".")
        top = self._top(first, explained)
        isNamed = first[0].isupper() or called or top in explained or top == f"asynqueue.{first}"
        if top is not None and isNamed:
            return self.byPath.get(f"{top}.{rest}" if rest else top)
        if rest and first not in VARIABLES:
            return None
        owners = VARIABLES.get(first) or (*explained, "asynqueue.TaskQueue")
        return self._member(rest or first, bool(called), owners)

    def _top(self, name: str, explained: list[str]) -> str | None:
        paths = self.tops.get(name, [])
        chosen = [path for path in explained if path in paths]
        usual = [path for module in MODULES for path in paths if path == f"{module}.{name}"]
        return next(iter([*chosen, *usual, *paths]), None)

    def _member(self, name: str, called: bool, owners: tuple[str, ...]) -> Name | None:
        if name.startswith("_"):
            return None
        for owner in owners:
            found = self.byPath.get(f"{owner}.{name}")
            # A word such as "timeout" may be an argument as well.
            if found is not None and (called or found.kind == "py:method"):
                return found
        return None


class Guide(Directive):
    """
    Names, separated by commas, that a page explains. C{asynqueue.errors.*} stands for all of a
    module.
    """

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        env = self.state.document.settings.env
        env.metadata[env.docname]["guide"] = namesIn(self.arguments[0])
        return []


def namesIn(listed: str) -> list[str]:
    return [name.strip() for name in listed.split(",")]


def linkFirstMentions(app: Sphinx, doctree: nodes.document) -> None:
    """
    Make a link of the first mention of each public name on a page.
    """
    docname = app.env.docname
    if docname.startswith(NOT_LINKED):
        return
    names: Names = app.asynqueueNames  # type: ignore[attr-defined]
    explained = names.matching(app.env.metadata[docname].get("guide", []))
    linked = set()
    for literal in list(doctree.findall(nodes.literal)):
        if isinstance(literal.parent, (nodes.title, nodes.reference)) or literal["classes"]:
            continue
        found = names.find(literal.astext(), explained)
        if found is None or found in linked:
            continue
        linked.add(found)
        uri = app.builder.get_relative_uri(docname, f"api/{found.page}")
        if found.anchor:
            uri += f"#{found.anchor}"
        link = nodes.reference("", "", refuri=uri, internal=True, reftitle=found.path)
        literal.replace_self(link)
        link += literal


def warnOfUnlinked(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """
    Warn of each public class that a page mentions and nowhere links to.
    """
    if docname.startswith(NOT_LINKED):
        return
    names: Names = app.asynqueueNames  # type: ignore[attr-defined]
    mentioned = {literal.astext() for literal in doctree.findall(nodes.literal)}
    linked = {reference.get("refuri", "") for reference in doctree.findall(nodes.reference)}
    for name in sorted(mentioned & names.tops.keys()):
        pages = [f"api/{names.byPath[path].page}.html" for path in names.tops[name]]
        if name[0].isupper() and not any(uri.partition("#")[0] in pages for uri in linked):
            logger.warning("%s is mentioned and not linked", name, location=docname)


def guidesOf(names: Names) -> dict[str, list[str]]:
    """
    @return: for the path of each public name, the guides that explain it, else those few that
        mention it.
    """
    explaining: dict[str, list[tuple[int, str]]] = {}
    mentioning: dict[str, list[str]] = {}
    for source in sorted(DOCS.glob("*.rst")):
        text = source.read_text(encoding="utf-8")
        if source.stem.startswith(NOT_LINKED):
            continue
        for listed in re.findall(r"^\.\. guide:: (.*(?:\n {3}.*)*)", text, re.MULTILINE):
            for position, path in enumerate(names.matching(namesIn(listed))):
                explaining.setdefault(path, []).append((position, source.stem))
        for word in set(re.findall(r"\b[A-Z]\w+", text)):
            for path in names.tops.get(word, [])[:1]:
                mentioning.setdefault(path, []).append(source.stem)
    # The guides first that name it first.
    chosen = {path: [page for _, page in sorted(guides)] for path, guides in explaining.items()}
    return {path: pages[:5] for path, pages in {**mentioning, **chosen}.items()}


def runPydoctor(version: str, folder: Path) -> None:
    """
    Write pydoctor's HTML. It runs in a process of its own, because it puts its own directives in
    the place of Sphinx's. Each line that it prints is a warning.
    """
    command = [
        *(sys.executable, "-m", "pydoctor", "--make-html", "--quiet"),
        *("--system-class=apisystem.ApiSystem", f"--template-dir={DOCS / 'apitemplates'}"),
        *("--project-name=asynqueue", f"--project-version={version}"),
        *(f"--config={ROOT / 'pyproject.toml'}", f"--project-base-dir={ROOT}"),
        *(f"--html-output={folder}", str(ROOT / "asynqueue"), str(ROOT / "mcmandelbrot")),
    ]
    done = subprocess.run(command, cwd=DOCS, capture_output=True, text=True, check=False)
    for line in (done.stdout + done.stderr).splitlines():
        logger.warning(line)
    if done.returncode:
        raise ExtensionError(f"pydoctor ended with exit code {done.returncode}")


def bodyOf(html: str) -> str:
    return html.partition("<body>")[2].rpartition("</body>")[0]


def membersOf(html: str) -> Iterator[tuple[str, str]]:
    """
    @return: the name and the HTML of each member that a page shows.
    """
    _, *members = MEMBER.split(html)
    yield from zip(members[::2], members[1::2], strict=True)


@dataclass(frozen=True)
class Page:
    """
    A page that pydoctor wrote, as a document.
    """

    name: str
    html: str
    children: list[str]
    guides: list[str]

    TABLES: ClassVar = '<div class="api-tables">'
    UNWANTED: ClassVar = re.compile(r"<p>View In Hierarchy</p>")
    CODE: ClassVar = re.compile(r"(<pre[^>]*>\n?)(.*?)(?=</pre>)", re.DOTALL)

    def write(self) -> Iterator[str]:
        yield from (self.name, "=" * len(self.name), "")
        if self.children:
            yield from (".. toctree::", "   :hidden:", "")
            for child in self.children:
                yield f"   {child.removeprefix(f'{self.name}.')} <{child}>"
            yield ""
        body = self.UNWANTED.sub("", bodyOf(self.html))
        body = self.CODE.sub(lambda found: found[1] + dedent(found[2]), body)
        top, *_ = MEMBER.split(body, maxsplit=1)
        about, begin, tables = top.partition(self.TABLES)
        yield from self._raw(about)
        if self.guides:
            links = ", ".join(f":doc:`/{guide}`" for guide in self.guides)
            yield from (f"See {links}.", "")
        yield from self._raw(begin + tables)
        for name, member in membersOf(body):
            yield from (name, "-" * len(name), "")
            yield from self._raw(member)

    @staticmethod
    def _raw(html: str) -> Iterator[str]:
        yield from (".. raw:: html", "")
        for line in html.splitlines():
            yield f"   {line}"
        yield ""


def readPages(folder: Path, guides: dict[str, list[str]]) -> Iterator[Page]:
    """
    @return: pydoctor's pages about modules and classes, not its indexes.
    """
    files = {path.stem: path for path in sorted(folder.glob("*.html"))}
    names = [name for name in files if name.split(".")[0] in ("asynqueue", "mcmandelbrot")]

    texts = {name: files[name].read_text(encoding="utf-8") for name in names}
    summaries = {
        f"{name}.html#{member}": "Returns " + RETURNS.split(text)[1].split(". ")[0]
        for name, page in texts.items()
        for member, text in membersOf(bodyOf(page))
        if RETURNS.search(text)
    }

    def summarise(row: re.Match[str]) -> str:
        if row[3] == "__init__":
            return f"{row[1]}Take these arguments."
        return row[1] + summaries.get(f"{row[2] or f'{name}.html'}#{row[3]}", row[4])

    def unlink(link: re.Match[str]) -> str:
        isPublic = link[1] in names and not PRIVATE.search(link[2])
        return link[0] if isPublic else link[3]

    for name in names:
        children = [other for other in names if _parent(other, names) == name]
        # pydoctor links to what is hidden, too, such as a private base class.
        html = LINK.sub(unlink, NO_SUMMARY.sub(summarise, texts[name]))
        yield Page(name, html, children, guides.get(name, []))


def _parent(name: str, names: list[str]) -> str | None:
    while "." in name:
        name = name.rpartition(".")[0]
        if name in names:
            return name
    return None


def publicModules() -> Iterator[ModuleType]:
    """
    @return: the modules from which users import names.
    """
    yield asynqueue
    for _, name, _ in pkgutil.walk_packages(asynqueue.__path__, "asynqueue."):
        if not PRIVATE.search(name) and name != PLUGIN:
            yield import_module(name)


def faultsOf(texts: Mapping[str, str], modules: Iterable[ModuleType]) -> Iterator[str]:
    """
    Tell what is wrong with the pages of the API.

    @param texts: the pages' texts by their names.
    @param modules: those whose public names have to be shown.
    """
    for name, text in texts.items():
        if PRIVATE.search(name):
            yield f"{name} is private, and has a page"
        if "View In Hierarchy" in text:
            yield f"{name} refers to a hierarchy, which has no page"
        for page in sorted(set(re.findall(r'href="([\w.]+)\.html', text)) - texts.keys()):
            yield f"{name} links to {page}, which has no page"
        # Names are rows of the table on their parent's page, arguments those of a function's table.
        for row in re.findall("<tr.*?</tr>", text, re.DOTALL):
            if name.startswith("asynqueue") and ("Undocumented" in row or "No summary" in row):
                about = " ".join(re.sub("<[^>]*>", " ", row).split())
                yield f"{name} has something undocumented: {about}"
    members = {name: {member for member, _ in membersOf(text)} for name, text in texts.items()}
    shown = {name.rpartition(".")[2] for name in texts}.union(*members.values())
    for module in modules:
        home = module.__name__
        for name in getattr(module, "__all__", ()):
            # An alias has the name of what it stands for.
            original = getattr(getattr(module, name), "__name__", name)
            if name.startswith("__"):
                continue
            if not {name, original} & shown:
                yield f"{home}.{name} is shown nowhere"
            elif home in HOMES and f"{home}.{name}" not in texts and name not in members[home]:
                yield f"{home}.{name} is not shown on the page of {home}"


def makePages(app: Sphinx) -> None:
    """
    Write the pages of the API into the sources, before Sphinx looks for documents there. A page
    that is as before keeps its time, so that Sphinx does not read it again. Warn of what is wrong
    with them.
    """
    folder = Path(app.doctreedir) / "pydoctor"
    runPydoctor(app.config.version, folder)
    names = Names(folder / "objects.inv")
    app.asynqueueNames = names  # type: ignore[attr-defined]
    texts = {page.name: "\n".join(page.write()) for page in readPages(folder, guidesOf(names))}
    for fault in faultsOf(texts, publicModules()):
        logger.warning(fault)
    for name, text in texts.items():
        path = PAGES / f"{name}.rst"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
    for path in PAGES.glob("*.rst"):
        if path.stem not in texts and path.stem != "index":
            path.unlink()


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("guide", Guide)
    app.connect("builder-inited", makePages)
    app.connect("doctree-read", linkFirstMentions)
    app.connect("doctree-resolved", warnOfUnlinked)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

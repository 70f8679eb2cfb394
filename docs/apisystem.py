"""
Where pydoctor shows what several modules name in their C{__all__}.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from pydoctor.astbuilder import ASTBuilder, ModuleVistor
from pydoctor.model import (
    Attribute,
    CanContainImportsDocumentable,
    Class,
    Documentable,
    Module,
    PrivacyClass,
    System,
)


class _Visitor(ModuleVistor):
    """
    Left alone, pydoctor moves what is imported and named in C{__all__} to each such module in turn,
    so that the import paths of AsynQueue 0.9 would take it from its home.
    """

    def _handleReExport(
        self,
        curr_mod_exports: Collection[str],
        origin_name: str,
        as_name: str,
        origin_module: Module,
    ) -> bool:
        return False


class _Builder(ASTBuilder):
    ModuleVistor = _Visitor


PACKAGES = ("asynqueue.tools", "asynqueue.testing", "asynqueue.admin")
"""Users import the names of these packages from the packages themselves. Their modules have no
pages, but for those that no name is taken out of."""

FACES = (
    "asynqueue",
    *PACKAGES,
    "asynqueue.admin.web",
    "asynqueue.iteration",
    "asynqueue.threads",
    "asynqueue.process",
    "asynqueue.rdq",
    "asynqueue.wire",
    "asynqueue.tasks",
)
"""Where users import names from. A name that several of these list is shown on the first one's
page."""


class ApiSystem(System):
    """
    Shows each public name on the page of the module that users import it from.
    """

    defaultBuilder = _Builder

    def __init__(self, *args: Any, **kw: Any) -> None:
        super().__init__(*args, **kw)
        self._emptied: set[Any] = set()

    def privacyClass(self, ob: Documentable) -> PrivacyClass:
        if ob in self._emptied or (not ob.docstring and self._isPlain(ob)):
            return PrivacyClass.HIDDEN
        return super().privacyClass(ob)

    def _isPlain(self, ob: Documentable) -> bool:
        """
        @return: whether something without a docstring needs no page entry: a constructor, because
            the class says what it takes; the test of a contract, because its name says what it
            promises; and a variable of a class that its docstring does not name, because nobody is
            promised that.
        """
        if isinstance(ob.parent, Class) and isinstance(ob, Attribute):
            return ob.parsed_docstring is None
        return ob.name in ("__init__", "setUp") or ob.name.startswith("test_")

    def _definition(self, face: Any, name: str) -> Any:
        # Each step is the import of one module from another.
        path = f"{face.fullName()}.{name}"
        while path not in self.allobjects:
            module, _, own = path.rpartition(".")
            if module not in self.allobjects:
                return None
            further = self.allobjects[module].expandName(own)
            if further == path:
                return None
            path = further
        return self.allobjects[path]

    def _belongs(self, home: Any, face: Any) -> bool:
        """
        @return: whether what a face lists is to be moved there from the module that defines it.
        """
        if home is face or not isinstance(home, CanContainImportsDocumentable):
            return False
        return face.fullName() == "asynqueue" or home.parent is face or not home.isVisible

    def _move(self, found: Any, face: Any, name: str) -> None:
        # A link is followed by one import only, so each import has to lead to the new place.
        former = found.fullName()
        if found.parent.parent is face and face.fullName() in PACKAGES:
            self._emptied.add(found.parent)
        found.reparent(face, name)
        for module in self.objectsOfType(Module):
            imports = module._localNameToFullName_map
            for local, target in imports.items():
                if target == former and module is not face:
                    imports[local] = found.fullName()

    def postProcess(self) -> None:
        for path in FACES:
            face: Any = self.allobjects[path]
            for name in face.all:
                found = self._definition(face, name)
                if self._belongs(getattr(found, "parent", None), face):
                    self._move(found, face, name)
        super().postProcess()

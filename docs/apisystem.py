"""
Where pydoctor shows what several modules name in their C{__all__}.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from pydoctor.astbuilder import ASTBuilder, ModuleVistor
from pydoctor.model import CanContainImportsDocumentable, Module, System


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


class ApiSystem(System):
    """
    Shows what the package's face exports on the face's page, and all else in the module that
    defines it.
    """

    defaultBuilder = _Builder

    def _definition(self, face: Any, name: str) -> Any:
        # Each step is the import of one module from another.
        path = f"{face.fullName()}.{name}"
        while path not in self.allobjects:
            module, _, own = path.rpartition(".")
            further = self.allobjects[module].expandName(own)
            if further == path:
                return None
            path = further
        return self.allobjects[path]

    def _move(self, found: Any, face: Any, name: str) -> None:
        # A link is followed by one import only, so each import has to lead to the new place.
        former = found.fullName()
        found.reparent(face, name)
        for module in self.objectsOfType(Module):
            imports = module._localNameToFullName_map
            for local, target in imports.items():
                if target == former and module is not face:
                    imports[local] = found.fullName()

    def postProcess(self) -> None:
        face: Any = self.allobjects["asynqueue"]
        for name in face.all:
            found = self._definition(face, name)
            home = getattr(found, "parent", None)
            if home is not face and isinstance(home, CanContainImportsDocumentable):
                self._move(found, face, name)
        super().postProcess()

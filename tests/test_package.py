from __future__ import annotations

import ast
import types
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import asynqueue
from asynqueue._lazy import lazyNames


def typeCheckersImports(module: types.ModuleType) -> dict[str, str]:
    """
    @return: for each name that a module imports for type checkers alone, where it is imported from.
    """
    assert module.__file__ is not None
    homes = {}
    for node in ast.parse(Path(module.__file__).read_text()).body:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for imported in node.body:
                assert isinstance(imported, ast.ImportFrom)
                assert imported.module is not None
                homes.update({alias.name: imported.module for alias in imported.names})
    return homes


@pytest.mark.parametrize("name", asynqueue.__all__)
def test_everyPublicNameIsThere(name: str) -> None:
    assert getattr(asynqueue, name) is not None


@pytest.mark.parametrize("name", asynqueue._HOMES)
def test_everyNameIsThatOfItsHome(name: str) -> None:
    assert getattr(asynqueue, name) is getattr(import_module(asynqueue._HOMES[name]), name)


def test_typeCheckersAreToldTheSameHomes() -> None:
    assert typeCheckersImports(asynqueue) == asynqueue._HOMES


def test_thePublicNamesAreThoseWithAHomeAndTheVersion() -> None:
    assert set(asynqueue.__all__) == {*asynqueue._HOMES, "__version__"}
    assert len(asynqueue.__all__) == len(set(asynqueue.__all__))


def test_dirListsEveryPublicName() -> None:
    names = dir(asynqueue)
    assert set(asynqueue.__all__) <= set(names)
    assert names == sorted(set(names))


def test_unknownNameIsAnAttributeErrorThatNamesModuleAndName() -> None:
    with pytest.raises(AttributeError, match="module 'asynqueue' has no attribute 'TaskQeue'"):
        asynqueue.TaskQeue  # noqa: B018
    assert not hasattr(asynqueue, "__path_of_nothing__")


def test_everythingComesWithAStar() -> None:
    namespace: dict[str, Any] = {}
    exec("from asynqueue import *", namespace)
    assert set(asynqueue.__all__) <= set(namespace)


def test_versionIsAVersion() -> None:
    assert all(part.isdigit() for part in asynqueue.__version__.split(".")[:2])


FACES = ["base", "info", "iteration", "null", "process", "rdq", "tasks", "threads", "tools"]
FACES += ["util", "workers"]


@pytest.mark.parametrize("face", FACES)
def test_importPathsThatUsersTypeHaveWhatTheyList(face: str) -> None:
    module = import_module(f"asynqueue.{face}")
    assert len({*module.__all__}) == len(module.__all__)
    assert all(getattr(module, name) is not None for name in module.__all__)


# The tool behind it


def lazyModule(**homes: str) -> types.ModuleType:
    module = types.ModuleType("face")
    vars(module)["__getattr__"], vars(module)["__dir__"] = lazyNames(vars(module), homes)
    return module


def test_lazyNameIsImportedWhenItIsAskedForAndStays() -> None:
    face = lazyModule(OrderedDict="collections")
    assert "OrderedDict" not in vars(face)
    found = face.OrderedDict
    assert found is import_module("collections").OrderedDict
    assert vars(face)["OrderedDict"] is found


def test_lazyNameWhoseHomeIsMissingIsAnImportError() -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_home"):
        _ = lazyModule(Thing="no_such_home").Thing


def test_lazyNameThatItsHomeDoesNotHaveIsAnAttributeError() -> None:
    with pytest.raises(AttributeError, match="module 'collections' has no attribute 'Thing'"):
        _ = lazyModule(Thing="collections").Thing


def test_lazyModuleListsItsOwnNamesToo() -> None:
    face = lazyModule(OrderedDict="collections")
    vars(face)["own"] = 1
    assert {"own", "OrderedDict", "__name__"} <= set(dir(face))

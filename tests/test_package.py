from __future__ import annotations

import ast
import types
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import asynqueue
from asynqueue._lazy import lazyNames


def typeCheckersImports(package: types.ModuleType) -> dict[str, str]:
    """
    @return: for each name that a package imports for type checkers alone, the module that it is
        imported from.
    """
    assert package.__file__ is not None
    homes = {}
    for node in ast.parse(Path(package.__file__).read_text()).body:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for imported in node.body:
                assert isinstance(imported, ast.ImportFrom)
                assert imported.module is not None
                names = [alias.name for alias in imported.names]
                if names == ["*"]:
                    names = import_module(imported.module).__all__
                homes.update(dict.fromkeys(names, imported.module))
    return homes


def homesOf(package: Any) -> dict[str, str]:
    """
    @return: for each name that a package imports when it is asked for, the module that defines it.
    """
    return {
        name: f"{package.__name__}.{home}"
        for home, names in package._HOMES.items()
        for name in names.split()
    }


HOMES = homesOf(asynqueue)


@pytest.mark.parametrize("name", HOMES)
def test_everyNameIsThatOfItsHome(name: str) -> None:
    assert getattr(asynqueue, name) is getattr(import_module(HOMES[name]), name)


def test_typeCheckersAreToldTheSameHomes() -> None:
    assert typeCheckersImports(asynqueue) == HOMES


def test_everyToolCanBeImportedFromTheTopWhereItIsNotListed() -> None:
    tools = set(import_module("asynqueue.tools").__all__)
    assert tools <= {*HOMES}
    assert not tools & {*asynqueue.__all__}


def test_thePublicNamesAreFewAndHaveAHome() -> None:
    assert {*asynqueue.__all__} <= {*HOMES, "__version__"}
    assert len(asynqueue.__all__) == len(set(asynqueue.__all__)) <= 25


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
    """
    Make a module that looks for names in those of the standard library's package C{collections}.
    """
    module = types.ModuleType("collections")
    vars(module)["__getattr__"], vars(module)["__dir__"] = lazyNames(vars(module), homes)
    return module


def test_lazyNameIsImportedWhenItIsAskedForAndStays() -> None:
    face = lazyModule(abc="Mapping Sequence")
    assert "Sequence" not in vars(face)
    found = face.Sequence
    assert found is import_module("collections.abc").Sequence
    assert vars(face)["Sequence"] is found


def test_lazyNameWhoseHomeIsMissingIsAnImportError() -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_home"):
        _ = lazyModule(no_such_home="Thing").Thing


def test_lazyNameThatItsHomeDoesNotHaveIsAnAttributeError() -> None:
    with pytest.raises(AttributeError, match=r"module 'collections\.abc' has no attribute 'Thing'"):
        _ = lazyModule(abc="Thing").Thing


def test_lazyModuleListsItsOwnNamesToo() -> None:
    face = lazyModule(abc="Mapping")
    vars(face)["own"] = 1
    assert {"own", "Mapping", "__name__"} <= set(dir(face))

"""
What a server checks before a call goes to a runner: of which modules its pickles name anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from io import BytesIO
from pickle import Unpickler
from typing import Final

from asynqueue._runner.messages import CALL, Message
from asynqueue._runner.packing import PLAIN, Packed
from asynqueue.errors import CallNotRebuilt, textOf

_HARMLESS: Final = frozenset(
    [("builtins", name) for name in ("bytearray", "complex", "frozenset", "range", "set", "slice")]
    + [("collections", name) for name in ("OrderedDict", "deque", "Counter")]
    + [("datetime", name) for name in ("date", "datetime", "time", "timedelta", "timezone")]
    + [("decimal", "Decimal"), ("fractions", "Fraction"), ("uuid", "UUID")]
    + [
        (package + module, name)
        for package in ("numpy.core.", "numpy._core.")
        for module, name in (
            ("multiarray", "_reconstruct"),
            ("multiarray", "scalar"),
            ("numeric", "_frombuffer"),
        )
    ]
    + [("numpy", "dtype"), ("numpy", "ndarray")]
)
"""What every call may name, because nothing but a value comes of it."""


class _Stand:
    """
    Stands for whatever a pickle names, and for all that is made of it.
    """

    def __init__(self, *args: object, **kw: object) -> None:
        pass

    def __call__(self, *args: object, **kw: object) -> _Stand:
        return self

    def __setstate__(self, state: object) -> None:
        pass

    def __setitem__(self, key: object, value: object) -> None:
        pass

    def __hash__(self) -> int:
        return id(self)

    def append(self, value: object) -> None:
        pass

    def extend(self, values: object) -> None:
        pass

    def add(self, value: object) -> None:
        pass


class _Names(Unpickler):
    """
    Notes what a pickle names, and imports and calls nothing of it.
    """

    def __init__(
        self, data: Packed, buffers: Iterable[Packed] = (), beside: Sequence[Packed] = ()
    ) -> None:
        super().__init__(BytesIO(data), buffers=buffers)
        self.names: set[tuple[str, str]] = set()
        self._beside = beside

    def find_class(self, module: str, name: str) -> type[_Stand]:
        self.names.add((module, name))
        return _Stand

    def persistent_load(self, number: int) -> object:
        return self._beside[number]


class OnlyModules:
    """
    Refuses the calls of one session that name anything outside of some modules.
    """

    def __init__(self, modules: Iterable[str]) -> None:
        """
        @param modules: the names of the modules. A package allows its modules with it.
        """
        self._modules = tuple(modules)
        self._refused: set[int] = set()

    def refusal(self, message: Message) -> CallNotRebuilt | None:
        """
        Look at a message to the runner.

        @return: why it is not to go there, or C{None}.
        """
        if message[0] != CALL:
            return None
        _, _, function, arguments, _, context = message
        number: int | None = None
        if type(function) is tuple and type(function[0]) is int:
            number, function = function
        elif type(function) is int:
            if function in self._refused:
                return CallNotRebuilt("the server does not run this function, as it said before")
            function = None
        try:
            names = self._namesIn(function)
            if not self._isPlain(arguments):
                names |= self._namesIn(arguments)
            names |= self._namesIn(context)
        except Exception as error:
            why = f"the server cannot tell what the call needs: {textOf(error)}"
        else:
            others = sorted(".".join(name) for name in names if not self._allows(*name))
            if not others:
                return None
            why = (
                f"the server runs only what is in {', '.join(self._modules)}, and the call needs "
                f"{', '.join(others)[:300]}"
            )
        if number is not None:
            self._refused.add(number)
        return CallNotRebuilt(why)

    def _allows(self, module: str, name: str) -> bool:
        # A dotted name would reach into what the module has imported.
        if "." in name and (module, name) not in _HARMLESS:
            return False
        return (module, name) in _HARMLESS or any(
            module == allowed or module.startswith(allowed + ".") for allowed in self._modules
        )

    @staticmethod
    def _isPlain(arguments: Packed) -> bool:
        return type(arguments) is tuple and (not arguments or type(arguments[-1]) is not list)

    @staticmethod
    def _namesIn(packed: Packed) -> set[tuple[str, str]]:
        if type(packed) in PLAIN:
            return set()
        names = _Names(*packed) if type(packed) is tuple else _Names(packed)
        names.load()
        return names.names

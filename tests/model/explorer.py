"""
A search through all states of something that takes actions one at a time.

The search is breadth-first, so a counterexample that it finds is as short as can be. A world is
made anew and led along the actions that lead to a state, rather than copied, because a part that
does no I/O makes thousands of steps in the time of one deep copy.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

Action = TypeVar("Action", bound=Hashable)


class World(Protocol[Action]):
    """
    The thing that is searched, together with what should be true of it.
    """

    def actions(self) -> Iterable[Action]:
        """
        @return: the actions that may happen now. The order is the same in each world with the same
            history. To ask changes nothing.
        """

    def do(self, action: Action) -> None:
        """
        Let an action happen. Raise any exception if its outcome is wrong.
        """

    def check(self) -> None:
        """
        Raise any exception if something is wrong that should be true in every state.
        """

    def key(self) -> Hashable:
        """
        @return: the state. Two worlds with equal keys behave alike from now on, whatever led to
            them. A key that leaves something out makes the search quicker and less thorough.
        """


@dataclass(frozen=True)
class Explored:
    """
    What a search has seen without finding anything wrong.

    @ivar states: how many different states.
    @ivar steps: how many actions were tried in them.
    @ivar depth: how many actions lead to the state that is farthest away.
    """

    states: int
    steps: int
    depth: int


class Counterexample(AssertionError):
    """
    Some actions that lead to something wrong. No fewer do.

    @ivar actions: the actions, in their order. The last one shows the fault.
    @ivar error: the exception that says what is wrong.
    """

    def __init__(self, actions: list[Hashable], error: Exception) -> None:
        steps = "\n".join(f"{number:3}. {action}" for number, action in enumerate(actions, 1))
        super().__init__(f"{type(error).__name__}: {error}\nafter\n{steps}")
        self.actions = actions
        self.error = error


@dataclass(frozen=True, slots=True)
class _Path(Generic[Action]):
    """
    How a state is reached: by an action, from another state.
    """

    before: _Path[Action] | None
    action: Action

    def actions(self) -> list[Action]:
        found = []
        path: _Path[Action] | None = self
        while path is not None:
            found.append(path.action)
            path = path.before
        return found[::-1]


W = TypeVar("W", bound=World[Any])

_KEPT = 1000
"""How many worlds are kept for the first action that is tried in them. Others are made anew."""


def explore(
    make: Callable[[], W],
    most: int | None = None,
    depth: int | None = None,
    settle: Callable[[W], None] | None = None,
) -> Explored:
    """
    Search all states of a world.

    @param make: makes the world in its first state.
    @param most: the search has failed if there are more states than this. Default: no limit.
    @param depth: go no farther than so many actions. Default: no limit.
    @param settle: is given a world in each new state. It lets everything end that goes on in there,
        and raises any exception if that ends wrong.
    @return: how much was searched.
    @raise Counterexample: if something is wrong.
    """
    try:
        world = make()
        world.check()
        seen = {world.key()}
        if settle is not None:
            settle(world)
    except Exception as error:
        raise Counterexample([], error) from error
    frontier: list[tuple[_Path[Any] | None, W | None]] = [(None, None)]
    steps = reached = 0
    while frontier and reached != depth:
        farther: list[tuple[_Path[Any] | None, W | None]] = []
        for path, found in frontier:
            history = [] if path is None else path.actions()
            world = found or _replayed(make, history)
            for number, action in enumerate(list(world.actions())):
                steps += 1
                if number:
                    world = _replayed(make, history)
                try:
                    world.do(action)
                    world.check()
                    key = world.key()
                    if key not in seen:
                        seen.add(key)
                        isKept = settle is None and len(farther) < _KEPT
                        farther.append((_Path(path, action), world if isKept else None))
                        if settle is not None:
                            settle(world)
                except Exception as error:
                    raise Counterexample([*history, action], error) from error
        if farther:
            reached += 1
        frontier = farther
        if most is not None and len(seen) > most:
            raise AssertionError(f"there are more than {most} states: {len(seen)} so far")
    return Explored(len(seen), steps, reached)


def _replayed(make: Callable[[], W], history: list[Any]) -> W:
    world = make()
    for action in history:
        world.do(action)
    return world

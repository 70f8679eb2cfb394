"""
A search through all states of something that takes actions one at a time.

The search is breadth-first, so a counterexample that it finds is as short as can be. A world is
made anew and led along the actions that lead to a state, rather than copied, because a part that
does no I/O makes thousands of steps in the time of one deep copy.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

Action = TypeVar("Action", bound=Hashable)


class World(Protocol[Action]):
    """
    The thing that is searched, together with what should be true of it.
    """

    def actions(self) -> Iterable[Action]:
        """
        @return: the actions that may happen now. The order is the same in each world with the same
            history.
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


def explore(make: Callable[[], World[Action]], most: int | None = None) -> Explored:
    """
    Search all states of a world.

    @param make: makes the world in its first state.
    @param most: the search has failed if there are more states than this. Default: no limit.
    @return: how much was searched.
    @raise Counterexample: if something is wrong.
    """
    try:
        world = make()
        world.check()
    except Exception as error:
        raise Counterexample([], error) from error
    seen = {world.key()}
    frontier: list[_Path[Action] | None] = [None]
    steps = depth = 0
    while frontier:
        farther: list[_Path[Action] | None] = []
        for path in frontier:
            history = [] if path is None else path.actions()
            for action in list(_replayed(make, history).actions()):
                steps += 1
                world = _replayed(make, history)
                try:
                    world.do(action)
                    world.check()
                except Exception as error:
                    raise Counterexample([*history, action], error) from error
                key = world.key()
                if key not in seen:
                    seen.add(key)
                    farther.append(_Path(path, action))
        if farther:
            depth += 1
        frontier = farther
        if most is not None and len(seen) > most:
            raise AssertionError(f"there are more than {most} states: {len(seen)} so far")
    return Explored(len(seen), steps, depth)


def _replayed(make: Callable[[], World[Action]], history: list[Action]) -> World[Action]:
    world = make()
    for action in history:
        world.do(action)
    return world

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
    onward: Callable[[W], Any] | None = None,
) -> Explored:
    """
    Search all states of a world.

    @param make: makes the world in its first state.
    @param most: the search has failed if there are more states than this. Default: no limit.
    @param depth: go no farther than so many actions. Default: no limit.
    @param settle: is given a world in each new state. It lets everything end that goes on in there,
        and raises any exception if that ends wrong.
    @param onward: is given a world in each state, and says which of its actions brings it nearer to
        its end. It returns C{None} for a world that has come to its end, and raises any exception
        if that is wrong. So every state is seen to lead to a right end, as with C{settle} and at
        less cost, if there is no C{depth}.
    @return: how much was searched.
    @raise Counterexample: if something is wrong.
    """
    return _Search(make, settle, onward).run(most, depth)


@dataclass(frozen=True, slots=True)
class _Place(Generic[W]):
    """
    A state that was found.

    @ivar path: how it is reached. C{None} for the first state.
    @ivar world: a world in this state in which nothing was tried yet, or C{None}.
    """

    path: _Path[Any] | None
    key: Hashable
    world: W | None


class _Search(Generic[W]):
    """
    One search.

    @ivar seen: the states that were found.
    @ivar steps: how many actions were tried in them.
    """

    def __init__(
        self,
        make: Callable[[], W],
        settle: Callable[[W], None] | None,
        onward: Callable[[W], Any] | None,
    ) -> None:
        self._make = make
        self._settle = settle
        self._onward = onward
        self.seen: set[Hashable] = set()
        self.steps = 0
        # To which state the action onward leads from each.
        self._leads: dict[Hashable, Hashable] = {}

    def run(self, most: int | None, depth: int | None) -> Explored:
        """
        Search, from the first state on.
        """
        farther: list[_Place[W]] = []
        try:
            world = self._make()
            world.check()
            self._note(world, None, farther)
        except Exception as error:
            raise Counterexample([], error) from error
        reached = -1
        while farther and reached != depth:
            reached += 1
            frontier, farther = farther, []
            if reached != depth:
                for place in frontier:
                    self._expand(place, farther)
            if most is not None and len(self.seen) > most:
                count = len(self.seen)
                raise AssertionError(f"there are more than {most} states: {count} so far")
        self._checkEnds()
        return Explored(len(self.seen), self.steps, reached)

    def _expand(self, place: _Place[W], farther: list[_Place[W]]) -> None:
        """
        Try all actions in a state.

        @param farther: gets the states that were not found before.
        """
        history = [] if place.path is None else place.path.actions()
        world = place.world or self._replayed(history)
        try:
            onward = None if self._onward is None else self._onward(world)
        except Exception as error:
            raise Counterexample(history, error) from error
        for number, action in enumerate(list(world.actions())):
            self.steps += 1
            if number:
                world = self._replayed(history)
            try:
                world.do(action)
                world.check()
                key = self._note(world, _Path(place.path, action), farther)
            except Exception as error:
                raise Counterexample([*history, action], error) from error
            if action == onward:
                self._leads[place.key] = key

    def _note(self, world: W, path: _Path[Any] | None, farther: list[_Place[W]]) -> Hashable:
        """
        @return: the state of a world, which is added to what was seen.
        """
        key = world.key()
        if key not in self.seen:
            self.seen.add(key)
            isKept = self._settle is None and len(farther) < _KEPT
            farther.append(_Place(path, key, world if isKept else None))
            if self._settle is not None:
                self._settle(world)
        return key

    def _replayed(self, history: list[Any]) -> W:
        world = self._make()
        for action in history:
            world.do(action)
        return world

    def _checkEnds(self) -> None:
        """
        Check that actions onward never lead to a state again from which they went on.
        """
        ending: set[Hashable] = set()
        for start in self._leads:
            way: dict[Hashable, None] = {}
            state: Hashable = start
            while state in self._leads and state not in ending:
                assert state not in way, f"this goes on for ever: {list(way)}"
                way[state] = None
                state = self._leads[state]
            ending.update(way)

"""
Group commits, and what becomes of changes when a store fails.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from asynqueue._dispatch.groupcommit import AGAIN_SECONDS, LARGEST_GROUP, GroupCommit
from asynqueue._dispatch.stores import BEGIN, DEAD, DEAD_LETTER, END, INSERT, WAIT
from asynqueue.errors import StoreError
from asynqueue.rdq import StoredJob
from tests.dispatch.stored import FrailStore, SteppedAside


def put(id: int) -> tuple[str, StoredJob]:
    return INSERT, StoredJob(id, "f", "1", 0, 0.0)


class GroupCommitTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.store = FrailStore()
        self.aside = SteppedAside()
        self.commits = GroupCommit(self.store, self.aside, self.clock)
        self.commits.open()
        self.told: list[Any] = []

    def hear(self, what: Any) -> Any:
        return lambda error: self.told.append(what if error is None else (what, str(error)))

    def attempt(self, *changes: Any) -> None:
        for change in changes:
            self.commits.note(change, self.hear(change[0]), isOwed=False)

    def note(self, *changes: Any) -> None:
        for change in changes:
            self.commits.note(change, self.hear(change[0]))

    def test_whatComesMeanwhileGoesIntoTheNextCommitTogether(self) -> None:
        self.attempt(put(1))
        self.assertEqual(len(self.aside.calls), 1)
        self.attempt(put(2), (BEGIN, 1))
        self.note((END, 1))
        self.assertEqual(len(self.aside.calls), 1, "one commit is underway at a time")
        self.aside.step()
        self.assertEqual(self.told, [INSERT])
        self.aside.step()
        self.assertEqual(self.told, [INSERT, INSERT, BEGIN, END])
        self.assertEqual(self.store.groups, [[put(1)], [put(2), (BEGIN, 1), (END, 1)]])
        self.assertFalse(self.aside.calls)

    def test_whoIsToldMayWriteAgain(self) -> None:
        self.commits.note(put(1), lambda _: self.attempt((BEGIN, 1)), isOwed=False)
        self.aside.stepAll()
        self.assertEqual(self.store.groups, [[put(1)], [(BEGIN, 1)]])

    def test_aGroupIsNoLargerThanItMayBe(self) -> None:
        self.attempt(*(put(number) for number in range(1, 2 * LARGEST_GROUP + 3)))
        self.aside.stepAll()
        sizes = [len(group) for group in self.store.groups]
        self.assertEqual(sizes, [1, LARGEST_GROUP, LARGEST_GROUP, 1])

    def test_whatMustBeWrittenNowFailsAndIsNotTriedAgain(self) -> None:
        self.store.isBroken = True
        self.attempt(put(1))
        self.aside.step()
        self.assertEqual(self.told, [(INSERT, "the disk is full")])
        self.store.isBroken = False
        self.attempt(put(2))
        self.aside.stepAll()
        self.assertEqual(self.store.groups, [[put(2)]])
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(len(self.flushLoggedErrors(StoreError)), 1)

    def test_whatIsOwedGoesFirstIntoTheNextCommit(self) -> None:
        self.attempt(put(1))
        self.aside.step()
        self.store.isBroken = True
        self.note((WAIT, 1, None, "why"))
        self.aside.step()
        self.assertEqual(self.told[-1], (WAIT, "the disk is full"))
        self.store.isBroken = False
        self.attempt((BEGIN, 1))
        self.aside.step()
        self.assertEqual(self.store.groups[-1], [(WAIT, 1, None, "why"), (BEGIN, 1)])
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.flushLoggedErrors(StoreError)

    def test_whatIsOwedIsTriedAgainAfterAWhile(self) -> None:
        self.store.isBroken = True
        self.note((END, 1))
        self.aside.step()
        self.clock.advance(AGAIN_SECONDS)
        self.aside.step()
        self.store.isBroken = False
        self.clock.advance(AGAIN_SECONDS)
        self.aside.step()
        self.assertEqual(self.store.groups, [[(END, 1)]])
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(len(self.flushLoggedErrors(StoreError)), 2)

    def test_aQuestionSeesAllThatWasNotedBefore(self) -> None:
        self.attempt(put(1))
        self.note((DEAD_LETTER, 1, "why"))
        asked = self.commits.ask(DEAD)
        self.aside.step()
        self.assertNoResult(asked)
        # Not this: it comes later, and is written after the answer.
        self.aside.step()
        self.note((END, 1))
        self.aside.step()
        self.assertEqual([job.id for job in self.successResultOf(asked)], [1])
        self.aside.stepAll()
        self.assertEqual(self.store.content(), [])

    def test_closingWritesAllThatWasNoted(self) -> None:
        self.attempt(put(1))
        self.note((BEGIN, 1))
        closed = self.commits.close()
        self.aside.step()
        self.assertNoResult(closed)
        self.aside.stepAll()
        self.assertIsNone(self.successResultOf(closed))
        self.assertEqual([job.attempts for job in self.store.content()], [1])
        self.assertTrue(self.aside.isClosed)

    def test_closingTriesOnceMoreWhatIsOwed(self) -> None:
        self.store.isBroken = True
        self.note((END, 1))
        self.aside.step()
        self.store.isBroken = False
        closed = self.commits.close()
        self.aside.stepAll()
        self.successResultOf(closed)
        self.assertEqual(self.store.groups, [[(END, 1)]])
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.flushLoggedErrors(StoreError)

    def test_aStoreThatFailsToTheLastIsClosedAllTheSame(self) -> None:
        self.store.isBroken = True
        self.note((END, 1))
        closed = self.commits.close()
        self.aside.stepAll()
        self.successResultOf(closed)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertTrue(self.aside.isClosed)
        self.flushLoggedErrors(StoreError)

    def test_afterwardsEverythingFails(self) -> None:
        self.commits.close()
        self.attempt(put(1))
        asked = self.commits.ask(DEAD)
        self.aside.stepAll()
        self.failureResultOf(asked, StoreError)
        self.assertIn("is closed", self.told[0][1])

    def test_whoeverRaisesOnHearingKeepsTheOthersFromNothing(self) -> None:
        self.commits.note(put(1), lambda _: 1 / 0, isOwed=False)
        self.commits.note(put(2), lambda _: 1 / 0, isOwed=False)
        self.attempt(put(3))
        self.aside.stepAll()
        self.assertEqual(self.told, [INSERT])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)

    @given(st.lists(st.sampled_from(["put", "end", "step", "break", "mend"])))
    def test_whatWasToldToBeWrittenIs(self, steps: list[str]) -> None:
        self.setUp()
        safe: set[int] = set()
        ended: set[int] = set()
        last = 0

        def isSafe(id: int, error: StoreError | None) -> None:
            if error is None:
                safe.add(id)

        for step in [*steps, "mend"]:
            if step == "put":
                last += 1
                self.commits.note(put(last), partial(isSafe, last), isOwed=False)
            elif step == "end" and last:
                ended.add(last)
                self.commits.note((END, last))
            elif step == "step" and self.aside.calls:
                self.aside.step()
            else:
                self.store.isBroken = step == "break"
            there = {job.id for job in self.store.content()}
            self.assertLessEqual(safe - ended, there)
        self.commits.close()
        self.aside.stepAll()
        self.assertEqual({job.id for job in self.store.content()}, safe - ended)
        self.flushLoggedErrors(StoreError)

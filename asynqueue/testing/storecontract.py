"""
The promises of stores of jobs, as a test case.
"""

# Trial's assertions carry no annotations.
# mypy: disallow-untyped-calls=False

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from zope.interface.verify import verifyObject

from asynqueue._dispatch.stores import (
    BEGIN,
    BEGUN,
    DEAD,
    DEAD_LETTER,
    END,
    INSERT,
    MOVE,
    REQUEUE,
    WAIT,
    WAITING,
    Change,
    StoredJob,
)
from asynqueue.errors import StoreError, StoreLocked
from asynqueue.interfaces import IJobStore


class JobStoreContract:
    """
    Tests what every provider of L{IJobStore<asynqueue.interfaces.IJobStore>} promises. Mix it into
    a test case::

        class MyStoreTests(JobStoreContract, SynchronousTestCase):
            def makeStore(self):
                return MyStore(self.mktemp())
    """

    def __getattr__(self, name: str) -> Any:
        # Type checkers need this to allow the methods of the test case.
        raise AttributeError(name)

    # A store of the test is of a type of its own.
    def makeStore(self) -> Any:
        """
        Make the store to test. Override this.

        @return: a new and empty store, which is not open.
        """
        raise NotImplementedError("override makeStore() so that it returns a new store")

    def reopened(self, store: Any) -> Any:
        """
        Make a store with the content of one that was closed.

        @return: the store, which is not open. Default: the same store.
        """
        return store

    def opened(self) -> Any:
        """
        Return an open store, which is closed after the test.
        """
        store = self.makeStore()
        self.assertEqual(store.open(), [])
        self.addCleanup(store.close)
        return store

    def job(self, id: int = 1, **fields: Any) -> StoredJob:
        """
        Return a job to insert.
        """
        job = StoredJob(id, "some.function", '"an argument"', 0, 1000.25)
        return replace(job, **fields)

    def after(self, *changes: Change) -> list[StoredJob]:
        """
        Return the jobs in a store that was closed and opened again after these changes.
        """
        store = self.opened()
        store.apply(list(changes))
        store.close()
        store = self.reopened(store)
        jobs: list[StoredJob] = store.open()
        self.addCleanup(store.close)
        return jobs

    def test_itProvidesIJobStore(self) -> None:
        store = self.makeStore()
        self.assertTrue(IJobStore.providedBy(store))
        verifyObject(IJobStore, store)
        self.assertIsInstance(store.name, str)

    def test_whatWasInsertedIsThereAgain(self) -> None:
        jobs = [
            self.job(1, arg=b"\x00\xff", priority=-1.5, unique="key", due=2000.5),
            self.job(2, arg="\u00fc\U0001f600\x00", priority=2**63 - 1),
            self.job(3, priority=math.inf, error="why"),
        ]
        self.assertEqual(self.after(*((INSERT, job) for job in jobs)), jobs)

    def test_theyComeInTheOrderOfTheirNumbers(self) -> None:
        changes = [(INSERT, self.job(number, priority=-number)) for number in (5, 2, 9)]
        self.assertEqual([job.id for job in self.after(*changes)], [2, 5, 9])

    def test_aBeginningCounts(self) -> None:
        begin = (BEGIN, 1)
        found = self.after((INSERT, self.job()), begin, (WAIT, 1, None, None), begin)
        self.assertEqual(found, [self.job(state=BEGUN, attempts=2)])

    def test_oneThatWaitsKnowsWhenAndWhy(self) -> None:
        found = self.after((INSERT, self.job()), (BEGIN, 1), (WAIT, 1, 3000.5, "why"))
        self.assertEqual(found, [self.job(state=WAITING, attempts=1, due=3000.5, error="why")])

    def test_itsPriorityIsTheLatest(self) -> None:
        found = self.after((INSERT, self.job()), (MOVE, 1, 5), (MOVE, 1, -2.5))
        self.assertEqual(found, [self.job(priority=-2.5)])

    def test_oneThatEndedIsGone(self) -> None:
        found = self.after((INSERT, self.job()), (INSERT, self.job(2)), (END, 1))
        self.assertEqual(found, [self.job(2)])

    def test_theDeadAreKeptAndListed(self) -> None:
        store = self.opened()
        store.apply(
            [(INSERT, self.job()), (INSERT, self.job(2)), (BEGIN, 2), (DEAD_LETTER, 2, "why")]
        )
        dead = self.job(2, state=DEAD, attempts=1, error="why")
        self.assertEqual(store.jobs(DEAD), [dead])
        self.assertEqual(store.jobs(WAITING), [self.job()])
        self.assertEqual(store.jobs(BEGUN), [])

    def test_aDeadOneThatIsRevivedIsAsNewAndForTheFunctionThatIsNamed(self) -> None:
        dead = [(INSERT, self.job(due=1.0)), (BEGIN, 1), (DEAD_LETTER, 1, "why")]
        found = self.after(*dead, (REQUEUE, 1, "other.function"))
        self.assertEqual(found, [self.job(function="other.function")])

    def test_aChangeOfAJobThatIsNotThereHasNoEffect(self) -> None:
        changes = [
            (BEGIN, 7),
            (WAIT, 7, None, None),
            (MOVE, 7, 1),
            (END, 7),
            (DEAD_LETTER, 7, "why"),
        ]
        found = self.after((INSERT, self.job()), *changes, (REQUEUE, 7, "other.function"))
        self.assertEqual(found, [self.job()])

    def test_itKnowsTheHighestNumberThatThereEverWas(self) -> None:
        store = self.opened()
        self.assertEqual(store.highest(), 0)
        store.apply([(INSERT, self.job(7)), (END, 7)])
        self.assertEqual(store.highest(), 7)
        store.close()
        store = self.reopened(store)
        self.assertEqual(store.open(), [])
        self.addCleanup(store.close)
        self.assertEqual(store.highest(), 7)

    def test_ofChangesThatFailNoneIsMade(self) -> None:
        store = self.opened()
        store.apply([(INSERT, self.job())])
        for broken in (("no such change", 2), (INSERT, self.job(2))):
            with self.assertRaises(StoreError):
                store.apply([(INSERT, self.job(2)), (END, 1), broken, (INSERT, self.job(3))])
            self.assertEqual(store.jobs(WAITING), [self.job()])
        store.apply([(INSERT, self.job(2))])
        self.assertEqual(store.jobs(WAITING), [self.job(), self.job(2)])

    def test_noChangesAreNoError(self) -> None:
        self.assertEqual(self.after(), [])

    def test_itIsOpenedOnce(self) -> None:
        store = self.opened()
        with self.assertRaises(StoreLocked):
            store.open()
        store.apply([(INSERT, self.job())])

    def test_oneThatIsClosedDoesNothing(self) -> None:
        store = self.opened()
        store.close()
        store.close()
        for use in (lambda: store.apply([(END, 1)]), lambda: store.jobs(DEAD), store.highest):
            with self.assertRaises(StoreError):
                use()

"""
The jobs that wait, and which of them is the next to begin.

Nothing here knows a reactor or a clock: callers say what time it is.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from heapq import heapify, heappop, heappush, merge
from itertools import chain, count
from typing import Any, Final

from asynqueue._core.heap import PriorityHeap
from asynqueue._core.ratelimit import RateLimit
from asynqueue._dispatch.job import Job

FEW: Final = 64
"""With fewer things than this, it is not worth looking for those that can be forgotten."""


class RateBucket:
    """
    The jobs of one key, and the rate at which they may begin.

    @ivar jobs: the jobs that may begin as far as their own times go.
    @ivar announced: the one valid entry of this bucket in the queue's heap of open buckets, or
        C{None}.
    @ivar opensAt: when the rate allows the first job to begin, if it does not allow that yet.
    @ivar starts: the same rate, for jobs that were taken and start some time later.
    """

    __slots__ = ("announced", "jobs", "key", "limit", "opensAt", "starts")

    def __init__(self, key: Hashable, limit: RateLimit | None) -> None:
        self.key = key
        self.limit = limit
        self.jobs: PriorityHeap[Job] = PriorityHeap()
        self.announced: Announced | None = None
        self.opensAt: float | None = None
        self.starts: RateLimit | None = None

    def isIdle(self, now: float) -> bool:
        """
        @return: whether a new bucket would do the same.
        """
        limits = [limit for limit in (self.limit, self.starts) if limit is not None]
        return not self.jobs and all(limit.isIdle(now) for limit in limits)


Announced = tuple[float, int, int, RateBucket]
"""The priority and the id of a bucket's first job, a number that is unique, and the bucket."""


class PendingJobs:
    """
    Gives out jobs in the order of their priorities, lower first, and equal ones in the order of
    putting. A job does not begin before its time, nor while the rate of its key is used up. Such a
    job holds up no other key's.

    Each key has a bucket. The heap of open buckets knows each by its first job, and the heap of
    shut ones by the time when its rate opens it. A changed bucket is announced anew, and its old
    entry is dropped when it comes up.
    """

    def __init__(self, key: Callable[[Any], Hashable] | None = None) -> None:
        """
        @param key: takes a job's argument and returns the key whose rate counts for it. By default
            one rate counts for all.
        """
        self._key = key
        self._rate: tuple[int, float, int | None] | None = None
        self._buckets: dict[Hashable, RateBucket] = {}
        self._many = FEW
        self._delayed: PriorityHeap[Job] = PriorityHeap()
        self._open: list[Announced] = []
        self._shut: list[tuple[float, int, RateBucket]] = []
        self._numbers = count()
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[Job]:
        """
        All jobs, by priority and then in the order of putting.
        """
        return _merged([bucket.jobs for bucket in self._buckets.values()], self._delayed)

    def walk(self) -> Iterator[Job]:
        """
        @return: an iterator over the jobs: those that may begin as far as their own times go, by
            priority, then the delayed ones by their times. Nothing may change while it is used.
        """
        heaps = [bucket.jobs for bucket in self._buckets.values() if bucket.jobs]
        ready = heaps[0].walk() if len(heaps) == 1 else merge(*map(_walk, heaps), key=_place)
        return chain(ready, self._delayed.walk())

    # Jobs -----------------------------------------------------------------------------------------

    def put(self, job: Job, now: float, isNew: bool = True) -> None:
        """
        Add a job, which is new or waits for another attempt.

        @param isNew: whether the job was never here before.
        @raise TypeError: if the key that counts for it is not hashable. (What the key's function
            raises comes through, too.)
        """
        if self._key is not None and isNew:
            key = self._key(job.jobarg)
            # This is to fail here, and not only when the job's time has come.
            hash(key)
            job.key = key
        if job.due is not None and job.due > now:
            self._delayed.put(job, job.due)
            job.home = self._delayed
        else:
            self._join(job, now)
        self._size += 1

    def __contains__(self, job: Job) -> bool:
        home = job.home
        if home is None:
            return False
        if home is self._delayed:
            return True
        bucket = self._buckets.get(job.key)
        return bucket is not None and bucket.jobs is home

    def remove(self, job: Job) -> bool:
        """
        Take out a job.

        @return: whether it was here.
        """
        if job not in self:
            return False
        job.home.cancel(job)
        if job.home is not self._delayed:
            self._announce(self._buckets[job.key])
        job.home = None
        self._size -= 1
        return True

    def reprioritise(self, job: Job, priority: float) -> None:
        """
        Move a job.

        @raise ValueError: if it is not here.
        """
        if job not in self:
            raise ValueError(f"{job} does not wait here")
        job.priority = priority
        if job.home is not self._delayed:
            job.home.reprioritise(job, priority)
            self._announce(self._buckets[job.key])

    def clear(self) -> Iterator[Job]:
        """
        Take out all jobs, at once.

        @return: an iterator over the jobs, by priority and then in the order of putting. Unless
            many are delayed, it takes little time before the first one and between two.
        """
        heaps: list[PriorityHeap[Job]] = []
        for bucket in self._buckets.values():
            heaps.append(bucket.jobs)
            bucket.jobs = PriorityHeap()
            bucket.announced = None
        delayed, self._delayed = self._delayed, PriorityHeap()
        self._open.clear()
        self._size = 0
        return _merged(map(_taken, heaps), delayed)

    def take(self, now: float) -> Job | None:
        """
        @return: the next job to begin at this time, which is taken out; C{None} if there is none,
            or none that may begin.
        """
        bucket = self._nextBucket(now)
        if bucket is None:
            return None
        heappop(self._open)
        bucket.announced = None
        if bucket.limit is not None:
            bucket.limit.take(now)
        job = bucket.jobs.take()
        job.home = None
        self._size -= 1
        self._announce(bucket)
        return job

    def hasNext(self, now: float) -> bool:
        """
        @return: whether L{take} would give a job at this time.
        """
        return self._nextBucket(now) is not None

    def _nextBucket(self, now: float) -> RateBucket | None:
        """
        @return: the bucket of the next job to begin, whose entry then is the first of the heap.
        """
        if self._shut or self._delayed:
            self._wake(now)
        while self._open:
            entry = self._open[0]
            bucket = entry[3]
            # Otherwise the bucket has had another first job since.
            if bucket.announced is entry:
                limit = bucket.limit
                if limit is None or (until := limit.earliest()) <= now:
                    return bucket
                bucket.announced = None
                bucket.opensAt = until
                heappush(self._shut, (until, next(self._numbers), bucket))
            heappop(self._open)
        return None

    def nextTime(self) -> float | None:
        """
        @return: when L{take}, which just now gave nothing, may give something if nothing changes;
            C{None} if never.
        """
        while self._shut:
            opensAt, _, bucket = self._shut[0]
            if bucket.opensAt == opensAt and bucket.jobs:
                break
            heappop(self._shut)
            if bucket.opensAt == opensAt:
                # A job that comes before that time finds the limit.
                bucket.opensAt = None
        times = [self._shut[0][0]] if self._shut else []
        delayed = self._delayed.head()
        if delayed is not None and delayed.due is not None:
            times.append(delayed.due)
        return min(times, default=None)

    # Rates ----------------------------------------------------------------------------------------

    @property
    def rate(self) -> tuple[int, float, int | None] | None:
        """
        The rate, the window's length in seconds and the burst; C{None} if there is no limit.
        """
        return self._rate

    def setRate(self, rate: tuple[int, float, int | None] | None) -> None:
        """
        Change the rate of every key. The starts that are known still count.

        @raise ValueError: if these numbers are not a rate.
        """
        if rate is not None:
            RateLimit(*rate)
        self._rate = rate
        self._shut.clear()
        for bucket in self._buckets.values():
            if rate is None:
                bucket.limit = bucket.starts = None
            else:
                bucket.limit = bucket.limit.changed(*rate) if bucket.limit else RateLimit(*rate)
                bucket.starts = bucket.starts and bucket.starts.changed(*rate)
            bucket.opensAt = None
            self._announce(bucket)

    def startTime(self, job: Job, now: float) -> float:
        """
        Ask for the start of a job that was taken before, and could not start at once. Several such
        jobs, held up for different times, would otherwise come too close together.

        @return: when the job may start. If that is C{now} or before, it counts as started.
        """
        if self._rate is None:
            return now
        bucket = self._buckets.get(job.key) or self._newBucket(job.key, now)
        if bucket.starts is None:
            bucket.starts = RateLimit(*self._rate)
        return now if bucket.starts.take(now) else bucket.starts.earliest()

    def _newBucket(self, key: Hashable, now: float) -> RateBucket:
        if len(self._buckets) >= self._many:
            idle = [k for k, bucket in self._buckets.items() if bucket.isIdle(now)]
            for k in idle:
                del self._buckets[k]
            self._many = max(FEW, 2 * len(self._buckets))
        limit = None if self._rate is None else RateLimit(*self._rate)
        bucket = self._buckets[key] = RateBucket(key, limit)
        return bucket

    # Opening and closing --------------------------------------------------------------------------

    def _join(self, job: Job, now: float) -> None:
        bucket = self._buckets.get(job.key) or self._newBucket(job.key, now)
        bucket.jobs.put(job)
        job.home = bucket.jobs
        announced = bucket.announced
        if announced is None or (job.priority, job.id) < announced:
            self._announce(bucket)

    def _announce(self, bucket: RateBucket) -> None:
        """
        See to it that the heap of open buckets knows a bucket's first job, if the bucket is open.
        """
        job = bucket.jobs.head()
        if job is None or bucket.opensAt is not None:
            bucket.announced = None
        elif bucket.announced is None or bucket.announced[:2] != (job.priority, job.id):
            bucket.announced = entry = job.priority, job.id, next(self._numbers), bucket
            heappush(self._open, entry)
            if len(self._open) > FEW + 2 * len(self._buckets):
                self._open = [entry for entry in self._open if entry[3].announced is entry]
                heapify(self._open)

    def _wake(self, now: float) -> None:
        """
        Bring back what may begin now.
        """
        delayed, shut = self._delayed, self._shut
        while (job := delayed.head()) is not None and job.due is not None and job.due <= now:
            self._join(delayed.take(), now)
        while shut and shut[0][0] <= now:
            opensAt, _, bucket = heappop(shut)
            if bucket.opensAt == opensAt:
                bucket.opensAt = None
                self._announce(bucket)


def _place(job: Job) -> tuple[float, int]:
    return job.priority, job.id


def _walk(heap: PriorityHeap[Job]) -> Iterator[Job]:
    return heap.walk()


def _taken(heap: PriorityHeap[Job]) -> Iterator[Job]:
    while heap:
        yield heap.take()


def _merged(heaps: Iterable[Iterable[Job]], delayed: PriorityHeap[Job]) -> Iterator[Job]:
    each = [*heaps, sorted(delayed, key=_place)] if delayed else [*heaps]
    return iter(each[0]) if len(each) == 1 else merge(*each, key=_place)

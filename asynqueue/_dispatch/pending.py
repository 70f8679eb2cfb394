"""
The jobs that wait, and which of them is the next to begin. No reactor, no I/O: whoever asks says
what time it is.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Any, Final

from asynqueue._core.heap import PriorityHeap
from asynqueue._core.ratelimit import RateLimit
from asynqueue._dispatch.job import Job

FEW: Final = 64
"""With fewer things than this, looking for those that can be forgotten is not worth its while."""


class RateBucket:
    """
    The jobs of one key, and the rate at which they may begin.

    @ivar announced: the one entry by which the line knows the first job, if that may begin as far
        as is known.
    @ivar opensAt: when the first job may begin, if it may not yet.
    @ivar starts: the same rate, for the jobs that were taken and start some time after that.
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
        @return: whether nothing has to be known of it.
        """
        limits = [limit for limit in (self.limit, self.starts) if limit is not None]
        return not self.jobs and all(limit.isIdle(now) for limit in limits)


Announced = tuple[float, int, int, RateBucket]
"""A lane's first job, by priority and id; a number that is never the same twice; and the lane."""


class PendingJobs:
    """
    Gives out jobs in the order of their priorities, lower first, equal ones in the order of
    putting; but none before its time, and none of a key whose rate is used up. Those hold up nobody
    else.
    """

    def __init__(self, key: Callable[[Any], Hashable] | None = None) -> None:
        """
        @param key: takes a job's argument, and gives the key whose rate counts for it. By default
            one rate counts for all.
        """
        self._key = key
        self._rate: tuple[int, float, int | None] | None = None
        self._lanes: dict[Hashable, RateBucket] = {}
        self._many = FEW
        self._delayed: PriorityHeap[Job] = PriorityHeap()
        # The first job of each lane that is open; and the lanes that are not, by when they open.
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
        heaps = [self._delayed, *(lane.jobs for lane in self._lanes.values())]
        jobs = [job for heap in heaps for job in heap]
        return iter(sorted(jobs, key=lambda job: (job.priority, job.id)))

    # Jobs -----------------------------------------------------------------------------------------

    def put(self, job: Job, now: float, isNew: bool = True) -> None:
        """
        A job came, or waits for another attempt.

        @param isNew: whether it was never here before.
        @raise TypeError: if the key that counts for it is not hashable. (What the key's function
            raises comes through, too.)
        """
        if self._key is not None and isNew:
            key = self._key(job.jobarg)
            # Not only when its time has come.
            hash(key)
            job.key = key
        if job.due is not None and job.due > now:
            self._delayed.put(job, job.due, job.id)
            job.home = self._delayed
        else:
            self._join(job, now)
        self._size += 1

    def has(self, job: Job) -> bool:
        """
        @return: whether it waits here.
        """
        home = job.home
        return home is not None and (home is self._delayed or self._lanes.get(job.key) is home)

    def remove(self, job: Job) -> bool:
        """
        A job is no longer wanted.

        @return: whether it was here.
        """
        home = job.home
        if not self.has(job):
            return False
        if home is self._delayed:
            self._delayed.cancel(job)
        else:
            home.jobs.cancel(job)
            self._announce(home)
        job.home = None
        self._size -= 1
        return True

    def reprioritise(self, job: Job, priority: float) -> None:
        """
        Move a job.

        @raise ValueError: if it is not here.
        """
        home = job.home
        if not self.has(job):
            raise ValueError(f"{job} does not wait here")
        job.priority = priority
        if home is not self._delayed:
            home.jobs.reprioritise(job, priority)
            self._announce(home)

    def clear(self) -> list[Job]:
        """
        Take all jobs out.

        @return: the jobs, by priority.
        """
        jobs = list(self)
        self._delayed.clear()
        for lane in self._lanes.values():
            lane.jobs.clear()
            lane.announced = None
        for job in jobs:
            job.home = None
        self._open.clear()
        self._size = 0
        return jobs

    def take(self, now: float) -> Job | None:
        """
        @return: the next job to begin at this time, which is not here any more; C{None} if there is
            none, or none that may begin.
        """
        if self._shut or self._delayed:
            self._wake(now)
        while self._open:
            entry = heappop(self._open)
            lane = entry[3]
            if lane.announced is not entry:
                # It has another first job since.
                continue
            lane.announced = None
            limit = lane.limit
            if limit is not None and not limit.take(now):
                self._close(lane, limit.earliest())
                continue
            job = lane.jobs.take()
            job.home = None
            self._size -= 1
            self._announce(lane)
            return job
        return None

    def nextTime(self) -> float | None:
        """
        @return: when L{take}, which just now gave nothing, may give something if nothing changes;
            C{None} if never.
        """
        while self._shut:
            opensAt, _, lane = self._shut[0]
            isLatest = lane.opensAt == opensAt
            if isLatest and lane.jobs:
                break
            heappop(self._shut)
            if isLatest:
                # Nobody waits for it. Whoever comes before that time finds its limit.
                lane.opensAt = None
        times = [self._shut[0][0]] if self._shut else []
        delayed = self._delayed.head()
        if delayed is not None:
            times.append(delayed[0])
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
        Change it, for each key. The starts that are known go on to count.

        @raise ValueError: if these are no rate.
        """
        if rate is not None:
            RateLimit(*rate)
        self._rate = rate
        self._shut.clear()
        for lane in self._lanes.values():
            if rate is None:
                lane.limit = lane.starts = None
            else:
                lane.limit = lane.limit.changed(*rate) if lane.limit else RateLimit(*rate)
                lane.starts = lane.starts and lane.starts.changed(*rate)
            lane.opensAt = None
            self._announce(lane)

    def startTime(self, job: Job, now: float) -> float:
        """
        Ask for the start of a job that was taken before, and could not start at once. If several
        were held up for different times, they would come too close together.

        @return: when it may start: if that is C{now} or before, it counts as started.
        """
        if self._rate is None:
            return now
        lane = self._laneOf(job.key, now)
        if lane.starts is None:
            lane.starts = RateLimit(*self._rate)
        return now if lane.starts.take(now) else lane.starts.earliest()

    def _laneOf(self, key: Hashable, now: float) -> RateBucket:
        lane = self._lanes.get(key)
        if lane is None:
            if len(self._lanes) >= self._many:
                self._forget(now)
            limit = None if self._rate is None else RateLimit(*self._rate)
            lane = self._lanes[key] = RateBucket(key, limit)
        return lane

    def _forget(self, now: float) -> None:
        """
        Forget the lanes of which nothing has to be known.
        """
        self._lanes = {key: lane for key, lane in self._lanes.items() if not lane.isIdle(now)}
        self._many = max(FEW, 2 * len(self._lanes))

    # Opening and closing --------------------------------------------------------------------------

    def _join(self, job: Job, now: float) -> None:
        lane = self._laneOf(job.key, now)
        lane.jobs.put(job, job.priority, job.id)
        job.home = lane
        announced = lane.announced
        if announced is None or (job.priority, job.id) < announced:
            self._announce(lane)

    def _announce(self, lane: RateBucket) -> None:
        """
        See to it that the line knows a lane's first job, if the lane is open.
        """
        place = lane.jobs.head()
        if place is None or lane.opensAt is not None:
            lane.announced = None
        elif lane.announced is None or lane.announced[:2] != place[:2]:
            lane.announced = entry = place[0], place[1], next(self._numbers), lane
            heappush(self._open, entry)
            if len(self._open) > FEW + 2 * len(self._lanes):
                self._open = [entry for entry in self._open if entry[3].announced is entry]
                heapify(self._open)

    def _close(self, lane: RateBucket, until: float) -> None:
        lane.opensAt = until
        heappush(self._shut, (until, next(self._numbers), lane))

    def _wake(self, now: float) -> None:
        """
        Bring back what may begin now.
        """
        delayed, shut = self._delayed, self._shut
        while (place := delayed.head()) is not None and place[0] <= now:
            self._join(delayed.take(), now)
        while shut and shut[0][0] <= now:
            opensAt, _, lane = heappop(shut)
            if lane.opensAt == opensAt:
                lane.opensAt = None
                self._announce(lane)

"""
A worker in a child process.
"""

from __future__ import annotations

import sys
from collections.abc import Hashable, Iterable
from multiprocessing.context import BaseContext
from typing import Any, ClassVar

from twisted.internet.interfaces import IReactorTime

from asynqueue._core.checks import checkSeconds
from asynqueue._runner.codecs import CODECS, PicklerName
from asynqueue._runner.exceptions import Described
from asynqueue._runner.logs import levels
from asynqueue._runner.processmain import ChildOptions
from asynqueue._workers.channelworker import ChannelWorker
from asynqueue._workers.preload import PreloadServer, preloadServer
from asynqueue._workers.processchannel import START_SECONDS, PipeChannel, pollingDelay
from asynqueue._workers.procinfo import cores
from asynqueue._workers.reaper import programReaper
from asynqueue._workers.restart import Recycling
from asynqueue._workers.startmethods import packerFor
from asynqueue.errors import CallNotRebuilt
from asynqueue.interfaces import IChannel


class ProcessWorker(ChannelWorker):
    """
    Runs tasks in a child process, one at a time.

    A call's function, arguments and result are pickled to cross the pipe, so the child must be able
    to import the function by its name, unless C{pickler} is C{"cloudpickle"}. NumPy arrays and
    other large buffers, C{bytes} and C{bytearray} are sent without being copied, a few megabytes in
    each turn of the reactor. They must not change until the call's Deferred has fired. Everything
    else is pickled at once.

    If the process dies, only the task that it was running fails, with C{WorkerDied}. The processes
    that its tasks have started are killed. The worker starts another process and goes on.

    @cvar interval: the first interval of polling the pipe, in seconds. If the reactor watches file
        descriptors, polling is for emergencies, and the first interval is longer.
    @cvar backoff: the factor by which each interval is longer than the last, from 1.0 to 1.3.
    """

    cQualified: ClassVar[list[Hashable]] = ["process", "local"]

    interval = 0.001
    backoff = 1.10

    def __init__(
        self,
        series: Iterable[Hashable] = (),
        raw: bool = False,
        callStats: bool = False,
        useReactor: bool = False,
        reactor: IReactorTime | None = None,
        context: BaseContext | None = None,
        forwardLogs: bool = True,
        maxTasks: int | None = None,
        maxKilobytes: int | None = None,
        preload: Iterable[str] = (),
        startTimeout: float = START_SECONDS,
        pickler: PicklerName = "pickle",
    ) -> None:
        """
        Start the first process.

        @param series: the series that this worker is qualified for, besides C{None}, C{'process'}
            and C{'local'}.
        @param raw: whether an iterator that a task returns is brought back as it is, which must
            then be picklable, where the call does not say. Default: C{False}; its items are
            streamed.
        @param callStats: whether to keep the times that C{stats} returns. Default: C{False}.
        @param useReactor: whether the process runs a reactor, so that a function may return a
            Deferred, or a coroutine that awaits Deferreds. The next call begins when it has fired.
            Without a reactor, a coroutine runs in an C{asyncio} event loop of the process. Default:
            C{False}.
        @param reactor: the clock, which also watches the pipe if it can. Default: the global
            reactor.
        @param context: the C{multiprocessing} context to start processes with. Default: the
            C{forkserver} method, or C{spawn} where there is none.
        @param forwardLogs: whether messages that the process logs, with C{logging} or Twisted's
            logger, are logged in this one, with the worker and the task's ID. The levels that are
            set here when the process starts decide which messages are sent. Default: C{True}.
        @param maxTasks: after how many tasks a new process replaces the old one, which runs the
            calls that were sent ahead before it ends. Default: never.
        @param maxKilobytes: above how many kilobytes of resident memory a new process replaces the
            old one. The memory is measured between two tasks, once a second at the most. Default:
            never.
        @param preload: the names of modules that are loaded once, in a server that later processes
            are forked from, so that these start in milliseconds. C{"__main__"} is the program's
            main module. A module that starts a thread when it is imported cannot be loaded there.
            This is logged once, and then each process loads all its modules itself.
        @param startTimeout: within how many seconds a new process has to be ready for calls. If it
            is not, as where its main module hangs when it is imported, it is killed and the worker
            gives up.
        @param pickler: C{"pickle"}, or C{"cloudpickle"} to send functions and classes by value
            that the process cannot import, such as lambdas, closures, and those of the main module,
            which the process does not import then. Default: C{"pickle"}.
        @raise TypeError: if C{preload} is not a list of texts.
        @raise ValueError: if C{preload} is given together with another start method than
            C{forkserver}, or there is no such pickler.
        @raise ExtraMissing: if the pickler is not installed.
        """
        self.packer = packerFor(pickler, isForked=_isForking(context))
        self.codec = CODECS[pickler]._replace(rebuild=self._rebuild)
        self._pickler = pickler
        self._startTimeout = checkSeconds("startTimeout", startTimeout, positive=True, finite=True)
        self._raw = raw
        self._useReactor = useReactor
        self._forwardLogs = forwardLogs
        self._context = context
        self._preload: PreloadServer | None = None
        if preload:
            if context is not None and context.get_start_method() != "forkserver":
                method = context.get_start_method()
                raise ValueError(f"preload needs the start method forkserver, not {method}")
            self._preload = preloadServer(preload)
            self._preload.hold()
        super().__init__(series, callStats, reactor, Recycling(maxTasks, maxKilobytes))
        # The reaper is held for the worker's whole life, because processes come and go.
        self._reaper = programReaper()
        self._reaper.hold()
        self._supervisor.whenEnded().addCallback(self._letGo)

    def _letGo(self, _: object) -> None:
        self._reaper.letGo()
        if self._preload is not None:
            self._preload.letGo()

    def makeChannel(self) -> IChannel:
        """
        Make the channel to one new process.
        """
        delay = pollingDelay(self._reactor, self.interval, self.backoff)
        options = ChildOptions(
            raw=self._raw,
            useReactor=self._useReactor,
            logLevels=levels() if self._forwardLogs else None,
            pickler=self._pickler,
        )
        context = None if self._preload is None else self._preload.context(self._useReactor)
        return PipeChannel(
            self._reactor, delay, options, context or self._context, self._startTimeout
        )

    def _rebuild(self, described: Described) -> BaseException:
        """
        Rebuild an exception. If the process did not find a module, a note tells whether it would
        have been found in a folder that was added here since.
        """
        error = CODECS[self._pickler].rebuild(described)
        assert isinstance(self._channel, PipeChannel)
        known = self._channel.searchPath
        added = [folder for folder in sys.path if folder not in known]
        if added and isinstance(error, CallNotRebuilt) and "ModuleNotFoundError" in str(error):
            error.add_note(
                f"sys.path has changed since worker process {self._channel.pid} was started, which "
                f"does not have {', '.join(map(repr, added))}. Change it before you make the "
                f"worker, or in the process as well: queue.update(site.addsitedir, {added[0]!r})"
            )
        return error

    @staticmethod
    def cores() -> int:
        """
        Return how many processor cores this program may use.
        """
        return cores()

    @property
    def process(self) -> Any:
        """
        The present C{multiprocessing} process.
        """
        assert isinstance(self._channel, PipeChannel)
        return self._channel.process

    def memUsage(self) -> int | None:
        """
        Return the process's resident memory in kilobytes, or C{None} if it is not running.
        """
        return self._channel.residentKilobytes()


def _isForking(context: BaseContext | None) -> bool:
    """
    Whether processes of a context have everything that this one has.
    """
    return context is not None and context.get_start_method() == "fork"

"""
What C{twist asynqueue} and C{twistd asynqueue} run: the server of C{asynqueue serve}, with the same
options.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

from twisted.application.service import IService, MultiService
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.usage import Options as TwistedOptions

from asynqueue._command import (
    SERVE_EXAMPLES,
    CommandParser,
    UsageError,
    addServerOptions,
    makeServer,
)
from asynqueue._reactor import defaultReactor
from asynqueue._workers.wire.server import RemoteService

_log = Logger()


class Options(TwistedOptions):
    """
    The options of the command, as C{argparse} finds them.

    @ivar found: the options.
    """

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """
        Parse the command line after C{twist asynqueue}. A wrong option ends the program with one
        sentence and exit status 2.
        """
        parser = CommandParser(
            "twist asynqueue",
            description="Run the calls of RemoteWorkers, each client's in processes of its own.",
            epilog=SERVE_EXAMPLES.replace("asynqueue serve", "twist asynqueue"),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        addServerOptions(parser)
        try:
            self.found = parser.parse_args(options)
        except UsageError as error:
            _refuse(error)


def makeService(options: Options) -> IService:
    """
    Make the server.

    @param options: what was parsed.
    """
    try:
        return ListeningService(makeServer(options.found), options.found.listen)
    except UsageError as error:
        _refuse(error)


class ListeningService(MultiService):
    """
    The server in a program that is of no use if the server cannot listen.
    """

    def __init__(self, server: RemoteService, address: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # Twisted has no types here
        self._address = address
        self._isStarting = False
        self._trouble: UsageError | None = None
        server.setServiceParent(self)  # type: ignore[no-untyped-call]
        server.whenListening.addErrback(self._cannotListen)

    def startService(self) -> None:
        """
        Start the server. If it cannot listen, end the program with one sentence and exit status 2.
        """
        self._isStarting = True
        super().startService()  # type: ignore[no-untyped-call]
        self._isStarting = False
        if self._trouble is not None:
            _refuse(self._trouble)

    def _cannotListen(self, failure: Failure) -> None:
        why = f"cannot listen at {self._address}: {failure.getErrorMessage()}"
        if self._isStarting:
            # An exception that is raised here would end in the Deferred.
            self._trouble = UsageError(why)
        else:
            _log.critical("{why}", why=why)
            defaultReactor().callWhenRunning(defaultReactor().stop)


def _refuse(error: UsageError) -> NoReturn:
    sys.stderr.write(f"twist asynqueue: {error}\n")
    sys.exit(2)

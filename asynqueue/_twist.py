"""
What C{twist asynqueue} and C{twistd asynqueue} run: the server of C{asynqueue serve}, with the same
options.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

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


def makeService(options: Options) -> RemoteService:
    """
    Make the server.

    @param options: what was parsed.
    """
    try:
        service = makeServer(options.found)
    except UsageError as error:
        _refuse(error)

    def cannotListen(failure: Failure) -> None:
        _log.critical(
            "cannot listen at {address}: {why}",
            address=options.found.listen,
            why=failure.getErrorMessage(),
        )
        defaultReactor().stop()

    service.whenListening.addErrback(cannotListen)
    return service


def _refuse(error: UsageError) -> NoReturn:
    sys.stderr.write(f"twist asynqueue: {error}\n")
    sys.exit(2)

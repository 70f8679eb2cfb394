"""
The progress of the reading, shown on a terminal.
"""

from __future__ import annotations

from types import TracebackType
from typing import Self, TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)


class ProgressBar:
    """
    I show a bar in bytes, with the speed and the time that is left, on a terminal; on anything
    else nothing. As a context manager I remove it.
    """

    def __init__(self, stream: TextIO) -> None:
        """
        @param stream: where to show it.
        """
        console = Console(file=stream)
        self._progress = Progress(
            TextColumn("[bold]reading"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=console,
            transient=True,
            # Drawn when something arrives, in the reactor's thread: what a second thread draws
            # would be in the way of signals, and takes time from the parsing.
            auto_refresh=False,
            disable=not console.is_terminal,
        )
        self._task: TaskID | None = None
        self._drawn = 0.0

    def begin(self, total: int | None) -> None:
        """
        See L{Watcher<examples.weblog.run.Watcher>}.
        """
        self._task = self._progress.add_task("", total=total)
        self._progress.start()

    def advance(self, count: int) -> None:
        """
        See L{Watcher<examples.weblog.run.Watcher>}.
        """
        assert self._task is not None
        self._progress.advance(self._task, count)
        now = self._progress.get_time()
        if now >= self._drawn + 0.1:
            self._drawn = now
            self._progress.refresh()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._progress.stop()

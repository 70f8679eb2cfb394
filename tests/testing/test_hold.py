"""
Held calls fail with a clear error if the worker cannot hold them.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from asynqueue.testing import DeferredHold, FileHold, Hold, TaskOwner, far


def test_aCallThatNobodyReleasesEndsAndSaysWhatToOverride(tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    with pytest.raises(TimeoutError, match="makeHold"):
        far.blockUntil(str(begun), str(tmp_path / "released"), -1.0)
    assert begun.exists()


def test_aCallThatWasReleasedEnds(tmp_path: Path) -> None:
    hold = FileHold(str(tmp_path))
    hold.release()
    assert hold.function(*hold.args) is None


def test_aCallWhoseFolderIsGoneEnds(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()

    def removed(path: str) -> None:
        os.rmdir(folder)

    touch, far.touch = far.touch, removed
    try:
        far.blockUntil(str(folder / "begun"), str(folder / "released"), 20.0)
    finally:
        far.touch = touch


def test_aDeferredHoldIsReleasedOnceEvenIfItsDeferredWasCancelled() -> None:
    hold = DeferredHold()
    d = hold.function()
    d.addErrback(lambda _: None)
    d.cancel()
    hold.release()
    hold.release()


def test_aPlainHoldHoldsNothing() -> None:
    hold = Hold()
    hold.release()
    assert hold.function(*hold.args) is None


class BegunTests(SynchronousTestCase):
    def test_aTaskThatEndsWithoutHavingBegunIsToldOf(self) -> None:
        task = TaskOwner(Clock()).make(far.echo)
        task.errback(RuntimeError("it was refused"))
        hold = FileHold(self.mktemp())
        with self.assertRaises(AssertionError):
            hold.begun(task).send(None)

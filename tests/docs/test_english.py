"""
The pages and the docstrings are written to be read once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest

from tests.docs.english import INVERTED, docstringSentences, pageSentences


@pytest.mark.parametrize("sentences", [pageSentences, docstringSentences])
def test_sentencesBeginWithTheirSubject(sentences: Callable[[], Iterable[tuple[str, str]]]) -> None:
    found = list(sentences())
    inverted = [(where, text) for where, text in found if INVERTED.match(text)]
    assert len(inverted) < len(found) / 100, inverted


@pytest.mark.parametrize(
    "text", ["What is no number is refused.", "Those that wait are lost.", "Whoever calls waits."]
)
def test_anInvertedSentenceIsFound(text: str) -> None:
    assert INVERTED.match(text)


@pytest.mark.parametrize("text", ["What is a task?", "The value is refused.", "Whatsoever"])
def test_otherSentencesAreNot(text: str) -> None:
    assert not INVERTED.match(text)

"""
The pages are whole: their tables, and the pictures of the README.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from docutils import nodes

from tests.docs.pages import PAGES, ROOT, readPage

MOST_BYTES = 150_000


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_noRowOfATableIsTornApart(page: Path) -> None:
    # In a simple table, a line that begins in the first column begins a row.
    torn = [
        cells
        for row in readPage(page).findall(nodes.row)
        if len(cells := [cell.astext() for cell in row.children]) == 2 and cells[0] and not cells[1]
    ]
    assert torn == []


def test_thePicturesOfTheREADMEAreThereAndSmall() -> None:
    pictures = [image["uri"] for image in readPage(ROOT / "README.rst").findall(nodes.image)]
    assert len(pictures) >= 2
    sizes = {picture: (ROOT / picture).stat().st_size for picture in pictures}
    assert [picture for picture, size in sizes.items() if size > MOST_BYTES] == []

"""
Reading what people type into the form.
"""

from __future__ import annotations

import re
from typing import NamedTuple

LONGEST_TEXT = 480
"""How many characters a text may have: three parts of 160."""

MOST_NUMBERS = 1000
"""How many numbers a form may have."""

_BETWEEN_NUMBERS = re.compile(r"[,;\r\n]")
_WITHIN_A_NUMBER = re.compile(r"[ \t./()-]")
# ITU-T E.164: a country code, which never begins with 0, and no more than 15 digits in all.
_E164 = re.compile(r"\+[1-9][0-9]{6,14}")


class Numbers(NamedTuple):
    """
    The numbers that somebody typed.

    @ivar good: the valid numbers, as C{+} and digits, in the order of typing, each of them once.
    @ivar bad: the lines that are no number, as they were typed.
    """

    good: list[str]
    bad: list[str]


def parseNumbers(typed: str) -> Numbers:
    """
    Read telephone numbers with their country codes, one a line or separated by commas.
    """
    good: dict[str, None] = {}
    bad = []
    for piece in filter(None, map(str.strip, _BETWEEN_NUMBERS.split(typed))):
        number = _WITHIN_A_NUMBER.sub("", piece)
        if number.startswith("00"):
            number = f"+{number[2:]}"
        if _E164.fullmatch(number):
            good[number] = None
        else:
            bad.append(piece)
    return Numbers(list(good), bad)


def complaints(numbers: Numbers, text: str) -> list[str]:
    """
    @return: what is wrong with a form, each as a sentence; nothing if it can be sent.
    """
    found = [
        f"{piece} is no telephone number with a country code, such as +44 20 7946 0123."
        for piece in numbers.bad
    ]
    if not numbers.good and not numbers.bad:
        found.append("There is no telephone number.")
    if len(numbers.good) > MOST_NUMBERS:
        found.append(f"There are {len(numbers.good)} numbers; at most {MOST_NUMBERS} go at once.")
    if not text.strip():
        found.append("There is no text.")
    if len(text) > LONGEST_TEXT:
        found.append(f"The text has {len(text)} characters; at most {LONGEST_TEXT} go into one.")
    return found

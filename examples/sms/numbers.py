"""
Reading what people type into the form.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final, NamedTuple

MOST_PARTS: Final = 3
"""Into how many parts a text may be divided on its way."""

MOST_NUMBERS: Final = 1000
"""How many numbers a form may have."""

_BETWEEN_NUMBERS = re.compile(r"[,;\r\n]")
_WITHIN_A_NUMBER = re.compile(r"\([ \t]*(0)[ \t]*\)|[ \t./()-]")
# ITU-T E.164: a country code, which never begins with 0, and no more than 15 digits in all.
_E164 = re.compile(r"\+[1-9][0-9]{6,14}")
# E.164's country codes have one digit, two, or otherwise three.
_COUNTRY = re.compile(
    r"\+([17]|2[07]|3[0-469]|4[013-9]|5[1-8]|6[0-6]|8[1246]|9[0-58]|[2-9][0-9]{2})"
    r"(\(0\))?([0-9]+)"
)

_ZERO_STAYS: Final = ("39", "225", "229", "241", "242", "378", "379")
"""The countries whose numbers may begin with 0 when somebody calls from abroad: Italy, Ivory Coast,
Benin, Gabon, Congo, San Marino, Vatican. Elsewhere the 0 is dialled within the country only."""


class Numbers(NamedTuple):
    """
    The numbers that somebody typed.

    @ivar good: the valid numbers, as C{+} and digits, in the order of typing, each of them once.
    @ivar bad: the lines that are not a number, as they were typed.
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
        number = _parseNumber(piece)
        if number is None:
            bad.append(piece)
        else:
            good[number] = None
    return Numbers(list(good), bad)


def _parseNumber(piece: str) -> str | None:
    """
    @return: the number; C{None} if it is not valid, or if it may mean one number or another: a text
        to a wrong number is worse than none.
    """
    # All parentheses are gone, except those of "(0)".
    number = _WITHIN_A_NUMBER.sub(lambda found: "(0)" if found[1] else "", piece)
    if number.startswith("00"):
        number = f"+{number[2:]}"
    country = _COUNTRY.fullmatch(number)
    if country is None:
        return None
    code, optionalZero, rest = country.groups()
    # The 0 that may be left out belongs to some numbers of these countries, and not to others.
    isUnclear = optionalZero if code in _ZERO_STAYS else rest.startswith("0")
    number = f"+{code}{rest}"
    return None if isUnclear or not _E164.fullmatch(number) else number


# Texts --------------------------------------------------------------------------------------------

_GSM_BASIC: Final = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
"""The default alphabet of GSM 03.38 (3GPP TS 23.038). Its escape is no character of its own."""

_GSM_EXTENSION: Final = frozenset("^{}\\[~]|€\f")
"""The characters that are sent as an escape and another, and count as two."""


class Alphabet(NamedTuple):
    """
    How the characters of a text travel.

    @ivar name: what it is called.
    @ivar whole: how many units go into a text of one part.
    @ivar part: how many go into each part of a longer one, next to what joins the parts again.
    """

    name: str
    whole: int
    part: int


GSM_7: Final = Alphabet("GSM-7", 160, 153)
UCS_2: Final = Alphabet("UCS-2", 70, 67)


class Measure(NamedTuple):
    """
    How a text travels.

    @ivar alphabet: L{GSM_7}, or L{UCS_2} if a character is not in that.
    @ivar units: how long the text is, in units of the alphabet.
    @ivar parts: into how many parts the text is divided.
    """

    alphabet: Alphabet
    units: int
    parts: int


def measureText(text: str) -> Measure:
    """
    Tell how many parts a text has. A character of two units is not divided, so a part may end with
    a unit of which nothing is made.
    """
    if all(each in _GSM_BASIC or each in _GSM_EXTENSION for each in text):
        alphabet = GSM_7
        units = [2 if each in _GSM_EXTENSION else 1 for each in text]
    else:
        alphabet = UCS_2
        units = [2 if ord(each) > 0xFFFF else 1 for each in text]
    total = sum(units)
    if total <= alphabet.whole:
        return Measure(alphabet, total, 1)
    count, room = 1, alphabet.part
    for each in units:
        if each > room:
            count, room = count + 1, alphabet.part
        room -= each
    return Measure(alphabet, total, count)


def readText(typed: str) -> str:
    """
    @param typed: a text as a browser sends it, with two characters for a line break.
    @return: the text with one for each.
    """
    return typed.replace("\r\n", "\n").replace("\r", "\n")


def complaints(numbers: Numbers, text: str) -> list[str]:
    """
    @return: what is wrong with a form, each as a sentence; nothing if it can be sent.
    """
    found = [
        f"{piece} is not a telephone number with a country code, such as +44 20 7946 0123."
        for piece in numbers.bad
    ]
    if not numbers.good and not numbers.bad:
        found.append("There is no telephone number.")
    if len(numbers.good) > MOST_NUMBERS:
        found.append(f"There are {len(numbers.good)} numbers; at most {MOST_NUMBERS} go at once.")
    if not text.strip():
        found.append("There is no text.")
    found += [
        f"The text has the control character U+{ord(each):04X}, which cannot be sent."
        for each in sorted(set(text))
        if each != "\n" and unicodedata.category(each) in ("Cc", "Cs")
    ]
    measure = measureText(text)
    if measure.parts > MOST_PARTS:
        found.append(_tooLong(text, measure))
    return found


def _tooLong(text: str, measure: Measure) -> str:
    name, _, part = measure.alphabet
    sentence = (
        f"The text has {measure.units} characters of {name} and needs {measure.parts} parts; "
        f"{MOST_PARTS} parts hold {MOST_PARTS * part}."
    )
    if measure.alphabet is GSM_7:
        return sentence
    outside = next(each for each in text if each not in _GSM_BASIC | _GSM_EXTENSION)
    return f"{sentence} Without characters such as {outside} they hold {MOST_PARTS * GSM_7.part}."

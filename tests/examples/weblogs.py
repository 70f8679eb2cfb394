"""
Shared parts of the web log example's tests: lines, and a reader of them that is as plain as can be.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from hypothesis import strategies as st

from examples.weblog.parse import Row

MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]


def makeLine(
    address: str = "192.0.2.1",
    date: str = "10/Oct/2024:13:55:36 +0200",
    request: str = "GET / HTTP/1.1",
    status: int = 200,
    size: str = "512",
    referrer: str = "-",
    agent: str = "curl/8.5.0",
) -> bytes:
    """
    Make a line of the combined format, with its end.
    """
    text = f'{address} - - [{date}] "{request}" {status} {size} "{referrer}" "{agent}"\n'
    return text.encode("utf-8")


def readPlainly(data: bytes) -> tuple[list[Row], list[bytes]]:
    """
    Read lines one by one and byte by byte.

    @return: the fields of those that are well formed, and the others without their ends.
    """
    rows, malformed = [], []
    for line in data.split(b"\n"):
        row = _PlainLine(line.removesuffix(b"\r")).read()
        if row is None:
            # A line may end with CR and LF, and lie in the file as if CR were part of a field.
            row = _PlainLine(line).read()
        if row is not None:
            rows.append(row)
        elif line.rstrip(b"\r"):
            malformed.append(line.rstrip(b"\r"))
    return rows, malformed


class _Bad(Exception):
    pass


class _PlainLine:
    def __init__(self, line: bytes) -> None:
        self.rest = line

    def read(self) -> Row | None:
        try:
            return self._read()
        except _Bad:
            return None

    def _read(self) -> Row:
        address = self.addresses()
        self.word()
        self.user()
        date = self.take(20)
        self.skip(b" ")
        zone = self.take(5)
        self.skip(b"] ")
        self.checkDate(date, zone)
        request = self.quoted()
        self.skip(b" ")
        status = self.digits(3, 3)
        self.skip(b" ")
        size = b"-" if self.rest[:1] == b"-" else self.digits(1, 18)
        if size == b"-":
            self.skip(b"-")
        referrer = agent = b""
        rest = self.rest
        try:
            if self.rest:
                self.skip(b" ")
                referrer = self.quoted()
                self.skip(b" ")
                agent = self.quoted()
            if self.rest and not self.rest.startswith(b" "):
                raise _Bad
        except _Bad:
            # Other fields may follow the common format, but no quoted one without an end.
            referrer = agent = b""
            self.rest = rest
            if rest.startswith(b' "'):
                self.skip(b" ")
                self.quoted()
            if self.rest and (self.rest[:1] != b" " or self.rest[1:2] == b'"'):
                raise
        return (address, date[:17], date[18:], zone, request, status, size, referrer, agent, b"")

    def word(self) -> bytes:
        word, space, self.rest = self.rest.partition(b" ")
        if not word or not space:
            raise _Bad
        return word

    def addresses(self) -> bytes:
        words = self.word()
        while words.endswith(b","):
            words += self.word()
        if not all(words.split(b",")):
            raise _Bad
        return words.partition(b",")[0]

    def user(self) -> None:
        name, bracket, self.rest = self.rest.partition(b" [")
        if not bracket or (b" " in name and (name.startswith(b"- ") or b'"' in name)):
            raise _Bad

    def skip(self, expected: bytes) -> None:
        if self.take(len(expected)) != expected:
            raise _Bad

    def take(self, count: int) -> bytes:
        taken, self.rest = self.rest[:count], self.rest[count:]
        return taken

    def quoted(self) -> bytes:
        self.skip(b'"')
        index = 0
        while self.rest[index : index + 1] != b'"':
            index += 2 if self.rest[index : index + 1] == b"\\" else 1
            if index >= len(self.rest):
                raise _Bad
        field = self.take(index)
        self.skip(b'"')
        return field

    def digits(self, least: int, most: int) -> bytes:
        digits = self.rest[:most]
        while digits and not digits.isdigit():
            digits = digits[:-1]
        if len(digits) < least or self.rest[len(digits) : len(digits) + 1].isdigit():
            raise _Bad
        return self.take(len(digits))

    def checkDate(self, date: bytes, zone: bytes) -> None:
        text, offset = date.decode("latin-1"), zone.decode("latin-1")
        shape = "".join("9" if char in "0123456789" else char for char in text)
        if shape != f"99/{text[3:6]}/9999:99:99:99" or text[3:6] not in MONTHS:
            raise _Bad
        if offset[:1] not in ("+", "-") or not all(c in "0123456789" for c in offset[1:]):
            raise _Bad
        # A leap second is in some minute, too.
        if int(text[18:]) > 69:
            raise _Bad
        sign = -1 if offset[0] == "-" else 1
        shift = sign * timedelta(hours=int(offset[1:3]), minutes=int(offset[3:5]))
        if not timedelta(hours=-24) < shift < timedelta(hours=24):
            raise _Bad
        try:
            month = MONTHS.index(text[3:6]) + 1
            moment = datetime(int(text[7:11]), month, int(text[:2]), int(text[12:14]))
        except ValueError:
            raise _Bad from None
        minutes = int(text[15:17])
        beginning = datetime(1970, 1, 1)
        past = moment - beginning + timedelta(minutes=minutes) - shift
        if minutes > 59 or not timedelta(0) <= past < datetime(9999, 1, 1) - beginning:
            raise _Bad


_PIECES: Sequence[bytes] = [
    b'"', b"\\", b'\\"', b" ", b"\r", b"-", b"[", b"]", b"\xff", b"\0", b"x", b"GET / HTTP/1.1",
]  # fmt: skip

fields = st.lists(st.sampled_from(_PIECES), max_size=4).map(b"".join)

_dates = st.sampled_from(
    [
        b"10/Oct/2024:13:55:36 +0200",
        b"29/Feb/2023:00:00:00 +0000",
        b"29/Feb/2024:23:59:60 -0330",
        b"01/Jan/1970:00:00:00 +0100",
        b"31/Dec/9999:23:59:59 -0100",
        b"01/Jan/0000:00:00:00 +0000",
        b"10/oct/2024:13:55:36 +0200",
        b"10/Oct/2024:29:55:36 +0200",
        b"10/Oct/2024:13:55:36 +9900",
        b"10/Oct/2024:13:55:36",
    ]
)


@st.composite
def lineLikes(draw: st.DrawFn) -> bytes:
    """
    Draw something that is a line, or nearly one, without its end.
    """
    line = b'%s - %s [%s] "%s" %s %s "%s" "%s"%s' % (
        draw(st.sampled_from([b"192.0.2.1", b"::1", b"", b"a b", b"a, b", b"a,", b",a"])),
        draw(st.sampled_from([b"-", b"John Smith", b"", b'""', b'"a b"'])),
        draw(_dates),
        draw(fields),
        draw(st.sampled_from([b"200", b"404", b"20", b"2000"])),
        draw(st.sampled_from([b"12", b"-", b"", b"9" * 18, b"9" * 19])),
        draw(fields),
        draw(fields),
        draw(st.sampled_from([b"", b"\r", b' "-"', b"x", b" "])),
    )
    if draw(st.integers(0, 3)) == 0:
        line = line[: draw(st.integers(0, len(line)))]
    return line


logs = st.lists(lineLikes(), max_size=8).map(b"\n".join)

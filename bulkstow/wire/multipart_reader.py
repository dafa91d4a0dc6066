"""A push parser for multipart/related bodies: bytes in, events out.

Finds where parts begin and end (RFC 2046 §5.1.1, RFC 2387). The content of a part is left to the caller; of its
headers, only Content-Length is used here. Between two calls at most one head or one delimiter is in memory, however
large a part is; preamble and epilogue are dropped, as RFC 2046 requires.

A part with a Content-Length is not searched, so pixel data may contain the boundary. A part without it is searched, and
any line that looks like a delimiter is a delimiter.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bulkstow.errors import MultipartError

MAX_HEAD_BYTES = 16 * 1024
"""The longest headers of a part, and the longest padding after a boundary: twice nginx's and aiohttp's line limit."""


@dataclass(frozen=True, slots=True)
class PartBegin:
    """A part begins; its headers by their names in lower case."""

    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class PartData:
    """Some octets of the part, at least one; a view of the fed bytes, not a copy."""

    data: memoryview


@dataclass(frozen=True, slots=True)
class PartEnd:
    """The part is complete."""


@dataclass(frozen=True, slots=True)
class End:
    """The body ends with its closing delimiter; all following bytes are epilogue."""


BodyEvent = PartBegin | PartData | PartEnd | End


class MultipartReader:
    """A push parser of one multipart body.

    Feed it the body in pieces of any size, then call `finish`. After a MultipartError it is of no further use.
    """

    def __init__(self, boundary: str, *, max_head_bytes: int = MAX_HEAD_BYTES) -> None:
        self._delimiter = f"\r\n--{boundary}".encode("ascii")
        self._max_head_bytes = max_head_bytes
        # The line break before a delimiter belongs to it, but is missing before the first one (§5.1.1), so it is added.
        self._window = b"\r\n"
        self._at = 0
        self._parts = 0
        self._length_bytes = 0
        self._left_bytes = 0
        self._ended = False
        # A bound method would be a circle of references: the window would stay until the garbage collector runs.
        self._step: Callable[[MultipartReader, list[BodyEvent]], bool] = MultipartReader._preamble

    def feed(self, data: bytes) -> list[BodyEvent]:
        """Return the events that `data` completes, in order.

        Raises MultipartError if a boundary is followed by other characters than a delimiter has, headers are too long
        or malformed, a Content-Length is malformed or does not lead to a delimiter, or the body has no part (RFC 2046
        §5.1.1).
        """
        # Within a part the window is empty, and then this copies nothing.
        self._window = self._window[self._at :] + data
        self._at = 0
        events: list[BodyEvent] = []
        while self._step(self, events):
            pass
        return events

    def finish(self) -> None:
        """Finish the body. Raises MultipartError if the closing delimiter is missing (RFC 2046 §5.1.1)."""
        if not self._ended:
            where = f"in or after part {self._parts}" if self._parts else "before its first part"
            raise MultipartError(f"the body ends {where}, without its closing delimiter")

    # Each step reads the window from `_at`, and returns False if it needs more bytes.

    def _preamble(self, _events: list[BodyEvent]) -> bool:
        _, found = self._octets()
        if found:
            self._step = MultipartReader._delimiter_line
        return found

    def _delimiter_line(self, events: list[BodyEvent]) -> bool:
        rest = self._window[self._at : self._at + self._max_head_bytes]
        if rest.startswith(b"--"):
            if not self._parts:
                raise MultipartError("the body has no parts")
            self._ended = True
            self._step = MultipartReader._epilogue
            events.append(End())
            return True
        if padding := _PADDED_LINE_END.match(rest):
            # The line break stays: in a part without headers it is that of the empty line.
            self._at += padding.end() - 2
            self._step = MultipartReader._head
            return True
        if len(rest) < self._max_head_bytes and _UNFINISHED_LINE.fullmatch(rest):
            return False
        raise MultipartError(f"a boundary after part {self._parts} is followed by neither -- nor a line break")

    def _head(self, events: list[BodyEvent]) -> bool:
        end = self._window.find(b"\r\n\r\n", self._at, self._at + self._max_head_bytes)
        if end < 0:
            if len(self._window) - self._at >= self._max_head_bytes:
                raise MultipartError(f"the head of part {self._parts + 1} is longer than {self._max_head_bytes} bytes")
            return False
        self._parts += 1
        headers = _headers(self._window[self._at + 2 : end], self._parts)
        length_bytes = _content_length(headers, self._parts)
        events.append(PartBegin(headers))
        if length_bytes is None:
            self._at = end + 2
            self._step = MultipartReader._body_begin
        else:
            self._at = end + 4
            self._length_bytes = self._left_bytes = length_bytes
            self._step = MultipartReader._counted
        return True

    def _counted(self, events: list[BodyEvent]) -> bool:
        taken_bytes = min(self._left_bytes, len(self._window) - self._at)
        if taken_bytes:
            events.append(PartData(memoryview(self._window)[self._at : self._at + taken_bytes]))
            self._at += taken_bytes
            self._left_bytes -= taken_bytes
        if self._left_bytes:
            return False
        self._step = MultipartReader._counted_end
        return True

    def _counted_end(self, events: list[BodyEvent]) -> bool:
        rest = self._window[self._at : self._at + len(self._delimiter)]
        if rest == self._delimiter:
            self._at += len(rest)
            self._step = MultipartReader._delimiter_line
            events.append(PartEnd())
            return True
        if self._delimiter.startswith(rest):
            return False
        raise MultipartError(
            f"no delimiter after the {self._length_bytes} bytes that part {self._parts} gives as its Content-Length"
        )

    def _body_begin(self, _events: list[BodyEvent]) -> bool:
        # A part may consist of headers only (`[CRLF *OCTET]` in §5.1.1): the line break of the empty line is then that
        # of the delimiter.
        rest = self._window[self._at : self._at + len(self._delimiter)]
        if rest != self._delimiter:
            if self._delimiter.startswith(rest):
                return False
            self._at += 2
        self._step = MultipartReader._searched
        return True

    def _searched(self, events: list[BodyEvent]) -> bool:
        octets, found = self._octets()
        if octets:
            events.append(PartData(octets))
        if found:
            self._step = MultipartReader._delimiter_line
            events.append(PartEnd())
        return found

    def _epilogue(self, _events: list[BodyEvent]) -> bool:
        self._at = len(self._window)
        return False

    def _octets(self) -> tuple[memoryview, bool]:
        """Return the octets up to the next delimiter, and whether it is in the window; continue behind both."""
        start = self._at
        end = self._window.find(self._delimiter, start)
        found = end >= 0
        if found:
            self._at = end + len(self._delimiter)
        else:
            self._at = end = self._where_delimiter_may_begin()
        return memoryview(self._window)[start:end], found

    def _where_delimiter_may_begin(self) -> int:
        # The only CR of a delimiter is its first byte, so only the last CR of the window can begin one.
        tail = self._window.rfind(b"\r", max(self._at, len(self._window) - len(self._delimiter) + 1))
        if tail >= 0 and self._delimiter.startswith(self._window[tail:]):
            return tail
        return len(self._window)


@dataclass(frozen=True, slots=True)
class ContentType:
    """The parts of a Content-Type: names in lower case, values without quotes."""

    media_type: str
    parameters: Mapping[str, str]


def read_content_type(value: str) -> ContentType:
    """Return the parts of a Content-Type. Raises MultipartError if it is malformed (RFC 2045 §5.1, RFC 9110 §5.6.6)."""
    matched = _MEDIA_TYPE.match(value)
    if not matched:
        raise MultipartError("expected a Content-Type, found none" if not value else "the Content-Type has no type")
    parameters: dict[str, str] = {}
    end = matched.end()
    while end < len(value):
        parameter = _PARAMETER.match(value, end)
        if not parameter:
            raise MultipartError("the Content-Type has a parameter that cannot be read")
        name, quoted, bare = parameter.groups()
        if name:
            parameters.setdefault(name.lower(), bare if quoted is None else _QUOTED_PAIR.sub(r"\1", quoted))
        end = parameter.end()
    return ContentType(matched[1].lower(), parameters)


def boundary_of(content_type: str) -> str:
    """Return the boundary that a Content-Type announces, quoted or not.

    Raises MultipartError if the Content-Type is malformed or not multipart/related, or if the boundary is missing or
    not 1 to 70 of the characters that RFC 2046 §5.1.1 lists.
    """
    parsed = read_content_type(content_type)
    if parsed.media_type != "multipart/related":
        raise MultipartError(f"expected multipart/related, found {parsed.media_type}")
    boundary = parsed.parameters.get("boundary")
    if boundary is None:
        raise MultipartError("the Content-Type has no boundary")
    if not _BOUNDARY.fullmatch(boundary):
        raise MultipartError("the boundary is not 1 to 70 letters, digits and '()+_,-./:=? (RFC 2046 §5.1.1)")
    return boundary


def _headers(block: bytes, part: int) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in _FOLD.sub(b"", block).split(b"\r\n") if block else ():
        name, colon, value = line.partition(b":")
        if not colon or not _NAME.fullmatch(name):
            raise MultipartError(f"part {part} has a header line without a name")
        key = name.decode("ascii").lower()
        if key in headers:
            # Of two Content-Lengths neither can be trusted, and the other headers do not repeat either.
            raise MultipartError(f"part {part} has the header {key} twice")
        headers[key] = value.strip(b" \t").decode("latin-1")
    return headers


def _content_length(headers: Mapping[str, str], part: int) -> int | None:
    value = headers.get("content-length")
    if value is None:
        return None
    if not _LENGTH.fullmatch(value):
        raise MultipartError(f"part {part} has a Content-Length that is not a number of bytes")
    return int(value)


_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 - a token of RFC 9110 §5.6.2, not of a login
_MEDIA_TYPE = re.compile(rf"\s*({_TOKEN}/{_TOKEN})\s*")
_PARAMETER = re.compile(rf';\s*(?:({_TOKEN})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;"]+))\s*)?')
"""A bare value may have more characters than a token: some clients send `boundary=--=_Part:1`."""

_QUOTED_PAIR = re.compile(r"\\(.)")
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,\-./:=? ]{0,69}[0-9A-Za-z'()+_,\-./:=?]")
_PADDED_LINE_END = re.compile(rb"[ \t]*\r\n")
_UNFINISHED_LINE = re.compile(rb"-|[ \t]*\r?")
_FOLD = re.compile(rb"\r\n(?=[ \t])")
_NAME = re.compile(rb"[!-9;-~]+")
_LENGTH = re.compile(r"[0-9]{1,18}")

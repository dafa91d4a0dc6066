"""The instances in a multipart body, found while it is received.

Finds the parts, and the SOP Class and SOP Instance UID in the first bytes of each, in explicit or implicit
little endian; an acknowledging server needs no more. Shares no code with the client that it measures. A part with a
Content-Length is skipped by it; one without is searched for the boundary.
"""

from __future__ import annotations

import re

HEAD_BYTES = 1024
"""The bytes of a part that are searched for its UIDs.
The preamble has 132, file meta information 200 to 400, and few elements precede (0008,0018)."""

_CONTENT_LENGTH = re.compile(rb"\r\nContent-Length:[ \t]*([0-9]+)", re.IGNORECASE)
_HEAD_END = b"\r\n\r\n"
_SOP_CLASS = b"\x08\x00\x16\x00"
_SOP_INSTANCE = b"\x08\x00\x18\x00"

_Octets = bytes | bytearray


class Malformed(ValueError):
    """The body contradicts its framing, or a part is no DICOM instance."""


class Parts:
    """A push parser of one body: feed it, then see `named` and `has_ended`."""

    def __init__(self, boundary: bytes) -> None:
        self._delimiter = b"\r\n--" + boundary
        # A body may begin with its first delimiter, which then has no line break before it.
        self._pending = b"\r\n"
        self._left_bytes = 0
        self._is_searching = True
        self.named: list[tuple[bytes, bytes]] = []
        """SOP Class and SOP Instance UID of each part so far."""
        self.has_ended = False

    def feed(self, data: bytearray, at: int, end: int) -> None:
        """Take `data[at:end]`. Raises Malformed if no delimiter follows a part, or a part has no UIDs."""
        passed_bytes = min(self._left_bytes, end - at)
        self._left_bytes -= passed_bytes
        at += passed_bytes
        window: _Octets = data
        if self._pending:
            window = self._pending + data[at:end]
            at, end = 0, len(window)
        while at < end and not self.has_ended:
            next_at = self._step(window, at, end)
            if next_at == at:
                break
            at = next_at
        self._pending = b"" if self.has_ended else bytes(window[at:end])

    def _step(self, window: _Octets, at: int, end: int) -> int:
        """Take what is complete and return the next offset; `at` itself if more bytes are needed."""
        if self._is_searching:
            found = window.find(self._delimiter, at, end)
            if found < 0:
                return max(at, end - len(self._delimiter) + 1)
            at, self._is_searching = found, False
        after = at + len(self._delimiter)
        if after + 2 > end:
            return at
        if not window.startswith(self._delimiter, at):
            raise Malformed(f"no delimiter after part {len(self.named)}")
        if window.startswith(b"--", after):
            self.has_ended = True
            return end
        head_end = window.find(_HEAD_END, after, end)
        return at if head_end < 0 else self._begin_part(window, at, head_end, end)

    def _begin_part(self, window: _Octets, at: int, head_end: int, end: int) -> int:
        body_at = head_end + len(_HEAD_END)
        length = _CONTENT_LENGTH.search(window, at, head_end)
        if length is None:
            if end - body_at < HEAD_BYTES and window.find(self._delimiter, body_at, end) < 0:
                return at
            self._is_searching = True
            self._name(window, body_at, end)
            return body_at
        size_bytes = int(length[1])
        if end - body_at < min(size_bytes, HEAD_BYTES):
            return at
        self._name(window, body_at, end)
        taken_bytes = min(size_bytes, end - body_at)
        self._left_bytes = size_bytes - taken_bytes
        return body_at + taken_bytes

    def _name(self, window: _Octets, at: int, end: int) -> None:
        head = bytes(window[at : min(at + HEAD_BYTES, end)])
        self.named.append((_uid(head, _SOP_CLASS), _uid(head, _SOP_INSTANCE)))


def _uid(head: bytes, tag: bytes) -> bytes:
    # Neither a preamble nor the text values before it hold the NULs of a tag.
    found = head.find(tag)
    if found < 0:
        raise Malformed("a part without SOP Class or SOP Instance UID in its first bytes")
    is_explicit = head.startswith(b"UI", found + 4)
    length = head[found + 6 : found + 8] if is_explicit else head[found + 4 : found + 8]
    return head[found + 8 : found + 8 + int.from_bytes(length, "little")].rstrip(b"\0 ")

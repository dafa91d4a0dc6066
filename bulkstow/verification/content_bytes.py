"""Compares the bytes of a received instance with those of the source, block by block; all methods block.

The preamble does not count: it holds anything, and servers write their own. File meta information may differ, too:
where the data sets behind it have the same bytes and transfer syntax, only offsets differ from then on. At the first
difference of the data sets the rest is kept, for a comparison attribute by attribute.
"""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Generator, Sequence
from typing import IO

from bulkstow.errors import InstanceChanged
from bulkstow.model import Instance
from bulkstow.ports import SegmentReader, Source
from bulkstow.verification.content_data_sets import compare_data_sets
from bulkstow.verification.content_result import ContentResult, Identical, NotCompared, SameDataSet
from bulkstow.verification.content_spools import spool
from bulkstow.verification.content_steps import Steps, StepwiseComparison
from bulkstow.wire.data_set_start import find_data_set
from bulkstow.wire.part10 import has_magic

META_NOTE = "file meta information"

COPY_BYTES = 2**20
"""The bytes that are copied at once: 0.15 ms from the page cache."""

_PREAMBLE_BYTES = 128
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EMFILE)
_CHANGED = "changed while it was sent: "


class ByteComparison:
    """The comparison of one instance; one call at a time."""

    def __init__(self, source: Source, instance: Instance) -> None:
        self._source = source
        self._instance = instance
        self._reader: SegmentReader | None = None
        self._equal_bytes = 0
        """How many received bytes equal ours, not counting `_received_head`."""
        self._received_head = b""
        """What precedes the received data set, if its file meta information differs."""
        self._our_offset = 0
        """The offset in our file of the first byte that is compared."""
        self._rest: IO[bytes] | None = None
        """The received instance from the first difference on, at its offset; the bytes before are not written yet."""

    def compare(self, pieces: Sequence[memoryview]) -> NotCompared | None:
        """Compare the next received bytes; return a result if there is nothing more to compare.

        The first call needs the head of the instance, or all of it.
        """
        try:
            self._compare(b"".join(pieces))
        except (OSError, InstanceChanged) as error:
            return _not_compared(error)
        return None

    def end(self, pieces: Sequence[memoryview]) -> ContentResult | StepwiseComparison:
        """Compare the last received bytes, and return the result, or what is left to do for it."""
        try:
            self._compare(b"".join(pieces))
            if self._rest is None and not self._read(1):
                return SameDataSet(META_NOTE) if self._received_head else Identical()
            rest, self._rest = self._rest or spool(at=self._received_bytes), None
        except (OSError, InstanceChanged) as error:
            return _not_compared(error)
        return StepwiseComparison(self._compare_data_sets(rest))

    def close(self) -> None:
        """Free the files."""
        if self._reader is not None:
            self._reader.close()
        if self._rest is not None:
            self._rest.close()

    def _compare(self, block: bytes) -> None:
        if self._rest is None and not (self._continues(block) if self._reader else self._begins(block)):
            self._rest = spool(at=self._received_bytes)
        if self._rest is not None:
            self._rest.write(block)

    @property
    def _received_bytes(self) -> int:
        """How many bytes were received before the first difference."""
        return len(self._received_head) + self._equal_bytes

    def _begins(self, block: bytes) -> bool:
        """Compare the first block with our file's."""
        self._restart()
        ours = self._read(len(block))
        is_equal = ours == block or (has_magic(ours) and ours[_PREAMBLE_BYTES:] == block[_PREAMBLE_BYTES:])
        if is_equal:
            self._equal_bytes = len(block)
        return is_equal or self._begins_with_other_meta(block, ours)

    def _begins_with_other_meta(self, block: bytes, ours: bytes) -> bool:
        """Compare the data sets in two first blocks, unless their transfer syntaxes differ."""
        mine, theirs = find_data_set(ours), find_data_set(block)
        if mine is None or theirs is None or mine.syntax != theirs.syntax:
            return False
        if mine.transfer_syntax_uid not in (theirs.transfer_syntax_uid, ""):
            return False
        self._restart(mine.offset)
        if not self._continues(block[theirs.offset :]):
            return False
        self._our_offset, self._received_head = mine.offset, block[: theirs.offset]
        return True

    def _continues(self, block: bytes) -> bool:
        """Compare a block with the next bytes of our file."""
        is_equal = self._read(len(block)) == block
        if is_equal:
            self._equal_bytes += len(block)
        return is_equal

    def _restart(self, offset: int = 0) -> None:
        """Read our file from an offset on."""
        if self._reader is not None:
            self._reader.close()
        self._reader = SegmentReader(self._source.open(self._instance))
        self._read(offset)

    def _read(self, size_bytes: int) -> bytes:
        """Return the next bytes of our file, fewer at its end. Raises InstanceChanged and OSError."""
        if self._reader is None:
            return b""
        data = bytearray(size_bytes)
        count = self._reader.read_into(memoryview(data))
        return bytes(data) if count == size_bytes else bytes(data[:count])

    def _compare_data_sets(self, received: IO[bytes]) -> Steps:
        """Complete what was received, and compare the two as data sets."""
        try:
            with received, spool() as ours:
                yield from self._copy(ours, received)
                return (yield from compare_data_sets(ours, received))
        except (OSError, InstanceChanged) as error:
            return _not_compared(error)

    def _copy(self, ours: IO[bytes], received: IO[bytes]) -> Generator[None]:
        """Copy our file, and to what was received the part that it has in common with our file."""
        self._restart()
        received.seek(0)
        received.write(self._received_head)
        at = 0
        while block := self._read(COPY_BYTES):
            ours.write(block)
            begin, end = self._our_offset - at, self._our_offset + self._equal_bytes - at
            received.write(block[max(0, begin) : max(0, end)])
            at += len(block)
            yield


def _not_compared(error: OSError | InstanceChanged) -> NotCompared:
    if isinstance(error, InstanceChanged):
        changed = str(error).removeprefix(_CHANGED)
        return NotCompared(str(error) if changed == str(error) else f"the file has changed: {changed}")
    words = error.strerror or str(error)
    if error.errno in _DISK_FULL:
        return NotCompared(f"no temporary file in {tempfile.gettempdir()}: {words}")
    return NotCompared(f"cannot be read: {words}")

"""The directory of a zip archive, read entry by entry: memory does not grow with the number of members.

An archive of a million members has a directory of 100 MB. Everything here blocks, and raises DamagedHead and OSError.
"""

from __future__ import annotations

from collections.abc import Iterator

from bulkstow.errors import DamagedHead
from bulkstow.source.windows import ByteReader
from bulkstow.wire import zip_records
from bulkstow.wire.zip_records import End, Entry

_BLOCK_BYTES = 2**16
"""How much of the directory is read at once: some 800 entries, which take 2 ms to parse."""

_MOST_ENDS = 64
"""Places at which the end of a directory is looked for: a comment may hold any number of such records."""

_WRONG_PLACE = "damaged, or cut off in front: its directory is not where its end tells"


class ZipDirectory:
    """The directory of the archive in `data`."""

    def __init__(self, data: ByteReader) -> None:
        self._data = data
        self._end, self._begin_at = self._find()
        self.archive_at = self._begin_at - self._end.directory_at
        """Where the archive begins: a self-extracting one has a program in front."""

    @property
    def begin_at(self) -> int:
        """Where the directory begins."""
        return self._begin_at

    def entries(self, at: int | None = None) -> Iterator[tuple[int, Entry]]:
        """Yield the entries with their offsets, all, or those from an offset on."""
        at = self._begin_at if at is None else at
        end_at = self._begin_at + self._end.directory_bytes
        block, position = b"", 0
        while at < end_at:
            found = zip_records.read_entry(block, position)
            if found is None:
                block, position = self._more(block[position:], at, end_at), 0
                continue
            entry, entry_bytes = found
            yield at, entry
            at += entry_bytes
            position += entry_bytes

    def _more(self, rest: bytes, at: int, end_at: int) -> bytes:
        """Return the rest of a block, which begins at `at`, and the bytes after it."""
        next_at = at + len(rest)
        data = self._data.read(min(_BLOCK_BYTES, end_at - next_at), next_at)
        if not data:
            raise DamagedHead("damaged: its directory is cut off")
        return rest + data

    def check_count(self, entries: int) -> None:
        """Raise DamagedHead if the directory announces another number of entries."""
        announced = self._end.entries
        # Writers without zip64 leave out the upper bits of the number.
        if entries != announced and (self._end.is_zip64 or (entries - announced) % 2**16):
            raise DamagedHead(f"damaged: its directory has {entries} of the {announced} members that it announces")

    def _find(self) -> tuple[End, int]:
        """Return the end of the directory, and where the directory begins."""
        size_bytes = self._data.size_bytes
        tail_at = max(0, size_bytes - zip_records.TAIL_BYTES)
        tail = self._data.read(size_bytes - tail_at, tail_at)
        reason = zip_records.NO_END
        for tries, end in enumerate(zip_records.find_ends(tail, tail_at)):
            if tries == _MOST_ENDS:
                break
            if end.is_zip64:
                end = self._zip64(end) or end
            if (begin_at := self._directory_at(end)) is not None:
                return end, begin_at
            reason = _WRONG_PLACE
        raise DamagedHead(reason)

    def _zip64(self, end: End) -> End | None:
        locator_at = end.record_at - zip_records.LOCATOR_BYTES
        locator = self._data.read(zip_records.LOCATOR_BYTES, locator_at)
        for at in zip_records.places_of_end64(locator, locator_at):
            if 0 <= at < locator_at and (
                end64 := zip_records.read_end64(self._data.read(zip_records.END64_BYTES, at), at)
            ):
                return end64
        return None

    def _directory_at(self, end: End) -> int | None:
        """Return where the directory begins: right before its end, or where that tells; None if in neither place."""
        for at in (end.record_at - end.directory_bytes, end.directory_at):
            is_before_end = 0 <= at <= end.record_at - end.directory_bytes and at >= end.directory_at
            if is_before_end and (not end.directory_bytes or zip_records.begins_entry(self._data.read(4, at))):
                return at
        return None

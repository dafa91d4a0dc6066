"""Finds members of zip archives by their locations.

Everything here blocks, and may be called in several threads.
"""

from __future__ import annotations

import os
import threading
from array import array
from bisect import bisect_left
from collections import OrderedDict

from bulkstow.errors import DamagedHead
from bulkstow.model import Candidate
from bulkstow.source.located import Blocks, Located
from bulkstow.source.member_names import SEPARATOR, MemberLocations, plain_name
from bulkstow.source.windows import ByteReader
from bulkstow.source.zip_archive import ZipArchive, unreadable
from bulkstow.source.zip_contents import STAGED_METHODS
from bulkstow.source.zip_directory import ZipDirectory
from bulkstow.wire.zip_records import Entry

KEPT = 4
"""The indexes that are kept: 8 MB for an archive of a million members, which take 6 s to read."""

_OFFSET_BITS = 40
_HASH_MASK = 2**24 - 1
"""A number in an index: 24 bits of a location's hash, and the offset of its entry in the directory (up to 1 TB)."""


class ZipIndexes:
    """The indexes of the archives that were used last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, int, int | str], array[int]] = OrderedDict()
        """By location, size and version of the archive."""

    def find(self, archive: Candidate, data: ByteReader, location: str) -> Located | None:
        """Return the member at a location; None if there is none. Raises DamagedHead and OSError."""
        opened = ZipArchive(archive, data)
        index = self._index(archive, opened.directory)
        first = _hash(location) << _OFFSET_BITS
        at = bisect_left(index, first)
        while at < len(index) and index[at] >> _OFFSET_BITS == first >> _OFFSET_BITS:
            offset = opened.directory.begin_at + (index[at] & (2**_OFFSET_BITS - 1))
            _, entry = next(opened.directory.entries(offset))
            name = archive.location + SEPARATOR + plain_name(os.fsdecode(entry.name))
            if location == name or location.startswith(name + "#"):
                return _located(opened, archive, location, entry)
            at += 1
        return None

    def _index(self, archive: Candidate, directory: ZipDirectory) -> array[int]:
        key = archive.location, archive.size_bytes, archive.version
        with self._lock:
            if (index := self._kept.get(key)) is not None:
                self._kept.move_to_end(key)
                return index
            locations = MemberLocations(archive.location)
            index = array("Q")
            for at, entry in directory.entries():
                if not entry.is_directory:
                    location = locations.take(os.fsdecode(entry.name))
                    index.append(_hash(location) << _OFFSET_BITS | (at - directory.begin_at))
            index = self._kept[key] = array("Q", sorted(index))
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
            return index


def _located(opened: ZipArchive, archive: Candidate, location: str, entry: Entry) -> Located:
    if reason := unreadable(entry):
        raise DamagedHead(reason)
    part = opened.part_of(entry)
    if entry.method not in STAGED_METHODS:
        return Located(opened.candidate(location, entry, part), archive)

    def read(data: ByteReader) -> Blocks:
        return ZipArchive(archive, data).content_of(entry, part).blocks(entry.size_bytes)

    return Located(opened.candidate(location, entry), archive, read)


def _hash(location: str) -> int:
    return hash(location) & _HASH_MASK

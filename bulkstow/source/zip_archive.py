"""An open zip archive: its directory, and where the data of its members are. Everything here blocks."""

from __future__ import annotations

import os

from bulkstow.errors import DamagedHead
from bulkstow.model import Candidate, Coding, Extent
from bulkstow.source.forward import ForwardStream
from bulkstow.source.member_lists import extent_of
from bulkstow.source.member_names import OUTSIDE, leads_outside
from bulkstow.source.windows import ByteReader, Section
from bulkstow.source.zip_contents import STAGED_METHODS, content_of
from bulkstow.source.zip_directory import ZipDirectory
from bulkstow.wire.zip_records import DEFLATED, LOCAL_BYTES, METHODS, STORED, Entry, content_offset

_BEYOND = "damaged: the archive ends before its data do"


class ZipArchive:
    """The archive in `data`, which are the bytes of `candidate`; raises DamagedHead if it has no directory."""

    def __init__(self, candidate: Candidate, data: ByteReader, extent: Extent | None = None) -> None:
        self.location = candidate.location
        self._by_link = candidate.by_link
        self._data = data
        self._extent = extent_of(candidate) if extent is None else extent
        self.directory = ZipDirectory(data)

    def candidate(self, location: str, entry: Entry, extent: Extent | None = None) -> Candidate:
        """Return a member as a candidate."""
        return Candidate(location, entry.size_bytes, f"crc32:{entry.crc32:08X}", self._by_link, extent)

    def begin_of(self, entry: Entry) -> int:
        """Return where the header of a member begins."""
        return self.directory.archive_at + entry.local_at

    def part_of(self, entry: Entry) -> Extent:
        """Return where the data of a member are. Raises DamagedHead if the header in front of them is another one."""
        local_at = self.begin_of(entry)
        local = self._data.read(LOCAL_BYTES + len(entry.name), local_at)
        offset = local_at + content_offset(local, entry)
        if offset + entry.kept_bytes > self.directory.begin_at:
            raise DamagedHead(_BEYOND)
        whole = self._extent
        is_deflated = entry.method == DEFLATED
        return Extent(
            whole.path,
            whole.offset + offset,
            entry.kept_bytes,
            whole.version,
            Coding.DEFLATE if is_deflated else Coding.STORED,
            entry.size_bytes if is_deflated else None,
            entry.crc32,
            whole.is_spooled,
        )

    def end_of(self, part: Extent) -> int:
        """Return where the data of a member end, from the beginning of the archive's bytes."""
        return part.offset + part.size_bytes - self._extent.offset

    def content_of(self, entry: Entry, part: Extent) -> ForwardStream:
        """Return the content of a member that is compressed by one of STAGED_METHODS."""
        return content_of(entry, Section(self._data, part.offset - self._extent.offset, part.size_bytes))


def unreadable(entry: Entry) -> str:
    """Return why a member is not read, by its entry alone; empty if it is read."""
    if not entry.name:
        return "a member without a name"
    if leads_outside(os.fsdecode(entry.name)):
        return OUTSIDE
    if reason := entry.problem:
        return reason
    if entry.method not in (STORED, DEFLATED, *STAGED_METHODS):
        return f"compressed by {METHODS[entry.method]}, which is not supported: unpack it and send the files inside"
    return ""

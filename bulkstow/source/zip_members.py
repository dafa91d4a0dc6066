"""The members of zip archives: parts of the archive's file, or copies in the spool.

Stored and deflated members are sent from the archive's file. Members that are compressed by other methods are staged,
if they may be instances; so is a deflated archive in an archive, as its directory is at its end.
"""

from __future__ import annotations

import os

from bulkstow.errors import DamagedHead, SpoolError
from bulkstow.model import Candidate, Coding, Extent, FileResult, Outcome
from bulkstow.source.extents import open_extent_bytes
from bulkstow.source.forward import ForwardStream, inflated
from bulkstow.source.heads import EMPTY, HEAD_BYTES, may_contain_instance
from bulkstow.source.member_lists import Items, extent_of
from bulkstow.source.member_names import MemberLocations
from bulkstow.source.staging import Staging
from bulkstow.source.windows import ByteReader
from bulkstow.source.zip_archive import ZipArchive, unreadable
from bulkstow.source.zip_contents import STAGED_METHODS
from bulkstow.wire.part10 import NOT_DICOM
from bulkstow.wire.spans import Spans
from bulkstow.wire.zip_records import SYMBOLIC_LINK, Entry

_DESCRIPTOR_BYTES = 24
"""The longest data descriptor, which may follow the data of a member (4.3.9); no member fits into it."""

_ENTRIES_PER_STEP = 2**15
"""Directories, which yield nothing, in a step: 0.1 s."""

_OVERLAP = "damaged, or a zip bomb: its members overlap"


def zip_members(archive: Candidate, data: ByteReader, staging: Staging) -> Items:
    """Yield the members of an archive in the order of its directory. Raises DamagedHead and OSError."""
    extent = extent_of(archive)
    if extent.coding is Coding.STORED:
        yield from _members(ZipArchive(archive, data), staging)
        return
    if excess := staging.excess(extent.content_bytes):
        raise DamagedHead(excess)
    content = ForwardStream(inflated(extent, archive))
    copy = yield from staging.copy(content.blocks(extent.content_bytes), extent.content_bytes)
    with staging.lend(copy):
        staged = open_extent_bytes(copy, by_link=False)
        try:
            yield from _members(ZipArchive(archive, staged, copy), staging)
        finally:
            os.close(staged.descriptor)


def _members(archive: ZipArchive, staging: Staging) -> Items:
    locations = MemberLocations(archive.location)
    spans = Spans(archive.directory.begin_at, gap_bytes=_DESCRIPTOR_BYTES)
    count = 0
    for count, (_, entry) in enumerate(archive.directory.entries(), 1):
        if not entry.is_directory:
            location = locations.take(os.fsdecode(entry.name))
            try:
                yield from _member(archive, location, entry, spans, staging)
            except _Overlap:
                raise
            except (DamagedHead, SpoolError) as error:
                yield FileResult(archive.candidate(location, entry), None, Outcome.UNREADABLE, str(error))
        elif count % _ENTRIES_PER_STEP == 0:
            yield None
    archive.directory.check_count(count)


def _member(archive: ZipArchive, location: str, entry: Entry, spans: Spans, staging: Staging) -> Items:
    if reason := unreadable(entry):
        raise DamagedHead(reason)
    if entry.is_link:
        yield FileResult(archive.candidate(location, entry), None, Outcome.SKIPPED, SYMBOLIC_LINK)
        return
    part = archive.part_of(entry)
    if not spans.take(archive.begin_of(entry), archive.end_of(part)):
        raise _Overlap
    if entry.method in STAGED_METHODS:
        yield from _staged(archive, location, entry, part, staging)
        return
    if part.is_spooled:
        staging.share(part)
    yield archive.candidate(location, entry, part)


def _staged(archive: ZipArchive, location: str, entry: Entry, part: Extent, staging: Staging) -> Items:
    content = archive.content_of(entry, part)
    if not entry.size_bytes or not may_contain_instance(content.peek(HEAD_BYTES)):
        reason = NOT_DICOM if entry.size_bytes else EMPTY
        yield FileResult(archive.candidate(location, entry), None, Outcome.SKIPPED, reason)
        return
    if excess := staging.excess(entry.size_bytes):
        raise DamagedHead(excess)
    extent = yield from staging.copy(content.blocks(entry.size_bytes), entry.size_bytes)
    yield archive.candidate(location, entry, extent)


class _Overlap(DamagedHead):
    """The archive is no archive that a program has written: none of its further members is read."""

    def __init__(self) -> None:
        super().__init__(_OVERLAP)

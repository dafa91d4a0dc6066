"""The members of tar archives.

An archive is read forward once, and its members are found by their headers, so memory does not grow with their content.
A member of a plain archive is a part of the archive's file; one of a compressed archive is staged, if it may be an
instance.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, replace

from bulkstow.errors import DamagedHead
from bulkstow.model import Candidate, Coding, FileResult, Outcome
from bulkstow.source.compressed import COMPRESSIONS, CompressedStream
from bulkstow.source.forward import CUT_OFF, Forward, ForwardFile, ForwardStream, inflated
from bulkstow.source.heads import EMPTY, HEAD_BYTES, NOT_LOOKED_INTO, may_contain_instance
from bulkstow.source.located import Located
from bulkstow.source.member_lists import Items, extent_of
from bulkstow.source.member_names import OUTSIDE, SEPARATOR, MemberLocations, leads_outside
from bulkstow.source.staging import Staging
from bulkstow.source.windows import ByteReader
from bulkstow.wire.archive_formats import recognise
from bulkstow.wire.part10 import NOT_DICOM, has_magic
from bulkstow.wire.tar import BLOCK_BYTES, Kind, TarHeaders, TarMember, is_zero

_NO_END = "cut off: it has no end-of-archive mark"
NOT_FOUND = "no longer in its archive"
_GARBAGE = "damaged: other bytes follow its last member"

TAR = "a tar archive"
"""The name of the format in `archive_formats`."""

_PEEK_BYTES = 2**20
"""The compressed bytes of a member that tell whether a tar archive is in it: a block of bzip2 has up to 900 KB."""

_ZEROS_PER_STEP = 2**16
"""The blocks of zeros at the end of an archive that are read in a step: 0.1 s."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A member and its place in the archive."""

    candidate: Candidate
    member: TarMember
    offset: int
    """Where its content begins in the archive."""

    @property
    def result(self) -> FileResult | None:
        """Why it is not sent, if its headers tell."""
        if self.member.kind is Kind.LINK:
            return FileResult(self.candidate, None, Outcome.SKIPPED, self.member.reason)
        if self.member.kind is Kind.UNSUPPORTED:
            return FileResult(self.candidate, None, Outcome.UNREADABLE, self.member.reason)
        if leads_outside(self.member.name):
            return FileResult(self.candidate, None, Outcome.UNREADABLE, OUTSIDE)
        if not self.member.size_bytes:
            return FileResult(self.candidate, None, Outcome.SKIPPED, EMPTY)
        return None


def entries(archive: Candidate, content: Forward) -> Iterator[Entry | None]:
    """Yield the members of an archive in order, without directories, and None to report progress.

    After each, the caller may read its content, and no more. Archives may follow one another. Raises DamagedHead and
    OSError.
    """
    headers, locations = TarHeaders(), MemberLocations(archive.location)
    zeros = 0
    while block := content.read(BLOCK_BYTES):
        if is_zero(block):
            zeros += 1
            if zeros % _ZEROS_PER_STEP == 0:
                yield None
            continue
        try:
            member = _read_headers(headers, block, content)
        except DamagedHead:
            if zeros:
                raise DamagedHead(_GARBAGE) from None
            raise
        zeros = 0
        offset = content.at
        if member.kind is not Kind.DIRECTORY:
            location, version = locations.take(member.name), f"{archive.version}:{offset}"
            yield Entry(Candidate(location, member.size_bytes, version, archive.by_link), member, offset)
        yield from content.skip(offset + member.stored_bytes - content.at)
    if not zeros:
        raise DamagedHead(_NO_END)


def _read_headers(headers: TarHeaders, block: bytes, content: Forward) -> TarMember:
    if len(block) < BLOCK_BYTES:
        raise DamagedHead(_NO_END)
    steps = headers.read(block)
    try:
        wanted_bytes = next(steps)
        while True:
            wanted_bytes = steps.send(content.read(wanted_bytes))
    except StopIteration as stop:
        member: TarMember = stop.value
        return member


def tar_members(archive: Candidate, data: ByteReader, staging: Staging) -> Items:
    """Yield the members of an archive that is not compressed, or deflated as a member of another one."""
    extent = extent_of(archive)
    if extent.coding is not Coding.STORED:
        yield from staged_members(archive, ForwardStream(inflated(extent, archive)), staging)
        return
    for entry in entries(archive, ForwardFile(data)):
        if entry is None:
            yield None
        elif (result := entry.result) is not None:
            yield result
        else:
            size_bytes = entry.member.size_bytes
            if entry.offset + size_bytes > extent.size_bytes:
                raise DamagedHead(CUT_OFF)
            part = replace(extent, offset=extent.offset + entry.offset, size_bytes=size_bytes)
            if extent.is_spooled:
                staging.share(part)
            yield replace(entry.candidate, extent=part)


def staged_members(archive: Candidate, content: ForwardStream, staging: Staging, *, is_inner: bool = False) -> Items:
    """Yield the members of an archive that is read as a stream: those that may be instances are staged.

    The members of a tar archive in it are found in the stream, too: many such archives in the spool would leave no room
    for their members. One that is itself in another archive is read no deeper.
    """
    is_inner = is_inner or staging.is_nested
    for entry in entries(archive, content):
        if entry is None:
            yield None
            continue
        if (result := entry.result) is not None:
            yield result
            continue
        size_bytes = entry.member.size_bytes
        head = content.peek(min(HEAD_BYTES, size_bytes))
        if not may_contain_instance(head):
            yield FileResult(entry.candidate, None, Outcome.SKIPPED, NOT_DICOM)
        elif is_inner and (reason := _too_deep(head)):
            yield FileResult(entry.candidate, None, Outcome.UNREADABLE, reason)
        elif (inner := _tar_in(content, size_bytes)) is not None:
            yield from _members_of_inner(entry.candidate, inner, staging)
        elif excess := staging.excess(size_bytes):
            yield FileResult(entry.candidate, None, Outcome.UNREADABLE, excess)
        else:
            extent = yield from staging.copy(content.blocks(size_bytes), size_bytes)
            yield replace(entry.candidate, extent=extent)


def _too_deep(head: bytes) -> str:
    """Return why a member of an inner archive is not looked into, by its first bytes; empty if it is no archive."""
    found = None if has_magic(head) else recognise(head[:BLOCK_BYTES])
    if found is None or not found.may_hold_instances:
        return ""
    return f"{found.name} in an archive in an archive, {NOT_LOOKED_INTO}"


def _tar_in(content: ForwardStream, size_bytes: int) -> ForwardStream | None:
    """Return the content of a tar archive, which may be compressed, in the next bytes; None if they are no such."""
    head = content.peek(min(BLOCK_BYTES, size_bytes))
    found = None if has_magic(head) else recognise(head)
    if found is None or found.name == TAR:
        return None if found is None else content.part(size_bytes)
    if (compression := COMPRESSIONS.get(found.name)) is None:
        return None
    beginning = io.BytesIO(content.peek(min(_PEEK_BYTES, size_bytes)))
    try:
        start = CompressedStream(beginning.read, compression).read_block()
    except DamagedHead:
        return None
    if (found := recognise(start[:BLOCK_BYTES])) is None or found.name != TAR:
        return None
    return ForwardStream(CompressedStream(content.part(size_bytes).read, compression).read_block)


def _members_of_inner(archive: Candidate, content: ForwardStream, staging: Staging) -> Items:
    try:
        yield from staged_members(archive, content, staging, is_inner=True)
    except DamagedHead as error:
        yield FileResult(archive, None, Outcome.UNREADABLE, str(error))


def open_member(archive: Candidate, content: ForwardStream, location: str) -> Iterator[bytes | memoryview]:
    """Yield the content of one member of an archive that is read as a stream, in blocks.

    Raises DamagedHead, also if there is no such member, and OSError.
    """
    for entry in entries(archive, content):
        if entry is None:
            continue
        size_bytes = entry.member.size_bytes
        if entry.candidate.location == location:
            yield from content.blocks(size_bytes)
            return
        is_in_it = location.startswith(entry.candidate.location + SEPARATOR)
        if is_in_it and (inner := _tar_in(content, size_bytes)) is not None:
            yield from open_member(entry.candidate, inner, location)
            return
    raise DamagedHead(NOT_FOUND)


def find_tar_member(archive: Candidate, data: ByteReader, location: str) -> Located | None:
    """Return the member at a location; None if there is none. Raises DamagedHead and OSError."""
    extent = extent_of(archive)
    for entry in entries(archive, ForwardFile(data)):
        if entry is not None and entry.candidate.location == location:
            if entry.result is not None:
                raise DamagedHead(entry.result.reason)
            part = replace(extent, offset=extent.offset + entry.offset, size_bytes=entry.member.size_bytes)
            return Located(replace(entry.candidate, extent=part), archive)
    return None

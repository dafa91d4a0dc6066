"""Archives and compressed files among the files of a source: their members, and members that the ledger knows.

The members of a container are found when it is looked into. A member that a ledger knows has no extent: it is found
again by its location, `archive!/name`. Everything here blocks.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

from bulkstow.errors import DamagedHead
from bulkstow.model import Candidate, Container, FileResult, Outcome
from bulkstow.ports import Members
from bulkstow.source.compressed import COMPRESSIONS
from bulkstow.source.compressed_members import compressed_members, decompressed, open_compressed
from bulkstow.source.compressed_streams import CompressedStreams
from bulkstow.source.located import Blocks, Located, opened
from bulkstow.source.member_lists import Items, Reader, extent_of, members_in_lists
from bulkstow.source.member_names import SEPARATOR
from bulkstow.source.spool import Spool
from bulkstow.source.staging import Staging
from bulkstow.source.tar_members import find_tar_member, tar_members
from bulkstow.source.windows import ByteReader
from bulkstow.source.zip_index import ZipIndexes
from bulkstow.source.zip_members import zip_members
from bulkstow.wire.archive_formats import TAR_HEADER_BYTES, recognise
from bulkstow.wire.part10 import has_magic

ZIP, TAR = "a zip archive", "a tar archive"

FORMATS = frozenset({ZIP, TAR, *COMPRESSIONS})
"""The formats that can be looked into, by their names in `archive_formats`."""

_IN_STREAM = "a member of a compressed archive"
"""In place of a format: the member is found by reading its archive from the beginning."""

_NO_FILE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG})
"""The name of a member may be longer than that of a file."""

_TOO_DEEP = "it is in an archive in a compressed archive, which is not read twice: unpack the outer one"


class Archives:
    """Looks into containers; members that have to be staged go to the spool."""

    def __init__(self, spool: Spool, *, looks_into_files: bool = True) -> None:
        self.looks_into_files = looks_into_files
        """False with `--archives no`: only members that the ledger knows are read."""
        self._spool = spool
        self._zip_indexes = ZipIndexes()
        self._streams = CompressedStreams()

    def members(self, container: Container) -> Members:
        """Yield the members of a container (see `Source.members`)."""
        if container.format_name == _IN_STREAM:
            return self._staged(container.candidate)
        return members_in_lists(container.candidate, self._spool, _reader(container))

    def _staged(self, member: Candidate) -> Members:
        """Yield a member that the ledger knows, after it was copied into the spool."""
        found = self._find(member)
        if found is None or found.candidate != member or found.archive is None or found.read is None:
            yield [FileResult(member, None, Outcome.UNREADABLE, "changed: its archive has other content at its place")]
            return
        read = found.read

        def copy(data: ByteReader, staging: Staging) -> Items:
            extent = yield from staging.copy(read(data), member.size_bytes)
            yield replace(member, extent=extent)

        yield from members_in_lists(replace(member, extent=extent_of(found.archive)), self._spool, copy)

    def file_of(self, candidate: Candidate) -> str:
        """Return the path of the file that has a candidate: its own, or that of an archive. Raises OSError."""
        archive = _archive_of(candidate) if SEPARATOR in candidate.location else None
        return candidate.location if archive is None else archive.location

    def place(self, candidate: Candidate) -> Candidate | Container:
        """Return a member that the ledger knows with its extent, or as a container if it has to be staged.

        Returns any other file as it is. Raises DamagedHead and OSError.
        """
        found = self._find(candidate) if SEPARATOR in candidate.location else None
        if found is None or found.archive is None:
            return candidate
        if found.candidate.extent is None:
            return Container(candidate, _IN_STREAM)
        return replace(candidate, extent=found.candidate.extent)

    def find(self, candidate: Candidate) -> Located | None:
        """Find the content of a member that the ledger knows, or of a compressed file; None for any other file.

        The size and the version of the member that is found may be others. Raises DamagedHead and OSError.
        """
        found = self._find(candidate)
        if found is None:
            return None
        if found.candidate.extent is None:
            return replace(found, read=partial(_decompressed, found.read))
        format_name = _format_of(found.candidate)
        if format_name is not None and format_name in COMPRESSIONS:
            return self._in_stream(found.candidate, format_name, replace(found.candidate, extent=None))
        return found

    def _find(self, candidate: Candidate) -> Located | None:
        """Find a member as its archive has it, so that a compressed one is not decompressed."""
        archive = _archive_of(candidate)
        if archive is None or (format_name := _format_of(archive)) is None:
            return None
        if archive.location != candidate.location:
            return self._find_in(archive, format_name, candidate)
        return self._in_stream(archive, format_name, archive) if format_name in COMPRESSIONS else None

    def _find_in(self, archive: Candidate, format_name: str, wanted: Candidate) -> Located:
        """Find a member of an archive, or of an archive in it."""
        if format_name in COMPRESSIONS:
            return self._in_stream(archive, format_name, wanted)
        find = self._zip_indexes.find if format_name == ZIP else find_tar_member
        for location in _splits(wanted.location, len(archive.location) + len(SEPARATOR)):
            with opened(archive) as data:
                found = find(archive, data, location)
            if found is None:
                continue
            if location == wanted.location:
                return found
            if found.candidate.extent is None:
                raise DamagedHead(_TOO_DEEP)
            if (inner := _format_of(found.candidate)) is not None:
                return self._find_in(found.candidate, inner, wanted)
        raise FileNotFoundError(errno.ENOENT, "it is no longer in its archive", wanted.location)

    def _in_stream(self, archive: Candidate, format_name: str, wanted: Candidate) -> Located:
        """Return a member of a compressed archive, or the content of a compressed file; it is found by reading."""
        container = Container(archive, format_name)
        before, _, offset = str(wanted.version).rpartition(":")  # a member's version is the archive's, and its place
        if before == str(archive.version) and offset.isdigit():
            read = partial(self._streams.read, container, int(offset), wanted.size_bytes)
            return Located(wanted, archive, lambda _data: read())
        if not str(wanted.version).startswith(str(archive.version)):
            wanted = replace(wanted, version=archive.version)
        return Located(wanted, archive, partial(open_compressed, container, location=wanted.location))

    def close(self) -> None:
        """Close the archives that are kept open."""
        self._streams.close()


def _reader(container: Container) -> Reader:
    if container.format_name == ZIP:
        return partial(zip_members, container.candidate)
    if container.format_name == TAR:
        return partial(tar_members, container.candidate)
    return partial(compressed_members, container)


def _decompressed(read: Callable[[ByteReader], Blocks] | None, data: ByteReader) -> Blocks:
    """Yield the content of a member that is read as a stream, decompressed if it is a compressed file itself."""
    return decompressed(read(data)) if read is not None else iter(())


def _format_of(candidate: Candidate) -> str | None:
    """Return the name of a container's format; None if it is no container. Raises DamagedHead and OSError."""
    with opened(candidate) as data:
        head = data.read(TAR_HEADER_BYTES, 0)
    found = None if has_magic(head) else recognise(head)
    return found.name if found is not None and found.name in FORMATS else None


def _archive_of(candidate: Candidate) -> Candidate | None:
    """Return the file at a location, or the archive whose name the location begins with; None if there is no file."""
    *archives, location = _splits(candidate.location, 1)
    for path in (location, *archives):
        try:
            status = os.stat(path)  # noqa: PTH116 - locations are no `Path`
        except OSError as error:
            if error.errno in _NO_FILE:
                continue
            raise
        if stat.S_ISREG(status.st_mode):
            return Candidate(path, status.st_size, status.st_mtime_ns, candidate.by_link)
    return None


def _splits(location: str, at: int) -> Iterator[str]:
    """Yield the beginnings of a location that end in front of a separator at an offset or later; last, all of it."""
    while (at := location.find(SEPARATOR, at)) >= 0:
        yield location[:at]
        at += 1
    yield location

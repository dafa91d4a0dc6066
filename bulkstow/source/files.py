"""Files and directories as a source of instances.

A file is unchanged since the scan if its size and its modification time (`Candidate.version`, in ns) are the same; the
time is compared exactly.
"""

# A `Path` for each of a million files would cost as much as the system calls.
# ruff: noqa: PTH114, PTH116

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Hashable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from bulkstow.errors import DamagedHead, InstanceChanged
from bulkstow.model import Candidate, Container, FileResult, Instance
from bulkstow.platform.files import read_into
from bulkstow.policy.sharding import Sharding
from bulkstow.policy.slowness import Slowness
from bulkstow.ports import FileRange, Found, Members, Room, Segment, Source
from bulkstow.source.archives import FORMATS, Archives
from bulkstow.source.extents import prefetch_extent
from bulkstow.source.heads import ContainerHead, find_cut_off, read_instance, read_open_instance
from bulkstow.source.links import is_reached
from bulkstow.source.located import Located
from bulkstow.source.member_names import MARK
from bulkstow.source.open_files import OpenFiles
from bulkstow.source.paths import SourcePath
from bulkstow.source.spool import Spool
from bulkstow.source.walk import LIST_LENGTH, Walk
from bulkstow.source.windows import FileBytes, open_file

WHOLE_BYTES = 128 * 2**10
"""On slow storage, files up to this size are read whole with their heads: Linux reads as much ahead, in one request to
a file server, so that it takes no longer than the head."""

SLOW_HEAD_S = 0.001
"""Heads that take longer come from slow storage. From memory one takes 14 µs, from a file server two round trips."""

PREFETCH_BYTES = 4 * 2**20
"""The largest prefetch of one file; beyond it the operating system reads ahead."""

LOOKS_INTO_IT = "which was not looked into: --archives yes looks into it"

BLOCK_BYTES = 256 * 2**10
"""A prefetch's read size. With 1 and 4 MiB it is no faster from memory, nor with 4 MiB from a local disk."""


class FileSource(Source):
    """Files at and below some paths.

    `names` are drawn while the scan runs; a link is followed to a file in one of `within`. Raises nothing: a name that
    does not exist is a result of the scan. `archives` looks into archives and compressed files.
    """

    def __init__(
        self,
        names: Iterable[str | FileResult] = (),
        *,
        within: Iterable[SourcePath] = (),
        exclude: frozenset[str] = frozenset(),
        is_pruned: Callable[[str], bool] | None = None,
        follow_links: bool = False,
        sift: Callable[[Candidate], Found] | None = None,
        accept_missing_preamble: bool = False,
        skip_truncated: bool = False,
        sharding: Sharding | None = None,
        list_length: int = LIST_LENGTH,
        most_open_files: int = 0,
        spool: Spool | None = None,
        archives: Archives | None = None,
    ) -> None:
        within = tuple(within)
        self._sources = frozenset(source.path for source in within)
        self._follow_links = follow_links
        self._new_walk = partial(
            Walk,
            within=within,
            exclude=exclude,
            is_pruned=is_pruned,
            follow_links=follow_links,
            sift=sift,
            sharding=sharding,
            list_length=list_length,
        )
        self.walk = self._new_walk(names)
        self._accept_missing_preamble = accept_missing_preamble
        self._skip_truncated = skip_truncated
        self._archives = archives
        self._heads = Slowness()
        self._open_files = OpenFiles(most_open_files)
        self._spool = spool or Spool(0)

    def scan(self) -> Walk:
        """Return the walk; where one file system hangs, another thread continues it elsewhere."""
        return self.walk

    def scan_again(self) -> Walk:
        """Return another walk of the sources in `within`."""
        self.walk = self._new_walk(sorted(self._sources))
        return self.walk

    def scan_changes(self, paths: Iterable[str]) -> Walk:
        """Return a walk of files and directories in the sources that have changed, without those behind links."""
        reached = (path for path in paths if self._follow_links or is_reached(path, self._sources))
        self.walk = self._new_walk(reached, are_changes=True)
        return self.walk

    def read_head(self, candidate: Candidate) -> Instance | Container:
        """Return the instance in a file, or a container that can be looked into.

        Raises HeadError, DamagedHead and OSError as `heads.read_instance` does.
        """
        if candidate.by_link is None:
            path = candidate.location if self._archives is None else self._archives.file_of(candidate)
            candidate = replace(candidate, by_link=os.path.islink(path) and self.walk.admits(path))
            if candidate.extent is None and self._archives is not None:
                place = self._archives.place(candidate)
                if isinstance(place, Container):
                    return place
                candidate = place
        started_s = time.perf_counter()
        try:
            is_read_whole = self._heads.is_slow and 0 < candidate.size_bytes <= WHOLE_BYTES and candidate.extent is None
            return (self._read_whole if is_read_whole else read_instance)(
                candidate,
                accept_missing_preamble=self._accept_missing_preamble,
                skip_truncated=self._skip_truncated,
            )
        except ContainerHead as found:
            if self._archives is None or found.format_name not in FORMATS:
                raise
            if not self._archives.looks_into_files:
                raise DamagedHead(f"{found.format_name}, {LOOKS_INTO_IT}") from None
            return Container(candidate, found.format_name)
        finally:
            was_slow = time.perf_counter() - started_s > SLOW_HEAD_S
            self._heads.note_slow(was_slow=was_slow)
            self._heads.note_quick(was_quick=not was_slow)

    def _read_whole(self, candidate: Candidate, *, accept_missing_preamble: bool, skip_truncated: bool) -> Instance:
        """Read a file into the page cache, and keep it open; return its instance."""
        descriptor = open_file(candidate.location, by_link=bool(candidate.by_link))
        try:
            count = read_into(descriptor, memoryview(bytearray(candidate.size_bytes)), 0)
            instance = read_open_instance(
                FileBytes(descriptor),
                candidate,
                accept_missing_preamble=accept_missing_preamble,
                skip_truncated=skip_truncated,
            )
        except BaseException:
            os.close(descriptor)
            raise
        self._keep_if(count == candidate.size_bytes, candidate, descriptor)
        return instance

    def open(self, instance: Instance) -> Generator[Segment]:
        """Open the file, yield it as a whole or its extent, and compare it with the scan.

        The comparison follows the content: a file that is unchanged then was unchanged while it was read.
        """
        candidate = instance.candidate
        if (located := self._locate(candidate)) is not None:
            yield from located.open()
            return
        try:
            descriptor = self._open_files.take(candidate.location)
            if descriptor is None:
                descriptor = open_file(candidate.location, by_link=bool(candidate.by_link))
            try:
                yield FileRange(descriptor, 0, candidate.size_bytes)
                if change := _change(candidate, os.fstat(descriptor)):
                    raise InstanceChanged(change)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise InstanceChanged(f"cannot be read: {error.strerror or error}") from error

    def verify(self, instance: Instance) -> str:
        """Compare a file's size and time with the scan.

        sendfile does not copy a file: a change to it is sent too, until the last byte is at the server. So only after
        the response is it certain that the server has the scanned content. A file that was removed since may have been
        changed before.
        """
        candidate = instance.candidate
        try:
            if (located := self._locate(candidate)) is not None:
                return located.change_since(candidate)
            return _change(candidate, os.stat(candidate.location))
        except InstanceChanged as changed:
            return str(changed)
        except OSError as error:
            return f"cannot be looked at again: {error.strerror or error}"

    def digest(self, candidate: Candidate) -> Hashable:
        """Return device and inode, of a member with its offset: two names of one file have the same content."""
        if (located := self._locate(candidate)) is not None:
            return located.identity
        status = os.stat(candidate.location)
        return status.st_dev, status.st_ino

    def find_truncation(self, candidate: Candidate) -> str:
        """Return a note about the element in which the file is cut off."""
        return find_cut_off(candidate)

    def members(self, container: Container) -> Members:
        """Yield the members of an archive, or the content of a compressed file."""
        return super().members(container) if self._archives is None else self._archives.members(container)

    def _locate(self, candidate: Candidate) -> Located | None:
        """Return where a member is; None for a file of its own. Raises InstanceChanged."""
        if candidate.extent is not None:
            return Located(candidate)
        if self._archives is None or candidate.by_link is False:
            return None
        try:
            return self._archives.find(candidate)
        except DamagedHead as error:
            raise InstanceChanged(str(error)) from None

    def prefetch(self, instance: Instance) -> int:
        """Read the file's beginning into the page cache; keep it open if that is all of it."""
        candidate = instance.candidate
        if candidate.extent is not None:
            return prefetch_extent(candidate.extent, by_link=bool(candidate.by_link), most_bytes=PREFETCH_BYTES)
        size_bytes = 0
        descriptor = self._open_files.take(candidate.location)
        with suppress(OSError):
            if descriptor is None:
                descriptor = open_file(candidate.location, by_link=bool(candidate.by_link))
            scratch = memoryview(bytearray(BLOCK_BYTES))
            while size_bytes < PREFETCH_BYTES and (count := read_into(descriptor, scratch, size_bytes)):
                size_bytes += count
        if descriptor is not None:
            self._keep_if(size_bytes == candidate.size_bytes, candidate, descriptor)
        return size_bytes

    def _keep_if(self, is_read_whole: bool, candidate: Candidate, descriptor: int) -> None:
        if is_read_whole:
            self._open_files.keep(candidate.location, descriptor)
        else:
            os.close(descriptor)

    def close(self) -> None:
        """Close the files that were kept open."""
        self._open_files.close()
        if self._archives is not None:
            self._archives.close()

    async def reserve(self, room: Room) -> None:
        """Wait for room in the spool."""
        await self._spool.reserve(room.size_bytes, room.spare_bytes)

    def release(self, candidates: Sequence[Candidate]) -> None:
        """Remove the content of candidates from the spool."""
        for candidate in candidates:
            if candidate.extent is not None and candidate.extent.is_spooled:
                self._spool.release(candidate.extent)

    async def until_full(self) -> None:
        """Return when there is no room in the spool."""
        await self._spool.until_full()

    def is_gone(self, location: str) -> bool:
        """Return whether there is no file any more; a member of an archive is there as long as the archive."""
        parts = location.split("!/")
        return not any(os.path.lexists("!/".join(parts[:count])) for count in range(len(parts), 0, -1))

    def existing_parent(self, location: str) -> str:
        """Return the innermost directory above a file that still exists; empty if none does.

        Of a member it is the common start of the locations in its archive, if the archive still exists.
        """
        directory = location.rpartition("/")[0]
        while directory and not Path(directory).is_dir():
            if directory.endswith(MARK) and Path(directory.removesuffix(MARK)).is_file():
                return directory
            directory = directory.rpartition("/")[0]
        return directory

    @property
    def empty_parts(self) -> Sequence[str]:
        """The first paths in which no file was found."""
        return self.walk.empty_sources

    @property
    def pruned_parts(self) -> int:
        """The number of directories that were not entered."""
        return self.walk.pruned_directories


def _change(candidate: Candidate, found: os.stat_result) -> str:
    if found.st_size != candidate.size_bytes:
        return f"changed while it was sent: {candidate.size_bytes} bytes at the scan, now {found.st_size}"
    if found.st_mtime_ns != candidate.version:
        return "changed while it was sent: its modification time is new"
    return ""
